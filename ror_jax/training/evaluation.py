"""Measures a state on the splits that are not trained on, every image once."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from input_pipeline.records import Source
from ror_jax.errors import UserError
from ror_jax.tasks.task import Task
from ror_jax.training.experiment import Experiment
from ror_jax.training.mesh import shard_batch
from ror_jax.training.state import TrainState, empty_metrics, with_task_state
from ror_jax.training.step import Tested


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Results by name of the split.

    Attributes:
      splits: of each split, those for validation first.
      validation: of all splits for validation together; None where there are none.
    """

    splits: dict[str, dict]
    validation: dict | None

    def score(self, task: Task) -> float:
        """What epochs are compared by: of validation, or else of the first test."""
        return task.score(self.validation or next(iter(self.splits.values())))

    def words(self, task: Task) -> str:
        """The main results of each split, for the line of an epoch."""
        return "".join(f"  |  {split} {task.line(results)}" for split, results in self.splits.items())


def evaluate(experiment: Experiment, state: TrainState, epoch: float) -> tuple[TrainState, Evaluation]:
    """Measures all splits of the data set.

    Returns:
      The state with what the task learned from the validation splits together, with which the tests are measured; and
      the results.

    Raises:
      UserError: the network answers NaN.
    """
    task, dataset, validation = experiment.task, experiment.dataset, None
    sums = {split: measure(experiment, state, source) for split, source in dataset.validation.items()}
    splits = {split: task.summarize(found) for split, found in sums.items()}
    if sums:
        pooled = pool(sums.values())
        validation = task.summarize(pooled)
        state = with_task_state(state, task.update(state.task_state, pooled, epoch))
    for split, source in dataset.tests.items():
        splits[split] = without_tuned(task.summarize(measure(experiment, state, source)))
    return state, Evaluation(splits, validation)


def measure(
    experiment: Experiment, state: TrainState, source: Source, each: Callable[[Tested], None] = lambda tested: None
) -> Any:
    """Returns the sums of `task.measure` over all images of a split, numpy arrays.

    `each` is given what each batch was answered.

    Raises:
      UserError: the network answers NaN.
    """
    sums = empty_metrics(experiment.task, experiment.mesh)
    for batch in experiment.test_batches(source):
        sums, tested = experiment.eval_step(state, shard_batch(batch, experiment.mesh), sums)
        each(tested)
    sums = jax.device_get(sums)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(sums)):
        raise UserError(
            f"the network answers NaN to images of the test, at step {int(state.step)}: its weights or batch statistics"
            " are damaged, or too large for model.dtype; test an earlier checkpoint, or begin with other weights"
        )
    return sums


def pool(sums: Iterable[Any]) -> Any:
    """The sums over several splits as those over all of their images."""
    return jax.tree.map(lambda *each: np.sum(each, axis=0), *sums)


def without_tuned(results: dict) -> dict:
    """Results without those called "best_...", which were chosen on the images themselves: for tests."""
    return {name: value for name, value in results.items() if not name.startswith("best_")}
