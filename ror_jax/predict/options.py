"""The options that all programs which use an exported model share."""

import argparse
from pathlib import Path

from input_pipeline.detection import DETECTOR
from ror_jax.extensions import add_import_option
from ror_jax.predict.faces import FaceFilter
from ror_jax.predict.model import ENGINES, Model
from ror_jax.startup import use_devices


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options, with the defaults of `Model`."""
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="folder that ror_jax.export made")
    parser.add_argument("--detector", default=DETECTOR, metavar="NAME", help="default %(default)s; see --import")
    parser.add_argument("--min_score", type=float, metavar="P", help="least score of a face; default of yunet: 0.7")
    parser.add_argument("--min_size", type=float, default=0, metavar="N", help="least width of a face, in pixels")
    parser.add_argument("--largest", type=int, metavar="N", help="read only the N largest faces of each photograph")
    parser.add_argument("--engine", choices=sorted(ENGINES), help="what runs the network; default: the faster one")
    parser.add_argument("--cache_dir", default="~/.cache/ror_jax", metavar="DIR", help="for compiled programs")
    add_import_option(parser)


def face_filter(options: argparse.Namespace) -> FaceFilter:
    """The filter that these options name; raises UserError where they make no sense."""
    return FaceFilter(options.min_score, options.min_size, options.largest)


def open_model(options: argparse.Namespace) -> Model:
    """The model that these options name; errors as those of `Model` and `use_devices`."""
    use_devices(options.cache_dir)
    return Model(options.model, options.engine)
