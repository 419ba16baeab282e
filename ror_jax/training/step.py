"""The two compiled programs of a run: one step of training, one batch of evaluation."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, PartitionSpec

from ror_jax import parallel
from ror_jax.errors import check_values
from ror_jax.models.convolution import compiler_options
from ror_jax.tasks.answers import Answer
from ror_jax.tasks.task import Task
from ror_jax.training.mesh import AXES, param_sharding, replicated
from ror_jax.training.state import TrainState

# What makes a step bad, by the number that stands for it; 0 is a good one.
FAULTS = (
    "",
    "the loss is not finite",
    "the gradients are not finite",
    "the updated parameters are not finite",
    "the batch statistics are not finite",
    "a batch statistic is beyond guard.max_batch_stat",
    "the loss is more than guard.loss_spike times its running mean",
)
MEAN_LOSS_RATE = 0.01  # of the running mean of the loss: it looks back on some hundred steps


class Tested(NamedTuple):
    """What a network answers to a batch of B images, and the truth.

    Attributes:
      answers: by name, those that are judged.
      truth: by name of the answer.
      images: which rows are images and no padding, bool [B].
      counted: which of these have a label that the task learns, bool [B].
    """

    answers: dict[str, Answer]
    truth: dict[str, jax.Array]
    images: jax.Array
    counted: jax.Array


def make_train_step(
    graph: nnx.GraphDef,
    task: Task,
    optimizer: optax.GradientTransformation,
    seed: int,
    mesh: Mesh,
    load: Callable | None = None,
    steps: int = 1,
    *,
    max_skips: int = 0,
    loss_spike: float | None = None,
    max_batch_stat: float = 1e10,
    deterministic: bool = False,
) -> Callable:
    """`(state, batch) -> (state, loss, report)`.

    The given state's memory is taken over: do not use it again. `load(batch, step, key)`, if given, makes the images
    and labels from what comes as a batch. One call can do several `steps`, with all that `load` makes of the same
    batch. Where a step takes a millisecond, the host cannot call fast enough one by one.

    The random numbers of step k are those of `fold_in(seed, k)`, on any number of devices. Each device runs the network
    on its own rows of the batch, forwards and backwards; then the gradients are added up, all at once. Before that the
    devices exchange nothing but the sums of batch norm and of the loss's weights, see `parallel.total`, and those
    parameters that they share.

    A step is bad if its loss, gradients, new parameters or batch statistics are not finite (a norm that overflows is
    not), or as `loss_spike` and `max_batch_stat` say. With `max_skips`, a bad step changes nothing in the state but
    `step` and `guard`. Without, the new state is not to be used, and making sure of that costs no memory and next to no
    time.

    Args:
      max_skips: bad steps in a row that are left out, schedule and all; the next one ends the run.
      loss_spike: a step whose loss is more than so many times its running mean is bad; None: whatever the loss.
      max_batch_stat: a step with a running mean or variance of more than this is bad.
      deterministic: on a GPU, compute the same numbers each time.

    The loss is the mean of those of the good steps, NaN if there are none. The report holds `loss_parts`, likewise;
    `metrics`, the task's sums over the epoch so far; and of each step [steps] `faults`, its number in FAULTS, and
    `ends`, whether it is the bad step in a row that is one too many: the run must end there.
    """

    def layout(params: dict) -> dict:
        return jax.tree.map(lambda leaf: param_sharding(leaf.shape, mesh).spec, params)

    def gradients_of(state: TrainState, batch: dict, key: jax.Array) -> tuple:
        """Gradients, loss and metrics of the whole batch, and the batch statistics, from the rows of one device."""

        def loss_function(params):
            model = nnx.merge(graph, params, state.batch_stats)
            outputs = model(batch["image"], train=True, rngs=nnx.Rngs(key))
            loss, parts = task.loss(outputs, batch, state.task_state, state.step)
            views = {name: output[:, None] for name, output in outputs.items()}
            sums = task.measure(task.decode(views, (False,)), batch, state.task_state)
            return loss, (parts, sums, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))

        (loss, (parts, sums, batch_stats)), gradients = jax.value_and_grad(loss_function, has_aux=True)(state.params)
        return _add_up(gradients, layout(gradients), mesh), parallel.total((loss, parts)), sums, batch_stats

    def train_step(state: TrainState, batch: dict) -> tuple[TrainState, tuple[jax.Array, ...]]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        if load:
            key, load_key = jax.random.split(key)
            batch = load(batch, state.step, load_key)
        whole, rows = PartitionSpec(), PartitionSpec(AXES)
        gradients, (loss, parts), sums, batch_stats = jax.shard_map(
            gradients_of,
            mesh=mesh,
            in_specs=(whole, rows, whole),
            out_specs=(layout(state.params), whole, whole, whole),
            check_vma=False,
        )(dataclasses.replace(state, opt_state=()), batch, key)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new = {
            "params": params,
            "batch_stats": batch_stats,
            "opt_state": opt_state,
            "metrics": jax.tree.map(jnp.add, state.metrics, sums),
        }
        fault, guard = judge(state.guard, loss, gradients, params, batch_stats)
        if max_skips:
            new = jax.tree.map(partial(jnp.where, fault == 0), new, {name: getattr(state, name) for name in new})
        state = dataclasses.replace(state, step=state.step + 1, guard=guard, **new)
        return state, (loss, parts, fault, guard["in_a_row"] > max_skips)

    def judge(guard: dict, loss, gradients, params, batch_stats) -> tuple[jax.Array, dict]:
        """The step's number in FAULTS, and what is known after it."""
        largest = optax.tree.norm(batch_stats, ord=jnp.inf)  # -inf where there are none
        mean_loss = guard["mean_loss"]
        found = (
            ~jnp.isfinite(loss),
            ~jnp.isfinite(optax.tree.norm(gradients)),
            ~jnp.isfinite(optax.tree.norm(params)),
            ~(largest < jnp.inf),
            largest > max_batch_stat,
            loss > (loss_spike or jnp.inf) * mean_loss,
        )
        fault = jnp.argmax(jnp.array([False, *found]))  # the first that is true, 0 if none is
        bad = fault > 0
        new_mean = jnp.where(mean_loss < jnp.inf, mean_loss + MEAN_LOSS_RATE * (loss - mean_loss), loss)
        return fault, {
            "skipped": guard["skipped"] + bad,
            "in_a_row": jnp.where(bad, guard["in_a_row"] + 1, 0),
            "mean_loss": jnp.where(bad, mean_loss, new_mean),
        }

    def train_steps(state: TrainState, batch: dict) -> tuple[TrainState, jax.Array, dict]:
        state, (losses, parts, faults, ends) = jax.lax.scan(
            lambda state, _: train_step(state, batch), state, length=steps, unroll=steps == 1
        )
        loss, parts = jax.tree.map(lambda values: values.mean(where=faults == 0), (losses, parts))
        return state, loss, {"metrics": state.metrics, "loss_parts": parts, "faults": faults, "ends": ends}

    return jax.jit(train_steps, donate_argnums=0, compiler_options=compiler_options(deterministic))


def check_guard(*, max_skips: int, loss_spike: float | None, max_batch_stat: float) -> None:
    """Raises UserError for parameters of `make_train_step` that make no sense."""
    wanted = {
        "guard.max_skips": (max_skips, max_skips >= 0, "0 or more"),
        "guard.loss_spike": (loss_spike, loss_spike is None or loss_spike > 1, "more than 1, or None"),
        "guard.max_batch_stat": (max_batch_stat, max_batch_stat > 0, "positive"),
    }
    check_values(wanted)


def _add_up(gradients: dict, layout: dict, mesh: Mesh) -> dict:
    """The sums over all devices; of a parameter that is divided, this device's part of it."""
    if mesh.size == 1:
        return gradients
    if mesh.shape["model"] == 1:  # as one array, for an all-reduce has a price of its own, and there are hundreds
        numbers, separate = ravel_pytree(gradients)
        return separate(parallel.total(numbers))

    def add_up(gradient, spec):
        if "model" not in spec:
            return parallel.total(gradient)
        part = lax.psum_scatter(gradient, "model", scatter_dimension=spec.index("model"), tiled=True)
        return lax.psum(part, "data")

    return jax.tree.map(add_up, gradients, layout)


def make_eval_step(
    graph: nnx.GraphDef,
    task: Task,
    mesh: Mesh,
    mirrored: tuple[bool, ...],
    load: Callable | None = None,
    *,
    deterministic: bool = False,
) -> Callable:
    """Returns `(state, batch, sums) -> (sums, Tested)`: one batch without training, its sums added to those before.

    All of it is whole on every device.

    Args:
      mirrored: of each view of an image whether it is a mirror image.
      load: `load(batch)` makes images and labels of a batch that has none.
    """

    def eval_step(state: TrainState, batch: dict, sums: Any) -> tuple[Any, Tested]:
        if "image" not in batch:
            batch = load(batch)
        images = batch["image"]  # [B, V, H, W, 3], V views of each
        params = lax.with_sharding_constraint(state.params, replicated(mesh))
        outputs = nnx.merge(graph, params, state.batch_stats)(images.reshape(-1, *images.shape[2:]))
        outputs = {name: output.reshape(*images.shape[:2], -1) for name, output in outputs.items()}
        estimates = task.decode(outputs, mirrored)
        sums = jax.tree.map(jnp.add, sums, task.measure(estimates, batch, state.task_state))
        answers = task.answers(estimates, state.task_state)
        judged = {name: answer.compact() for name, answer in answers.items() if not answer.derived}
        counted = (batch["mask"] > 0) & task.known(batch)
        return sums, Tested(judged, task.truth(batch), batch["mask"] > 0, counted)

    options = {"donate_argnums": 2, "out_shardings": replicated(mesh)}
    return jax.jit(eval_step, **options, compiler_options=compiler_options(deterministic))
