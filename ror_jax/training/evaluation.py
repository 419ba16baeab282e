"""Measures one split, every image once."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ror_jax.errors import UserError
from ror_jax.tasks.task import Task
from ror_jax.training.mesh import shard_batch
from ror_jax.training.state import TrainState, empty_metrics
from ror_jax.training.step import Tested


def evaluate(
    eval_step: Callable,
    state: TrainState,
    batches: Iterable[dict],
    task: Task,
    mesh: Mesh,
    each: Callable[[Tested], None] = lambda tested: None,
) -> Any:
    """Returns the sums of `task.measure` over all batches, numpy arrays; `each` is given what each batch was answered.

    Raises:
      UserError: the network answers NaN.
    """
    sums = empty_metrics(task, mesh)
    for batch in batches:
        sums, tested = eval_step(state, shard_batch(batch, mesh), sums)
        each(tested)
    sums = jax.device_get(sums)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(sums)):
        raise UserError(
            f"the network answers NaN to images of the test, at step {int(state.step)}: its weights or batch statistics"
            " are damaged, or too large for model.dtype; test an earlier checkpoint, or begin with other weights"
        )
    return sums


def without_tuned(results: dict) -> dict:
    """Results without those called "best_...", which were chosen on the images themselves: for tests."""
    return {name: value for name, value in results.items() if not name.startswith("best_")}
