"""ImageNet-2012 classification, in folders of classes or as tensorflow-datasets prepares it.

O. Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", 2015; image-net.org. 1,281,167 images to
train on; the 50,000 validation images are the test split, as everywhere, for the labels of the real one are secret.

    train/<class>/<image>, val/<class>/<image>    (or validation/) the usual folders, or
    imagenet2012/<version>/                       array_record files, with the splits `train` and `validation`

A class is a WordNet number such as n01440764, and its index is its position in sorted order. So torchvision's
`ImageFolder` numbers the folders, whose trained weights fit therefore, and so does tensorflow-datasets: the names in
its imagenet2012/labels.txt are sorted (looked up in 4.9.10).
"""

import functools
import itertools
import json
import os
import pathlib
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from input_pipeline.datasets.files import read_file
from input_pipeline.errors import DataError
from input_pipeline.records import Dataset, Source, check_label, digest, mean_and_std, pixel_sums
from input_pipeline.transforms import decode_image

PREPARED = "imagenet2012"
INFO_FILE = "dataset_info.json"  # tensorflow-datasets writes it last
WANTED = (
    "wanted is the folder with train/<class>/ and val/<class>/ of ImageNet-2012 (image-net.org), "
    f"or with {PREPARED}/<version>/ of tensorflow-datasets"
)
SUFFIXES = (".jpeg", ".jpg", ".png")
LISTING_THREADS = 32  # they wait for the disk or the network

# Images for mean and std. An image's mean varies less than its pixels do, so the mean of this many images is wrong by
# std / sqrt(2000), 2.2 % of the std, at most (one standard error); that is about 1 of 255.
SAMPLE = 2000


class FolderSource:
    """The images of a split in class folders, as records.

    `files` has the names of the images of every class, bytes [N]: 26 MB in all for training, a quarter of what text
    would take, quickly pickled, and shared with forked workers, for reading it changes no reference counts. One array
    for all the classes would be as wide as their longest name.
    """

    def __init__(self, folder: pathlib.Path, split: str, classes: Sequence[str], files: Sequence[np.ndarray]):
        self._folder, self._split, self._classes, self._files = folder, split, classes, files
        self._starts = np.cumsum([0, *map(len, files)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = range(len(self))[index]  # IndexError if there is no such record
        label = int(np.searchsorted(self._starts, index, side="right")) - 1
        name = os.fsdecode(self._files[label][index - self._starts[label]])
        file = f"{self._split}/{self._classes[label]}/{name}"
        path = self._folder / file
        try:
            image = read_file(path)
        except OSError as error:
            raise DataError(f"{path} was listed, but cannot be read ({error.strerror}); repair or remove it") from error
        return {"image": image, "label": np.int32(label), "file": file}

    def digest(self) -> str:
        """Of the names and sizes of the files, which takes seconds, once."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        def size(path: str) -> int:
            try:
                return os.stat(path).st_size
            except OSError:  # told of when it is read
                return -1

        def sizes(name: str, files: np.ndarray) -> np.ndarray:
            folder = os.path.join(self._folder, self._split, name)
            return np.array([size(os.path.join(folder, os.fsdecode(file))) for file in files])

        with ThreadPoolExecutor(LISTING_THREADS) as pool:
            listed = pool.map(sizes, self._classes, self._files)
            return digest(self._classes, *itertools.chain(*zip(self._files, listed, strict=True)))


class PreparedSource:
    """The images of a split that tensorflow-datasets prepared, as records.

    `images` has them as they are stored, `files` are the names of the files in which they are.
    """

    FEATURES = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(encoding_format="jpeg"), "label": np.int64, "file_name": np.str_}
    )
    STILL_ENCODED: ClassVar = {"image": tfds.decode.SkipDecoding()}

    def __init__(self, folder: pathlib.Path, images: Sequence[bytes], classes: int, files: Sequence[str]):
        self._folder, self._images, self._classes, self._files = folder, images, classes, files

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = range(len(self))[index]
        try:
            record = self.FEATURES.deserialize_example_np(self._images[index], decoders=self.STILL_ENCODED)
        except Exception as error:  # RuntimeError, ValueError, DecodeError ...: there are three libraries below
            reason = " ".join(str(error).split())
            raise DataError(f"{self._folder}: record {index} cannot be read ({reason}); restore the files") from error
        label, file = np.int32(record["label"]), record["file_name"].decode()
        if not 0 <= label < self._classes:
            raise DataError(f"{self._folder}: {file} has label {label}, not from 0 to {self._classes - 1}; {WANTED}")
        return {"image": record["image"], "label": label, "file": file}

    def digest(self) -> str:
        """Of the names and sizes of the files."""
        return digest([(name, (self._folder / name).stat().st_size) for name in self._files])


def create(
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike,
    *,
    labels: Sequence[str] = ("label",),
    classes: int = 1000,
) -> Dataset:
    """ImageNet-2012, or another set of images in the same layout. Nothing is copied: images are read when asked for.

    Args:
        data_dir: the folder with `train` and `val` (or `validation`); or the folder with `imagenet2012` of
            tensorflow-datasets, that folder, or one version in it. Of several versions the newest is taken.
        cache_dir: where mean and standard deviation are kept, see below.
        labels: what the images must have; there is nothing but "label".
        classes: how many classes there must be. 0: any number from 2 on.

    Records have `image` (bytes of a JPEG or PNG file of any size and colour mode; `decode_image` makes RGB of it),
    `label` (int32) and `file` (str: the path below the data folder, or the prepared record's `file_name`).

    Mean and standard deviation are those of 2,000 images evenly spaced through the training split, each counting the
    same whatever its size, as it does in training. They are computed at first use (a minute), and again when the
    folder, or the name or size of a file in it, has changed.

    Raises:
        DataError: the files are not as described, or an image for the mean is damaged; or, from a record, it is gone.
    """
    check_label("imagenet", labels)
    if data_dir is None:
        raise DataError(f"imagenet needs data_dir; {WANTED}")
    folder = pathlib.Path(data_dir).expanduser()
    prepared = _prepared_folder(folder)
    train, test, names = _open_prepared(prepared, classes) if prepared else _open_folders(folder, classes)
    return Dataset(
        "imagenet",
        train,
        {"test": test},
        labels={"label": names},
        description=f"imagenet: {len(train)} images to train on, {len(test)} to test on, {len(names)} classes",
        **_mean_and_std(train, str((prepared or folder).resolve()), pathlib.Path(cache_dir).expanduser()),
    )


def _check_classes(names: Sequence[str], classes: int, folder: pathlib.Path) -> None:
    if len(names) < 2:
        raise DataError(f"{folder}: {len(names)} classes are too few, at least 2 are needed; {WANTED}")
    if classes not in (0, len(names)):
        raise DataError(f"{folder}: {len(names)} classes, not {classes}; complete them or set classes={len(names)}")


def _prepared_folder(folder: pathlib.Path) -> pathlib.Path | None:
    """Where tensorflow-datasets prepared its newest version, if it did."""
    if (folder / INFO_FILE).is_file():
        return folder
    found = [file.parent for depth in ("*", f"{PREPARED}/*") for file in folder.glob(f"{depth}/{INFO_FILE}")]
    versions = [path for path in found if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    return max(versions, key=lambda path: [int(number) for number in path.name.split(".")], default=None)


def _open_prepared(folder: pathlib.Path, classes: int) -> tuple[Source, Source, tuple[str, ...]]:
    """The sources of both splits and the names of the classes."""
    odd = [file.name for file in sorted(folder.iterdir()) if not (file.is_file() or file.is_dir()) or _too_large(file)]
    _none_of(odd, folder, "files are pipes, links to nothing, or too large", "restore them")
    splits = ("train", "validation")
    try:
        json.loads((folder / "features.json").read_bytes(), object_hook=_check_feature)
        builder = tfds.builder_from_directory(folder, file_format="array_record")
        names = tuple(builder.info.features["label"].names)
        # The readers inside: the sources round them hold the builder, which cannot be sent to worker processes.
        files = {split: builder.as_data_source(split).data_source for split in splits if split in builder.info.splits}
    except Exception as error:  # whatever damaged files lead to; other formats cannot be read without TensorFlow
        how = f"tfds build {PREPARED} --file_format=array_record --data_dir=..."
        raise DataError(
            f"{folder} is not in array_record format, or damaged; prepare it again in another folder: {how}"
        ) from error
    if builder.name != PREPARED:
        raise DataError(f"{folder} is the data set {builder.name}; {WANTED}")
    if missing := [split for split in splits if split not in files]:
        raise DataError(f"{folder} has no split {' and no split '.join(missing)}; prepare it with both of ImageNet's")
    _check_classes(names, classes, folder)
    train, test = (
        PreparedSource(folder, files[split], len(names), builder.info.splits[split].filenames) for split in splits
    )
    return train, test, names


def _too_large(file: pathlib.Path) -> bool:
    return file.suffix in (".json", ".txt") and file.stat().st_size > 2**26


def _check_feature(feature: dict[str, Any]) -> None:
    """Raises ValueError for a class that is not tensorflow-datasets' own: it would import any module named there."""
    for key in ("pythonClassName", "python_class_name"):
        if not feature.get(key, "tensorflow_datasets.").startswith("tensorflow_datasets."):
            raise ValueError(f"a class of another package: {feature[key]}")


def _open_folders(folder: pathlib.Path, classes: int) -> tuple[Source, Source, tuple[str, ...]]:
    """The sources of both splits and the names of the classes."""
    val = "validation" if (folder / "validation").is_dir() else "val"
    for split in ("train", val):
        if not (folder / split).is_dir():
            raise DataError(f"{folder} has no folder {split}; {WANTED}")
    names = {}
    for split in ("train", val):
        names[split], files = _entries(folder / split)
        _none_of(files, folder / split, "files beside the class folders", "put each into its class's folder or away")
    for split, other in (("train", val), (val, "train")):
        alone = sorted(set(names[split]) - set(names[other]))
        _none_of(alone, folder, f"class folders are in {split} but not in {other}", "both must have the same ones")
    _check_classes(names["train"], classes, folder)

    paths = [pathlib.Path(split, name) for split in names for name in names[split]]
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        listing = pool.map(_images, [folder / path for path in paths])
        listed = list(tqdm(listing, "listing imagenet", len(paths), unit=" folders", delay=2))
    strays = [str(path / name) for path, (_, others) in zip(paths, listed, strict=True) for name in others]
    _none_of(strays, folder, "things in class folders are no images", f"only {', '.join(SUFFIXES)} files may be there")
    empty = [str(path) for path, (images, _) in zip(paths, listed, strict=True) if not len(images)]
    _none_of(empty, folder, "class folders are empty", "fill them, or remove them in both splits")
    files, both = [images for images, _ in listed], tuple(names["train"])
    train = FolderSource(folder, "train", both, files[: len(both)])
    return train, FolderSource(folder, val, both, files[len(both) :]), both


def _none_of(found: Sequence[str], folder: pathlib.Path, what: str, advice: str) -> None:
    """Raises `DataError` if anything was found that should not be there, with up to three names."""
    if found:
        some = ", ".join(ascii(name)[1:-1] for name in found[:3]) + (", ..." if len(found) > 3 else "")
        raise DataError(f"{folder}: {len(found)} {what} ({some}); {advice}")


def _images(path: pathlib.Path) -> tuple[np.ndarray, list[str]]:
    """The names of the images in a class folder, bytes [N], and those of whatever else is there."""
    folders, files = _entries(path)
    others = [name for name in files if not name.lower().endswith(SUFFIXES)]
    images = [os.fsencode(name) for name in files if name.lower().endswith(SUFFIXES)]
    return np.array(images, np.bytes_), folders + others


def _entries(path: pathlib.Path) -> tuple[list[str], list[str]]:
    """The names of the folders in a folder and of everything else, both sorted, without the hidden ones."""
    try:
        with os.scandir(path) as entries:
            kinds = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{path} cannot be listed ({error.strerror}); make it readable") from error
    return [name for name, is_folder in kinds if is_folder], [name for name, is_folder in kinds if not is_folder]


def _mean_and_std(source: Source, folder: str, cache_dir: pathlib.Path) -> dict[str, tuple[float, ...]]:
    """The fields `mean` and `std` of the data set, see `create`."""
    path = cache_dir / f"imagenet-{digest(folder, source.digest(), SAMPLE)}.json"
    if path.is_file():
        return {field: tuple(values) for field, values in json.loads(path.read_text()).items()}
    sample = sorted({number * len(source) // SAMPLE for number in range(SAMPLE)})  # all where there are fewer
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        means = pool.map(lambda index: _image_means(source[index]), sample)
        means = list(tqdm(means, total=len(sample), desc="mean of imagenet", unit=" images", mininterval=1))
    fields = mean_and_std(*np.sum(means, axis=0), len(sample))
    cache_dir.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps(fields))
    unfinished.replace(path)  # so that what other processes find is complete
    return fields


def _image_means(record: dict[str, Any]) -> np.ndarray:
    """Means of the pixels and of their squares, float64 [2, 3]."""
    pixels = np.asarray(decode_image(record["image"], f"imagenet, {record['file']}"))
    return np.stack(pixel_sums(pixels)) / (pixels.shape[0] * pixels.shape[1])
