"""What ends a run before its last step: signals, and results that do not become better."""

import contextlib
import dataclasses
import signal
import time
from collections.abc import Mapping
from typing import Any

import jax

from ror_jax.errors import check_fields
from ror_jax.tasks.metrics import metric as metric_named
from ror_jax.tasks.task import Task
from ror_jax.training.distributed import largest


class Stopped(Exception):
    """SIGINT or SIGTERM came and the run has saved where it is. Its arguments: the signal; the step, or None."""


@contextlib.contextmanager
def stop_signals():
    """Yields a list that SIGINT and SIGTERM add their number to. A second signal ends the program as usual."""
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    received = []

    def restore():
        for number, handler in usual.items():
            signal.signal(number, handler)

    def receive(number, frame):
        received.append(number)
        restore()

    for number in usual:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        restore()


class Preemption:
    """Decides when to save and when to stop, the same in all processes.

    Args:
      signals: list of signals received, see `stop_signals`.
      minutes: between two saves.
    """

    def __init__(self, signals: list[int], minutes: float):
        self._signals, self._seconds, self._saved = signals, 60 * minutes, time.monotonic()

    def poll(self, agree: bool) -> tuple[int, bool]:
        """The signal that asks to stop, 0 without one, and whether it is time to save.

        Processes, whose signals and clocks differ, exchange that only where all of them are told to `agree`.
        """
        stop, due = self._signals[0] if self._signals else 0, time.monotonic() - self._saved > self._seconds
        if jax.process_count() > 1:
            stop, due = largest(stop, due) if agree else (0, False)
        return int(stop), bool(due)

    def saved(self) -> None:
        """Tells that the run has been saved just now."""
        self._saved = time.monotonic()


@dataclasses.dataclass
class EarlyStopping:
    """When training stops early: by results on the validation splits, one of which must exist.

    Attributes:
      patience: epochs without a better result on the images for validation, after which training ends; None: never.
      metric: name of the result that must get better, such as "rmse"; None: the one by which the best checkpoint is
        chosen.
      split: name of the validation split that counts; None: all of them together.
      min_epochs: training ends no sooner than this: the first epochs may be all ups and downs.
      history: what it has seen, for JSON: the last `epoch`, the best `value` and its epoch, `best`.
    """

    patience: int | None = None
    metric: str | None = None
    split: str | None = None
    min_epochs: int = 0
    history: dict[str, Any] = dataclasses.field(default_factory=dict, init=False)

    def __post_init__(self):
        wanted = {
            "patience": (self.patience is None or self.patience > 0, "1 or more, or None"),
            "min_epochs": (self.min_epochs >= 0, "0 or more"),
            "metric": (self.metric is None or self.patience, "None without early_stopping.patience"),
            "split": (self.split is None or self.patience, "None without early_stopping.patience"),
        }
        check_fields(self, wanted, "early_stopping.")

    def update(self, task: Task, results: Mapping[str, Any], epoch: float) -> None:
        """Records the results for validation at the end of an epoch."""
        if self.patience is None:
            return
        value = task.score(results) if self.metric is None else metric_named(self.metric).sign * results[self.metric]
        if not self.history or value > self.history["value"]:  # as good is no better
            self.history = {"value": value, "best": epoch}
        self.history = self.history | {"epoch": epoch}

    @property
    def stale(self) -> bool:
        """Whether training is to end, `patience` epochs after the best one and not before `min_epochs`."""
        if not self.history:
            return False
        epoch, best = self.history["epoch"], self.history["best"]
        return epoch >= self.min_epochs and epoch - best >= self.patience
