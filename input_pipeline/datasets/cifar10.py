"""CIFAR-10 in its binary version, in memory.

A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009; https://www.cs.toronto.edu/~kriz/cifar.html.
A file holds 10,000 records of one label byte and 3,072 pixel bytes: 32 x 32 red, then green, then blue.
"""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.records import ArraySource, Dataset, mean_and_std, pixel_sums

FOLDER = "cifar-10-batches-bin"
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
NAMES_FILE = "batches.meta.txt"
RECORDS, CLASSES, SIDE = 10_000, 10, 32
WANTED = "wanted is the binary version from www.cs.toronto.edu/~kriz/cifar.html"


def create(
    data_dir: str | os.PathLike | None, cache_dir: str | os.PathLike, *, labels: Sequence[str] = ("label",)
) -> Dataset:
    """CIFAR-10: 50,000 images to train on and 10,000 to test on, as uint8 [32, 32, 3] with `label` (int32, 0..9).

    Args:
        data_dir: the folder `cifar-10-batches-bin`, or the one that it is in.
        cache_dir: not used.
        labels: what the images must have; there is nothing but "label".

    Raises:
        DataError: a file is missing or damaged; the message says which.
    """
    if set(labels) != {"label"}:
        raise DataError(f"cifar10 has the label 'label' alone, not {', '.join(labels)}")
    if data_dir is None:
        raise DataError(f"cifar10 needs data_dir; {WANTED}")
    folder = pathlib.Path(data_dir).expanduser()
    if (folder / FOLDER).is_dir():
        folder /= FOLDER
    names = tuple(_read(folder / NAMES_FILE).decode(errors="replace").split())
    if len(names) != CLASSES:
        raise DataError(f"{folder / NAMES_FILE} names {len(names)} classes instead of {CLASSES}; {WANTED}")
    parts = [_read_records(folder / name) for name in TRAIN_FILES]
    train = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    test = _read_records(folder / TEST_FILE)
    sums = np.sum([pixel_sums(part["image"]) for part in parts], axis=0)
    return Dataset(
        "cifar10",
        ArraySource(train),
        ArraySource(test),
        labels={"label": names},
        description=f"cifar10: {len(train['label'])} images to train on, {len(test['label'])} to test on",
        **mean_and_std(*sums, len(train["label"]) * SIDE**2),
    )


def _read(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); {WANTED}") from error


def _read_records(path: pathlib.Path) -> dict[str, np.ndarray]:
    data = _read(path)
    size = RECORDS * (1 + 3 * SIDE**2)
    if len(data) != size:
        raise DataError(f"{path} has {len(data)} bytes instead of {size}; {WANTED}")
    records = np.frombuffer(data, np.uint8).reshape(RECORDS, -1)
    labels = records[:, 0].astype(np.int32)
    if labels.max() >= CLASSES:
        number = int(labels.argmax())
        raise DataError(f"{path}: record {number} has label {labels[number]}, above {CLASSES - 1}; {WANTED}")
    images = records[:, 1:].reshape(RECORDS, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return {"image": np.ascontiguousarray(images), "label": labels}
