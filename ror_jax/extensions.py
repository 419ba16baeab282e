"""Files of users that register models, tasks, losses, data sets or detectors."""

import argparse
import importlib
import sys
from pathlib import Path

from input_pipeline import find_dataset
from input_pipeline.errors import InputError
from ror_jax.errors import UserError
from ror_jax.models import model_config
from ror_jax.tasks import task_labels


def add_import_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option `--import FILE`, which imports the file when arguments are parsed."""
    parser.add_argument(
        "--import",
        action=_Import,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="a Python file that registers a model, task, loss, data set or detector of your own; may be repeated",
    )


IMPORTED: list[str] = []  # what --import named


class _Import(argparse.Action):
    def __call__(self, parser, namespace, value, option=None):
        file = Path(value).resolve()
        if file.suffix != ".py" or not file.is_file():
            parser.error(f"--import={value}: there is no such Python file")
        sys.path.insert(0, str(file.parent))  # worker processes look there, too
        try:
            module = importlib.import_module(file.stem)
        except Exception as error:  # whatever a user's file does wrong
            parser.error(f"--import={value}: {type(error).__name__}: {error}")
        if Path(module.__file__ or "").resolve() != file:
            parser.error(f"--import={value}: there is another module {file.stem}; give the file another name")
        IMPORTED.append(value)


def check_registered(where: Path, model: str, task: str, dataset: str | None = None) -> None:
    """Raises UserError if the model, task or data set that `where` names is not known, such as a user's own."""
    try:
        model_config(model)
        task_labels(task)
        if dataset is not None:
            find_dataset(dataset)
    except InputError as error:
        raise UserError(
            f"{where}: {error} What is your own must be imported first, such as by --import FILE"
        ) from error
