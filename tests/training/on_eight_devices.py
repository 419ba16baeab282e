"""Tests that need eight devices in one process; `test_mesh.py` runs them where XLA simulates these."""

import collections
import contextlib
import dataclasses
import re

import jax
import numpy as np
import pytest

from ror_jax.errors import UserError
from ror_jax.runs.experiment import create_experiment
from ror_jax.training.checkpoint import Checkpoints
from ror_jax.training.evaluation import measure
from ror_jax.training.logging import read_rows
from ror_jax.training.loop import train
from ror_jax.training.mesh import create_mesh, describe_layout, shard_batch
from ror_jax.training.state import count_parameters
from tools.scaling import collectives

MESHES = {"one device": (1, 1), "replicated": (8, 1), "shared by four": (2, 4)}
STEPS = 3


@pytest.fixture(scope="module")
def trained(tiny_config):
    """A function: a mesh by name, and settings -> the experiment and what three steps and a test on it gave."""
    done = {}

    def train(name: str, **settings):
        key = (name, *sorted(settings.items()))
        if key not in done:
            data, model = MESHES[name]
            config = tiny_config(mesh__data=data, mesh__model=model, model__widths=(16, 32), **settings)
            config.model.blocks_per_group = (2, 2)  # equal blocks, which lie stacked
            config.test_batch_size, config.optimizer.learning_rate = 16, 0.01
            experiment = create_experiment(config, devices=jax.devices()[: data * model])
            state, losses, batches = experiment.state, [], experiment.train_batches(0)
            for _ in range(STEPS):
                state, loss, _ = experiment.train_step(state, shard_batch(next(batches), experiment.mesh))
                losses.append(float(loss))
            sums = jax.device_get(state.metrics)
            results = experiment.task.summarize(measure(experiment, state, experiment.dataset.train))
            done[key] = dataclasses.replace(experiment, state=state), losses, sums, results
        return done[key]

    return train


def assert_close(one, other, **tolerance):
    for (path, leaf), expected in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(leaf, expected, **tolerance, err_msg=jax.tree_util.keystr(path))


# Chance by the batch and by the number; age and gender, hidden layers, what is learnt beside the network.
BOTH = {
    "model__survival": 0.5,
    "model__dropout": 0.3,
    "model__mlp_widths": (16, 8),
    "model__mlp_dropout": 0.3,
    "task__name": "age_gender",
    "task__balance": "uncertainty",
    "task__threshold": "validation",
    "dataset__validation": 0.4,
    "optimizer__clip_norm": 1.0,
}
# Chance by the image, with crops and flips on the device.
IMAGES = {"model__survival": 0.5, "model__drop_path": "image_rescaled", "data_on_device": True, "steps_per_call": 1}


@pytest.mark.parametrize(("mesh", "settings"), [("replicated", BOTH), ("shared by four", BOTH), ("replicated", IMAGES)])
def test_eight_devices_do_what_one_does(trained, mesh, settings):
    """The same losses, metrics, parameters, momentum and batch statistics, but for rounding; all images tested once."""
    one, losses, sums, results = trained("one device", **settings)
    eight, losses_of_eight, sums_of_eight, results_of_eight = trained(mesh, **settings)
    np.testing.assert_allclose(losses_of_eight, losses, rtol=1e-5)
    assert_close(sums_of_eight, sums, rtol=1e-4)
    states = [(state.params, state.opt_state, state.batch_stats) for state in (eight.state, one.state)]
    assert_close(*states, rtol=2e-3, atol=2e-5)
    assert results_of_eight["images"] == results["images"] == len(one.dataset.train)
    assert results_of_eight["confusion"] == results["confusion"]
    assert results_of_eight["cross_entropy"] == pytest.approx(results["cross_entropy"], rel=1e-4)


def test_a_shared_state_takes_its_part_of_the_memory(trained):
    """Every large kernel and its momentum are divided; small arrays are whole."""
    experiment = trained("shared by four", **BOTH)[0]
    state = experiment.state
    for leaf in jax.tree.leaves((state.params, state.opt_state)):
        part = leaf.addressable_shards[0].data.size
        assert part == (leaf.size // 4 if leaf.size >= 2**12 else leaf.size)
    assert any(leaf.size >= 2**12 for leaf in jax.tree.leaves(state.params))
    large = sum(leaf.size >= 2**12 for leaf in jax.tree.leaves(state.params))
    title, _, row = describe_layout({"parameters": state.params}, experiment.mesh).splitlines()
    assert title == "8 devices: 2 (data) x 4 (model)"
    assert row.split()[1] == f"{count_parameters(state.params):,}"
    assert row.split("   ")[-1].split(", ") == [str(large), str(len(jax.tree.leaves(state.params)) - large)]


@pytest.mark.parametrize("settings", [BOTH, IMAGES])
def test_gradients_go_in_one_all_reduce_and_nothing_else_is_large(trained, settings):
    """The compiled step exchanges all gradients once, and of everything else no more than a few vectors."""
    experiment = trained("replicated", **settings)[0]
    gradient, *others = exchanges(experiment)
    parameters = count_parameters(experiment.state.params)
    assert (gradient.kind, gradient.times) == ("all-reduce", 1)
    assert 4 * parameters <= gradient.bytes <= 4 * parameters + 64
    assert gradient.bytes > 2**16
    assert others and max(each.bytes for each in others) < 2**10  # the sums of one or two batch norms, of 32 channels


def test_a_shared_state_is_fetched_once_and_its_gradients_are_scattered(trained):
    """Of each divided kernel: one all-gather, one reduce-scatter, one all-reduce of the part; nothing else is large."""
    experiment = trained("shared by four", **BOTH)[0]
    params = jax.tree.leaves(experiment.state.params)
    divided = 4 * sum(leaf.size for leaf in params if leaf.size >= 2**12)
    whole = 4 * sum(leaf.size for leaf in params if leaf.size < 2**12)
    moved = collections.Counter()
    for each in exchanges(experiment):
        moved[each.kind] += each.bytes * each.times
    assert moved["reduce-scatter"] == divided
    assert divided <= moved["all-gather"] <= divided + 2**10
    assert divided / 4 + whole <= moved["all-reduce"] <= divided / 4 + whole + 2**13
    assert moved.keys() == {"reduce-scatter", "all-gather", "all-reduce"}


def exchanges(experiment):
    """What the compiled step exchanges, the largest first."""
    batch = shard_batch(next(experiment.train_batches(0)), experiment.mesh)
    program = experiment.train_step.lower(experiment.state, batch).compile().as_text()
    return sorted(collectives(program), key=lambda each: -each.bytes)


def test_a_checkpoint_goes_from_any_mesh_to_any_other(trained, tmp_path):
    """Each is written by one mesh and read by the next."""
    states = [trained(mesh, **BOTH)[0].state for mesh in MESHES]
    for number, state in enumerate(states):
        other = states[number - 1]
        with contextlib.closing(Checkpoints(tmp_path / str(number), for_training=True)) as checkpoints:
            checkpoints.save(state)
            restored = checkpoints.restore(other)
        jax.tree.map(np.testing.assert_array_equal, restored, state)
        layouts = [jax.tree.map(lambda leaf: leaf.sharding, tree) for tree in (restored, other)]
        assert layouts[0] == layouts[1]


@pytest.mark.parametrize(
    ("data", "model", "said"),
    [
        (-1, 3, "mesh.model is 3; it must divide the number of devices, 8: 1, 2, 4, 8"),
        (-1, 0, "mesh.model is 0"),
        (5, 2, "mesh.data is 5; it must be between 1 and 4, the number of devices / mesh.model, 2"),
        (0, 1, "mesh.data is 0; it must be between 1 and 8, the number of devices"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused(data, model, said):
    with pytest.raises(UserError, match=re.escape(said)):
        create_mesh(data=data, model=model)


def test_what_is_learnt_from_validation_lies_on_all_devices(trained, tmp_path):
    """A run with a tuned threshold saves its epochs, and goes back to the best."""
    experiment = trained("shared by four", **BOTH)[0]
    state = jax.tree.map(lambda leaf: leaf.copy(), experiment.state)  # whose memory training takes over
    experiment = dataclasses.replace(experiment, state=dataclasses.replace(state, step=0 * state.step))
    state = train(experiment, tmp_path, test_every=1, log_every=1, checkpoint_minutes=60)
    chosen = [row["best_threshold"] for row in read_rows(tmp_path / "metrics.jsonl") if row["split"] == "validation"]
    threshold = state.task_state["gender"]["threshold"]
    assert len(threshold.sharding.device_set) == 8 and threshold.sharding.is_fully_replicated
    assert any(float(threshold) == pytest.approx(each) for each in chosen)
