"""IMDB-WIKI-101: celebrities' photographs from IMDb and Wikipedia, with ages from 0 to 100 years and genders.

R. Rothe, R. Timofte, L. Van Gool, "Deep expectation of real and apparent age from a single image without facial
landmarks" (DEX), 2016. Read are the cropped faces of the page in `PAGE`, imdb_crop.tar and wiki_crop.tar, unpacked, or
one of the two; 460,723 and 62,328 images:

    imdb_crop/imdb.mat, imdb_crop/01/nm0000001_rm124825600_1899-5-10_1968.jpg, ...
    wiki_crop/wiki.mat, wiki_crop/17/10000217_1981-05-05_2009.jpg, ...

Deep-RoR (section III.E) removed bad images and wrong ages by hand, which left 440,607, and called them IMDB-WIKI-101.
That list was not published. Here images are removed by rules, see `create`.
"""

import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from input_pipeline.age_groups import UNKNOWN_SPAN, span_of_years
from input_pipeline.datasets import face_files, faces
from input_pipeline.datasets.mat_files import read_arrays
from input_pipeline.errors import DataError
from input_pipeline.records import Dataset

PAGE = "data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki"
WANTED = f"wanted is the folder of imdb_crop and wiki_crop, or one of them, unpacked from the archives of {PAGE}"
IDENTITIES = {"imdb": "celeb_id", "wiki": "name"}  # the field that says who it is
NUMBERS = ("dob", "photo_taken", "gender", "face_score", "second_face_score")

# MATLAB counts days from the year 0: day 1 is 1 January 0000.
DAY_OF_1970 = 719_529
FIRST_DAY, LAST_DAY = 367, 3_652_425  # of the years 1 and 9999

MOST = 2**30  # bytes of the struct in a file; the larger of the two has some 10**8


class ImdbWiki(face_files.FaceFiles):
    """Prepares the images that the rules leave."""


def create(
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike,
    *,
    labels: Sequence[str] = ("age", "gender"),
    min_face_score: float = 1.0,
    max_second_face_score: float | None = None,
    need_gender: bool = False,
    min_size: int = 60,
    by_person: bool = False,
    test_share: float = 0.1,
    split_seed: int = 0,
    validation: float | None = None,
    resolution: int = 256,
    whole_image: bool = False,
) -> Dataset:
    """IMDB-WIKI, cleaned by rules, prepared at first use (an hour or so) and again when a rule or a file has changed.

    The age is in completed years at 1 July of the year in which the photograph was taken: more than that year is not
    known. A row is left out by the first of these rules that it breaks, and only the last ones look at images: year
    of the photograph known; birth date possible; photograph not taken before birth; age at most 100; a face found; its
    score at least `min_face_score`; no second face; gender known, if `need_gender`; an image file that can be read; at
    least `min_size` pixels a side. The description says how many rows each rule took, and names a file that lists them.

    People are told apart by `celeb_id` in imdb and by name in wiki, "imdb 6488" and "wiki Sami Jauhojärvi"; who is in
    both is two people here.

    Args:
        data_dir: the folder of imdb_crop and wiki_crop, or one of the two.
        cache_dir: where the prepared files are kept.
        labels: rows that have at least one of these are kept: "age", "age_group" (nearest to the age), "gender".
        min_face_score: the least score of the face detector.
        max_second_face_score: a second face with a higher score is one too many. None: any second face is.
        need_gender: leave out rows without a known gender.
        min_size: pixels of the shorter side.
        test_share: the share of the images or people to test on. The paper draws 10 % of the images.
        by_person: draw people, so that nobody is both trained and tested on; otherwise images.
        split_seed: with the same seed the split is the same.
        validation: see `create_dataset`.
        resolution: side of the prepared images in pixels.
        whole_image: store the whole image, its longer side of `resolution` pixels, not its central square.

    Beside the usual keys the records have `fold` (int32, always -1) and `path` (str, below the folder).

    Raises:
        DataError: the folder is not IMDB-WIKI, or an argument is none of those.
    """
    if data_dir is None:
        raise DataError(f"imdb_wiki needs data_dir; {WANTED}")
    folder = pathlib.Path(data_dir).expanduser()
    parts = [part for part in IDENTITIES if (folder / f"{part}_crop" / f"{part}.mat").exists()]
    if not parts:
        raise DataError(f"{folder} has neither imdb_crop/imdb.mat nor wiki_crop/wiki.mat; {WANTED}")
    rows = []
    for part in parts:
        fields = _read(folder / f"{part}_crop" / f"{part}.mat", part)
        age = _ages(fields["dob"], fields["photo_taken"])
        rules = _rules(fields, age, min_face_score, max_second_face_score, need_gender)
        rows += _rows(folder, part, fields, age, rules)
    builder = ImdbWiki(folder, rows, cache_dir, resolution, min_size, whole_image)
    builder.rules = (*rules, face_files.MISSING, face_files.UNREADABLE, face_files.too_small(min_size))
    builder.prepare()
    return face_files.open_at_random(
        builder,
        by_person=by_person,
        test_share=test_share,
        split_seed=split_seed,
        labels=labels,
        validation=validation,
    )


def _read(path: pathlib.Path, part: str) -> dict[str, np.ndarray]:
    """What is needed of a file: `NUMBERS` as float64 [N] (gender -1: unknown), `full_path`, `identity` as str [N]."""
    names = (*NUMBERS, "full_path", IDENTITIES[part])
    struct = read_arrays(path, (part, *names), MOST, WANTED).get(part)
    if not isinstance(struct, dict):
        raise DataError(f"{path} has no struct {part}; {WANTED}")
    if missing := [name for name in names if name not in struct]:
        raise DataError(f"{path}: {part} has no field {', '.join(missing)}; {WANTED}")
    fields = {name: struct[name] if isinstance(struct[name], list | dict) else np.ravel(struct[name]) for name in names}
    if len({len(values) for values in fields.values()}) > 1:
        lengths = ", ".join(f"{name} {len(values)}" for name, values in fields.items())
        raise DataError(f"{path}: the fields of {part} have different lengths ({lengths}); {WANTED}")
    try:
        numbers = {name: fields[name].astype(np.float64) for name in NUMBERS}
        numbers["gender"] = np.where(np.isin(numbers["gender"], (0, 1)), numbers["gender"], -1)
        paths = _texts(fields["full_path"])
        people = _texts(fields["name"]) if part == "wiki" else _numbers(fields["celeb_id"].astype(np.float64))
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{path}: the fields of {part} do not have the types of the original; {WANTED}") from error
    return numbers | {"full_path": paths, "identity": np.where(people == "", "", np.strings.add(f"{part} ", people))}


def _texts(cells: list[str]) -> np.ndarray:
    """str [N], from a cell array of texts."""
    if not isinstance(cells, list) or not all(isinstance(cell, str) and len(cell) <= faces.LONGEST for cell in cells):
        raise TypeError
    return np.array(cells, str)


def _numbers(values: np.ndarray) -> np.ndarray:
    """str [N], the numbers without their fractions; "" where there is none."""
    known = np.abs(values) < 2**63
    return np.where(known, np.where(known, values, 0).astype(np.int64).astype(str), "")


def _ages(birth: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Completed years at 1 July of the year `taken`, from MATLAB's day of birth. NaN where either is no date."""
    is_date = (birth >= FIRST_DAY) & (birth < LAST_DAY + 1) & np.isfinite(taken)
    days = np.floor(np.where(is_date, birth, DAY_OF_1970)) - DAY_OF_1970
    day = days.astype(np.int64).astype("datetime64[D]")
    year = day.astype("datetime64[Y]")
    first_of_july = year.astype("datetime64[M]") + 6
    return np.where(is_date, taken - (year.astype(np.int64) + 1970) - (day > first_of_july), np.nan)


def _rules(
    fields: dict[str, np.ndarray],
    age: np.ndarray,
    min_face_score: float,
    max_second_face_score: float | None,
    need_gender: bool,
) -> dict[str, np.ndarray]:
    """Why rows are left out before their images are looked at, in this order -> which rows, bool [N]."""
    score, second = fields["face_score"], fields["second_face_score"]
    rules = {
        "no year of the photograph": ~np.isfinite(fields["photo_taken"]),
        "an impossible birth date": np.isnan(age),
        "a photograph taken before birth": age < 0,
        "an age above 100": age > 100,
        "no face": ~np.isfinite(score),
        f"a face score below {min_face_score}": score < min_face_score,
    }
    if max_second_face_score is None:
        rules["a second face"] = np.isfinite(second)
    else:
        rules[f"a second face with a score above {max_second_face_score}"] = second > max_second_face_score
    if need_gender:
        rules["no known gender"] = fields["gender"] < 0
    return rules


def _rows(
    folder: pathlib.Path, part: str, fields: dict[str, np.ndarray], age: np.ndarray, rules: dict[str, np.ndarray]
) -> Iterator[face_files.Row]:
    reasons = np.select(list(rules.values()), list(rules), default="")
    columns = (fields["full_path"], age, fields["gender"].astype(int), fields["identity"], reasons)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for entry, (path, years, gender, identity, reason) in enumerate(rows, start=1):
        span = UNKNOWN_SPAN if reason else span_of_years(years)
        path = face_files.below(folder, f"{part}_crop/{path}")
        yield face_files.Row(entry, path, span, gender, identity, reason=reason)
