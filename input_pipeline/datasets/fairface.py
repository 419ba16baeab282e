"""FairFace: faces from photographs on the web, with age group, gender and race, about as many of each race.

K. Kärkkäinen, J. Joo, "FairFace: face attribute dataset for balanced race, gender, and age for bias measurement and
mitigation", WACV 2021. The authors give it out on the page in `PAGE`: 86,744 faces to train on and 10,954 to validate
with. What is read is the folder that is found there:

    fairface_label_train.csv, fairface_label_val.csv    the columns file, age, gender, race (and service_test)
    train/1.jpg ..., val/1.jpg ...                      224x224 pixels (padding 0.25) or 448x448 (padding 1.25)
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence

from input_pipeline.age_groups import FAIRFACE, UNKNOWN_SPAN, span_of_years
from input_pipeline.datasets import face_files, faces
from input_pipeline.datasets.files import known_text, read_table
from input_pipeline.datasets.subjects import check_subjects
from input_pipeline.errors import DataError, nearest
from input_pipeline.records import Dataset

PAGE = "github.com/joojs/fairface"
WANTED = f"wanted is the folder of {PAGE}, with train/, val/ and the two files fairface_label_{{train,val}}.csv"
COLUMNS = ("file", "age", "gender", "race")
GENDERS = {"female": 0, "male": 1, "": -1}
SPLITS = {"train": "train", "val": "test"}  # FairFace's name -> ours
# How ages are written: as the name of a group, or as the date that a spreadsheet took it for, "03-Sep" and "Oct-19".
AGES = {name: number for number, name in enumerate(FAIRFACE.names)}
AGES |= {"more than 70": len(AGES) - 1, "70+": len(AGES) - 1, "": -1}
AGES |= dict.fromkeys(("3-sep", "03-sep", "sep-03"), AGES["3-9"]) | dict.fromkeys(("oct-19", "19-oct"), AGES["10-19"])


class Fairface(face_files.FaceFiles):
    """Prepares the images of the label files. Its name is that of the data set."""


def read_rows(folder: pathlib.Path) -> list[face_files.Row]:
    """Returns all rows of the two label files, in their order. Needs no images.

    Raises:
        DataError: a file is missing, or is not what FairFace's are, or an image is in both; the message says where.
    """
    rows = [row for part, split in SPLITS.items() for row in _read(folder / f"fairface_label_{part}.csv", split)]
    check_subjects(rows, "split", folder)
    return rows


def _read(path: pathlib.Path, split: str) -> Iterator[face_files.Row]:
    _, lines = read_table(path, COLUMNS, WANTED, required=COLUMNS)
    for line, cells in lines:
        file, race = cells["file"], cells["race"]
        age, gender = known_text(cells["age"]), known_text(cells["gender"])
        where = f"{path}, line {line}"
        if max(map(len, cells.values())) > faces.LONGEST:
            raise DataError(f"{where}: a text of more than {faces.LONGEST} characters; remove or mend the line")
        if age.lower() not in AGES:
            raise DataError(f"{where}: {nearest('age', age, filter(None, AGES))}")
        if gender.lower() not in GENDERS:
            raise DataError(f"{where}: {nearest('gender', gender, filter(None, GENDERS))}")
        group = AGES[age.lower()]
        span = span_of_years(*FAIRFACE.ranges[group]) if group >= 0 else UNKNOWN_SPAN
        texts = {"split": split, "race": race}
        file = face_files.below(path.parent, file)
        yield face_files.Row(line, file, span, GENDERS[gender.lower()], identity=file, split=split, texts=texts)


def create(
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike,
    *,
    labels: Sequence[str] = ("age_span", "gender"),
    validation: float | None = None,
    resolution: int = 224,
    align: float | None = None,
) -> Dataset:
    """FairFace, prepared at first use and again when its lists or its images have changed.

    FairFace's validation split is what is tested on here; see `validation` for images to choose an epoch by.

    Args:
        data_dir: the folder with the label files, train/ and val/.
        cache_dir: where the prepared files are kept.
        labels: rows that have at least one of these are kept: "age_span", "age_group" (FairFace's nine), "gender",
            "age".
        validation: see `create_dataset`. As nothing is known of who is who, images are held out.
        resolution: side of the prepared images in pixels.
        align: cut out the main face of an image, upright, with this margin on each side as a part of the face's side;
            None: take images as they are, which is about a margin of 0.

    As the lists do not say who is who, each image is a person of its own. Beside the usual keys the records have `path`
    (str), `race` (str, as the list has it; results are broken down by it, and it is no label), `split` (str) and `fold`
    (int32, always -1).

    Raises:
        DataError: the folder is not FairFace, or an argument is none of those.
    """
    if data_dir is None:
        raise DataError(f"fairface needs data_dir; {WANTED}")
    folder = pathlib.Path(data_dir).expanduser()
    builder = Fairface(folder, read_rows(folder), cache_dir, resolution, align=align)
    builder.prepare()
    split = builder.info.metadata["split"]
    dataset = faces.open_faces(builder, split, labels=labels, grouping=FAIRFACE, validation=validation)
    return dataclasses.replace(dataset, groups=("race",))
