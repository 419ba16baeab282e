"""Files on disk -> batches.

`create_dataset` finds a data set by name, `register` adds one. `transforms` cuts and flips its images, `jitter` changes
them further, `geometry` moves landmarks, boxes and angles with them, `sampling` draws rare ones oftener, `pipeline`
makes batches of them; `on_device` does most of this on the accelerator.
"""

import dataclasses
import inspect
import os
import pkgutil
from collections.abc import Callable
from typing import Any

import numpy as np

from input_pipeline.errors import DataError, unknown_name
from input_pipeline.records import Dataset, Source, Subset, check_labels

__all__ = ["DataError", "Dataset", "create_dataset", "find_dataset", "list_datasets", "register"]

# A data set's function `(data_dir, cache_dir, *, labels, options) -> Dataset`, or where to find it.
# Named, not imported: the libraries behind a data set are loaded when it is asked for.
_CREATORS: dict[str, str | Callable[..., Dataset]] = {
    "adience": "input_pipeline.datasets.adience:create",
    "cifar10": "input_pipeline.datasets.cifar:create_cifar10",
    "cifar100": "input_pipeline.datasets.cifar:create_cifar100",
    "faces_csv": "input_pipeline.datasets.faces_csv:create",
    "fairface": "input_pipeline.datasets.fairface:create",
    "imagenet": "input_pipeline.datasets.imagenet:create",
    "imdb_wiki": "input_pipeline.datasets.imdb_wiki:create",
    "mixture": "input_pipeline.mixture:create",
    "rendered_faces": "input_pipeline.datasets.rendered_faces:create",
    "svhn": "input_pipeline.datasets.svhn:create",
}


def list_datasets() -> tuple[str, ...]:
    """The names that `create_dataset` knows, sorted."""
    return tuple(sorted(_CREATORS))


def register(name: str, create: Callable[..., Dataset]) -> None:
    """Adds a data set to those that `create_dataset` knows.

    Args:
        create: `(data_dir, cache_dir, *, labels, **options) -> Dataset`, where `labels` are keys of which a record must
            have one. Its other keyword-only parameters are options; with one called `validation`, see `create_dataset`,
            the data set can hold out subjects, and with one called `limit` it leaves out images itself.

    Raises:
        DataError: there is a data set of that name, or `create` has no keyword-only parameter `labels`.
    """
    if name in _CREATORS:
        raise DataError(f"there is a data set {name!r} already; register yours under another name")
    if "labels" not in _options(create):
        raise DataError(f"the function of data set {name!r} has no keyword-only parameter 'labels'; it needs one")
    _CREATORS[name] = create


def find_dataset(name: str) -> Callable[..., Dataset]:
    """The function that makes the data set `name`; raises DataError for an unknown one."""
    if name not in _CREATORS:
        raise unknown_name("data set", name, _CREATORS)
    create = _CREATORS[name]
    return pkgutil.resolve_name(create) if isinstance(create, str) else create


def create_dataset(
    name: str,
    *,
    data_dir: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike,
    limit: int | None = None,
    validation: float | None = None,
    **options: Any,
) -> Dataset:
    """Opens a data set, preparing it at first use.

    Args:
        name: one of `list_datasets()`.
        data_dir: where the user keeps the original files. Data sets that the program draws by itself need none.
        cache_dir: where prepared files are kept and found again.
        limit: keep no more than so many images of each split, drawn at random, always the same.
        validation: hold out this share (below 1) of the subjects that would train, drawn at random, always the same,
            as the split `validation`; 0: none. Only for data sets of faces, which know who is who.
        options: `labels` (only images that have one of these are kept) and the data set's own; see its `create`.

    Raises:
        DataError: there is no such data set or option, or the files are not what the data set expects, or a label is
            out of range.
    """
    create = find_dataset(name)
    known = _options(create)
    for option in options:
        if option not in known:
            raise unknown_name(f"option of data set {name}", option, known)
    if validation:
        if "validation" not in known:
            raise DataError(f"{name} does not say who is who: it has no subjects to hold out; leave out validation")
        options["validation"] = validation
    if limit is not None and limit < 1:
        raise DataError(f"the limit of {limit} images leaves none; it must be 1 or more")
    if "limit" in known:
        options["limit"], limit = limit, None
    dataset = create(data_dir, cache_dir, **options)
    check_labels(dataset)
    if limit is None:
        return dataset
    limited = dataclasses.replace(
        dataset,
        train=_limited(dataset.train, limit),
        validation={split: _limited(source, limit) for split, source in dataset.validation.items()},
        tests={split: _limited(source, limit) for split, source in dataset.tests.items()},
    )
    sizes = " and ".join(str(len(source)) for source in (limited.train, *limited.evaluations.values()))
    return dataclasses.replace(limited, description=f"{dataset.description} (limited to {sizes} images)")


def _options(create: Callable[..., Dataset]) -> list[str]:
    """The names of a data set's options, `labels` and perhaps `validation` among them."""
    parameters = inspect.signature(create).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


def _limited(source: Source, limit: int) -> Subset:
    return Subset(source, np.random.default_rng(0).permutation(len(source))[:limit])
