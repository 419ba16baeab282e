"""From a config to a run: what a setting changes, and what it leaves alone."""

import itertools

import jax
import numpy as np
import pytest

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
