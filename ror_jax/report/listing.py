"""The rows of a paper's tables and figures: how to run them, the network's size, the recipe, what is published."""

from functools import cache

import jax
from flax import nnx

from ror_jax.models import create_model
from ror_jax.report.paper import cells, row_settings
from ror_jax.training.state import count_parameters

UNITS = {"error": " %", "top_5_error": " % top-5", "hours": " h"}
CLASSES = {"cifar10": 10, "cifar100": 100, "svhn": 10, "imagenet": 1000}


def list_rows(paper: dict) -> str:
    """Three lines for each row, in the paper's order."""
    published: dict[str, dict[str, list[str]]] = {}  # row -> number -> where it stands
    for place, cell in cells(paper):
        if "run" in cell:
            number = "no number"
            if "published" in cell:
                number = f"{cell['published']:.2f}{UNITS[cell.get('metric', 'error')]}"
            published.setdefault(cell["run"], {}).setdefault(number, []).append(place)
    return "\n".join(line for row, numbers in published.items() for line in _lines(row, numbers))


def _lines(row: str, published: dict[str, list[str]]) -> list[str]:
    file, _, name = row.partition(":")
    settings = row_settings(row)
    model = {
        key.removeprefix("model."): tuple(value) if isinstance(value, list) else value
        for key, value in settings.items()
        if key.startswith("model.") and value is not None
    }
    parameters = _parameters(CLASSES[file], tuple(model.items()))
    network = [model.pop("name"), *(f"{key} {_words(value)}" for key, value in model.items())]
    recipe = "only tested"
    if settings["epochs"]:
        batches = f"{settings['epochs']} epochs of batches of {settings['batch_size']}"
        rate = f"rate {settings['optimizer.learning_rate']:g} divided by ten after"
        recipe = f"{batches}, {rate} {_words(settings['optimizer.decay_epochs'])}"
    numbers = "; ".join(f"{number} ({', '.join(places)})" for number, places in published.items())
    return [
        f"--config=configs/{file}.py:{name}",
        f"    {', '.join(network)}; {parameters:,} parameters; {recipe}",
        f"    published: {numbers}",
    ]


def _words(value) -> str:
    return " and ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


@cache
def _parameters(classes: int, model: tuple) -> int:
    def params():
        _, params, _ = nnx.split(create_model(num_classes=classes, rngs=nnx.Rngs(0), **dict(model)), nnx.Param, ...)
        return nnx.to_pure_dict(params)

    return count_parameters(jax.eval_shape(params))
