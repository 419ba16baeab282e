"""What face data sets share: five folds of faces, prepared once in ArrayRecord files and opened by test fold and label.

A data set is a subclass of `FaceBuilder`, which says what its rows are and how a row becomes a face, and a function
`create`, which prepares the builder and ends in `open_faces`.
"""

import abc
import collections
import contextlib
import fcntl
import functools
import io
import os
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from input_pipeline.errors import DataError, unknown_name
from input_pipeline.records import Dataset, mean_and_std, pixel_sums
from input_pipeline.transforms import decode_image

AGE_GROUPS = ("0-2", "4-6", "8-13", "15-20", "25-32", "38-43", "48-53", "60-")
AGE_RANGES = ((0, 2), (4, 6), (8, 13), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100))  # years, both ends included
GENDERS = ("female", "male")
FOLDS = 5
JPEG_QUALITY = 95
ROWS_IN_A_FILE = 1000


def nearest_age_group(age: float) -> int:
    """Index of the age group that contains the age or is nearest to it. A tie (3, 35) goes to the older group."""
    distances = [max(low - age, age - high, 0) for low, high in AGE_RANGES]
    return max(range(len(AGE_RANGES)), key=lambda group: (-distances[group], group))


class UnusableRow(Exception):
    """A row whose image cannot be used. The message is the reason, in the same words for all rows with that reason."""


class Index(tfds.core.Metadata):
    """All that is known about the prepared records but their images, for choosing rows without reading any image.

    A dict of arrays: every record key but `image`, `pixel_sum` and `pixel_square_sum` (int64 [N, 3]), each with one
    entry a record in the order of the files; and `left_out`, one reason a row that is in no file.
    """

    def save_metadata(self, data_dir):
        np.savez(pathlib.Path(data_dir) / "index.npz", **{key: np.array(values) for key, values in self.items()})

    def load_metadata(self, data_dir):
        self.clear()
        with np.load(pathlib.Path(data_dir) / "index.npz") as columns:
            self.update(columns)


class FaceBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Writes five folds of faces as ArrayRecord files, with splits `fold_0` ... `fold_4`. No TensorFlow is needed.

    Args:
        cache_dir: where prepared data sets are kept.
        resolution: side of the prepared images in pixels.
        fingerprint: short text that differs for whatever else makes the prepared files differ.
    """

    VERSION = tfds.core.Version("1.0.0")
    url_infos = None  # nothing is downloaded, so there are no checksums to look for beside the code
    EXTRA_FEATURES: ClassVar[dict[str, Any]] = {}  # what the records hold beside the keys in `_info`
    threads = os.cpu_count()  # Pillow lets go of the interpreter's lock

    def __init__(self, cache_dir: str | os.PathLike, resolution: int, fingerprint: str):
        self.resolution = resolution
        super().__init__(data_dir=pathlib.Path(cache_dir).expanduser() / f"{resolution}px-{fingerprint}")

    @abc.abstractmethod
    def rows(self) -> Sequence[Any]:
        """All rows, each with attributes `identity` and `fold` (0..4)."""

    @abc.abstractmethod
    def loader(self) -> Callable[[Any], dict[str, Any]]:
        """The function row -> record without `identity` and `fold`, `image` being a Pillow image.

        It is called in `threads` threads. It raises `UnusableRow` for a row that has no image to use.
        """

    def prepare(self) -> None:
        """Writes the files unless they are there.

        They are written into a temporary folder that is renamed at the end, so what is there is complete. One process
        writes; others that want the same files wait for it.

        Raises:
            DataError: a subject is in more than one fold.
        """
        if not self.data_path.exists():
            root = pathlib.Path(self.data_dir_root)
            root.mkdir(parents=True, exist_ok=True)
            with open(root / "lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not self.data_path.exists():
                    self._write()
        self.info.read_from_directory(self.data_path)
        self.info.metadata.load_metadata(self.data_path)  # tensorflow-datasets does it for metadata.json only

    def _write(self):
        check_subjects(self.rows())
        with (
            ThreadPoolExecutor(self.threads) as self._pool,
            tqdm(total=len(self.rows()), desc=f"preparing {self.name}", unit=" faces", mininterval=1) as self._progress,
            tempfile.TemporaryDirectory() as unused,
            contextlib.redirect_stdout(None),  # tensorflow-datasets announces a download of unknown size
        ):
            self.download_and_prepare(download_dir=unused)

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "age": np.float32,
            "gender": np.int32,
            "identity": np.str_,
            "fold": np.int32,
            **self.EXTRA_FEATURES,
        }
        index = Index({key: [] for key in (*features, "pixel_sum", "pixel_square_sum", "left_out") if key != "image"})
        info = tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features), metadata=index)
        info.set_file_format("array_record")
        return info

    def _shard_iterators_per_split(self, dl_manager):
        folds = [[row for row in self.rows() if row.fold == fold] for fold in range(FOLDS)]
        return {
            f"fold_{fold}": [
                functools.partial(self._records, rows[start : start + ROWS_IN_A_FILE])
                for start in range(0, max(len(rows), 1), ROWS_IN_A_FILE)
            ]
            for fold, rows in enumerate(folds)
        }

    def _records(self, rows):
        index = self.info.metadata
        results = self._pool.map(functools.partial(_encode, self.loader()), rows)
        for number, result in enumerate(results):
            self._progress.update()
            if isinstance(result, str):
                index["left_out"].append(result)
                continue
            for key in index.keys() & result.keys():
                index[key].append(result[key])
            yield number, {key: result[key] for key in self.info.features}


def _encode(loader, row):
    """The complete record of a row, with a JPEG image and its pixel sums, or the reason why there is none."""
    try:
        record = loader(row)
    except UnusableRow as reason:
        return str(reason)
    jpeg = io.BytesIO()
    record["image"].save(jpeg, "JPEG", quality=JPEG_QUALITY)
    pixels = np.asarray(decode_image(jpeg.getvalue(), row.identity))  # what training will see
    sums = dict(zip(("pixel_sum", "pixel_square_sum"), pixel_sums(pixels), strict=True))
    return record | sums | {"image": jpeg.getvalue(), "identity": row.identity, "fold": np.int32(row.fold)}


def check_subjects(rows: Sequence[Any]) -> None:
    """Raises `DataError` if a subject is in more than one fold: what is tested would have been seen in training."""
    folds = collections.defaultdict(set)
    for row in rows:
        folds[row.identity].add(row.fold)
    shared = [found for found in folds.values() if len(found) > 1]
    if shared:
        first, second = sorted(shared[0])[:2]
        raise DataError(
            f"{len(shared)} subjects are in more than one fold (one of them in folds {first} and {second}): "
            "the folds must not share subjects; use the original fold lists"
        )


class FaceSource:
    """Chosen rows of prepared files, as records.

    Args:
        files: the prepared records as they are stored, serialised.
        rows: int [N], which of them to show.
        columns: record key -> array [N, ...], all that the records hold beside `image`.
    """

    IMAGE = tfds.features.FeaturesDict({"image": tfds.features.Image(encoding_format="jpeg")})
    STILL_ENCODED: ClassVar = {"image": tfds.decode.SkipDecoding()}

    def __init__(self, files: Sequence[bytes], rows: np.ndarray, columns: dict[str, np.ndarray]):
        self._files, self._rows, self._columns = files, rows, columns

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = self.IMAGE.deserialize_example_np(self._files[self._rows[index]], decoders=self.STILL_ENCODED)
        return image | {key: column[index] for key, column in self._columns.items()}


def open_faces(
    builder: FaceBuilder, *, fold: int, labels: Sequence[str], age_group: np.ndarray, note: str = ""
) -> Dataset:
    """Prepared faces, split into one fold for testing and four for training.

    Args:
        builder: prepared.
        fold: the fold to test on, 0..4.
        labels: rows that have at least one of these labels are kept.
        age_group: int32 [N], of all prepared records in the order of the files, -1 unknown.
        note: what the description should say about where `age_group` comes from.

    Raises:
        DataError: there is no such fold or label, or nothing is left to train or test on.
    """
    index = builder.info.metadata
    known = {"age": index["age"] >= 0, "age_group": age_group >= 0, "gender": index["gender"] >= 0}
    for label in labels:
        if label not in known:
            raise unknown_name("label", label, known)
    if fold not in range(FOLDS):
        raise DataError(f"{builder.name}: there is no fold {fold}: the folds are 0 to {FOLDS - 1}")
    kept = np.any([known[label] for label in labels], axis=0)
    train, test = np.flatnonzero(kept & (index["fold"] != fold)), np.flatnonzero(kept & (index["fold"] == fold))
    reasons = collections.Counter(index["left_out"].tolist())
    reasons[f"no {' or '.join(labels)}"] = int((~kept).sum())
    lines = [
        f"{builder.name}: {reasons.total() + len(train) + len(test)} rows read, {len(train)} to train on, "
        f"{len(test)} to test on (fold {fold}){note}",
        *(f"  left out: {count} with {reason}" for reason, count in reasons.most_common() if count),
        *(f"  kept without {label}: {count}" for label in labels if (count := (kept & ~known[label]).sum())),
    ]
    if not len(train) or not len(test):
        raise DataError("nothing to train or test on: " + ";".join(lines))

    # The reader inside: the source round it holds the builder, which cannot be sent to worker processes.
    files = builder.as_data_source("+".join(f"fold_{number}" for number in range(FOLDS))).data_source
    columns = {key: index[key] for key in builder.info.features if key != "image"} | {"age_group": age_group}
    sources = [
        FaceSource(files, rows, {key: column[rows] for key, column in columns.items()}) for rows in (train, test)
    ]
    return Dataset(
        builder.name,
        *sources,
        labels={"age_group": AGE_GROUPS, "gender": GENDERS},
        description="\n".join(lines),
        **mean_and_std(
            index["pixel_sum"][train].sum(0),
            index["pixel_square_sum"][train].sum(0),
            len(train) * builder.resolution**2,
        ),
    )
