"""The rows of a config file: how to run them, the network's size, the recipe, what is published."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jax
from flax import nnx

from input_pipeline.datasets.faces import LABELS
from ror_jax.config import load_config, run_file
from ror_jax.models import create_model
from ror_jax.report.paper import cells, list_papers, load_paper, published
from ror_jax.saved_settings import flat_settings
from ror_jax.tasks import create_task
from ror_jax.training.state import count_parameters

UNITS = {
    "error": " %",
    "top_5_error": " % top-5",
    "hours": " h",
    "exact": " % exact",
    "one_off": " % 1-off",
    "accuracy": " %",
    "rmse": " years RMSE",
    "mae": " years MAE",
    "macro_f1": " F1",
    "harmonic": " harmonic score",
}
CLASSES = {"cifar10": 10, "cifar100": 100, "svhn": 10, "imagenet": 1000}  # of data


def list_rows(file: str) -> Iterator[str]:
    """Yields what a config file says of itself, and a few lines for each of its rows.

    The rows are the arguments in its `ROWS`; or else those that papers print, in their order; or else the file itself.
    """
    content = run_file(Path(file).resolve())
    if content["__doc__"]:
        yield f"{content['__doc__'].strip()}\n"
    numbers = {name: _numbers(load_paper(name)) for name in list_papers()}
    start = f"{Path(file).stem}:"
    printed = [row.removeprefix(start) for rows in numbers.values() for row in rows if row.startswith(start)]
    for argument in dict.fromkeys(content.get("ROWS", printed or [""])):
        yield _describe(f"{file}:{argument}".rstrip(":"), numbers)


def _numbers(paper: dict) -> dict[str, str]:
    """All that a paper publishes of a row, by row."""
    found: dict[str, dict[str, list[str]]] = {}  # row -> number -> where it stands
    for place, cell in cells(paper):
        if "run" in cell:
            number = f"{published(cell)}{UNITS[cell['metric']]}" if "published" in cell else "no number"
            places = found.setdefault(cell["run"], {}).setdefault(number, [])
            places += [place] if place not in places else []
    return {
        row: "; ".join(f"{number} ({', '.join(places)})" for number, places in numbers.items())
        for row, numbers in found.items()
    }


def _describe(argument: str, numbers: dict[str, dict[str, str]]) -> str:
    """The lines of one row; `numbers` are by paper and row."""
    settings = flat_settings(load_config(argument))
    model, task = (_options(settings, group) for group in ("model", "task"))
    classes = CLASSES.get(settings["dataset.name"])
    labels = {"label": tuple(map(str, range(classes)))} if classes else LABELS
    sizes = {key: value for key, value in model.items() if key != "survival"}  # rows with and without share a count
    parameters = _parameters(tuple(create_task(labels=labels, **task).heads.items()), tuple(sizes.items()))
    network = [model.pop("name"), *(f"{key} {_words(value)}" for key, value in model.items())]
    row = settings["row"]
    lines = [
        f"--config={argument}",
        f"    {', '.join(network)}; {parameters:,} parameters; {_recipe(settings)}",
        *(f"    published ({paper}.toml): {rows[row]}" for paper, rows in numbers.items() if row in rows),
    ]
    return "\n".join(lines)


def _recipe(settings: dict) -> str:
    start = f"; from {settings['init_from']}" if settings["init_from"] else ""
    if not settings["epochs"]:
        return f"only tested{start}"
    recipe = f"{settings['epochs']} epochs of batches of {settings['batch_size']}"
    recipe += f", {settings['optimizer.name']}, rate {settings['optimizer.learning_rate']:g}"
    if settings["optimizer.schedule"] == "cosine":
        recipe += " falling as a cosine"
    elif settings["optimizer.decay_epochs"]:
        recipe += f" divided by ten after {_words(settings['optimizer.decay_epochs'])}"
    if settings["task.weights"]:
        recipe += f"; loss weights {_words(settings['task.weights'])}"
    return recipe + start + (f"; stages before: {_words(settings['stages'])}" if settings["stages"] else "")


def _words(value) -> str:
    return " and ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _options(settings: dict, group: str) -> dict:
    """The settings of a group that are not None, by name."""
    return {
        key.removeprefix(f"{group}."): tuple(value) if isinstance(value, list) else value
        for key, value in settings.items()
        if key.startswith(f"{group}.") and value is not None
    }


@cache
def _parameters(heads: tuple, model: tuple) -> int:
    def params():
        _, params, _ = nnx.split(create_model(heads=dict(heads), rngs=nnx.Rngs(0), **dict(model)), nnx.Param, ...)
        return nnx.to_pure_dict(params)

    return count_parameters(jax.eval_shape(params))
