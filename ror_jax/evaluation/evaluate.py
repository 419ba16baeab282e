"""One split, every image counted exactly once."""

from collections.abc import Callable, Iterable

import jax
import numpy as np
from jax.sharding import Mesh

from ror_jax.errors import UserError
from ror_jax.training.mesh import shard_batch
from ror_jax.training.state import TrainState, empty_metrics


def evaluate(
    eval_step: Callable,
    state: TrainState,
    batches: Iterable[dict],
    task,
    mesh: Mesh,
    each: Callable[[dict, dict], None] = lambda predictions, truth: None,
) -> dict:
    """Runs all batches and returns `task.summarize` of the sums; `each` is given each batch's predictions and truth.

    Raises:
      UserError: the network answers NaN, of which the likeliest class would be the first.
    """
    sums = empty_metrics(task, mesh)
    for batch in batches:
        sums, *found = eval_step(state, shard_batch(batch, mesh), sums)
        each(*found)
    sums = jax.device_get(sums)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(sums)):
        raise UserError(
            f"the network answers NaN to images of the test, at step {int(state.step)}: its weights or batch statistics"
            " are damaged, or too large for model.dtype; test an earlier checkpoint, or begin with other weights"
        )
    return task.summarize(sums)


def as_tested(results: dict) -> dict:
    """Results without what would be `best_...`: on images for testing that must not be looked for."""
    return {name: value for name, value in results.items() if not name.startswith("best_")}
