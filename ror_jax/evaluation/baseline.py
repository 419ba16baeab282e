"""What a result is worth: that of always giving the same answer."""

from functools import partial

import jax.numpy as jnp
import numpy as np

from input_pipeline.records import Source, label_columns
from ror_jax.evaluation.evaluate import as_tested


def baseline(task, train: Source, test: Source) -> dict | None:
    """The results on `test` of the constant answer that the labels of `train` suggest, as `task` measures it.

    None for a task that has no such answer (its `majority_rate` says the same).
    """
    if (answer := task.constant(partial(label_columns, train))) is None:
        return None
    estimates = {name: np.repeat(value, len(test), 0) for name, value in answer.items()}
    true = label_columns(test, task.targets())
    estimates, batch = ({name: jnp.asarray(value) for name, value in part.items()} for part in (estimates, true))
    sums = task.metrics(estimates, batch | {"mask": jnp.ones(len(test))}, task.initial_state())
    return as_tested(task.summarize(sums))
