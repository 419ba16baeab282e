"""The train state: one pytree that holds all that a run needs to go on."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from ror_jax.errors import UserError
from ror_jax.tasks.task import Task, sums_shapes
from ror_jax.training.mesh import param_sharding, put_global, replicated


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class TrainState:
    """Everything that changes in training. Randomness and the place in the data follow from `step` and the seed.

    Attributes:
      step: optimiser steps done, int32 scalar.
      params, batch_stats: of the model, as plain dicts.
      opt_state: of the optimiser.
      task_state: what the task has learned from validation.
      metrics: the task's sums over this epoch's batches so far.
      guard: what is known of bad steps, see `make_train_step`: how many were `skipped`, and how many of these just now,
        `in_a_row`, int32; `mean_loss`, the exponential running mean over the good ones, inf before the first.
    """

    step: jax.Array
    params: dict
    batch_stats: dict
    opt_state: optax.OptState
    task_state: Any
    metrics: Any
    guard: dict


def create_state(
    make_model: Callable[[nnx.Rngs], nnx.Module],
    optimizer: optax.GradientTransformation,
    task: Task,
    mesh: Mesh,
    seed: int,
) -> tuple[nnx.GraphDef, TrainState]:
    """The model's graph and a fresh state, made where it will live: a jitted initialiser, never one device first.

    Parameters, and what the optimiser holds of each, lie as `mesh.param_sharding` says; all else is whole on every
    device.
    """

    def split():
        model = make_model(nnx.Rngs(seed))
        graph, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)
        return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats)

    graph = None

    def initial() -> TrainState:
        nonlocal graph
        graph, params, batch_stats = split()
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=batch_stats,
            opt_state=optimizer.init(params),
            task_state=task.initial_state(),
            metrics=empty_metrics(task, mesh),
            guard={"skipped": jnp.int32(0), "in_a_row": jnp.int32(0), "mean_loss": jnp.float32(jnp.inf)},
        )

    shapes = jax.eval_shape(initial)
    layout = jax.tree.map(lambda leaf: replicated(mesh), shapes)
    params, opt_state = jax.tree.map(lambda leaf: param_sharding(leaf.shape, mesh), (shapes.params, shapes.opt_state))
    layout = dataclasses.replace(layout, params=params, opt_state=opt_state)
    return graph, jax.jit(initial, out_shardings=layout)()


def start_from(state: TrainState, tensors: Mapping[str, np.ndarray]) -> TrainState:
    """A fresh state with some parameters and statistics replaced, by name (see `weights.flatten`), where they live.

    The optimiser's state stays: at step 0 it holds no parameters.
    """

    def replace(path, leaf):
        tensor = tensors.get(jax.tree_util.keystr(path, simple=True, separator="."))
        return leaf if tensor is None else put_global(tensor.astype(leaf.dtype), leaf.sharding)

    model = {"params": state.params, "batch_stats": state.batch_stats}
    return dataclasses.replace(state, **jax.tree_util.tree_map_with_path(replace, model))


def with_task_state(state: TrainState, task_state: Any) -> TrainState:
    """The state with another of its task, which is put where the one before lies.

    Raises:
      UserError: its arrays have other shapes.
    """

    def put(path, old, new):
        if np.shape(new) != old.shape:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise UserError(f"the task state {name} has the shape {np.shape(new)}; it must be {old.shape}")
        return put_global(np.asarray(new, old.dtype), old.sharding)

    return dataclasses.replace(state, task_state=jax.tree_util.tree_map_with_path(put, state.task_state, task_state))


def empty_metrics(task: Task, mesh: Mesh) -> Any:
    """Zeros in the form of `task.measure`, on every device."""
    shapes = sums_shapes(task)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype, device=replicated(mesh)), shapes)


def count_parameters(params: dict) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))
