"""Files on disk -> batches.

`create_dataset` finds a data set by name, `transforms` cuts and flips its images, `pipeline` makes batches of them.
"""

import importlib
import inspect
import os
from typing import Any

from input_pipeline.errors import DataError, unknown_name
from input_pipeline.records import Dataset

__all__ = ["DataError", "Dataset", "create_dataset", "list_datasets"]

# One module a data set, with a function `create(data_dir, cache_dir, *, options) -> Dataset`.
# Named, not imported: the libraries behind a data set are loaded when it is asked for.
_MODULES = {
    "adience": "input_pipeline.datasets.adience",
    "cifar10": "input_pipeline.datasets.cifar10",
    "rendered_faces": "input_pipeline.datasets.rendered_faces",
}


def list_datasets() -> tuple[str, ...]:
    """The names that `create_dataset` knows, sorted."""
    return tuple(sorted(_MODULES))


def create_dataset(
    name: str, *, data_dir: str | os.PathLike | None = None, cache_dir: str | os.PathLike, **options: Any
) -> Dataset:
    """Opens a data set, preparing it at first use.

    Args:
        name: one of `list_datasets()`.
        data_dir: where the user keeps the original files. Data sets that the program draws by itself need none.
        cache_dir: where prepared files are kept and found again.
        options: `labels` (only images that have one of these are kept) and the data set's own; see its `create`.

    Raises:
        DataError: there is no such data set or option, or the files are not what the data set expects.
    """
    if name not in _MODULES:
        raise unknown_name("data set", name, _MODULES)
    create = importlib.import_module(_MODULES[name]).create
    parameters = inspect.signature(create).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise unknown_name(f"option of data set {name}", option, known)
    return create(data_dir, cache_dir, **options)
