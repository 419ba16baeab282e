"""The rows of a paper's tables and figures: how to run them, the network's size, the recipe, what is published."""

from functools import cache

import jax
from flax import nnx

from ror_jax.models import create_model
from ror_jax.report.paper import row_config

UNITS = {"error": " %", "top_5_error": " % top-5", "hours": " h"}
CLASSES = {"cifar10": 10, "cifar100": 100, "svhn": 10, "imagenet": 1000}


def list_rows(paper: dict) -> str:
    """Three lines for each row."""
    entries = [
        (f"Table {table['number']}", cell) for table in paper["tables"] for _, *cells in table["rows"] for cell in cells
    ]
    for figure in paper["figures"]:
        entries += [(f"Figure {figure['number']}", entry) for entry in figure.get("bars") or figure["curves"]]
    published: dict[str, dict[str, list[str]]] = {}  # row -> number -> where it stands
    for place, cell in entries:
        if "run" in cell:
            number = "not in our copy"
            if "published" in cell:
                number = f"{cell['published']:.2f}{UNITS[cell.get('metric', 'error')]}"
            published.setdefault(cell["run"], {}).setdefault(number, []).append(place)
    lines = []
    for row in sorted(published):
        file, _, name = row.partition(":")
        config = row_config(file, name)
        overrides = {key: value for key, value in config.model.items() if value is not None}
        drop_path = f", p_L {config.model.survival:g}" if config.model.survival else ""
        decays = " and ".join(f"{epoch:g}" for epoch in config.optimizer.decay_epochs)
        recipe = "only tested"
        if config.epochs:
            recipe = (
                f"{config.epochs} epochs of batches of {config.batch_size}, rate {config.optimizer.learning_rate:g}"
                f" divided by ten after {decays}{drop_path}"
            )
        parameters = _count_parameters(file, tuple(overrides.items()))
        lines += [
            f"--config=configs/{file}.py:{name}",
            f"    {config.model.name}, {parameters:,} parameters; {recipe}",
            "    published: "
            + "; ".join(f"{number} ({', '.join(places)})" for number, places in published[row].items()),
        ]
    return "\n".join(lines)


@cache
def _count_parameters(data: str, model: tuple) -> int:
    def parameters():
        _, params, _ = nnx.split(
            create_model(num_classes=CLASSES[data], rngs=nnx.Rngs(0), **dict(model)), nnx.Param, ...
        )
        return nnx.to_pure_dict(params)

    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(parameters)))
