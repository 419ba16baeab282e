"""Files of users that register models, tasks, losses or data sets."""

import argparse
import importlib
import sys
from pathlib import Path


def add_import_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option `--import FILE`, which imports the file when arguments are parsed."""
    parser.add_argument(
        "--import",
        action=_Import,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="a Python file that registers a model, task, loss or data set of your own; may be repeated",
    )


class _Import(argparse.Action):
    def __call__(self, parser, namespace, value, option=None):
        file = Path(value).resolve()
        if file.suffix != ".py" or not file.is_file():
            parser.error(f"--import={value}: there is no such Python file")
        sys.path.insert(0, str(file.parent))  # worker processes look there, too
        try:
            importlib.import_module(file.stem)
        except Exception as error:  # whatever a user's file does wrong
            parser.error(f"--import={value}: {type(error).__name__}: {error}")
