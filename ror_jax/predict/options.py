"""The options that all programs which use an exported model share."""

import argparse
from pathlib import Path

from ror_jax.extensions import add_import_option
from ror_jax.predict.faces import DETECTOR
from ror_jax.predict.model import ENGINES, Model
from ror_jax.startup import use_devices


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds --model, --detector, --engine, --cache_dir and --import, with the defaults of `Model`."""
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="folder that ror_jax.export made")
    parser.add_argument("--detector", default=DETECTOR, metavar="NAME", help="'cascade', 'yunet' or 'yunet:FILE'")
    parser.add_argument("--engine", choices=sorted(ENGINES), help="what runs the network; default: the faster one")
    parser.add_argument("--cache_dir", default="~/.cache/ror_jax", metavar="DIR", help="for compiled programs")
    add_import_option(parser)


def open_model(options: argparse.Namespace) -> Model:
    """The model that these options name; errors as those of `Model` and `use_devices`."""
    use_devices(options.cache_dir)
    return Model(options.model, options.engine)
