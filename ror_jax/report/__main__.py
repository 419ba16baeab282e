"""Prints a paper's rows, or puts its tables and figures with our numbers beside the published ones on a page.

python -m ror_jax.report --paper=ror --list
python -m ror_jax.report --paper=ror --runs=runs
"""

import argparse
import sys
from pathlib import Path

from ror_jax.errors import UserError
from ror_jax.report.listing import list_rows
from ror_jax.report.paper import find_runs, load_paper, write_report


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ror_jax.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--paper", default="ror", help="whose tables: the name of a .toml file beside this program")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="print all rows: command, size, recipe, published error")
    what.add_argument("--runs", type=Path, metavar="DIR", help="folder in which to look for runs, however deep")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where to write NAME.md and NAME.png; default: --runs"
    )
    options = parser.parse_args(arguments)
    try:
        paper = load_paper(options.paper)
        if options.list:
            print(list_rows(paper))
            return
        runs, problems = find_runs(options.runs)
        output = options.output or options.runs
        output.mkdir(parents=True, exist_ok=True)
        written = write_report(paper, runs, output, options.paper)
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    for problem in problems:
        print(problem, file=sys.stderr)
    exact = sum(not run.differences for run in runs)
    print(f"{len(runs)} runs of the paper's rows in {options.runs}, {exact} of them with all the paper's settings.")
    print(f"Wrote {' and '.join(map(str, written))}.")


if __name__ == "__main__":
    main()
