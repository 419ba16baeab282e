"""The call of the training step whose results have not been looked at yet."""

from typing import Any

import jax
import numpy as np

from ror_jax.errors import UserError
from ror_jax.training.checkpoint import Checkpoints
from ror_jax.training.experiment import Experiment
from ror_jax.training.logging import MetricsLog, Progress
from ror_jax.training.step import FAULTS


class Pending:
    """Holds the last call: its loss is fetched while the next one runs.

    Args:
      log_every: steps between lines of the log.
    """

    def __init__(
        self, experiment: Experiment, progress: Progress, log: MetricsLog, checkpoints: Checkpoints, log_every: int
    ):
        self._experiment, self._progress, self._log = experiment, progress, log
        self._checkpoints, self._log_every = checkpoints, log_every
        self._call: tuple[int, Any, dict] | None = None

    def put(self, step: int, loss: jax.Array, report: dict) -> None:
        """Holds a call that ends with `step`, see `make_train_step`; flushes the one before."""
        self._progress.dispatched(loss)
        self.flush()
        self._call = step, loss, report

    def flush(self) -> None:
        """Waits for the call; logs its loss, if any step of it was good.

        Raises:
          UserError: it had one bad step too many.
        """
        if self._call is None:
            return
        (step, loss, report), self._call = self._call, None
        task, per_call = self._experiment.task, self._experiment.steps_per_call
        loss, parts, faults, ends = jax.device_get((loss, report["loss_parts"], report["faults"], report["ends"]))
        for index in np.flatnonzero(faults):
            self._tell_fault(step - per_call + 1 + index, FAULTS[faults[index]], ends[index])
        self._progress.update(step, loss, lambda: task.line(task.summarize(jax.device_get(report["metrics"]))))
        if step % self._log_every < per_call:
            several = {f"loss_{name}": float(part) for name, part in parts.items()} if len(parts) > 1 else {}
            known = {} if np.isnan(loss) else {"loss": float(loss)} | several
            rates = self._progress.end_interval()
            self._log.write("step", step, step / self._experiment.steps_per_epoch, known | rates)

    def _tell_fault(self, step: int, fault: str, end: bool) -> None:
        at = f"step {step} (epoch {step / self._experiment.steps_per_epoch:.2f})"
        if end:
            steps = self._checkpoints.steps
            kept = f"is at step {steps[-1]}" if steps else "does not exist yet"
            raise UserError(
                f"{at}: {fault}; the last good checkpoint {kept}. A lower optimizer.learning_rate is the usual"
                " remedy; guard.max_skips=10 leaves out up to 10 such steps in a row"
            )
        self._progress.say(f"Skipped {at}: {fault}.")
