"""Mixtures of data sets: shares, orders, unknown labels, splits by name, and what cannot be mixed."""

import numpy as np
import pytest

import input_pipeline
from input_pipeline import DataError, Dataset, create_dataset, on_device, pipeline
from input_pipeline.geometry import Roll, Yaw
from input_pipeline.records import ArraySource
from input_pipeline.sampling import InverseFrequency
from input_pipeline.transforms import Crop

# Every image of a part has one colour, by which it is known: the number of the part times 100, plus its own.
SIZES = {"large": 60, "small": 12}
OWN = {
    "large": {"rank": np.int32, "smile": np.float32, "caption": str},
    "small": {"rank": np.int32, "age": np.float32, "identity": str},
}
CLASSES = {"large": {"rank": (), "smile": (), "mood": ("sad", "merry")}, "small": {"rank": (), "age": ()}}


def source(part, count, first=0):
    colours = 100 * list(SIZES).index(part) + first + np.arange(count)
    side = 8 if part == "large" else 6  # stored sizes differ
    images = np.broadcast_to(colours[:, None, None, None], (count, side, side, 3)).astype(np.uint8)
    return ArraySource({"image": images} | {key: colours.astype(kind) for key, kind in OWN[part].items()})


def creator(part):
    def create(data_dir, cache_dir, *, labels, validation=None, tint=0, smile=None, eyes=None):
        held_out = {"validation": source(part, 3, 70)} if validation else {}
        return Dataset(
            part,
            source(part, SIZES[part]),
            {"test": source(part, 4, 80)},
            labels=CLASSES[part],
            mean=(10.0 + tint, 20.0, 30.0),
            std=(3.0, 4.0, 5.0),
            description=f"{part} from {data_dir}",
            validation=held_out,
            groups=("caption",) if part == "large" else (),
            geometry={} if smile is None else {"smile": smile},
            template=eyes,
        )

    return create


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    creators = input_pipeline._CREATORS | {part: creator(part) for part in SIZES}
    monkeypatch.setattr(input_pipeline, "_CREATORS", creators)


def mix(large=0.75, small=0.25, labels=("rank", "age"), tint=0, **options):
    parts = {"large": {"share": large}, "few": {"name": "small", "share": small, "data_dir": "HERE", "tint": tint}}
    return create_dataset("mixture", cache_dir="unused", labels=labels, mixture=parts, **options)


def batches(data, **options):
    options = {"batch_size": 8, "seed": 3, "epochs": 2, "transform": mirrored, **options}
    return list(pipeline.train_batches(data.train, **options))


def mirrored(image, rng):
    return Crop(image[:6, 5::-1], np.array([[-1, 0, 6], [0, 1, 0]]))


def colours(found):
    return np.concatenate([batch["image"][:, 0, 0, 0] for batch in found])


def test_each_part_has_its_share_and_an_order_of_its_own():
    found = colours(batches(mix(), epochs=3))
    assert len(found) == 3 * 72 and ((found >= 100).reshape(-1, 8).sum(1) == 2).all()  # a quarter of every batch
    large, few = found[found < 100], found[found >= 100] - 100
    assert sorted(large[:60]) == list(range(60)) and large[:60].tolist() != large[60:120].tolist()
    turns = few[: 12 * (len(few) // 12)].reshape(-1, 12)
    assert len(turns) == 4 and (np.sort(turns) == np.arange(12)).all() and len(np.unique(turns, axis=0)) == 4
    assert (colours(batches(mix(), epochs=3, seed=4)) != found).any()


def test_a_batch_is_a_function_of_seed_and_step():
    data = mix(large=5, small=2)
    whole = batches(data)
    np.testing.assert_array_equal(colours(batches(data, start_step=11)), colours(whole[11:]))
    halves = [batches(data, process_index=index, process_count=2) for index in range(2)]
    together = [np.concatenate([a["rank"], b["rank"]]) for a, b in zip(*halves, strict=True)]
    np.testing.assert_array_equal(together, [batch["rank"] for batch in whole])
    np.testing.assert_array_equal(colours(batches(data, workers=1)), colours(whole))
    order = pipeline.record_order(data.train, 3)
    numbers = np.concatenate([on_device.epoch_order(order, 8, epoch) for epoch in range(2)]).ravel()
    np.testing.assert_array_equal([data.train[int(number)]["rank"] for number in numbers], colours(whole))


def test_labels_that_a_part_lacks_are_unknown():
    data = mix(labels=("rank", "age", "smile"))
    large, few = data.train[2], data.train[60]
    assert large.keys() == few.keys() == {"image", "rank", "smile", "age", "caption", "identity"}
    assert (large["rank"], large["smile"], large["age"], large["caption"], large["identity"]) == (2, 2, -1, "2", "")
    assert (few["rank"], few["age"], few["caption"], few["identity"]) == (100, 100, "", "100") and np.isnan(
        few["smile"]
    )
    assert data.labels == {"rank": (), "age": (), "smile": (), "mood": ("sad", "merry")}
    columns = data.train.columns
    np.testing.assert_array_equal(columns["age"][[0, 59, 60, 71]], [-1, -1, 100, 111])
    assert columns["rank"].dtype == np.int32 and columns["age"].dtype == np.float32
    batch = batches(data)[0]
    assert batch["rank"].shape == batch["age"].shape == batch["smile"].shape == (8,)


def test_splits_are_named_after_the_parts():
    data = mix(validation=0.5)
    assert list(data.tests) == ["test_large", "test_few"]
    assert list(data.validation) == ["validation_large", "validation_few"]
    assert data.tests["test_few"][1]["rank"] == 181 and data.tests["test_large"][1]["age"] == -1
    assert data.groups == ("caption",)
    assert data.description.splitlines() == ["mixture: 75 % large, 25 % few", "large from None", "small from HERE"]
    assert create_dataset("mixture", cache_dir="", labels=["rank"], mixture={"large": {"share": 2}}).validation == {}


def test_mean_and_std_are_those_of_the_mixture():
    """Of the red channel: means 10 and 50 with deviation 3, one to three."""
    data = mix(large=0.25, small=0.75, tint=40)
    assert data.mean == (40, 20, 30)
    np.testing.assert_allclose(data.std, [np.sqrt(9 + 0.25 * 30**2 + 0.75 * 10**2), 4, 5])


def test_the_fingerprint_changes_with_shares_and_parts():
    prints = {mix().fingerprint, mix(small=0.3).fingerprint, mix(limit=5).fingerprint, mix(75, 25).fingerprint}
    assert len(prints) == 3 and len(mix(limit=5).train) == 10


@pytest.mark.parametrize(
    ("parts", "labels", "message"),
    [
        ({}, ["rank"], "a mixture needs parts: dataset.mixture names each, with its share"),
        *(
            ({"large": {"share": share}}, ["rank"], rf"the share of large is {share}; it must be a number above 0")
            for share in (0, -0.5, None, float("nan"), float("inf"))
        ),
        ({"lrge": {"share": 1}}, ["rank"], "mixture, part lrge: unknown data set 'lrge'; did you mean 'large'"),
        ({"Large": {"share": 1, "name": "large"}}, ["rank"], "a part is called 'Large'; its name consists of a-z"),
        ({"large": {"share": 1, "tnt": 3}}, ["rank"], "part large: unknown option of data set large 'tnt'; did you"),
        ({"large": 0.5}, ["rank"], "part large is 0.5; it must be its share and options of its data set"),
        ({"large": {"share": 1, "labels": ["rank"]}}, ["rank"], "part large is .*; it must be its share and options"),
        (
            {"x": {"name": "mixture", "share": 1, "mixture": {"large": {"share": 1}}}},
            ["rank"],
            "part x: it is a mixture",
        ),
        ({"large": {"share": 1}, "small": {"share": 1}}, ["mood", "race"], "none of the parts .* has the label 'race'"),
        (
            {"rendered_faces": {"share": 1, "people": 5}},
            ["label"],
            "part rendered_faces: unknown label 'label'; known are age",
        ),
    ],
)
def test_what_cannot_be_mixed_is_refused(parts, labels, message, tmp_path):
    with pytest.raises(DataError, match=message):
        create_dataset("mixture", cache_dir=tmp_path, labels=labels, mixture=parts)


def test_a_label_with_other_classes_in_another_part_cannot_be_learned(monkeypatch):
    monkeypatch.setitem(CLASSES, "small", {"mood": ("merry", "sad")})
    with pytest.raises(DataError, match="the classes of 'mood' are sad, merry in large, but merry, sad in few"):
        mix(labels=("mood",))
    assert "mood" not in mix(labels=("smile",)).labels


def test_images_are_not_sampled_by_kind_as_well():
    with pytest.raises(DataError, match=r"mixture draws images by the shares of its parts; leave out sampling\.label"):
        InverseFrequency(mix(), "rank", 5)


def test_shares_hold_for_odd_numbers():
    data = mix(large=1.0, small=0.137)
    order = pipeline.record_order(data.train, 0)
    few = sum(order[place] >= 60 for place in range(10_000))
    assert abs(few / 10_000 - 0.137 / 1.137) < 0.002


def test_labels_move_with_the_images_of_the_parts_that_have_them():
    def mix(large, small, labels=("rank",)):
        parts = {"large": {"share": 1, **large}, "small": {"share": 1, **small}}
        return create_dataset("mixture", cache_dir="unused", labels=labels, mixture=parts)

    data = mix({"smile": Yaw()}, {})
    assert data.geometry == {"smile": Yaw()}
    for batch in batches(data, geometry=data.geometry):
        np.testing.assert_array_equal(batch["smile"], np.where(batch["rank"] < 100, -batch["rank"], np.nan))
    with pytest.raises(DataError, match=r"the label 'smile' is Yaw\(\) in large, but Roll\(\) in small"):
        mix({"smile": Yaw()}, {"smile": Roll()}, labels=("rank", "smile"))
    without = mix({"smile": Yaw()}, {"smile": Roll()})
    assert without.geometry == {} and "smile" not in without.labels and "smile" not in without.train[0]
    eyes = np.eye(2)
    assert mix({"eyes": eyes}, {}).template is None and mix({}, {}).template is None
    assert mix({"eyes": eyes}, {"eyes": eyes.copy()}).template is eyes


def test_what_would_have_two_meanings_is_refused(monkeypatch):
    monkeypatch.setitem(OWN, "small", {"rank": np.int32, "smile": np.dtype((np.float32, 2))})
    monkeypatch.setitem(CLASSES, "small", {"rank": (), "smile": ()})
    with pytest.raises(DataError, match=r"the label 'smile' has the shape \[2\] in few and \[\] in another part"):
        mix(labels=("smile",))


def test_a_part_may_hold_nothing_out():
    parts = {"large": {"share": 1}, "small": {"share": 1, "validation": 0}}
    data = create_dataset("mixture", cache_dir="", labels=["rank"], mixture=parts, validation=0.5)
    assert list(data.validation) == ["validation_large"]
