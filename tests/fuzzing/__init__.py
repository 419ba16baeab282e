"""Files from strangers: every reader is given damaged, odd and malicious files.

A case writes files into an empty folder and reads them as the program does. It may succeed, with plausible results, or
raise DataError or UserError, of one line. It may not raise anything else, hang, take much memory, start a program, or
write anywhere but into its folder. `readers` has the cases. Case 17 of "images" again:

    cd tests && PYTHONPATH=.. python -m fuzzing images 17 1
"""

import collections
import os
import pathlib

import pytest
from processes import Process

TESTS = pathlib.Path(__file__).parents[1]

# Reader -> how many cases are tried quickly.
READERS = {
    "images": 100,
    "face_files": 15,
    "faces_csv": 100,
    "adience": 50,
    "cifar": 100,
    "archives": 50,
    "svhn": 50,
    "imdb_wiki": 30,
    "imagenet_folders": 50,
    "imagenet_prepared": 30,
    "torch": 20,
    "safetensors": 20,
}


def check(name: str, first: int, cases: int, scratch: pathlib.Path) -> None:
    """Asserts that these cases of a reader end well, in a process of their own, some read and some refused."""
    if name == "torch":
        pytest.importorskip("torch", reason="PyTorch's files need PyTorch")
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    variables = {"PYTHONPATH": paths, "TMPDIR": str(scratch)}
    program = Process("fuzzing", name, first, cases, cwd=scratch, variables=variables)
    stdout, stderr = program.communicate()
    lines = stdout.splitlines()
    failed = [line for line in lines if line.split()[1:2] not in (["read"], ["refused:"])]
    assert program.returncode == 0, "\n".join([*failed[:5], stderr[-5000:]])
    outcomes = collections.Counter(line.split()[1] for line in lines)
    assert outcomes.keys() == {"read", "refused:"} and outcomes.total() == cases, outcomes
