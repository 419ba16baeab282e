"""Anyone's faces: image files and a CSV file that says who they show.

The first line of the file names the columns, in any order and in any case; others are ignored, unless their names look
like misspelt ones of these. An age, gender or identity is unknown where the cell is empty, or has NA, N/A, NaN, null,
None, unknown, ? or -. An age that is none of those and no number is unknown, too, and counted.

    path       of the image file in the folder of the CSV file, from there or absolute; or called full_path. A path that
               leads out of the folder is refused; links in the folder are its owner's, and are followed
    age        years, 0 to 100, digits and perhaps a point and a fraction
    age_low    the first and the last year of a span of ages, both included, where the age itself is not known. Without
    age_high   a first one it begins at 0, without a last one it is open above
    gender     f, female, 0, m, male, 1 or u (unknown), in any case
    identity   the same text for all images of a person; who is unknown is a person of their own on each image file
    split      train, validation or test
    fold       0, 1, ...
    id         any text, kept in the records and so in a run's predictions

`path` and an age or `gender` must be there. A face should fill its image and be upright, or else be the main one
there, to be found and aligned.
"""

import os
import pathlib
import re
from collections.abc import Sequence

from input_pipeline.age_groups import OLDEST, UNKNOWN_SPAN, span_of_years
from input_pipeline.datasets import face_files, faces
from input_pipeline.datasets.face_files import Row
from input_pipeline.datasets.files import known_text, read_table
from input_pipeline.datasets.subjects import check_subjects
from input_pipeline.errors import DataError, nearest
from input_pipeline.records import Dataset

FILE = "faces.csv"
AGES = ("age", "age_low", "age_high")
COLUMNS = ("path", *AGES, "gender", "identity", "split", "fold", "id")
WANTED = (
    "its first line must name path (or full_path), age (or age_low and age_high) or gender or both, and if known"
    f" {', '.join(COLUMNS[5:])}, with commas"
)
GENDERS = {"f": 0, "female": 0, "0": 0, "m": 1, "male": 1, "1": 1, "u": -1, "": -1}
SPLITS = ("train", "validation", "test")


def read_rows(file: pathlib.Path) -> list[Row]:
    """All rows of the file, in their order. Needs no images.

    Raises:
        DataError: the file is not as described, or splits or folds share a person, or an image has two identities.
    """
    names, lines = read_table(file, COLUMNS, WANTED, required=("path",), other_names={"full_path": "path"})
    if not {*AGES, "gender"} & {*names}:
        raise DataError(f"{file} has neither a column age nor a column gender; {WANTED}")
    rows = [_row(file, line, cells) for line, cells in lines]
    if not rows:
        raise DataError(f"{file} has no rows below its first line; give it one for each face")
    _check_identities(file, rows)
    for part in ("split", "fold"):
        if part in names:
            check_subjects(rows, part, file)
    return rows


def _check_identities(file: pathlib.Path, rows: Sequence[Row]) -> None:
    first = {}
    for row in rows:
        if row.path and first.setdefault(row.path, row).identity != row.identity:
            raise DataError(
                f"{file}, line {row.line}: {row.path!r} has another identity than in line {first[row.path].line}; "
                "give all rows of an image the same identity"
            )


def _row(file: pathlib.Path, line: int, found: dict[str, str]) -> Row:
    where = f"{file}, line {line}"
    cells = dict.fromkeys(COLUMNS, "") | found
    if max(len(cells[name]) for name in COLUMNS) > faces.LONGEST:
        raise DataError(f"{where}: a text of more than {faces.LONGEST} characters; remove or mend the line")
    split, fold = cells["split"].lower(), cells["fold"]
    path = face_files.below(file.parent, cells["path"])
    if "split" in found and split not in SPLITS:
        raise DataError(f"{where}: {nearest('split', split, SPLITS)}")
    if "fold" in found and not re.fullmatch("[0-9]{1,9}", fold):
        raise DataError(f"{where}: the fold is {fold!r}; it must be 0 or another whole number")
    gender = known_text(cells["gender"]).lower()
    if gender not in GENDERS:
        raise DataError(f"{where}: {nearest('gender', gender, filter(None, GENDERS))}")
    span, doubt = _age_span(*(known_text(cells[name]) for name in AGES))
    texts = {"split": split} | {key: found[key] for key in ("id",) if key in found}
    identity = known_text(cells["identity"]) or path
    return Row(line, path, span, GENDERS[gender], identity, int(fold or -1), split, doubt=doubt, texts=texts)


def _age_span(age: str, low: str, high: str) -> tuple[tuple[float, float], str]:
    """The span of ages, and why it is unknown although something is said of it, else ""."""
    texts = [text for text in (age, low, high) if text]
    if not texts:
        return UNKNOWN_SPAN, ""
    if not all(re.fullmatch(r"[0-9]+(\.[0-9]*)?", text) and float(text) <= OLDEST for text in texts):
        return UNKNOWN_SPAN, f"an age that is no number from 0 to {OLDEST}"
    if age and (low or high):
        return UNKNOWN_SPAN, "both an age and a span of ages"
    if low and high and float(low) > float(high):
        return UNKNOWN_SPAN, "a span of ages whose first year is above its last"
    return span_of_years(float(age or low or 0), float(age or high or OLDEST)), ""


class FacesCsv(face_files.FaceFiles):
    """Prepares the images of a CSV file. Its name is that of the data set."""


def create(
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike,
    *,
    labels: Sequence[str] = ("age_group", "gender"),
    fold: int | None = None,
    by_person: bool = True,
    test_share: float = 0.1,
    split_seed: int = 0,
    validation: float | None = None,
    resolution: int = 256,
    whole_image: bool = False,
    align: float | None = None,
) -> Dataset:
    """The faces of a CSV file, prepared at first use and again when its rows or its images have changed.

    What is tested on is `fold`; without it what the column split says; without both columns a random share.

    Args:
        data_dir: the CSV file, or a folder with `faces.csv`.
        cache_dir: where the prepared files are kept.
        labels: rows that have at least one of these are kept: "age_group" (nearest to the age), "gender", "age",
            "age_span".
        fold: the fold to test on; all others train. Needed for a file with a column fold and no column split.
        test_share: the share of the images or people to test on where no column says which.
        by_person: draw people, so that nobody is both trained and tested on, where the file says who is who.
        split_seed: with the same seed the split is the same.
        validation: see `create_dataset`. Not for a file whose column split names rows for validation.
        resolution: side of the prepared images in pixels.
        whole_image: store the whole image, its longer side of `resolution` pixels, not its central square.
        align: cut out the main face of an image, large and near the middle, upright, with this margin on each side as a
            part of the face's side, such as 0.4, whatever `whole_image` says; None: take images as they are.

    Beside the usual keys the records have `fold` (int32, -1 unknown), `path` (str, normalised), `split` (str) and, if
    the file has it, `id` (str). The `identity` of who is unknown is the path.

    Rows whose path or image cannot be used are left out. The description counts them by reason and names a file that
    lists them; it also counts ages that are unknown because they make no sense.

    Raises:
        DataError: the file is not as described, or an argument is none of those.
    """
    if data_dir is None:
        raise DataError(f"faces_csv needs data_dir, a CSV file or a folder with {FILE}; {WANTED}")
    file = pathlib.Path(data_dir).expanduser()
    if file.is_dir():
        file /= FILE
    rows = read_rows(file)
    if fold is None and rows[0].fold >= 0 and not rows[0].split:
        raise DataError(f"{file} has a column fold; give dataset.fold, the fold to test on")
    builder = FacesCsv(file.parent, rows, cache_dir, resolution, whole_image=whole_image, align=align)
    builder.prepare()
    options = {"labels": labels, "validation": validation}
    if fold is not None:
        return faces.open_fold(builder, fold, **options)
    if rows[0].split:
        return faces.open_faces(builder, builder.info.metadata["split"], note=" (column split)", **options)
    by_person = by_person and any(row.identity != row.path for row in rows)  # of whom one at least is known
    return face_files.open_at_random(
        builder, by_person=by_person, test_share=test_share, split_seed=split_seed, **options
    )
