"""The options that all programs which use a model share."""

import argparse

from input_pipeline.detection import DETECTOR
from ror_jax.extensions import add_import_option
from ror_jax.models.zoo import DEFAULT, list_pretrained
from ror_jax.predict.faces import FaceFilter
from ror_jax.predict.model import ENGINES, Model
from ror_jax.startup import CACHE_DIR, use_devices


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options, with the defaults of `Model`."""
    parser.add_argument(
        "--model",
        default=DEFAULT,
        metavar="NAME_OR_FOLDER",
        help="pretrained model, or folder that ror_jax.export made; default %(default)s",
    )
    parser.add_argument("--list_models", action=_ListModels, nargs=0, help="print the pretrained models, and leave")
    parser.add_argument("--detector", default=DETECTOR, metavar="NAME", help="default %(default)s; see --import")
    parser.add_argument("--min_score", type=float, metavar="P", help="least score of a face; default of yunet: 0.7")
    parser.add_argument("--min_size", type=float, default=0, metavar="N", help="least width of a face, in pixels")
    parser.add_argument("--largest", type=int, metavar="N", help="read only the N largest faces of each photograph")
    parser.add_argument("--engine", choices=sorted(ENGINES), help="what runs the network; default: the faster one")
    parser.add_argument(
        "--cache_dir", default=CACHE_DIR, metavar="DIR", help="for compiled programs and downloads; default %(default)s"
    )
    add_import_option(parser)


def face_filter(options: argparse.Namespace) -> FaceFilter:
    """The filter that these options name; raises UserError where they make no sense."""
    return FaceFilter(options.min_score, options.min_size, options.largest)


def open_model(options: argparse.Namespace) -> Model:
    """The model that these options name; errors as those of `Model` and `use_devices`."""
    use_devices(options.cache_dir)
    return Model(options.model, options.engine, options.cache_dir)


class _ListModels(argparse.Action):
    """Prints the pretrained models as a table and ends the program, as --help does."""

    def __call__(self, parser, *_):
        lines = [("name", "size", "results", "licence")]
        for name, model in list_pretrained().items():
            results = ", ".join(f"{what} {value:g}" for what, value in model.results.items())
            lines.append((name, f"{model.size_bytes / 1e6:.1f} MB", results, model.licence))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            print("  ".join(map(str.ljust, line, widths)).rstrip())
        parser.exit()
