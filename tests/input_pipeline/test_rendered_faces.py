import numpy as np
import pytest

from input_pipeline import DataError, create_dataset
from input_pipeline.age_groups import ADIENCE
from input_pipeline.transforms import decode_image

OPTIONS = {"people": 40, "pictures_per_person": 3, "resolution": 32}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def data(cache):
    return create_dataset("rendered_faces", cache_dir=cache, **OPTIONS)


def records(source):
    return [source[number] for number in range(len(source))]


def test_records_have_every_label(data):
    assert (len(data.train), len(data.test)) == (96, 24) and data.folds == (0, 1, 2, 3, 4)
    for record in records(data.test):
        assert decode_image(record["image"], "").size == (32, 32)
        low, high = ADIENCE.ranges[record["age_group"]]
        assert low <= record["age"] <= high
        assert record["gender"] in (0, 1)
        assert record["box"].shape == (4,) and record["landmarks"].shape == (5, 2)
        assert 0 <= record["smile"] <= 1 and abs(record["yaw"]) < 90
    assert {record["age_group"] for record in records(data.train)} == set(range(8))


def test_folds_share_no_person_and_a_person_keeps_age_and_gender(data):
    people = {}
    for record in records(data.train) + records(data.test):
        people.setdefault(record["identity"], []).append(record)
    assert len(people) == 40 and {len(pictures) for pictures in people.values()} == {3}
    assert not {r["identity"] for r in records(data.train)} & {r["identity"] for r in records(data.test)}
    for pictures in people.values():
        assert len({(picture["fold"], picture["gender"], picture["age_group"]) for picture in pictures}) == 1
        assert np.ptp([picture["age"] for picture in pictures]) <= 2
        assert len({picture["image"] for picture in pictures}) == 3


def test_the_seed_decides_what_is_drawn(data, cache, tmp_path):
    again = create_dataset("rendered_faces", cache_dir=tmp_path, **OPTIONS)
    assert all(a["image"] == b["image"] for a, b in zip(records(data.train), records(again.train), strict=True))
    other = create_dataset("rendered_faces", cache_dir=cache, seed=1, **OPTIONS)
    assert not {r["image"] for r in records(data.train)} & {r["image"] for r in records(other.train)}


def test_too_few_faces_are_refused(tmp_path):
    with pytest.raises(DataError, match="at least 5 people, 1 picture per person and 16 pixels"):
        create_dataset("rendered_faces", cache_dir=tmp_path, people=4)
