"""What face data sets share: faces prepared once in ArrayRecord files, opened by split and label.

A data set is a subclass of `FaceBuilder`, which says what its rows are and how a row becomes a face, and a function
`create`, which prepares the builder, says which rows train and which test, and ends in `open_faces`.
"""

import abc
import collections
import contextlib
import csv
import fcntl
import functools
import io
import itertools
import os
import pathlib
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from input_pipeline.age_groups import ADIENCE, OLDEST, Grouping, middle, nearest_age_group
from input_pipeline.datasets.subjects import draw, subject_numbers
from input_pipeline.errors import DataError, unknown_name
from input_pipeline.geometry import Kind
from input_pipeline.records import Dataset, digest, mean_and_std, pixel_sums
from input_pipeline.transforms import decode_image

AGES = tuple(str(age) for age in range(OLDEST + 1))
GENDERS = ("female", "male")
LABELS = {"age": AGES, "age_span": (), "age_group": ADIENCE.names, "gender": GENDERS}  # of a data set of faces
FOLDS = 5  # of Adience
JPEG_QUALITY = 95
ROWS_IN_A_FILE = 1000
LONGEST = 1000  # characters of a text in a list; in an array of texts, all take the room of the longest
LEFT_OUT, LISTED = "left_out.csv", "rows that cannot be used are listed in"


class UnusableRow(Exception):
    """A row whose image cannot be used. The message is the reason, in the same words for all rows with that reason."""


class Index(tfds.core.Metadata):
    """All that is known about the prepared records but their images, for choosing rows without reading any image.

    A dict of arrays, each with one entry a record in the order of the files: every record key but `image`; `checksum`
    (CRC-32 of the image), `pixels` (their number), `pixel_sum` and `pixel_square_sum` (int64 [N, 3]); and `left_out`,
    of the rows in no file: a list (line, path, reason), which becomes the file `LEFT_OUT`, then a `Counter` of reasons.
    """

    def save_metadata(self, data_dir):
        folder = pathlib.Path(data_dir)
        np.savez(folder / "index.npz", **{key: np.array(values) for key, values in self.items() if key != "left_out"})
        with open(folder / LEFT_OUT, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("line", "path", "reason"), *self["left_out"]])

    def load_metadata(self, data_dir):
        folder = pathlib.Path(data_dir)
        self.clear()
        with np.load(folder / "index.npz") as columns:
            self.update(columns)
        with open(folder / LEFT_OUT, encoding="utf-8", newline="") as file:
            self["left_out"] = collections.Counter(row["reason"] for row in csv.DictReader(file))


@contextlib.contextmanager
def _naming_damage(folder: pathlib.Path, what: str) -> Iterator[None]:
    """Raises DataError for whatever goes wrong inside, which has many names: `what`, a prepared file, is damaged."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"{folder}: {what} is damaged ({reason}); delete that folder, and the faces are prepared again"
        ) from error


class FaceBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Writes faces as ArrayRecord files, in the order of the rows, as one split `faces`. No TensorFlow is needed.

    Args:
        cache_dir: where prepared data sets are kept.
        resolution: side of the prepared images in pixels; of images that are not square, the longer one.
        fingerprint: short text that differs for whatever else makes the prepared files differ.
    """

    VERSION = tfds.core.Version("6.0.0")
    url_infos = None  # nothing is downloaded, so there are no checksums to look for beside the code
    EXTRA_FEATURES: ClassVar[dict[str, Any]] = {}  # what the records hold beside the keys in `_info`
    threads = os.cpu_count()  # Pillow lets go of the interpreter's lock
    rules: Sequence[str] = ()  # reasons that the description names in this order, even if they took no row
    remarks: Sequence[str] = ()  # lines of the description
    geometry: ClassVar[Mapping[str, Kind]] = {}  # see `Dataset`
    template: np.ndarray | None = None  # see `Dataset`

    def __init__(self, cache_dir: str | os.PathLike, resolution: int, fingerprint: str):
        if not isinstance(resolution, int) or resolution < 1:
            raise DataError(f"resolution is {resolution!r}; it must be a whole number of pixels, 1 or more")
        self.resolution = resolution
        folder = pathlib.Path(cache_dir).expanduser() / f"{resolution}px-{fingerprint}"
        with _naming_damage(folder, "dataset_info.json"):  # tensorflow-datasets reads it if it is there
            super().__init__(data_dir=folder)

    @abc.abstractmethod
    def rows(self) -> Sequence[Any]:
        """All rows, each with attributes `identity` (str, "" unknown) and `fold` (int, -1: none).

        Those for which the loader may raise `UnusableRow` also have `line` and `path`, to find them again by.
        """

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
            DataError: what was prepared is damaged; the message names folder and file.
        """
        if not self.data_path.exists():
            root = pathlib.Path(self.data_dir_root)
            root.mkdir(parents=True, exist_ok=True)
            with open(root / "lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not self.data_path.exists():
                    self._write()
        with _naming_damage(self.data_path, "dataset_info.json"):
            self.info.read_from_directory(self.data_path)
        with _naming_damage(self.data_path, f"index.npz or {LEFT_OUT}"):
            self.info.metadata.load_metadata(self.data_path)  # tensorflow-datasets does it for metadata.json only

    def _write(self):
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
            "age_span": tfds.features.Tensor(shape=(2,), dtype=np.float32),
            "gender": np.int32,
            "identity": np.str_,
            "fold": np.int32,
            **self.EXTRA_FEATURES,
        }
        more = ("pixels", "pixel_sum", "pixel_square_sum", "checksum", "left_out")
        index = Index({key: [] for key in (*features, *more) if key != "image"})
        info = tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features), metadata=index)
        info.set_file_format("array_record")
        return info

    def _shard_iterators_per_split(self, dl_manager):
        rows = self.rows()
        return {
            "faces": [
                functools.partial(self._records, rows[start : start + ROWS_IN_A_FILE])
                for start in range(0, max(len(rows), 1), ROWS_IN_A_FILE)
            ]
        }

    def _records(self, rows):
        index = self.info.metadata
        results = self._pool.map(functools.partial(_encode, self.loader()), rows)
        for number, (row, result) in enumerate(zip(rows, results, strict=True)):
            self._progress.update()
            if isinstance(result, str):
                index["left_out"].append((row.line, row.path, result))
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
    image = {"image": jpeg.getvalue(), "checksum": zlib.crc32(jpeg.getvalue()), "pixels": pixels[..., 0].size}
    return record | sums | image | {"identity": row.identity, "fold": np.int32(row.fold)}


class FaceSource:
    """Chosen rows of prepared files, as records.

    Texts are read with the image, so that half a million of them are not copied into every worker process.

    Args:
        folder: of the prepared files.
        files: the prepared records as they are stored, serialised.
        rows: int [N], which of them to show.
        checksums: int [N], CRC-32 of their images.
        texts: the record keys that are texts.
        columns: record key -> array [N, ...], all that the records hold besides.

    Raises:
        DataError: a record is damaged, or its image is another than the index was written for.
    """

    IMAGE: ClassVar = {"image": tfds.features.Image(encoding_format="jpeg")}
    STILL_ENCODED: ClassVar = {"image": tfds.decode.SkipDecoding()}

    def __init__(
        self,
        folder: pathlib.Path,
        files: Sequence[bytes],
        rows: np.ndarray,
        checksums: np.ndarray,
        texts: Sequence[str],
        columns: dict[str, np.ndarray],
    ):
        self._folder, self._files, self._rows, self._checksums = folder, files, rows, checksums
        self._texts, self.columns = texts, columns
        self._features = tfds.features.FeaturesDict(self.IMAGE | dict.fromkeys(texts, np.str_))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        with _naming_damage(self._folder, f"record {self._rows[index]}"):
            record = self._features.deserialize_example_np(self._files[self._rows[index]], decoders=self.STILL_ENCODED)
            if zlib.crc32(record["image"]) != self._checksums[index]:
                raise ValueError("its image is another than the one prepared")
            texts = {key: record[key].decode() for key in self._texts}
        return record | texts | {key: column[index] for key, column in self.columns.items()}

    def digest(self) -> str:
        return digest(self._checksums, *itertools.chain(*sorted(self.columns.items())))


def open_fold(builder: FaceBuilder, fold: int, *, note: str = "", **options: Any) -> Dataset:
    """As `open_faces`, which has the other arguments, with one fold for testing and the others for training.

    Raises:
        DataError: there is no such fold.
    """
    last = max(row.fold for row in builder.rows())
    if fold not in range(last + 1):
        folds = f"the folds are 0 to {last}" if last >= 0 else "the rows have none; leave out fold"
        raise DataError(f"{builder.name}: there is no fold {fold}: {folds}")
    split = np.where(builder.info.metadata["fold"] == fold, "test", "train")
    return open_faces(builder, split, note=f" (fold {fold}){note}", **options)


def open_faces(
    builder: FaceBuilder,
    split: np.ndarray,
    *,
    labels: Sequence[str],
    age_group: np.ndarray | None = None,
    grouping: Grouping = ADIENCE,
    validation: float | None = None,
    note: str = "",
) -> Dataset:
    """Prepared faces, split for training, testing and perhaps validation.

    Args:
        builder: prepared.
        split: str [N], "train", "test" or "validation" for all prepared records in the order of the files.
        labels: rows that have at least one of these labels are kept.
        age_group: int32 [N], of all prepared records, -1 unknown. None: the group nearest to the age, of a span that
            nearest to its first and its last year; unknown where these are two.
        grouping: the age groups.
        validation: this share of the subjects that train, drawn at random, always the same whatever the labels, is
            held out for validation.
        note: what the description should say about where `split` and `age_group` come from.

    Raises:
        DataError: there is none of these labels, no such share, or nothing is left to train, validate or test with.
    """
    index = builder.info.metadata
    spans = index["age_span"].reshape(-1, 2)  # of none, too
    age = middle(spans)
    if age_group is None:
        first, last = (nearest_age_group(years, grouping) for years in (spans[:, 0], spans[:, 1] - 1))
        age_group = np.where(first == last, first, -1)
    known = {"age": age >= 0, "age_span": age >= 0, "age_group": age_group >= 0, "gender": index["gender"] >= 0}
    if not known.keys() & {*labels}:
        raise unknown_name("label", ", ".join(labels), known)
    known = {label: known[label] for label in labels if label in known}
    if validation is not None:
        split = _hold_out(builder, split, validation)
    names = ("train", "validation", "test") if "validation" in split or validation else ("train", "test")
    kept = np.any(list(known.values()), axis=0)
    rows = {name: np.flatnonzero(kept & (split == name)) for name in names}
    description = _describe(builder, rows, known, note)
    if not all(map(len, rows.values())):
        verbs = "train, validate" if "validation" in rows else "train"
        raise DataError(f"nothing to {verbs} or test on: {description}".replace("\n", ";"))

    # The reader inside: the source round it holds the builder, which cannot be sent to worker processes.
    with _naming_damage(builder.data_path, "the list of the files"):
        files = builder.as_data_source("faces").data_source
    columns = {key: index[key] for key in builder.info.features if key != "image"}
    columns |= {"age": age, "age_group": age_group}
    texts = [key for key, column in columns.items() if column.dtype.kind == "U"]

    def source(rows: np.ndarray) -> FaceSource:
        numbers = {key: column[rows] for key, column in columns.items() if key not in texts}
        return FaceSource(builder.data_path, files, rows, index["checksum"][rows], texts, numbers)

    sources = {name: source(numbers) for name, numbers in rows.items()}
    return Dataset(
        builder.name,
        sources.pop("train"),
        {"test": sources.pop("test")},
        validation=sources,
        labels=LABELS | {"age_group": grouping.names},
        folds=tuple(sorted({row.fold for row in builder.rows()} - {-1})),
        geometry=builder.geometry,
        template=builder.template,
        description=description,
        **mean_and_std(*(index[key][rows["train"]].sum(0) for key in ("pixel_sum", "pixel_square_sum", "pixels"))),
    )


def _hold_out(builder: FaceBuilder, split: np.ndarray, share: float) -> np.ndarray:
    """The split with a share of the subjects that train moved to validation."""
    if not 0 < share < 1:
        raise DataError(f"validation is {share}; it must be a share of the subjects, above 0 and below 1")
    if "validation" in split:
        raise DataError(f"{builder.name} has rows for validation already; leave out validation={share}, or say 0")
    train = np.flatnonzero(split == "train")
    held_out = np.zeros(len(split), bool)
    held_out[train] = draw(subject_numbers(builder.info.metadata["identity"][train]), share, seed=0)
    return np.where(held_out, "validation", split)


def _describe(builder: FaceBuilder, rows: dict[str, np.ndarray], known: dict[str, np.ndarray], note: str) -> str:
    """What a `Dataset` says of itself, from the rows of each split, and which rows have each of the wanted labels."""
    index = builder.info.metadata
    people = len(np.unique(subject_numbers(index["identity"][rows.get("validation", [])])))
    uses = {"train": "to train on", "validation": f"to validate with ({people} subjects)", "test": "to test on"}
    kept = np.any(list(known.values()), axis=0)
    reasons = index["left_out"] + collections.Counter({f"no {' or '.join(known)}": int((~kept).sum())})
    spans = (kept & (np.ptp(index["age_span"].reshape(-1, 2), axis=1) > 1.5)).sum() if "age" in known else 0
    ordered = dict.fromkeys([*builder.rules, *(reason for reason, _ in reasons.most_common())])
    lines = [
        f"{builder.name}: {len(kept) + index['left_out'].total()} rows read, "
        + ", ".join(f"{len(numbers)} {uses[name]}" for name, numbers in rows.items())
        + note,
        *(f"  left out: {reasons[reason]} with {reason}" for reason in ordered),
        *([f"  {LISTED} {builder.data_path / LEFT_OUT}"] if index["left_out"] else []),
        *(f"  {remark}" for remark in builder.remarks),
        *(f"  kept without {label}: {count}" for label, has in known.items() if (count := (kept & ~has).sum())),
        *([f"  ages that are spans of years, of which the middle is taken: {spans}"] if spans else []),
    ]
    return "\n".join(lines)
