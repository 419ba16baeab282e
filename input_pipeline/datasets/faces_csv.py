"""Anyone's faces: image files and a CSV file that says who they show.

The first line of the file names the columns, in any order; others are ignored. A cell that is empty is unknown.

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

`path` and an age or `gender` must be there. A face should fill its image and be upright, or else be the largest
one there, to be found and aligned.
"""

import os
import pathlib
import re
from collections.abc import Sequence

from input_pipeline.age_groups import OLDEST, UNKNOWN_SPAN, span_of_years
from input_pipeline.datasets import face_files, faces
from input_pipeline.datasets.face_files import Row
from input_pipeline.datasets.files import read_table
from input_pipeline.errors import DataError, nearest
from input_pipeline.records import Dataset

FILE = "faces.csv"
AGES = ("age", "age_low", "age_high")
COLUMNS = ("path", *AGES, "gender", "identity", "split", "fold", "id")
OTHER_PATH = "full_path"
WANTED = (
    "its first line must name path, age (or age_low and age_high) or gender or both, and if known"
    f" {', '.join(COLUMNS[5:])}, with commas"
)
GENDERS = {"f": 0, "female": 0, "0": 0, "m": 1, "male": 1, "1": 1, "u": -1, "": -1}
SPLITS = ("train", "validation", "test")


def read_rows(file: pathlib.Path) -> list[Row]:
    """All rows of the file, in their order. Needs no images.

    Raises:
        DataError: the file is not as described, or splits or folds share a person, or an image has two identities.
    """
    names, lines = read_table(file, "give data_dir a CSV file or its folder")
    _check_header(file, names)
    names = ["path" if name == OTHER_PATH else name for name in names]
    rows = [_row(file, line, dict(zip(names, cells, strict=True))) for line, cells in lines]
    if not rows:
        raise DataError(f"{file} has no rows below its first line; give it one for each face")
    _check_identities(file, rows)
    for part in ("split", "fold"):
        if part in names:
            faces.check_subjects(rows, part, file)
    return rows


def _check_header(file: pathlib.Path, names: Sequence[str]) -> None:
    wrong = None
    if not names:
        wrong = "is empty"
    elif "path" not in names and OTHER_PATH not in names:
        wrong = "has no column path"
    elif "path" in names and OTHER_PATH in names:
        wrong = f"has the columns path and {OTHER_PATH}, which mean the same"
    elif not {*AGES, "gender"} & set(names):
        wrong = "has neither a column age nor a column gender"
    elif twice := [name for name in (*COLUMNS, OTHER_PATH) if names.count(name) > 1]:
        wrong = f"has the column {twice[0]} twice"
    if wrong:
        raise DataError(f"{file} {wrong}: {WANTED}")


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
    gender = cells["gender"].lower()
    if gender not in GENDERS:
        raise DataError(f"{where}: {nearest('gender', gender, filter(None, GENDERS))}")
    span, reason = _age_span(*(cells[name] for name in AGES))
    texts = {"split": split} | {key: found[key] for key in ("id",) if key in found}
    return Row(line, path, span, GENDERS[gender], cells["identity"] or path, int(fold or -1), split, reason, texts)


def _age_span(age: str, low: str, high: str) -> tuple[tuple[float, float], str]:
    """The span of ages, and why the row cannot be used, "" if it can."""
    texts = [text for text in (age, low, high) if text]
    reason = ""
    if not all(re.fullmatch(r"[0-9]+(\.[0-9]*)?", text) and float(text) <= OLDEST for text in texts):
        reason = f"an age that is no number from 0 to {OLDEST}"
    elif age and (low or high):
        reason = "both an age and a span of ages"
    elif low and high and float(low) > float(high):
        reason = "a span of ages whose first year is above its last"
    if reason or not texts:
        return UNKNOWN_SPAN, reason
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
    align: bool = False,
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
        align: cut out the largest face of an image, upright, whatever `whole_image` says.

    Beside the usual keys the records have `fold` (int32, -1 unknown), `path` (str, normalised), `split` (str) and, if
    the file has it, `id` (str). The `identity` of who is unknown is the path.

    Rows whose age, gender, path or image cannot be used are left out. The description counts them by reason and names
    a file that lists them.

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
