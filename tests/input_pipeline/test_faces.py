"""What all data sets of faces do alike, tried on drawn ones."""

import csv
import functools
import shutil

import numpy as np
import pytest

from input_pipeline import DataError, create_dataset
from input_pipeline.age_groups import nearest_age_group
from input_pipeline.datasets.subjects import draw, subject_numbers
from input_pipeline.transforms import decode_image


@pytest.fixture(scope="module")
def open_faces(tmp_path_factory):
    """40 people with 2 pictures each: 64 pictures of 32 people train."""
    options = {"people": 40, "pictures_per_person": 2, "resolution": 16}
    return functools.partial(create_dataset, "rendered_faces", cache_dir=tmp_path_factory.mktemp("cache"), **options)


def records(source):
    return [source[number] for number in range(len(source))]


def test_a_share_of_the_subjects_is_held_out_of_training(open_faces):
    whole, data = open_faces(fold=1), open_faces(fold=1, validation=0.25)
    assert not whole.validation and "validate" not in whole.description
    assert (len(data.train), len(data.validation["validation"]), len(data.test)) == (48, 16, 16)
    assert "48 to train on, 16 to validate with (8 subjects), 16 to test on (fold 1)" in data.description

    sources = {"train": data.train} | data.evaluations
    images = {name: [record["image"] for record in records(source)] for name, source in sources.items()}
    assert sorted(images["train"] + images["validation"]) == sorted(record["image"] for record in records(whole.train))
    assert [record["image"] for record in records(data.test)] == [record["image"] for record in records(whole.test)]
    people = {name: {record["identity"] for record in records(source)} for name, source in sources.items()}
    assert len(people["validation"]) == 8
    assert not people["validation"] & (people["train"] | people["test"])

    pixels = np.stack([np.asarray(decode_image(image, "")) for image in images["train"]])
    np.testing.assert_allclose(data.mean, pixels.mean((0, 1, 2)))
    np.testing.assert_allclose(data.std, pixels.std((0, 1, 2)))


def test_the_same_subjects_are_held_out_every_time(open_faces):
    def images(data):
        return [record["image"] for record in records(data.validation["validation"])]

    first = images(open_faces(validation=0.2))
    for again in (open_faces(validation=0.2), open_faces(validation=0.2, labels=("age",))):
        assert images(again) == first


def test_the_limit_holds_for_validation_too(open_faces):
    data = open_faces(validation=0.25, limit=5)
    assert (len(data.train), len(data.validation["validation"]), len(data.test)) == (5, 5, 5)
    assert data.description.endswith("(limited to 5 and 5 and 5 images)")


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (-0.1, "validation is -0.1; it must be a share of the subjects, above 0 and below 1"),
        (1, "validation is 1; it must be"),
        (0.01, "nothing to train, validate or test on: .* 0 to validate with"),
        (0.99, "nothing to train, validate or test on: .* 0 to train on"),
    ],
)
def test_shares_that_leave_nothing_are_refused(open_faces, share, message):
    with pytest.raises(DataError, match=message) as error:
        open_faces(validation=share)
    assert "\n" not in str(error.value)


def test_labels_of_all_faces(open_faces):
    labels = open_faces().labels
    assert {key: len(names) for key, names in labels.items()} == {
        "age": 101,
        "age_span": 0,
        "age_group": 8,
        "gender": 2,
    }
    assert (labels["age"][0], labels["age"][35], labels["age"][100]) == ("0", "35", "100")


def test_the_nearest_age_groups_of_many_ages():
    ages = np.array([-1, 0, 2.9, 3, 7, 13.5, 34.9, 35, 56.4, 56.5, 100], np.float32)
    assert nearest_age_group(ages).tolist() == [-1, 0, 0, 1, 2, 2, 4, 5, 6, 7, 7]


def test_rows_without_identity_are_subjects_of_their_own():
    numbers = subject_numbers(np.array(["b", "", "a", "b", "", ""]))
    assert numbers[0] == numbers[3] and len(set(numbers.tolist())) == 5
    assert draw(numbers, 0.6, seed=0).sum() in (3, 4)  # 3 of 5 subjects, one of which has two rows


@pytest.mark.parametrize("file", ["dataset_info.json", "index.npz", "array_record"])
def test_a_prepared_file_that_was_damaged_is_told_in_one_line(open_faces, tmp_path, file):
    """Cut in half, gone, or with a byte changed at some places; never another exception, never another record."""

    def read():
        data = open_faces(cache_dir=tmp_path)
        return [{key: repr(value) for key, value in record.items()} for record in records(data.train)]

    whole = read()
    path = next(path for path in tmp_path.rglob("*") if file in path.name)
    content = path.read_bytes()
    used = np.flatnonzero(np.frombuffer(content, np.uint8))  # a file of records is filled up with zeros
    damaged = [content[: used[-1] // 2], b""]
    for place in np.random.default_rng(0).choice(used, 20):
        damaged.append(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
    told = 0
    for damage in damaged:
        path.write_bytes(damage)
        try:
            assert read() == whole
        except DataError as error:
            assert "is damaged" in str(error) and "delete that folder" in str(error) and "\n" not in str(error)
            assert str(path.parents[2]) in str(error)
            told += 1
    assert told >= 10
    path.unlink()
    with pytest.raises(DataError, match="delete that folder"):
        read()
    shutil.rmtree(path.parents[2])  # as the message says
    assert read() == whole


def test_records_of_another_preparation_are_refused(open_faces, tmp_path):
    """Every file is whole, but the images are not those that the labels belong to."""
    for seed in (0, 1):
        open_faces(cache_dir=tmp_path, seed=seed)
    one, other = tmp_path.rglob("*array_record*")
    shutil.copy(other, one)
    with pytest.raises(DataError, match=r"record \d+ is damaged \(its image is another than the one prepared\)"):
        [records(open_faces(cache_dir=tmp_path, seed=seed).train) for seed in (0, 1)]


@pytest.mark.parametrize(("key", "value"), [("gender", 2), ("gender", -2), ("age", 101), ("age", np.nan)])
def test_a_label_out_of_range_goes_no_further(open_faces, tmp_path, key, value):
    """A loss would take gender 2 for 1: beyond the end of an array JAX reads its last element."""
    open_faces(cache_dir=tmp_path)
    path = next(tmp_path.rglob("index.npz"))
    columns = dict(np.load(path))
    stored, value_there = ("age_span", (value, value + 1)) if key == "age" else (key, value)
    columns[stored][np.flatnonzero(columns["fold"] == 0)[3]] = value_there
    np.savez(path, **columns)
    with pytest.raises(
        DataError, match=rf"record 3 of test, identity person .* has {key} {value}.*; it must be from 0"
    ):
        open_faces(cache_dir=tmp_path)


def test_real_portraits_from_a_short_list(shared, tmp_path):
    congress = shared("data/congress")
    with open(congress / "people.csv") as file:
        people = list(csv.DictReader(file))
    (tmp_path / "portraits").mkdir()
    with open(tmp_path / "faces.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "age", "gender", "identity"])
        for person in people:
            path = f"portraits/{person['bioguide_id']}.jpg"
            (tmp_path / path).write_bytes((congress / path).read_bytes())
            writer.writerow([path, person["age_est"], person["gender"], person["bioguide_id"]])
    data = create_dataset("faces_csv", data_dir=tmp_path, cache_dir=tmp_path, resolution=32, validation=0.1)
    assert "878 rows read, 711 to train on, 79 to validate with (79 subjects), 88 to test on" in data.description
    assert "left out" not in data.description and "kept without" not in data.description
