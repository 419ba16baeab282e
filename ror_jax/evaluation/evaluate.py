"""One split, every image counted exactly once."""

from collections.abc import Callable, Iterable

import jax
from jax.sharding import Mesh

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
    """Runs all batches and returns `task.summarize` of the sums; `each` is given each batch's predictions and truth."""
    sums = empty_metrics(task, mesh)
    for batch in batches:
        sums, *found = eval_step(state, shard_batch(batch, mesh), sums)
        each(*found)
    return task.summarize(jax.device_get(sums))
