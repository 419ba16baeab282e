"""SVHN, the street view house numbers, as cropped digits, in memory.

Y. Netzer et al., "Reading digits in natural images with unsupervised feature learning", 2011;
http://ufldl.stanford.edu/housenumbers. A .mat file holds `X`, uint8 [32, 32, 3, N], and `y`, uint8 [N, 1], from 1 to
10; 10 is the digit 0.
"""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from input_pipeline.datasets.downloads import Original, download
from input_pipeline.datasets.mat_files import array_shapes, read_arrays
from input_pipeline.errors import DataError
from input_pipeline.records import ArraySource, Dataset, check_label, mean_and_std, pixel_sums

SIDE, CLASSES = 32, 10
HOME = "http://ufldl.stanford.edu/housenumbers"
WANTED = f"wanted are the cropped digits (format 2) from {HOME}"
SHA256 = {
    "train_32x32.mat": "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
    "extra_32x32.mat": "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3",
    "test_32x32.mat": "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
}
MOST = 2 * 2**30  # bytes of an array; the images of `extra` have 1.6 * 10**9
AT_A_TIME = 10_000  # images whose squares are in memory


def create(
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike,
    *,
    labels: Sequence[str] = ("label",),
    extra: bool = True,
) -> Dataset:
    """SVHN: 604,388 images to train on and 26,032 to test on, as uint8 [32, 32, 3] with `label` (int32, the digit).

    The images to train on are the 73,257 of `train` and the 531,131 of `extra`, as in section V.H of the RoR paper.

    Args:
        data_dir: the folder of train_32x32.mat, extra_32x32.mat and test_32x32.mat. None: they are downloaded, 1.6 GB.
        cache_dir: where the download is kept.
        labels: what the images must have; there is nothing but "label".
        extra: False leaves out `extra` and its file.

    Raises:
        DataError: a file is missing or damaged, or cannot be downloaded; the message says which.
    """
    check_label("svhn", labels)
    train_files = ["train_32x32.mat", "extra_32x32.mat"] if extra else ["train_32x32.mat"]
    test_files = ["test_32x32.mat"]
    if data_dir is None:
        originals = [Original(name, f"{HOME}/{name}", SHA256[name]) for name in train_files + test_files]
        data_dir = download(originals, cache_dir, f"data_dir may name a folder that has it; {WANTED}")
    folder = pathlib.Path(data_dir).expanduser()
    test, _ = _read_split([folder / name for name in test_files])
    train, sums = _read_split([folder / name for name in train_files])
    return Dataset(
        "svhn",
        ArraySource(train),
        {"test": ArraySource(test)},
        labels={"label": tuple(str(digit) for digit in range(CLASSES))},
        description=f"svhn: {len(train['label'])} images to train on, {len(test['label'])} to test on",
        **mean_and_std(*sums, len(train["label"]) * SIDE**2),
    )


def _read_split(paths: list[pathlib.Path]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The records of some files one after the other, and their `pixel_sums`. One file's images are in memory twice."""
    numbers = [_number_of_images(path) for path in paths]
    images = np.empty((sum(numbers), SIDE, SIDE, 3), np.uint8)
    labels, sums, start = np.empty(len(images), np.int32), [], 0
    for path, number in zip(paths, numbers, strict=True):
        pixels, labels[start : start + number] = _read(path)
        images[start : start + number] = pixels
        # Of the file's array, in which a channel's pixels are together: ten times as fast.
        sums += [pixel_sums(pixels[first : first + AT_A_TIME]) for first in range(0, number, AT_A_TIME)]
        del pixels  # before the next file is read
        start += number
    return {"image": images, "label": labels}, np.sum(sums, axis=0)


def _number_of_images(path: pathlib.Path) -> int:
    """From the file's headers, which say what the file is before its 1.6 GB are read."""
    shapes = array_shapes(path, WANTED)
    if not {"X", "y"} <= shapes.keys():
        found = ", ".join(shapes) or "none"
        raise DataError(f"{path} is another file or not whole: it has the arrays {found} instead of X and y; {WANTED}")
    number = (0, *shapes["X"])[-1]
    if shapes["X"] != (SIDE, SIDE, 3, number) or not number:
        raise DataError(f"{path}: X has the shape {shapes['X']} instead of (32, 32, 3, N); {WANTED}")
    if number * SIDE**2 * 3 > MOST:
        raise DataError(f"{path}: X has {number} images, more than SVHN; {WANTED}")
    if shapes["y"] != (number, 1):
        raise DataError(f"{path}: y has the shape {shapes['y']} instead of {(number, 1)}, one for each in X; {WANTED}")
    return number


def _read(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 32, 32, 3], not contiguous, and digits [N]."""
    arrays = read_arrays(path, ("X", "y"), MOST, WANTED)
    for name in ("X", "y"):
        kind = getattr(arrays[name], "dtype", "no array of numbers")
        if kind != np.uint8:
            raise DataError(f"{path}: {name} is {kind} instead of uint8; {WANTED}")
    digits = arrays["y"][:, 0]
    wrong = np.flatnonzero((digits < 1) | (digits > CLASSES))
    if len(wrong):
        raise DataError(f"{path}: image {wrong[0]} has label {digits[wrong[0]]}, not from 1 to {CLASSES}; {WANTED}")
    return arrays["X"].transpose(3, 0, 1, 2), digits % CLASSES
