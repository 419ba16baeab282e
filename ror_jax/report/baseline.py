"""The results of always giving the same answer, to compare those of a network with."""

from functools import partial

import jax
import jax.numpy as jnp

from input_pipeline.records import Source, label_columns
from ror_jax.tasks.task import Task
from ror_jax.training.evaluation import without_tuned


def baseline(task: Task, train: Source, test: Source) -> dict | None:
    """Returns the results on `test` of the one answer that the labels of `train` suggest; None if a task has none."""
    if (constant := task.constant_baseline(partial(label_columns, train))) is None:
        return None
    estimates = jax.tree.map(lambda values: jnp.repeat(jnp.asarray(values), len(test), 0), constant)
    batch = {key: jnp.asarray(column) for key, column in label_columns(test, list(task.labels)).items()}
    sums = task.measure(estimates, batch | {"mask": jnp.ones(len(test))}, task.initial_state())
    return without_tuned(task.summarize(jax.device_get(sums)))
