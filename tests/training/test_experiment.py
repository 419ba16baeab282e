"""From a config to a run: what a setting changes, what it leaves alone, and which settings are refused."""

import itertools

import jax
import numpy as np
import pytest

from input_pipeline import DataError
from ror_jax.errors import UserError
from ror_jax.models.layers import compiler_options
from ror_jax.training.experiment import create_experiment


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


@pytest.mark.parametrize("resident", [True, False])
def test_a_misspelt_augmentation_is_refused_before_anything_is_written(tiny_config, resident):
    with pytest.raises(DataError, match="unknown augmentation 'scale_and_aspct'; did you mean 'scale_and_aspect'"):
        create_experiment(tiny_config(augmentation="scale_and_aspct", data_on_device=resident))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("seed", -1),
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
