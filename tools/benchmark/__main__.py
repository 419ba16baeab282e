"""Measures speed and memory, against the project's goals and against PyTorch.

    python -m tools.benchmark                               everything that this machine can measure
    python -m tools.benchmark ror drop_path --rounds 9
    python -m tools.benchmark --against=torch --json torch.json

What is compared runs by turns on one device, so that a machine that becomes slower does so for both. On a machine that
does something else besides, the numbers mean nothing: PyTorch's threads wait for each other by turning, and were seen
to take a hundred times as long where another program had one of two cores. The goals are printed beside the results.
The exit status is 1 where compared networks give different outputs, and 0 otherwise, whether the goals are met or not.
"""

import os

if __name__ == "__main__":  # before JAX reads them
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs some of a GPU's memory, too
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # compiling, not reading a file, is to be measured

import argparse
import dataclasses
import datetime
import json
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ror_jax.errors import unknown
from ror_jax.training.logging import environment
from tools.benchmark.comparisons import AGAINST_TORCH, BENCHMARKS
from tools.benchmark.measuring import TOLERANCE, Options, Row, Skipped, precision, say, threads

BUSY = 0.5  # processes that run already
HEADER = ["benchmark", "what", "ours", "theirs", "ratio", "goal", "met", "spread"]


def table(rows: Sequence[tuple[str, Row]]) -> str:
    """A line a row, in Markdown, then what is to be said about them."""
    lines = [HEADER, *([name, row.what, *row.cells()] for name, row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    text = [f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines]
    said = [f"- {name}: {remark}" for name, row in rows for remark in (row.wrong, row.note) if remark]
    return "\n".join([*text, "", *said])


def circumstances() -> dict[str, str]:
    """What the numbers depend on, in words."""
    found = environment()
    versions = {"python": found["python"]} | found["versions"]
    extras = ("torch", "torchvision", "onnxruntime")
    versions |= {name: sys.modules[name].__version__ for name in extras if sys.modules.get(name)}
    wanted = ("python", "jax", "jaxlib", "flax", *extras, "numpy", "pillow", "opencv-python-headless")
    return {
        "machine": f"{_cpu()}, {threads()} cores; JAX on {found['devices']}",
        "versions": ", ".join(f"{name} {versions[name]}" for name in wanted if name in versions),
        "revision": str(found["git_revision"]),
        "precision": f"{precision()} computation, float32 parameters; outputs equal to {TOLERANCE[precision()]:g}",
        "threads": str(threads()),
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _cpu() -> str:
    try:
        return re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):  # not Linux, or a processor without a name
        return platform.processor() or platform.machine()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="see --list; default: all")
    parser.add_argument("--against", choices=("torch",), help="only the comparisons with PyTorch")
    parser.add_argument("--list", action="store_true", help="print what there is to measure, and leave")
    parser.add_argument("--rounds", type=int, default=5, help="turns of everyone; default: 5")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number there, too")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see whether it works")
    args = parser.parse_args(arguments)
    for name in args.what:
        if name not in BENCHMARKS:
            parser.error(str(unknown("benchmark", name, BENCHMARKS)))
    if args.rounds < 1:
        parser.error(f"--rounds is {args.rounds}; it must be 1 or more")
    if args.list:
        for name, function in BENCHMARKS.items():
            print(f"{name:17}{function.__doc__}")
        return 0

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    rows, skipped = [], {}
    for name in args.what or BENCHMARKS:
        if args.against and name not in AGAINST_TORCH:
            continue
        say(f"{name}: {BENCHMARKS[name].__doc__}")
        try:
            rows += [(name, row) for row in BENCHMARKS[name](Options(args.rounds, args.tiny))]
        except Skipped as reason:
            skipped.setdefault(str(reason), []).append(name)

    where = circumstances() | {"load": f"{load:.1f} processes ran already in the minute before"}
    if load > BUSY:
        print("BUSY MACHINE: something else runs here, and these numbers mean nothing.")
    if args.tiny:
        print("TINY SIZES: these numbers only show that it works.")
    if rows:
        print(table(rows))
        print(
            "ours, theirs: medians; ratio: median of the rounds' ratios; spread: first to third quartile of the ratio,"
        )
        print("or of ours where there is no other. Where two of ours are compared, the second stands under 'theirs'.")
    for reason, names in skipped.items():
        print(f"skipped {', '.join(names)}: {reason}")
    print("\n".join(f"{key}: {value}" for key, value in where.items()))
    if args.json:
        results = [
            {"benchmark": name, **dataclasses.asdict(row), "judged": float(np.median(row.judged())), "met": row.met()}
            for name, row in rows
        ]
        report = where | {"tiny": args.tiny, "rounds": args.rounds, "rows": results, "skipped": skipped}
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    return int(any(row.wrong for _, row in rows))


if __name__ == "__main__":
    sys.exit(main())
