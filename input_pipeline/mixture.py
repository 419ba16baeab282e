"""A data set that is a mixture of others, each with its share of the training images.

Records of the parts are brought to the same keys: a label that a part lacks is unknown in its records, so that losses
leave it out. Each part has an order of its own: all of its images come once before any of them comes again, but for
those of an epoch that do not fill its last batch.
"""

import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from input_pipeline import create_dataset
from input_pipeline.errors import DataError
from input_pipeline.geometry import Kind
from input_pipeline.records import Dataset, Source, digest

NAME = "[a-z0-9_]+"  # of a part, as of a split
UNKNOWN = {"age": -1, "age_span": -1}  # what stands for an unknown label; others are -1, or NaN if they are floats


class Mixture:
    """Records of several sources, one source after the other, with the same keys.

    Args:
        sources: by name of the part.
        missing: the keys of all records beside the image, and the value of each where a source lacks it.
        shares: how much of the training each source is, in any unit. None: the records are not to be trained on.
    """

    def __init__(
        self, sources: Mapping[str, Source], missing: Mapping[str, Any], shares: Mapping[str, float] | None = None
    ):
        self._sources, self._missing, self._shares = dict(sources), dict(missing), shares
        self._starts = np.cumsum([0, *map(len, self._sources.values())])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        source = list(self._sources.values())[number]
        record = source[int(index - self._starts[number])]
        return {"image": record["image"]} | {key: record.get(key, value) for key, value in self._missing.items()}

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The labels of all records, [N, ...] by key: those that each source has in memory or lacks."""
        found = {}
        for key, value in self._missing.items():
            parts = [_column(source, key, value) for source in self._sources.values()]
            if not isinstance(value, str) and all(part is not None for part in parts):
                found[key] = np.concatenate(parts)
        return found

    def digest(self) -> str:
        return digest(self._shares, {name: source.digest() for name, source in self._sources.items()})

    def order(self, seed: int) -> grain.MapDataset:
        """Returns the endless order of training, as numbers of the records; an epoch is as long as the source."""
        spans = itertools.pairwise(self._starts.tolist())
        seeds = np.random.SeedSequence(seed).generate_state(len(self._sources)).tolist()
        parts = [
            grain.MapDataset.range(*span).shuffle(seed=own).repeat() for span, own in zip(spans, seeds, strict=True)
        ]
        return _Endless(grain.MapDataset.mix(parts, list(self._shares.values())), len(self)).seed(seed)


class _Endless(grain.MapDataset):
    """The elements of an endless data set, of which an epoch has so many."""

    def __init__(self, parent: grain.MapDataset, length: int):
        super().__init__(parent)
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index):
        return self.slice(index) if isinstance(index, slice) else self._parent[index]


def create(
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike,
    *,
    labels: Sequence[str],
    mixture: Mapping[str, Mapping[str, Any]] | None = None,
    limit: int | None = None,
    validation: float | None = None,
) -> Dataset:
    """A mixture of data sets, whose epochs have as many images as the training splits of all parts together.

    What is not trained on stays apart: the split "test" of the part "drawn" is the split "test_drawn". That an image is
    trained on in one part and tested on in another is not noticed.

    Args:
        data_dir: of the parts that give none of their own.
        cache_dir: where prepared files are kept.
        labels: records that have at least one of these are kept; each part must know one of them at least.
        mixture: the parts by name, each with its `share` (above 0; all shares together are the whole) and the arguments
            of `create_dataset`; without `name`, the part is the data set that it is called after.
        limit: see `create_dataset`; for each part that has none of its own.
        validation: likewise.

    Raises:
        DataError: there are no parts, a share is not above 0, a part cannot be made, no part has one of the labels, or
            parts have different classes of a label, or another geometry.
    """
    if not mixture:
        raise DataError("a mixture needs parts: dataset.mixture names each, with its share")
    parts, shares = {}, {}
    for name, options in mixture.items():
        if not re.fullmatch(NAME, name):
            raise DataError(f"mixture: a part is called {name!r}; its name consists of a-z, 0-9 and _")
        if not isinstance(options, Mapping) or {"cache_dir", "labels"} & options.keys():
            raise DataError(f"mixture: part {name} is {options!r}; it must be its share and options of its data set")
        options = {"name": name, "data_dir": data_dir, "limit": limit, "validation": validation} | dict(options)
        shares[name] = options.pop("share", None)
        if not isinstance(shares[name], int | float) or not 0 < shares[name] < float("inf"):
            raise DataError(f"mixture: the share of {name} is {shares[name]!r}; it must be a number above 0")
        try:
            parts[name] = create_dataset(cache_dir=cache_dir, labels=labels, **options)
        except DataError as error:
            raise DataError(f"mixture, part {name}: {error}") from error
        if hasattr(parts[name].train, "order"):
            raise DataError(f"mixture, part {name}: it is a mixture itself; name its parts here instead")
    shares = {name: share / sum(shares.values()) for name, share in shares.items()}
    classes, geometry = _classes(parts, labels), _geometry(parts, labels)
    moving = {label for part in parts.values() for label in part.geometry}
    classes = {label: names for label, names in classes.items() if label in geometry or label not in moving}
    missing = _missing(parts, classes)

    def splits(attribute: str) -> dict[str, Mixture]:
        found: dict[str, Mixture] = {}
        for name, part in parts.items():
            for split, source in getattr(part, attribute).items():
                if f"{split}_{name}" in found:
                    raise DataError(f"mixture: two splits would be called {split}_{name}; give a part another name")
                found[f"{split}_{name}"] = Mixture({name: source}, missing)
        return found

    weights = np.array([*shares.values()])
    means, stds = (np.array([getattr(part, moment) for part in parts.values()]) for moment in ("mean", "std"))
    mean = weights @ means
    std = np.sqrt(weights @ (stds**2 + means**2) - mean**2)
    aligned = [part.template for part in parts.values()]
    percent = ", ".join(f"{100 * share:.3g} % {name}" for name, share in shares.items())
    return Dataset(
        "mixture",
        Mixture({name: part.train for name, part in parts.items()}, missing, shares),
        splits("tests"),
        validation=splits("validation"),
        labels=classes,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        groups=tuple(dict.fromkeys(group for part in parts.values() for group in part.groups)),
        geometry=geometry,
        template=aligned[0] if all(np.array_equal(one, aligned[0]) for one in aligned) else None,
        description="\n".join([f"mixture: {percent}", *(part.description for part in parts.values())]),
    )


def _classes(parts: Mapping[str, Dataset], wanted: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The labels of the parts with their classes; without those not wanted of which parts have different classes."""
    classes: dict[str, tuple[str, ...]] = {}
    for label in dict.fromkeys([*wanted, *(label for part in parts.values() for label in part.labels)]):
        owners = {name: part.labels[label] for name, part in parts.items() if label in part.labels}
        if label in wanted and not owners:
            raise DataError(f"mixture: none of the parts {', '.join(parts)} has the label {label!r}")
        if len({*owners.values()}) == 1:
            classes[label] = next(iter(owners.values()))
        elif label in wanted:
            one, names = next(iter(owners.items()))
            other, others = next(owner for owner in owners.items() if owner[1] != names)
            raise DataError(
                f"mixture: the classes of {label!r} are {', '.join(names)} in {one}, but {', '.join(others)} in {other}"
            )
    return classes


def _geometry(parts: Mapping[str, Dataset], wanted: Sequence[str]) -> dict[str, Kind]:
    """How the labels move with the images; without those not wanted that are of another kind in another part."""
    geometry: dict[str, Kind] = {}
    for label in dict.fromkeys(label for part in parts.values() for label in part.geometry):
        owners = {name: part.geometry[label] for name, part in parts.items() if label in part.geometry}
        one, kind = next(iter(owners.items()))
        if others := {name: other for name, other in owners.items() if other != kind}:
            if label in wanted:
                other, another = next(iter(others.items()))
                raise DataError(f"mixture: the label {label!r} is {kind} in {one}, but {another} in {other}")
        else:
            geometry[label] = kind
    return geometry


def _missing(parts: Mapping[str, Dataset], labels: Iterable[str]) -> dict[str, Any]:
    """Returns the value of each text and each of these labels for records that lack it."""
    missing: dict[str, Any] = {}
    for name, part in parts.items():
        for key, value in part.train[0].items():
            if isinstance(value, str):
                missing.setdefault(key, "")
            elif key in labels:
                floats = np.asarray(value).dtype.kind == "f"
                unknown = np.full_like(value, UNKNOWN.get(key, np.nan if floats else -1))
                if np.shape(missing.setdefault(key, unknown)) != np.shape(value):
                    shapes = f"{list(np.shape(value))} in {name} and {list(np.shape(missing[key]))} in another part"
                    raise DataError(f"mixture: the label {key!r} has the shape {shapes}")
    return missing


def _column(source: Source, key: str, unknown: Any) -> np.ndarray | None:
    """What a source has of a key, [N, ...]; None if it lies with the images."""
    columns = getattr(source, "columns", {})
    if key not in columns and key in source[0]:
        return None
    return columns[key] if key in columns else np.broadcast_to(unknown, (len(source), *np.shape(unknown)))
