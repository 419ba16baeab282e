import pickle

import numpy as np
import pytest

from input_pipeline import DataError, create_dataset, on_device, pipeline
from input_pipeline.age_groups import AGE_GROUPS
from input_pipeline.datasets.faces import AGES, GENDERS
from input_pipeline.records import ArraySource, Dataset
from input_pipeline.sampling import InverseFrequency
from input_pipeline.transforms import Crop


def dataset(**labels):
    """Records with an image that says their number."""
    count = len(next(iter(labels.values())))
    kinds = {"age": np.float32, "age_group": np.int32, "gender": np.int32}
    columns = {key: np.array(values, kinds[key]) for key, values in labels.items()}
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 2, 2, 3))
    source = ArraySource({"image": images, **columns})
    names = {"age": AGES, "age_group": AGE_GROUPS, "gender": GENDERS}
    return Dataset("any", source, {"test": source}, names, (0,) * 3, (1,) * 3, "")


@pytest.mark.parametrize(
    ("label", "values", "expected"),
    [
        # Three of four known images are in one bin, one in the other; the fifth, unknown, has its fifth of the draws.
        ("age", [1, 4.9, 0, 7, -1], [0.4 / 3, 0.4 / 3, 0.4 / 3, 0.4, 0.2]),
        ("age", [94, 97, 99, 100, 100], [0.5, 0.125, 0.125, 0.125, 0.125]),  # the last bin has both its ends
        ("gender", [0, 0, 0, 1, -1], [0.4 / 3, 0.4 / 3, 0.4 / 3, 0.4, 0.2]),
        ("age_group", [0, 0, 3, 3, 7], [1 / 6, 1 / 6, 1 / 6, 1 / 6, 1 / 3]),
    ],
)
def test_images_are_drawn_by_the_inverse_frequency_of_their_bin(label, values, expected):
    draw, rng = InverseFrequency(dataset(**{label: values}), label, 5), np.random.default_rng(0)
    shares = np.bincount([draw(0, rng) for _ in range(20_000)], minlength=5) / 20_000
    np.testing.assert_allclose(shares, expected, atol=0.015)


@pytest.mark.parametrize(("power", "rare"), [(1, 0.5), (0.5, 2 / 3 / 2), (0, 0.2)])
def test_a_power_tempers_the_weights(power, rare):
    """Bins of four images and of one: with the power 1/2 they weigh 4 / 2 and 1."""
    draw = InverseFrequency(dataset(gender=[0, 0, 0, 0, 1]), "gender", power=power)
    rng = np.random.default_rng(0)
    assert np.mean([draw(0, rng) == 4 for _ in range(20_000)]) == pytest.approx(rare, abs=0.01)


def test_bins_are_counted_and_named():
    ages = [5, 9.9, 10, 12, 84.5, -1]
    sampling = InverseFrequency(dataset(age=ages), "age", 5)
    assert len(sampling.names) == 20 and sampling.names[:2] == ("0-4", "5-9") and sampling.names[-1] == "95-100"
    assert sampling.counts().tolist() == [0, 2, 2] + [0] * 13 + [1, 0, 0, 0]
    assert sampling.counts(np.array([[1, 1], [4, 5]])).tolist() == [0, 2] + [0] * 14 + [1, 0, 0, 0]
    assert sampling.empty == ["0-4", "15-79", "85-100"]
    names = {width: InverseFrequency(dataset(age=ages), "age", width).names for width in (1, 2.5, 30, 100)}
    assert names[1][:2] == ("0", "1") and names[1][-2:] == ("98", "99-100")
    assert names[2.5][:3] == ("0-2.5", "2.5-5", "5-7.5") and names[2.5][-1] == "97.5-100"
    assert names[30] == ("0-29", "30-59", "60-89", "90-100") and names[100] == ("0-100",)

    groups = InverseFrequency(dataset(age_group=[1, 1, 2]), "age_group", 5)
    assert groups.names == AGE_GROUPS and groups.empty == ["0-2", "15-20", "25-32", "38-43", "48-53", "60-"]
    assert InverseFrequency(dataset(gender=[0, 1]), "gender", 5).empty == []


def test_what_is_drawn_depends_on_the_seed_and_the_step_alone():
    """Whoever draws it: a run that goes on, two processes, worker processes, the accelerator's program."""
    data = dataset(gender=[0] * 30 + [1] * 3)
    draw = pickle.loads(pickle.dumps(InverseFrequency(data, "gender", 5)))

    def numbers(**options):
        options = {"batch_size": 8, "seed": 1, "epochs": 3, "draw": draw, **options}
        batches = pipeline.train_batches(data.train, transform=lambda image, rng: Crop(image, np.eye(2, 3)), **options)
        return np.array([batch["image"][:, 0, 0, 0] for batch in batches])

    whole = numbers()
    assert whole.shape == (12, 8)  # as many draws as there are images, in whole batches
    epochs = whole.reshape(3, 32)
    assert len(np.unique(epochs, axis=0)) == 3 and (numbers(seed=2) != whole).any()
    assert 0.3 < (whole >= 30).mean() < 0.7  # of 3 in 33
    np.testing.assert_array_equal(numbers(start_step=5), whole[5:])
    halves = [numbers(process_index=index, process_count=2) for index in range(2)]
    np.testing.assert_array_equal(np.concatenate(halves, axis=1), whole)
    np.testing.assert_array_equal(numbers(workers=1), whole)
    order = pipeline.record_order(data.train, 1, draw)
    on_the_device = [on_device.epoch_order(order, 8, epoch) for epoch in range(3)]
    np.testing.assert_array_equal(np.concatenate(on_the_device), whole)
    resident = on_device.train_batches(
        {"mask": np.ones(33)}, order=order, batch_size=8, epochs=3, start_step=5, place=np.asarray
    )
    orders = [batch["order"] for batch in resident]
    assert len(orders) == 7
    np.testing.assert_array_equal(orders[0], on_the_device[1])
    np.testing.assert_array_equal(orders[-1], on_the_device[2])


def test_some_images_of_a_data_set_can_be_sampled(tmp_path):
    options = {"people": 10, "pictures_per_person": 2, "resolution": 16, "cache_dir": tmp_path}
    data = create_dataset("rendered_faces", limit=7, **options)
    sampling = InverseFrequency(data, "gender", 5)
    genders = [int(data.train[number]["gender"]) for number in range(7)]
    assert sampling.counts().tolist() == [genders.count(0), genders.count(1)]


@pytest.mark.parametrize(
    ("label", "width", "message"),
    [
        ("agegroup", 5, "unknown sampling.label 'agegroup'; did you mean 'age_group'"),
        ("gender", 5, "any reads each gender with its image and cannot be sampled by it"),
        ("age_group", 5, "no training image of any has a known age_group"),
        *(("age", width, r"sampling\.bin_width is .*; it must be from 0\.1 to 100 years$") for width in (0, -5, 101)),
        ("age", float("nan"), r"sampling\.bin_width is nan"),
    ],
)
def test_what_cannot_be_sampled_by_is_refused(label, width, message):
    with pytest.raises(DataError, match=message) as error:
        InverseFrequency(dataset(age=[3, 4], age_group=[-1, -1]), label, width)
    assert "\n" not in str(error.value)


def test_a_power_out_of_range_is_refused():
    with pytest.raises(DataError, match=r"sampling\.power is 1\.5; it must be from 0 to 1$"):
        InverseFrequency(dataset(gender=[0, 1]), "gender", power=1.5)
