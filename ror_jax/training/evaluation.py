"""Measures a state on the splits that are not trained on, every image once."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from input_pipeline.records import Source
from ror_jax.errors import UserError
from ror_jax.tasks.task import Task
from ror_jax.training.experiment import Experiment
from ror_jax.training.logging import MetricsLog
from ror_jax.training.mesh import shard_batch
from ror_jax.training.state import TrainState, empty_metrics, with_task_state
from ror_jax.training.step import Tested
from ror_jax.training.stopping import EarlyStopping


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


class Testing:
    """When the splits are evaluated, and what follows from it; the checkpoint keeps what it has seen.

    Args:
      early_stopping: is told the results of the epochs that are scored.
      test_every: epochs between two that are scored.
      test_every_steps: steps between further evaluations; None: there are none.
    """

    def __init__(
        self,
        experiment: Experiment,
        early_stopping: EarlyStopping,
        test_every: int,
        test_every_steps: int | None,
    ):
        self._experiment, self._early_stopping = experiment, early_stopping
        self._every, self._every_steps, self._tested_at = test_every, test_every_steps, 0

    def scores(self, step: int) -> bool:
        """Whether that step ends an epoch that gets a score."""
        epoch, rest = divmod(step, self._experiment.steps_per_epoch)
        return rest == 0 and (epoch % self._every == 0 or step == self._experiment.total_steps)

    def is_due(self, step: int) -> bool:
        """Whether the splits are to be evaluated after that step, and were not."""
        within = self._every_steps is not None and step % self._every_steps == 0
        return step > self._tested_at and (within or self.scores(step))

    @property
    def notes(self) -> dict[str, Any]:
        """What it has seen, for JSON."""
        return {"stopping": self._early_stopping.history, "tested_at": self._tested_at}

    def recall(self, notes: Mapping[str, Any]) -> None:
        """Goes on from the `notes` of a checkpoint."""
        self._early_stopping.history, self._tested_at = notes["stopping"], notes["tested_at"]

    def test(self, state: TrainState, step: int, log: MetricsLog) -> tuple[TrainState, float | None, str]:
        """Evaluates and logs all splits.

        Returns:
          The state with what the task learned; the score of the epoch and words for its line, None and "" within one.
        """
        task, epoch = self._experiment.task, self._experiment.epoch(step)
        state, evaluation = evaluate(self._experiment, state, epoch)
        self._tested_at = step
        for split, results in evaluation.splits.items():
            log.write(split, step, epoch, results)
        if not self.scores(step):
            return state, None, ""
        if evaluation.validation:
            chosen = evaluation.splits.get(self._early_stopping.split, evaluation.validation)
            self._early_stopping.update(task, chosen, epoch)
        return state, evaluation.score(task), evaluation.words(task)


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
