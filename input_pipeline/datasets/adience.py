"""Adience: faces from photographs that people put on the web, with age group and gender, in five folds.

E. Eidinger, R. Enbar, T. Hassner, "Age and gender estimation of unfiltered faces", 2014. The authors give it out on
the page in `PAGE`. What is read is the folder that is found there; its lists have 19,487 rows, 117 of which repeat
another row of the same fold and are read like the rest.

    fold_0_data.txt ... fold_4_data.txt                                    tab-separated, one row a face
    aligned/<user_id>/landmark_aligned_face.<face_id>.<original_image>     816x816 pixels
"""

import csv
import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from input_pipeline.age_groups import OLDEST, UNKNOWN_SPAN, middle, nearest_age_group, span_of_years
from input_pipeline.datasets import face_files, faces
from input_pipeline.datasets.files import hash_files, known_text, read_table
from input_pipeline.datasets.subjects import check_subjects
from input_pipeline.errors import DataError, nearest, unknown_name
from input_pipeline.records import Dataset, digest

PAGE = "talhassner.github.io/home/projects/Adience/Adience-data.html"
WANTED = f"wanted is the folder of the Adience page of the Open University of Israel ({PAGE})"
COLUMNS = ("user_id", "original_image", "face_id", "age", "gender")
GENDERS = {"f": 0, "m": 1, "u": -1, "": -1}

# The eight age groups as the lists write them. The lists' (8, 12) is the papers' 8-13, their (60, 100) is 60-.
EXACT_LABELS = ("(0, 2)", "(4, 6)", "(8, 12)", "(15, 20)", "(25, 32)", "(38, 43)", "(48, 53)", "(60, 100)")
PROTOCOLS = {
    "levi": "only the eight exact age labels (protocol all takes the others too)",
    "all": "all age labels, each in the nearest group",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a fold list."""

    fold: int
    line: int  # of its fold list
    identity: str  # the column user_id
    original_image: str
    face_id: int
    age_label: str  # as it is in the list, a span as "(25, 32)"
    gender: int  # 0 female, 1 male, -1 unknown

    @property
    def path(self) -> pathlib.PurePath:
        """Of the face, below the data set's folder."""
        return pathlib.PurePath("aligned", self.identity, f"landmark_aligned_face.{self.face_id}.{self.original_image}")


def read_fold_lists(folder: str | os.PathLike) -> list[Row]:
    """All rows of the five fold lists, in their order. Needs no images.

    Raises:
        DataError: a list is missing or is not what Adience's lists are; the message names file and line.
    """
    folder = pathlib.Path(folder).expanduser()
    names = [f"fold_{fold}_data.txt" for fold in range(faces.FOLDS)]
    for name in names:
        if not (folder / name).is_file():
            raise DataError(f"{folder} is not Adience: there is no {name}; {WANTED}")
    return [row for fold, name in enumerate(names) for row in _read_fold_list(folder / name, fold)]


def _read_fold_list(path: pathlib.Path, fold: int) -> list[Row]:
    _, lines = read_table(path, COLUMNS, WANTED, required=COLUMNS, delimiter="\t", quoting=csv.QUOTE_NONE)
    return [_row(f"{path}, line {line}", fold, line, *(cells[name] for name in COLUMNS)) for line, cells in lines]


def _row(where: str, fold: int, line: int, identity: str, image: str, face_id: str, age: str, gender: str) -> Row:
    if max(map(len, (identity, image, age, gender))) > faces.LONGEST:
        raise DataError(f"{where}: a text of more than {faces.LONGEST} characters; remove or mend the line")
    if not re.fullmatch("[0-9]{1,9}", face_id):
        raise DataError(f"{where}: the face_id is not a number")
    if "/" in identity + image or "\0" in identity + image or identity == "..":
        raise DataError(f"{where}: the face would lie outside of aligned/<user_id>; mend its names")
    gender = known_text(gender).lower()
    if gender not in GENDERS:
        raise DataError(f"{where}: {nearest('gender', gender, filter(None, GENDERS))}")
    age = re.sub(r"\s*,\s*", ", ", age)
    return Row(fold, line, identity, image, int(face_id), age, GENDERS[gender])


def age_group(label: str, protocol: str) -> int:
    """Index of the age group that a label of the lists stands for, -1 if it has none.

    Protocol "levi" knows the eight exact labels and nothing else. Protocol "all" takes the middle of a span,
    "(38, 42)", or a number, "35", and finds the group that contains it or is nearest to it; a tie (3, 35) goes to the
    older group. "None" and whatever else have no group.
    """
    if protocol == "levi":
        return EXACT_LABELS.index(label) if label in EXACT_LABELS else -1
    return int(nearest_age_group(middle(np.array([age_span(label)])))[0])


def age_span(label: str) -> tuple[float, float]:
    """Returns the span of a label: [25, 33) of "(25, 32)", [35, 36) of "35", an unknown one of whatever else."""
    match = re.fullmatch(r"\(([0-9]{1,3}), ([0-9]{1,3})\)|([0-9]{1,3})", label)
    years = [int(year) for year in match.groups() if year] if match else []
    return span_of_years(min(years), max(years)) if years and max(years) <= OLDEST else UNKNOWN_SPAN


class Adience(faces.FaceBuilder):
    """Prepares the folder of Adience.

    Args:
        folder: with the fold lists and `aligned/`.
        cache_dir: see `FaceBuilder`.
        resolution: see `FaceBuilder`.

    Raises:
        DataError: the folder is not Adience, or a subject is in more than one fold.
    """

    EXTRA_FEATURES: ClassVar = {"face_id": np.int32, "age_label": np.str_}

    def __init__(self, folder: str | os.PathLike, cache_dir: str | os.PathLike, resolution: int):
        self._folder = pathlib.Path(folder).expanduser()
        self._rows = read_fold_lists(self._folder)
        paths = [str(row.path) for row in self._rows]
        if not any(os.path.exists(self._folder / path) for path in paths):
            raise DataError(
                f"{self._folder}: the fold lists are there, but none of their {len(paths)} faces is under aligned/; "
                f"unpack aligned.tar.gz of {PAGE} there"
            )
        check_subjects(self._rows, "fold", self._folder)
        super().__init__(cache_dir, resolution, digest(hash_files(self._folder, paths, cache_dir), *self._rows))

    def rows(self) -> Sequence[Row]:
        return self._rows

    def loader(self):
        return functools.partial(_load, self._folder, self.resolution)


def create(
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike,
    *,
    fold: int = 0,
    labels: Sequence[str] = ("age_group", "gender"),
    validation: float | None = None,
    protocol: str = "levi",
    resolution: int = 256,
) -> Dataset:
    """Adience, prepared at first use (some minutes) and again when the lists or the faces have changed.

    Args:
        data_dir: the folder with the fold lists and `aligned/`.
        cache_dir: where the prepared files are kept.
        fold: the fold to test on, 0..4.
        labels: rows that have at least one of these are kept: "age_group", "gender", "age_span", "age".
        validation: see `create_dataset`.
        protocol: how labels become age groups, see `age_group`: "levi", the eight exact ones alone, as in the published
            numbers; or "all", any age or span, by the nearest group.
        resolution: side of the prepared images in pixels.

    Beside the usual keys the records have `fold` and `face_id` (int32) and `age_label` (str, as in the list).

    Raises:
        DataError: the folder is not Adience, or an argument is none of those.
    """
    if protocol not in PROTOCOLS:
        raise unknown_name("protocol of Adience", protocol, PROTOCOLS)
    if data_dir is None:
        raise DataError(f"adience needs data_dir; {WANTED}")
    builder = Adience(data_dir, cache_dir, resolution)
    builder.prepare()
    age_labels = builder.info.metadata["age_label"]
    groups = np.array([age_group(label, protocol) for label in age_labels], np.int32)
    note = f"; {PROTOCOLS[protocol]}" if "age_group" in labels else ""
    return faces.open_fold(builder, fold, labels=labels, validation=validation, note=note, age_group=groups)


def _load(folder: pathlib.Path, resolution: int, row: Row) -> dict[str, Any]:
    """See `FaceBuilder.loader`."""
    return {
        "image": face_files.read_face(folder, row.path, resolution),
        "age_span": np.float32(age_span(row.age_label)),
        "gender": np.int32(row.gender),
        "face_id": np.int32(row.face_id),
        "age_label": row.age_label,
    }
