"""What the rest of the program sees of a data set.

A *record* is one image and what is known about it, as a dict with fixed keys:

    image       JPEG bytes, or uint8 [H, W, 3]
    age         float32, years; -1 unknown
    age_group   int32, index of one of the eight groups of Adience; -1 unknown
    gender      int32, 0 female, 1 male; -1 unknown
    identity    str, the same for all images of one person; "" unknown
    label       int32, the class, where there are only classes

and further keys where a data set knows more. A label that an image does not have is -1, never invented.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from input_pipeline.errors import DataError


class Source(Protocol):
    """Records by number. Sources can be pickled, so that worker processes can read them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set, split for training, testing and perhaps validation."""

    name: str
    train: Source
    test: Source
    labels: dict[str, tuple[str, ...]]  # record key -> class names, in the order of the indices
    mean: tuple[float, ...]  # of all training pixels, per channel (R, G, B), 0..255
    std: tuple[float, ...]
    description: str  # for a person: how many rows were read, kept and left out, and why
    validation: Source | None = None  # neither trained nor tested on: to choose an epoch by
    folds: tuple[int, ...] = ()  # that one can test on; empty where the data have none

    @property
    def tested(self) -> dict[str, Source]:
        """What is not trained on, by the name of the split."""
        return ({"validation": self.validation} if self.validation is not None else {}) | {"test": self.test}


class ArraySource:
    """Records that lie in memory.

    Args:
        columns: record key -> array of any type [N, ...].
    """

    def __init__(self, columns: dict[str, np.ndarray]):
        self._columns = columns

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {key: column[index] for key, column in self._columns.items()}


class Subset:
    """Some records of a source, by their numbers."""

    def __init__(self, source: Source, numbers: np.ndarray):
        self._source, self._numbers = source, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._source[int(self._numbers[index])]


def check_label(name: str, labels: Sequence[str]) -> None:
    """Raises DataError unless the wanted `labels` are the "label" alone that a data set of plain classes has."""
    if set(labels) != {"label"}:
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
