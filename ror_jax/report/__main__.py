"""Puts a paper's tables and figures with our numbers beside the published ones on a page, or compares two runs, or two
folders with runs fold_0, fold_1 ..., on the same test images.

python -m ror_jax.report --paper=deep_ror --runs=runs
python -m ror_jax.report --compare runs/A runs/B
"""

import argparse
import sys
from pathlib import Path

from input_pipeline.errors import InputError
from ror_jax.report.compare import compare
from ror_jax.report.page import to_markdown, write_page
from ror_jax.report.paper import load_paper, runs_of, write_report
from ror_jax.report.runs import find_runs


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ror_jax.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--paper", default="ror", help="whose tables: the name of a .toml file beside this program")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--runs", type=Path, metavar="DIR", help="folder in which to look for runs, however deep")
    what.add_argument("--compare", type=Path, nargs=2, metavar=("A", "B"), help="folders of runs; print B against A")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where to write NAME.md, NAME.html and their pictures; default: --runs, and nothing of --compare",
    )
    parser.add_argument(
        "--configs",
        type=Path,
        metavar="DIR",
        help="folder of the files that rows name; default: configs, here or else beside this package",
    )
    options = parser.parse_args(arguments)
    try:
        if options.compare:
            _compare(options.compare, options.output)
        else:
            _report(options.paper, options.runs, options.output or options.runs, options.configs)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")


def _report(name: str, folder: Path, output: Path, configs: Path | None) -> None:
    paper = load_paper(name)
    runs, problems = find_runs(folder, configs)
    written, unread = write_report(paper, runs, output, name)
    for problem in problems + unread:
        print(problem, file=sys.stderr)
    runs = runs_of(paper, runs)
    exact = sum(not run.differences for run in runs)
    print(f"{len(runs)} runs of the paper's rows in {folder}, {exact} of them with all the paper's settings.")
    print(f"Wrote {' and '.join(map(str, written))}.")


def _compare(folders: list[Path], output: Path | None) -> None:
    sections = compare(*folders)
    print(to_markdown(sections, Path()), end="")
    if output:
        print(f"\nWrote {' and '.join(map(str, write_page(sections, output, 'comparison')))}.")


if __name__ == "__main__":
    main()
