"""FairFace: its two lists and their habits, its spans of age, real images."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from input_pipeline import DataError, create_dataset

TRAIN = """file,age,gender,race,service_test
train/0.jpg,3-9,Male,East Asian,True
train/1.jpg,03-Sep,Female,Black,False
train/2.jpg,Oct-19,Female,Black,False
train/3.jpg,more than 70,Male,Latino_Hispanic,True
train/4.jpg,20-29,,White,True
train/missing.jpg,20-29,Male,White,True
"""
VAL = "file,age,gender,race,service_test\nval/0.jpg,0-2,Male,Indian,True\nval/1.jpg,,Male,White,True\n"


@pytest.fixture
def folder(tmp_path, save_face):
    """Five images to train on, two to test on, and their lists, of which one has a row more."""
    folder = tmp_path / "fairface"
    for number in range(5):
        save_face(folder / f"train/{number}.jpg", number)
    for number in range(2):
        save_face(folder / f"val/{number}.jpg", 5 + number)
    (folder / "fairface_label_train.csv").write_text(TRAIN)
    (folder / "fairface_label_val.csv").write_text(VAL)
    return folder


def open_fairface(folder, **options):
    return create_dataset("fairface", data_dir=folder, cache_dir=folder.parent / "cache", resolution=16, **options)


def records(source):
    return [source[number] for number in range(len(source))]


def test_ages_are_spans_however_they_are_written(folder):
    data = open_fairface(folder, labels=("age_span", "age_group"))
    train = records(data.train)
    assert [record["age_span"].tolist() for record in train] == [[3, 10], [3, 10], [10, 20], [70, 101], [20, 30]]
    assert [record["age"] for record in train] == [6, 6, 14.5, 85, 24.5]
    assert [data.labels["age_group"][record["age_group"]] for record in train] == [
        "3-9",
        "3-9",
        "10-19",
        "70-",
        "20-29",
    ]
    assert [record["gender"] for record in train] == [1, 0, 0, 1, -1]
    assert [record["path"] for record in records(data.tests["test"])] == ["val/0.jpg"]


def test_columns_and_what_is_unknown_may_be_written_otherwise(folder):
    fingerprint = open_fairface(folder).fingerprint
    (folder / "fairface_label_train.csv").write_text(TRAIN.replace("age,gender", "Age,GENDER").replace(",,", ",NA,"))
    (folder / "fairface_label_val.csv").write_text(VAL.replace(",,", ",nan,").replace("val/1", f"{folder}/val/1"))
    assert open_fairface(folder).fingerprint == fingerprint


def test_rows_of_one_image_are_not_drawn_apart(folder):
    path = folder / "fairface_label_train.csv"
    path.write_text(TRAIN + "".join(TRAIN.splitlines(keepends=True)[1:6]))
    data = open_fairface(folder, validation=0.4)
    held_out, trained = (
        {record["path"] for record in records(source)} for source in (*data.validation.values(), data.train)
    )
    assert len(held_out) == 2 and len(trained) == 3 and not held_out & trained


def test_race_is_known_and_no_label(folder):
    data = open_fairface(folder)
    assert [record["race"] for record in records(data.tests["test"])] == ["Indian", "White"]
    assert data.groups == ("race",) and "race" not in data.labels
    with pytest.raises(DataError, match="unknown label 'race'"):
        open_fairface(folder, labels=("race",))


def test_rows_without_an_image_are_counted_and_listed(folder):
    description = open_fairface(folder).description
    assert "8 rows read, 5 to train on, 2 to test on" in description
    assert "left out: 1 with no image file" in description
    (listed,) = (folder.parent / "cache").rglob("left_out.csv")
    assert "train/missing.jpg,no image file" in listed.read_text()
    assert str(listed) in description


@pytest.mark.parametrize(
    ("list_text", "message"),
    [
        (None, r"fairface_label_train\.csv cannot be read \(No such file or directory\); wanted is the folder of"),
        ("file,age,gender\ntrain/0.jpg,3-9,Male\n", r"fairface_label_train\.csv has no column race"),
        (TRAIN.replace("03-Sep", "4-9"), r"fairface_label_train\.csv, line 3: unknown age '4-9'; did you mean"),
        (TRAIN.replace("Female", "Femal"), "line 3: unknown gender 'Femal'; did you mean 'female'"),
        (TRAIN.replace(",Black,", f",{'x' * 1001},"), "line 3: a text of more than 1000 characters"),
        (
            TRAIN.replace("train/1.jpg", "val/1.jpg"),
            "1 subjects are in more than one split .*'val/1.jpg', in splits test",
        ),
        (TRAIN.replace("train/1.jpg,03-Sep", "train/1.jpg"), "line 3: 4 fields where the first line names 5"),
    ],
)
def test_a_folder_that_is_not_fairface_is_refused(folder, list_text, message):
    path = folder / "fairface_label_train.csv"
    path.unlink() if list_text is None else path.write_text(list_text)
    with pytest.raises(DataError, match=message):
        open_fairface(folder)


def test_the_real_images(shared, tmp_path):
    """Read counts, of a part of the images: those of one archive and of one for validation."""
    fairface = shared("data/fairface")
    unpack = f"import sys; sys.path.insert(0, {str(fairface.parent)!r}); from unpack_faces import unpack; from pathlib"
    unpack += (
        f" import Path; [unpack(Path({str(fairface)!r}) / name, Path({str(tmp_path)!r})) for name in sys.argv[1:]]"
    )
    subprocess.run([sys.executable, "-c", unpack, "train_00.zip", "val_00.zip"], check=True)
    for part in ("train", "val"):
        name = f"fairface_label_{part}.csv"
        (tmp_path / name).write_bytes((fairface / name).read_bytes())
    data = create_dataset("fairface", data_dir=tmp_path, cache_dir=tmp_path / "cache", resolution=32)
    assert "44954 rows read" in data.description
    races = Counter(record["race"] for record in records(data.train))
    assert len(races) == 7 and max(races.values()) < 3 * min(races.values())
    spans = data.train.columns["age_span"]
    assert set(np.diff(spans)[:, 0]) == {3, 7, 10, 31} and all(50 < mean < 160 for mean in data.mean)
