"""What a run works with."""

import dataclasses
from collections.abc import Callable, Iterator

import optax
from jax.sharding import Mesh

from input_pipeline import Dataset
from input_pipeline.sampling import InverseFrequency
from ror_jax.tasks import Task
from ror_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Data, task, programs and state of one run.

    Attributes:
      sampling: how training images are drawn; None: each once an epoch.
      train_batches: step to begin at -> batches from there on.
      test_batches: records -> batches, each record once; of several processes each gets its rows, unless asked for
        `all_rows`.
      schedule: step -> learning rate.
      card: what the network is, as `models.weights` writes it into `model.json`.
    """

    dataset: Dataset
    task: Task
    mesh: Mesh
    state: TrainState
    train_step: Callable
    eval_step: Callable
    sampling: InverseFrequency | None
    train_batches: Callable[[int], Iterator[dict]]
    test_batches: Callable[..., Iterator[dict]]
    schedule: optax.Schedule
    batch_size: int
    steps_per_epoch: int
    steps_per_call: int
    total_steps: int
    card: dict

    @property
    def epochs(self) -> int:
        """How many there are in all."""
        return self.total_steps // self.steps_per_epoch

    def epoch(self, step: int) -> int | float:
        """How many epochs so many steps are; a whole number at the end of one."""
        return step / self.steps_per_epoch if step % self.steps_per_epoch else step // self.steps_per_epoch
