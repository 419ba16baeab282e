"""Runs cases of a reader: `python -m fuzzing NAME FIRST COUNT`, a line for each; see the package."""

import contextlib
import faulthandler
import os
import pathlib
import resource
import shutil
import sys
import tempfile
import traceback
import zlib

import numpy as np

from fuzzing.readers import CASES
from input_pipeline.errors import InputError

SECONDS = 60  # for a case, on a busy machine, too; then the process ends with a traceback of all its threads
MEMORY = 768 * 2**20  # that a case may take: the largest image that is read has 50 million pixels, 150 MB in RGB
ROOM = 4 * 2**30  # of addresses: what is asked for, but not used, counts here
MESSAGE = 1500  # characters of an error
WRITES = {"os.mkdir": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1, "os.truncate": 0, "os.chmod": 0}
PROGRAMS = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")


def watch(folder: pathlib.Path, found: list[str]) -> None:
    """Notes the programs that this process starts from now on, and the places outside of the folder where it writes."""
    compiled = os.environ["JAX_COMPILATION_CACHE_DIR"]  # where JAX keeps programs

    def look(event, arguments):
        if event in PROGRAMS:
            found.append(f"{event} {arguments[0]}")
        place = arguments[WRITES[event]] if event in WRITES else None
        if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            place = arguments[0]
        if isinstance(place, str | bytes | os.PathLike):
            path = os.path.realpath(os.fsdecode(place))
            if not path.startswith((str(folder), compiled, "/dev/")):
                found.append(f"{event} {path}")

    sys.addaudithook(look)


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def outcome(name: str, number: int, folder: pathlib.Path) -> str:
    """ "read", "refused: why", or, after a traceback, "FAILED: why"."""
    folder.mkdir()
    before = peak()
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    try:
        CASES[name](np.random.default_rng([number, zlib.crc32(name.encode())]), folder)
        result = "read"
    except InputError as error:
        result = f"refused: {error}"
        if len(result) > MESSAGE or "\n" in result:
            result = f"FAILED: a message of {len(result)} characters, {len(result.splitlines())} lines: {error!r:.500}"
    except Exception as error:
        traceback.print_exc()
        result = f"FAILED: {type(error).__name__}: {error}"
    faulthandler.cancel_dump_traceback_later()
    if (taken := peak() - before) > MEMORY:
        result = f"FAILED: {taken / 2**20:.0f} MiB of memory; {result}"
    return ascii(result)[1:-1]


def main(name: str, first: str, count: str) -> None:
    faulthandler.enable()
    with tempfile.TemporaryDirectory() as scratch:
        scratch, found = pathlib.Path(scratch).resolve(), []
        tempfile.tempdir = str(scratch)
        watch(scratch, found)
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + ROOM, now + ROOM))
        failed = 0
        for number in range(int(first), int(first) + int(count)):
            print(number, end=" ", flush=True)
            with contextlib.redirect_stdout(sys.stderr):  # where tensorflow-datasets prints warnings
                result = outcome(name, number, scratch / str(number))
            if found:
                result = f"FAILED: {'; '.join(found)}; {result}"
                found.clear()
            failed += result.startswith("FAILED")
            print(result, flush=True)
            shutil.rmtree(scratch / str(number))
    sys.exit(failed > 0)


main(*sys.argv[1:])
