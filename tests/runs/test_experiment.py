"""From a config to a run: what a setting changes, what it leaves alone, and which settings are refused."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from input_pipeline import DataError
from ror_jax.errors import UserError
from ror_jax.models.convolution import compiler_options
from ror_jax.runs.checks import check_data, classes_without_images, steps_per_call
from ror_jax.runs.experiment import create_experiment
from ror_jax.tasks import Label


@pytest.fixture(scope="module")
def usual(tiny_config):
    return create_experiment(tiny_config())


def first_batches(experiment):
    return list(itertools.islice(experiment.train_batches(0), 2))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("optimizer__learning_rate", 0.5),
        ("optimizer__weight_decay", 0.0),
        ("model__survival", 0.5),
        ("model__dropout", 0.3),
        ("task__weights", "LW3"),
        ("task__objective", "squared_emd"),  # its head is that of cross entropy
        ("epochs", 3),
        ("guard__max_skips", 3),
    ],
)
def test_runs_that_differ_in_one_setting_begin_alike(tiny_config, usual, setting, value):
    """The same parameters and the same images, in order and as augmented, bit for bit."""
    other = create_experiment(tiny_config(**{setting: value}))
    jax.tree.map(np.testing.assert_array_equal, other.state.params, usual.state.params)
    jax.tree.map(np.testing.assert_array_equal, first_batches(other), first_batches(usual))


def test_networks_of_different_depth_see_the_same_images(tiny_config, usual):
    deeper = create_experiment(tiny_config(model__blocks_per_group=(3, 3)))
    jax.tree.map(np.testing.assert_array_equal, first_batches(deeper), first_batches(usual))


@pytest.mark.parametrize("deterministic", [True, False])
def test_determinism_is_asked_of_both_programs(tiny_config, monkeypatch, deterministic):
    asked = []
    monkeypatch.setattr("ror_jax.training.step.compiler_options", lambda wanted: asked.append(wanted) or {})
    create_experiment(tiny_config(deterministic=deterministic))
    assert asked == [deterministic] * 2


def test_determinism_is_for_gpus(monkeypatch):
    """The option has a name that XLA knows, on whatever platform it is compiled for."""
    assert compiler_options(True) == compiler_options(False)  # here, on CPU
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiler_options(False) == {}
    options = compiler_options(True)
    assert options == {"xla_gpu_deterministic_ops": True}
    assert jax.jit(lambda x: x + 1, compiler_options=options)(1) == 2


@pytest.mark.parametrize(
    ("settings", "steps", "calls"),
    [
        ({}, 391, 1),
        ({"data_on_device": True}, 391, 23),  # 17 calls an epoch
        ({"data_on_device": True, "test_every_steps": 8}, 12, 4),
        ({"data_on_device": True, "steps_per_call": 2}, 12, 2),
        ({"data_on_device": True}, 397, 1),  # a prime
    ],
)
def test_steps_of_one_call(tiny_config, settings, steps, calls):
    """Where images lie on the device, as many as divide an epoch, and what lies between two tests, up to 25."""
    assert steps_per_call(tiny_config(**settings), steps) == calls


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps_per_call": 2}, "steps_per_call is 2, which needs data_on_device=True"),
        ({"steps_per_call": 4, "data_on_device": True}, r"must divide the 6 steps of an epoch: 1, 2, 3, 6"),
        (
            {"steps_per_call": 3, "data_on_device": True, "test_every_steps": 2},
            r"must divide the 6 steps of an epoch and test_every_steps, 2: 1, 2$",
        ),
    ],
)
def test_calls_that_do_not_fit_an_epoch_are_refused(tiny_config, settings, said):
    with pytest.raises(UserError, match=said):
        create_experiment(tiny_config(**settings))


@pytest.mark.parametrize("resident", [True, False])
def test_fewer_images_than_a_batch_are_refused(tiny_config, resident):
    with pytest.raises(DataError, match="5 records do not fill one batch of 8"):
        create_experiment(tiny_config(dataset__limit=5, data_on_device=resident))
    create_experiment(tiny_config(dataset__limit=5, data_on_device=resident, epochs=0))  # to be tested only


def test_a_network_that_is_tested_as_it_was_drawn_is_told(tiny_config, capsys):
    create_experiment(tiny_config(epochs=0))
    assert "epochs is 0 and there is no init_from: the network that is tested has random weights." in (
        capsys.readouterr().out
    )


def test_classes_without_training_images_are_told():
    columns = {"age_group": np.array([0, 0, 2, -1]), "gender": np.array([1, 0, 1, 0]), "age": np.array([3.0] * 4)}
    train = SimpleNamespace(columns=columns)
    dataset = SimpleNamespace(
        train=train, labels={"age_group": ("a", "b", "c", "d"), "gender": ("f", "m"), "age": ("0",)}
    )
    labels = {"age_group": Label(names=("young", "old")), "gender": Label(names=("f", "m")), "age": Label()}
    (line,) = classes_without_images(dataset, SimpleNamespace(labels=labels))
    assert line == "No training image has the age_group b, d: it cannot be learnt."


@pytest.mark.parametrize("resident", [True, False])
def test_a_misspelt_augmentation_is_refused_before_anything_is_written(tiny_config, resident):
    with pytest.raises(DataError, match="unknown augmentation 'scale_and_aspct'; did you mean 'scale_and_aspect'"):
        create_experiment(tiny_config(augmentation="scale_and_aspct", data_on_device=resident))


def test_a_whole_image_is_padded_for_training_and_testing(tiny_config, tmp_path):
    """Of images of 20x10 pixels at 16x16: four rows above and four below have the mean colour."""
    for number in range(10):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (10, 20, 3)).astype(np.uint8)).save(
            tmp_path / f"{number}.png"
        )
    rows = [f"{number}.png,{number},{'test' if number > 7 else 'train'}" for number in range(10)]
    (tmp_path / "faces.csv").write_text("path,age,split\n" + "\n".join(rows))
    settings = {"dataset__name": "faces_csv", "dataset__people": None, "dataset__pictures_per_person": None}
    settings |= {"data_dir": str(tmp_path), "dataset__whole_image": True, "fit": "pad", "augmentation": "center"}
    experiment = create_experiment(tiny_config(**settings))
    border = np.round(experiment.dataset.mean)
    tested = next(experiment.test_batches(experiment.dataset.test))["image"][:2, 0]
    for images in (first_batches(experiment)[0]["image"], tested):
        assert (images[:, :4] == border).all() and (images[:, -4:] == border).all()
        assert (images[:, 4:-4] != border).any(-1).mean() > 0.9


def test_flips_and_jitter_are_those_that_are_asked_for(tiny_config):
    def images(augmentation="center", **settings):
        experiment = create_experiment(tiny_config(augmentation=augmentation, **settings))
        return first_batches(experiment)[0]["image"].astype(int)

    plain = images(flip=0.0)
    np.testing.assert_array_equal(images(flip=1.0), plain[:, :, ::-1])
    np.testing.assert_array_equal(images(augmentation="none"), plain)
    changed = images(flip=0.0, jitter__brightness_contrast=1.0, jitter__brightness=0.1, jitter__contrast=0.0) - plain
    amount = np.median(changed, axis=(1, 2, 3))
    assert len(set(amount)) > 4 and 3 < abs(amount).max() <= 26
    lost = images(flip=0.0, jitter__shift_scale_rotate=1.0, jitter__shift=1.0)[:, 0, 0]
    assert (lost == np.round(create_experiment(tiny_config()).dataset.mean)).all(-1).any()


def test_images_are_drawn_alike_on_the_host_and_on_the_device(tiny_config):
    ages = []
    for resident in (False, True):
        experiment = create_experiment(tiny_config(sampling__label="age", data_on_device=resident, steps_per_call=1))
        batches = itertools.islice(experiment.train_batches(4), 6)  # from the first epoch into the second
        for step, batch in enumerate(batches, start=4):
            ages.append(batch["columns"]["age"][batch["order"][step % 6]] if resident else batch["age"])
    np.testing.assert_array_equal(ages[:6], ages[6:])
    assert len(np.unique(ages[0])) < 8 or len(np.unique(ages)) < 40  # with replacement, of 48 images


def test_places_move_with_the_images_on_the_host_and_on_the_device(tiny_config, monkeypatch):
    """Of 16 pixels the middle 12 are seen; all images are mirrored in training, none in the first view of a test."""
    monkeypatch.setattr("ror_jax.runs.experiment.make_train_step", lambda *args, **_: args[5])  # what loads a batch
    monkeypatch.setattr("ror_jax.runs.experiment.make_eval_step", lambda *args, **_: args[4])
    settings = {"image_size": 12, "augmentation": "center", "flip": 1.0, "views": "flip"}
    host, device = (create_experiment(tiny_config(data_on_device=on, **settings)) for on in (False, True))
    trained, tested = next(host.train_batches(0)), next(host.test_batches(host.dataset.test))
    others = (
        device.train_step(next(device.train_batches(0)), jnp.int32(0), jax.random.key(0)),
        device.eval_step(next(device.test_batches(device.dataset.test))),
    )
    for batch, other in zip((trained, tested), others, strict=True):
        for key in ("image", "box", "landmarks", "yaw"):
            np.testing.assert_allclose(batch[key], other[key], atol=1e-5)
    record = host.dataset.test[0]
    np.testing.assert_allclose(tested["landmarks"][0], (record["landmarks"] - 2) / 12, rtol=1e-4)
    assert tested["yaw"][0] == record["yaw"]
    number = np.flatnonzero(host.dataset.train.columns["smile"] == trained["smile"][0])[0]
    record = host.dataset.train[number]
    mirrored = [1, 0, 2, 4, 3]
    wanted = (14 - record["landmarks"][mirrored, 0]) / 12
    np.testing.assert_allclose(trained["landmarks"][0, :, 0], wanted, rtol=1e-4)
    assert trained["yaw"][0] == -record["yaw"]


@pytest.mark.parametrize(
    ("key", "views", "said"),
    [
        ("landmarks", "ten_crop", r"views is 'ten_crop', .* 'landmarks' .*; use single or flip"),
        ("smile", "single", r"rendered_faces: the label 'smile' is geometry, .* must declare it in Dataset\.geometry"),
    ],
)
def test_places_that_cannot_be_followed_are_refused(tiny_config, usual, key, views, said):
    task = SimpleNamespace(labels={key: Label(geometry=True)})
    with pytest.raises(UserError, match=f"^{said}$"):
        check_data(tiny_config(views=views), usual.dataset, task)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fit": "pad"}, "needs fit='crop' and no jitter"),
        ({"jitter__blur": 0.1}, "needs fit='crop' and no jitter"),
        ({"jitter__blur": 2.0}, r"jitter\.blur is 2\.0; it must be from 0 to 1"),
        ({"sampling__label": "ages"}, r"unknown sampling\.label 'ages'; did you mean 'age'"),
        ({"sampling__label": "age", "sampling__bin_width": 0.0}, r"sampling\.bin_width is 0\.0"),
    ],
)
def test_what_the_device_or_the_data_cannot_do_is_refused(tiny_config, settings, said):
    with pytest.raises((UserError, DataError), match=said):
        create_experiment(tiny_config(data_on_device=True, **settings))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("seed", -1),
        ("flip", 1.5),
        ("fit", "stretch"),
        ("resize", 15),
        ("views", "all"),
        ("optimizer__momentum", 2.0),
        ("model__dtype", "int32"),
        ("epochs", -1),
        ("guard__max_skips", -1),
        ("guard__loss_spike", 0.5),
        ("guard__max_batch_stat", 0.0),
    ],
)
def test_settings_out_of_range_are_named(tiny_config, setting, value):
    with pytest.raises(UserError, match=setting.replace("__", ".")):
        create_experiment(tiny_config(**{setting: value}))
