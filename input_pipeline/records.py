"""What the rest of the program sees of a data set.

A *record* is one image and what is known about it, as a dict with fixed keys:

    image       JPEG bytes, or uint8 [H, W, 3]
    age_span    float32 [2], years from the first on and below the second; -1 unknown: see `age_groups`
    age         float32, completed years, the middle of a span; -1 unknown
    age_group   int32, index of one of the eight groups of Adience; -1 unknown
    gender      int32, 0 female, 1 male; -1 unknown
    identity    str, the same for all images of one person; "" unknown
    label       int32, the class, where there are only classes

and further keys where a data set knows more. A label that an image does not have is -1, never invented. Places are in
pixels of the image, from its upper left corner, so that the centre of the first pixel is (0.5, 0.5); see `geometry`.
"""

import dataclasses
import functools
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.geometry import Kind


class Source(Protocol):
    """Records by number. Sources can be pickled, so that worker processes can read them.

    Those that have labels in memory show them as `columns`: record key -> array [N, ...]. Those that are trained on in
    an order of their own have a method `order`: seed -> endless `grain.MapDataset` of record numbers, whose length is
    that of an epoch.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...

    def digest(self) -> str:
        """Short text that another source of the same records has, too, and one of other records has not."""
        ...


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set, split for training, testing and perhaps validation.

    Attributes:
        train: records to train on.
        tests: records to test on, by the name of the split, "test" or "test_NAME" in lower case; at least one. Papers'
            tables show the first.
        labels: record key -> class names, in the order of the indices; none: no classes.
        mean, std: of all training pixels, per channel (R, G, B), 0..255.
        description: for a person: how many rows were read, kept and left out, and why.
        validation: records that are neither trained nor tested on, by the name of the split, "validation" or
            "validation_NAME": all of them together choose an epoch and teach the task's state.
        folds: numbers that one can test on; empty where the data have none.
        groups: keys of text in the records by which results are broken down; they are never predicted.
        geometry: record key -> what the label is in the plane of the image: it moves with the image, see `geometry`.
        template: [5, 2], the landmarks in all images, in parts of the side, where `alignment.align` put them; None: it
            did not.

    Raises:
        DataError: there is no test, or the name of a split is not as described.
    """

    name: str
    train: Source
    tests: dict[str, Source]
    labels: dict[str, tuple[str, ...]]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    description: str
    validation: dict[str, Source] = dataclasses.field(default_factory=dict)
    folds: tuple[int, ...] = ()
    groups: tuple[str, ...] = ()
    geometry: Mapping[str, Kind] = dataclasses.field(default_factory=dict)
    template: np.ndarray | None = None

    def __post_init__(self):
        if not self.tests:
            raise DataError(f"{self.name} has no test: name at least one in `tests`")
        for kind, splits in {"validation": self.validation, "test": self.tests}.items():
            for split in splits:
                if not re.fullmatch(f"{kind}(_[a-z0-9_]+)?", split):
                    raise DataError(f"{self.name}: a split for {kind} is called {kind} or {kind}_name, not {split!r}")

    @property
    def test(self) -> Source:
        """The first of the tests."""
        return next(iter(self.tests.values()))

    @property
    def evaluations(self) -> dict[str, Source]:
        """What is not trained on, by the name of the split."""
        return self.validation | self.tests

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with what a run would read: images, labels, their order, splits, classes.

        Where a run reads some of the images, as with a `limit`, all of them count.

        They are the same wherever the files lie and whenever they were written. What is looked at is

        - of CIFAR and SVHN every pixel and every label;
        - of faces every prepared image, by a checksum, and every number that is known of it. They are prepared again
          when a list's row or the contents of an original file have changed; the files are read to find out whenever
          the size, the inode or a time of one of them is another than before, see `datasets.files.hash_files`;
        - of ImageNet the names and sizes of all files, which takes seconds: another file of the same name and size
          goes unnoticed.
        """
        splits = {"train": self.train} | self.evaluations
        return digest(self.labels, {name: source.digest() for name, source in splits.items()})


class ArraySource:
    """Records that lie in memory.

    Args:
        columns: record key -> array of any type [N, ...].
    """

    def __init__(self, columns: dict[str, np.ndarray]):
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {key: column[index] for key, column in self.columns.items()}

    def digest(self) -> str:
        return digest(*itertools.chain(*sorted(self.columns.items())))


class Subset:
    """Some records of a source, by their numbers."""

    def __init__(self, source: Source, numbers: np.ndarray):
        self._source, self._numbers = source, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._source[int(self._numbers[index])]

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Those of the source, where it shows any, but images, of which this would be a copy."""
        return {key: column[self._numbers] for key, column in self._source.columns.items() if key != "image"}

    def digest(self) -> str:
        return digest(self._source.digest(), self._numbers)


def label_columns(source: Source, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """These labels of all records, [N] each: from memory where the source has them there, else record by record."""
    columns = getattr(source, "columns", {})
    if all(label in columns for label in labels):
        return {label: columns[label] for label in labels}
    records = [source[number] for number in range(len(source))]
    for label in labels:
        if records and label not in records[0]:
            raise DataError(f"the records have no {label!r}, which the data set names as one of its labels")
    return {label: np.array([record[label] for record in records]) for label in labels}


def digest(*parts: Any) -> str:
    """16 hex digits: of arrays by type, shape and bytes, of anything else by its `ascii` text."""
    content = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            content.update(f"{part.dtype.str} {part.shape} ".encode())
            content.update(np.ascontiguousarray(part).view(np.uint8))
        else:
            content.update(f"{part!a} ".encode())
    return content.hexdigest()[:16]


def check_labels(dataset: Dataset) -> None:
    """Raises DataError if a label is neither -1 nor one of the classes; ages lie between the first and the last.

    A loss would take such a label for another, without a word. Looked at are the labels that are in memory.
    """
    for split, source in {"train": dataset.train, **dataset.evaluations}.items():
        columns = getattr(source, "columns", {})
        for label in [label for label, names in dataset.labels.items() if names and label in columns]:
            values, last = columns[label], len(dataset.labels[label]) - 1
            last = last if values.ndim == 1 else 1  # flags
            within = (values == -1) | ((values >= 0) & (values <= last))  # NaN is wrong, too
            wrong = np.flatnonzero(~within.reshape(len(values), -1).all(1))
            if len(wrong):
                texts = [f", {key} {text}" for key, text in source[wrong[0]].items() if isinstance(text, str)]
                raise DataError(
                    f"{dataset.name}: record {wrong[0]} of {split}{''.join(texts)} has {label} {values[wrong[0]]};"
                    f" it must be from 0 to {last}, or -1 where it is unknown"
                )


def check_label(name: str, labels: Sequence[str]) -> None:
    """Raises DataError unless one of the wanted `labels` is the "label" that a data set of plain classes has."""
    if "label" not in labels:
        raise DataError(f"{name} has the label 'label' alone, not {', '.join(labels)}")


def pixel_sums(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums and sums of squares per channel, int64 [C] each, of uint8 pixels [..., C]."""
    axes = tuple(range(pixels.ndim - 1))
    return pixels.sum(axes, dtype=np.int64), np.square(pixels, dtype=np.uint16).sum(axes, dtype=np.int64)


def mean_and_std(sums: np.ndarray, square_sums: np.ndarray, pixels: int) -> dict[str, tuple[float, ...]]:
    """The fields `mean` and `std` of a `Dataset`, from the sums over that many pixels."""
    mean = sums / pixels
    std = np.sqrt(square_sums / pixels - mean**2)
    return {"mean": tuple(mean.tolist()), "std": tuple(std.tolist())}
