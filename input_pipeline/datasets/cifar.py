"""CIFAR-10 and CIFAR-100 in their binary versions, in memory.

A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009; https://www.cs.toronto.edu/~kriz/cifar.html.
A file holds records of one label byte (CIFAR-100: a coarse and a fine one) and 3,072 pixel bytes: 32 x 32 red, then
green, then blue.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from input_pipeline.datasets.downloads import Original, download
from input_pipeline.datasets.files import read_file
from input_pipeline.errors import DataError
from input_pipeline.records import ArraySource, Dataset, check_label, mean_and_std, pixel_sums

SIDE = 32
WANTED = "wanted is the binary version from www.cs.toronto.edu/~kriz/cifar.html"


@dataclasses.dataclass(frozen=True)
class Version:
    """Where things are in a binary version."""

    name: str
    classes: int
    train: dict[str, int]  # file name -> records in it
    test: dict[str, int]
    names_file: str
    label_bytes: int  # of a record; the last one is the class
    folder: Original


CIFAR10 = Version(
    "cifar10",
    classes=10,
    train={f"data_batch_{number}.bin": 10_000 for number in range(1, 6)},
    test={"test_batch.bin": 10_000},
    names_file="batches.meta.txt",
    label_bytes=1,
    folder=Original(
        "cifar-10-batches-bin",
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
)
CIFAR100 = Version(
    "cifar100",
    classes=100,
    train={"train.bin": 50_000},
    test={"test.bin": 10_000},
    names_file="fine_label_names.txt",
    label_bytes=2,
    folder=Original(
        "cifar-100-binary",
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    ),
)


def create_cifar10(
    data_dir: str | os.PathLike | None, cache_dir: str | os.PathLike, *, labels: Sequence[str] = ("label",)
) -> Dataset:
    """CIFAR-10: 50,000 images to train on and 10,000 to test on, as uint8 [32, 32, 3] with `label` (int32, 0..9).

    Args:
        data_dir: the folder `cifar-10-batches-bin`, or the one that it is in. None: it is downloaded.
        cache_dir: where the download is kept.
        labels: what the images must have; there is nothing but "label".

    Raises:
        DataError: a file is missing or damaged, or cannot be downloaded; the message says which.
    """
    return _create(CIFAR10, data_dir, cache_dir, labels)


def create_cifar100(
    data_dir: str | os.PathLike | None, cache_dir: str | os.PathLike, *, labels: Sequence[str] = ("label",)
) -> Dataset:
    """CIFAR-100, as CIFAR-10, but with the folder `cifar-100-binary` and `label` (int32, 0..99) the fine class."""
    return _create(CIFAR100, data_dir, cache_dir, labels)


def _create(version: Version, data_dir, cache_dir, labels: Sequence[str]) -> Dataset:
    check_label(version.name, labels)
    if data_dir is None:
        data_dir = download([version.folder], cache_dir, f"data_dir may name a folder that has it; {WANTED}")
    folder = pathlib.Path(data_dir).expanduser()
    if (folder / version.folder.name).is_dir():
        folder /= version.folder.name
    names = tuple(_read(folder / version.names_file).decode(errors="replace").split())
    if len(names) != version.classes:
        raise DataError(
            f"{folder / version.names_file} names {len(names)} classes instead of {version.classes}; {WANTED}"
        )
    train = _read_split(version, folder, version.train)
    test = _read_split(version, folder, version.test)
    return Dataset(
        version.name,
        ArraySource(train),
        {"test": ArraySource(test)},
        labels={"label": names},
        description=f"{version.name}: {len(train['label'])} images to train on, {len(test['label'])} to test on",
        **mean_and_std(*pixel_sums(train["image"]), len(train["label"]) * SIDE**2),
    )


def _read_split(version: Version, folder: pathlib.Path, files: dict[str, int]) -> dict[str, np.ndarray]:
    parts = [_read_records(version, folder / name, number) for name, number in files.items()]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _read_records(version: Version, path: pathlib.Path, number: int) -> dict[str, np.ndarray]:
    data = _read(path)
    size = number * (version.label_bytes + 3 * SIDE**2)
    if len(data) != size:
        raise DataError(f"{path} has {len(data)} bytes instead of {size}; {WANTED}")
    records = np.frombuffer(data, np.uint8).reshape(number, -1)
    labels = records[:, version.label_bytes - 1].astype(np.int32)
    if labels.max() >= version.classes:
        worst = int(labels.argmax())
        raise DataError(f"{path}: record {worst} has label {labels[worst]}, above {version.classes - 1}; {WANTED}")
    images = records[:, version.label_bytes :].reshape(number, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return {"image": np.ascontiguousarray(images), "label": labels}


def _read(path: pathlib.Path) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); {WANTED}") from error
