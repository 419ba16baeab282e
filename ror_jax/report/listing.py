"""The rows of a paper's tables and figures: how to run them, the network's size, the recipe, what is published."""

from functools import cache
from pathlib import Path

import jax
from flax import nnx

from input_pipeline.age_groups import AGE_GROUPS
from input_pipeline.datasets.faces import AGES, GENDERS
from ror_jax.models import create_model
from ror_jax.report.paper import cells, published
from ror_jax.report.runs import CONFIGS, row_settings
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
FACES = {"age": AGES, "age_group": AGE_GROUPS, "gender": GENDERS}  # labels


def list_rows(paper: dict, configs: Path | None = None) -> str:
    """Three lines for each row, in the paper's order. `configs` is as for `row_settings`."""
    numbers: dict[str, dict[str, list[str]]] = {}  # row -> number -> where it stands
    for place, cell in cells(paper):
        if "run" in cell:
            number = f"{published(cell)}{UNITS[cell['metric']]}" if "published" in cell else "no number"
            places = numbers.setdefault(cell["run"], {}).setdefault(number, [])
            places += [place] if place not in places else []
    return "\n".join(line for row, places in numbers.items() for line in _lines(row, places, configs))


def _lines(row: str, numbers: dict[str, list[str]], configs: Path | None) -> list[str]:
    file, _, name = row.partition(":")
    settings = row_settings(row, configs)
    model, task = (_options(settings, group) for group in ("model", "task"))
    labels = {"label": tuple(map(str, range(CLASSES[file])))} if file in CLASSES else FACES
    parameters = _parameters(tuple(create_task(labels=labels, **task).heads.items()), tuple(model.items()))
    network = [model.pop("name"), *(f"{key} {_words(value)}" for key, value in model.items())]
    where = "; ".join(f"{number} ({', '.join(places)})" for number, places in numbers.items())
    return [
        f"--config={configs or CONFIGS}/{file}.py:{name}",
        f"    {', '.join(network)}; {parameters:,} parameters; {_recipe(settings)}",
        f"    published: {where}",
    ]


def _recipe(settings: dict) -> str:
    if not settings["epochs"]:
        return "only tested"
    recipe = f"{settings['epochs']} epochs of batches of {settings['batch_size']}"
    recipe += f", {settings['optimizer.name']}, rate {settings['optimizer.learning_rate']:g}"
    if settings["optimizer.schedule"] == "cosine":
        recipe += " falling as a cosine"
    elif settings["optimizer.decay_epochs"]:
        recipe += f" divided by ten after {_words(settings['optimizer.decay_epochs'])}"
    if settings["task.weights"]:
        recipe += f"; loss weights {settings['task.weights']}"
    return recipe + (f"; stages before: {_words(settings['stages'])}" if settings["stages"] else "")


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
