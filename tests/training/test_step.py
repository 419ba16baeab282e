"""The compiled steps, on networks that give back their pixels."""

from types import SimpleNamespace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from ror_jax.errors import UserError
from ror_jax.outputs import Head
from ror_jax.runs.experiment import create_experiment
from ror_jax.tasks import Task, create_task
from ror_jax.training.checkpoint import Checkpoints
from ror_jax.training.evaluation import measure
from ror_jax.training.loop import train
from ror_jax.training.mesh import create_mesh
from ror_jax.training.state import TrainState, create_state, empty_metrics
from ror_jax.training.step import FAULTS, make_eval_step, make_train_step


class Pixels(nnx.Module):
    """Outputs are the channels of the first pixel."""

    def __call__(self, images):
        return {"age_group": images[:, 0, 0]}


@pytest.mark.parametrize(
    ("objective", "views", "expected"),
    [
        # Softmax (0.8, 0.2, 0) and (0.4, 0.1, 0.5); what is added to all outputs of a view means nothing.
        ("cross_entropy", [np.log([0.8, 0.2, 1e-9]) + 3, np.log([0.4, 0.1, 0.5]) - 5], [0.6, 0.15, 0.25]),
        # Once surely yes, twice rather no: no, though the mean of the outputs is positive.
        ("ladder", [(60, 60), (-np.log(4), -40), (-np.log(4), -40)], [1.6 / 3, 0.4 / 3, 1 / 3]),
    ],
)
def test_probabilities_are_averaged_over_views(objective, views, expected):
    task = create_task("age_group", {"age_group": tuple("abc")}, objective=objective)
    state = TrainState(jnp.zeros((), jnp.int32), {}, {}, (), {}, {}, {})
    image = jnp.array(views, jnp.float32)[None, :, None, None]  # [1, V, 1, 1, M]
    batch = {"image": image, "mask": jnp.ones(1), "age_group": jnp.zeros(1, jnp.int32)}
    mesh = create_mesh(data=1)
    step = make_eval_step(nnx.split(Pixels())[0], task, mesh, (False,) * len(views))
    sums, tested = step(state, batch, empty_metrics(task, mesh))
    answer = tested.answers["age_group"]
    assert (answer.chosen[0], answer.confidence[0]) == (np.argmax(expected), pytest.approx(max(expected), rel=1e-6))
    assert tested.truth["age_group"].tolist() == [0] and tested.counted.all()
    results = task.summarize(jax.device_get(sums))
    assert (results["exact"], results["cross_entropy"]) == (1, pytest.approx(-np.log(expected[0]), rel=1e-6))


@pytest.mark.parametrize(("objective", "outputs"), [("cross_entropy", (0, 0, np.nan)), ("ladder", (0, np.nan))])
def test_a_network_that_answers_nan_has_no_result(objective, outputs):
    """Though the label is class 0, which is also the position of the first NaN, and has a probability of its own."""
    task = create_task("age_group", {"age_group": tuple("abc")}, objective=objective)
    state = TrainState(jnp.int32(7), {}, {}, (), {}, {}, {})
    image = np.array([(5, *outputs[1:]), outputs], np.float32)[:, None, None, None]  # [2, V, 1, 1, M]
    batch = {"image": image, "mask": np.ones(2, np.float32), "age_group": np.zeros(2, np.int32)}
    mesh = create_mesh(data=1)
    step = make_eval_step(nnx.split(Pixels())[0], task, mesh, (False,))
    experiment = SimpleNamespace(task=task, mesh=mesh, eval_step=step, test_batches=lambda source: [source])
    with pytest.raises(UserError, match=r"the network answers NaN .* at step 7"):
        measure(experiment, state, batch)
    batch["image"] = np.nan_to_num(batch["image"])
    assert task.summarize(measure(experiment, state, batch))["images"] == 2


class Told(nnx.Module):
    """A network that takes as its image the loss, its gradient / 1e10, and what the batch statistic becomes."""

    def __init__(self):
        self.weight = nnx.Param(jnp.ones(()))
        self.statistic = nnx.BatchStat(jnp.zeros(()))

    def __call__(self, image, train, rngs):
        loss, gradient, self.statistic[...] = image
        told = loss + 1e10 * (gradient * (self.weight - jax.lax.stop_gradient(self.weight)))
        return {"told": told.reshape(1, 1)}


class LossOfTold(Task):
    labels: ClassVar[dict] = {}
    heads: ClassVar[dict] = {"told": Head(1)}

    def loss(self, outputs, batch, state, step):
        return outputs["told"].sum(), {}

    def decode(self, outputs, mirrored):
        return {}

    def measure(self, estimates, batch, state):
        return {"count": jnp.int32(1)}

    summarize = answers = truth = lambda self, *_: {}


def steps_of_told(images, steps=1, **guard):
    """The state, the losses of the calls, and of each step the fault in words and whether it ends the run."""
    task, optimizer = LossOfTold(), optax.sgd(1e25, momentum=0.9)
    mesh = create_mesh(data=1)
    graph, state = create_state(lambda rngs: Told(), optimizer, task, mesh, 0)
    take = lambda batch, step, key: {"image": batch[step]}  # noqa: E731
    train_step = make_train_step(graph, task, optimizer, 0, mesh, take, steps, **guard)
    losses, faults, ends = [], [], []
    for _ in range(len(images) // steps):
        state, loss, report = train_step(state, jnp.array(images, jnp.float32))
        losses.append(float(loss))
        faults += [FAULTS[fault] for fault in report["faults"]]
        ends += report["ends"].tolist()
    return state, losses, faults, ends


GOOD = [(1.0, 2e-35, 0.5), (1.2, 1e-35, -0.7), (0.8, 3e-35, 9e9), (1.4, 1e-35, 0.1)]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ((np.nan, 1e-35, 0.5), "the loss is not finite"),
        ((1.0, 1e30, 0.5), "the gradients are not finite"),
        ((1.0, 1e5, 0.5), "the updated parameters are not finite"),
        ((1.0, 1e-35, -np.inf), "the batch statistics are not finite"),
        ((1.0, 1e-35, np.nan), "the batch statistics are not finite"),
        ((1.0, 1e-35, -2e10), "a batch statistic is beyond guard.max_batch_stat"),
        ((3.1, 1e-35, 0.5), "the loss is more than guard.loss_spike times its running mean"),
    ],
)
@pytest.mark.parametrize("steps", [1, 5])
def test_a_bad_step_is_named_and_skipped(bad, said, steps):
    """What is left is what the other steps alone leave, whether all are one call or each is one."""
    images = [*GOOD[:2], bad, *GOOD[2:]]
    limits = {"loss_spike": 3.0, "max_batch_stat": 1e10}
    expected, *_ = steps_of_told(GOOD, **limits)
    state, losses, faults, ends = steps_of_told(images, steps, max_skips=1, **limits)
    assert faults == ["", "", said, "", ""] and not any(ends)
    for field in ("params", "batch_stats", "opt_state", "metrics"):
        jax.tree.map(np.testing.assert_array_equal, getattr(state, field), getattr(expected, field))
    assert (int(state.step), int(state.guard["skipped"]), int(state.guard["in_a_row"])) == (5, 1, 0)
    mean = 1.0
    for loss in (1.2, 0.8, 1.4):
        mean += 0.01 * (loss - mean)
    assert float(state.guard["mean_loss"]) == pytest.approx(mean)
    if steps == 1:
        np.testing.assert_allclose(losses, [1.0, 1.2, np.nan, 0.8, 1.4])
    else:
        assert losses == [pytest.approx(1.1)]
    *_, ends = steps_of_told(images, steps, **limits)
    assert ends.index(True) == 2


def test_bad_steps_in_a_row_end_the_run():
    pattern = [1, 0, 0, 1, 0, 0, 0, 0]
    images = [GOOD[0] if good else (np.inf, 0, 0) for good in pattern]
    state, _, faults, ends = steps_of_told(images, 4, max_skips=2)
    assert [not fault for fault in faults] == pattern
    assert ends == [False] * 6 + [True] * 2 and int(state.guard["skipped"]) == 6


def test_any_finite_loss_is_good_by_default():
    assert steps_of_told([*GOOD[:2], (1e6, 1e-35, 0.5)])[2] == ["", "", ""]


def test_several_steps_in_one_call_are_the_same_steps(tiny_config):
    """Three steps in one call and in three: the same weights and statistics but for rounding, and the mean loss."""
    results = []
    for per_call in (1, 3):
        experiment = create_experiment(tiny_config(data_on_device=True, steps_per_call=per_call))
        state, losses, batches = experiment.state, [], experiment.train_batches(0)
        for _ in range(3 // per_call):
            state, loss, _ = experiment.train_step(state, next(batches))
            losses.append(loss)
        assert int(state.step) == 3
        results.append((np.mean(losses), state.params, state.batch_stats))
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4), *results)


def test_a_step_that_ruins_the_parameters_is_not_saved(tiny_config, tmp_path):
    """The loss of the first step is fine, what it does to the parameters is not: nothing is kept as good."""
    experiment = create_experiment(tiny_config(optimizer__learning_rate=1e38, batch_size=48))
    with pytest.raises(UserError, match=r"step 1 .* parameters are not finite; .*checkpoint does not exist yet"):
        train(experiment, tmp_path, test_every=1, log_every=2, checkpoint_minutes=60)
    assert not Checkpoints(tmp_path / "checkpoints").steps
