"""The training loop, to be read once from top to bottom."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from input_pipeline import DataError
from ror_jax.errors import UserError
from ror_jax.files import NotWrittenError
from ror_jax.training.checkpoint import Checkpoints
from ror_jax.training.distributed import all_or_none, is_first
from ror_jax.training.evaluation import Testing
from ror_jax.training.experiment import Experiment
from ror_jax.training.logging import MetricsLog, Progress, traced
from ror_jax.training.mesh import shard_batch
from ror_jax.training.pending import Pending
from ror_jax.training.state import TrainState, empty_metrics
from ror_jax.training.stopping import EarlyStopping, Preemption, Stopped, stop_signals


def train(
    experiment: Experiment,
    workdir: Path,
    *,
    test_every: int,
    test_every_steps: int | None = None,
    log_every: int,
    checkpoint_minutes: float,
    early_stopping: EarlyStopping | None = None,
    allow_changed_data: bool = False,
    profile: bool = False,
    label: str = "",
    asked_to_stop: list[int] | None = None,
) -> TrainState:
    """Trains to the end of the last epoch, from the latest checkpoint in `workdir` if there is one.

    A run that was stopped and started again gives the same weights, bit for bit, as one that was not. Where there are
    images for validation, the state that did best on them is returned, else the last one.

    Several runs train at once in threads, each with a `label` that its lines begin with, and with the list of signals
    `asked_to_stop` of the main thread, see `stop_signals`; a run alone looks after signals itself.

    Raises:
      UserError: one bad step too many, see `make_train_step`, and the last good checkpoint is kept; no checkpoint is
        sound, or they are of other data, unless `allow_changed_data`; something cannot be written.
      Stopped: the user or the machine asked for it.
    """
    state, step, per_call = experiment.state, 0, experiment.steps_per_call
    steps_per_epoch, total_steps = experiment.steps_per_epoch, experiment.total_steps
    early_stopping = early_stopping or EarlyStopping()
    testing = Testing(experiment, early_stopping, test_every, test_every_steps)
    with contextlib.ExitStack() as stack:
        # --- Resume from where the run stopped, if it did -----------------------------------------------------------
        checkpoints = Checkpoints(
            workdir / "checkpoints",
            for_training=True,
            alone=asked_to_stop is None,
            data=experiment.dataset.fingerprint,
            allow_changed_data=allow_changed_data,
        )
        stack.enter_context(_telling_what_is_lost(checkpoints, steps_per_epoch, lambda: step))
        stack.enter_context(contextlib.closing(checkpoints))
        newest = max(checkpoints.steps, default=None)
        if newest is not None:  # it may be 0, with the first weights
            state = checkpoints.restore(state)
            testing.recall(checkpoints.latest["notes"])
        step = int(state.step)
        _check_calls(step, steps_per_epoch, per_call)
        if (step == total_steps or early_stopping.stale) and not testing.is_due(step):
            return _chosen(experiment, checkpoints, state)

        # --- Open what is written and shown; the first process logs for all, another where it vanishes --------------
        logs = workdir if is_first() else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with all_or_none():
            checkpoints.check_room(state)
            log = stack.enter_context(contextlib.closing(MetricsLog(logs, step)))
        progress = Progress(step, total_steps, steps_per_epoch, experiment.batch_size, label)
        stack.enter_context(contextlib.closing(progress))
        _tell_start(experiment, checkpoints, step, newest or 0, progress.say)
        if asked_to_stop is None:
            asked_to_stop = stack.enter_context(stop_signals())
        preemption = Preemption(asked_to_stop, checkpoint_minutes)
        pending = Pending(experiment, progress, log, checkpoints, log_every)

        def save(score: float | None = None, again: bool = False) -> None:
            pending.flush()
            with progress.paused():
                checkpoints.save(state, score, testing.notes, again=again)
            preemption.saved()

        stack.enter_context(_saving_upon_damage(save, lambda: step, progress.say))
        if testing.is_due(step):  # a damaged image had stopped it in its last test
            state, score, words = testing.test(state, step, log)
            save(score, again=True)
            if words:
                progress.say(f"epoch {experiment.epoch(step)}/{experiment.epochs}{words}")
            if early_stopping.stale:
                return _chosen(experiment, checkpoints, state)
        batches = progress.timed(stack.enter_context(contextlib.closing(experiment.train_batches(step))))
        if profile:
            batches = stack.enter_context(contextlib.closing(traced(batches, logs / "profile", progress.say)))
        for batch in batches:
            # --- One step, or several; the loss of those before is fetched while they run ---------------------------
            state, loss, report = experiment.train_step(state, shard_batch(batch, experiment.mesh))
            checkpoints.check()
            pending.put(step + per_call, loss, report)
            step += per_call

            # --- At the end of an epoch sum up; test ----------------------------------------------------------------
            score, words, end_of_epoch = None, "", step % steps_per_epoch == 0
            if end_of_epoch:
                pending.flush()
                state, trained, speed = _sum_up(experiment, state, step, progress, log)
            if testing.is_due(step):
                pending.flush()
                with progress.paused():
                    state, score, words = testing.test(state, step, log)
            if end_of_epoch:
                progress.say(trained + words + speed)

            # --- Save at the end of an epoch, every few minutes, and before leaving ---------------------------------
            stop, due = preemption.poll(agree=end_of_epoch or step % log_every < per_call)
            if end_of_epoch or stop or due:
                save(score)
            if stop and step < total_steps:
                raise Stopped(stop, step)
            if score is not None and early_stopping.stale:
                progress.say(f"The end: no better on images for validation (patience {early_stopping.patience}).")
                break
        return _chosen(experiment, checkpoints, state)


def _check_calls(step: int, steps_per_epoch: int, per_call: int) -> None:
    """Raises UserError if calls from this step on would not end where epochs do, as of data that have changed."""
    if step % steps_per_epoch % per_call:
        raise UserError(
            f"the run was saved at step {step}, from where {per_call} steps a call do not end with an epoch of"
            f" {steps_per_epoch} steps; give --config.steps_per_call=1"
        )


def _tell_start(experiment: Experiment, checkpoints: Checkpoints, step: int, newest: int, say: Callable) -> None:
    """Says where training begins, which may be before the `newest` step that was saved, and why."""
    if checkpoints.damages:
        again = f"{newest - step} steps ({(newest - step) / experiment.steps_per_epoch:.2f} epochs)"
        say(f"{'; '.join(checkpoints.damages)}. Its work after step {step}, {again}, is done again.")
    if checkpoints.data_changed:
        say("The data are not those that the run began with; it goes on with these, as you allow.")
    if step:
        epoch = step / experiment.steps_per_epoch
        say(f"Resuming from step {step} of {experiment.total_steps}, epoch {epoch:.2f}.")
    say("Compiling; the first step takes up to a minute.")


def _sum_up(
    experiment: Experiment, state: TrainState, step: int, progress: Progress, log: MetricsLog
) -> tuple[TrainState, str, str]:
    """Logs the epoch that ends with `step`; returns the state without its sums, and in words how training went and how
    fast."""
    task, epoch = experiment.task, experiment.epoch(step)
    results = task.summarize(jax.device_get(state.metrics))
    skipped = int(state.guard["skipped"])
    counts = {"learning_rate": float(experiment.schedule(step - skipped - 1)), "skipped": skipped}
    speed = progress.end_epoch()
    log.write("train", step, epoch, results | counts | speed)
    state = dataclasses.replace(state, metrics=empty_metrics(task, experiment.mesh))
    words = f"epoch {epoch}/{experiment.epochs}  train {task.line(results)}"
    words += f"  |  bad steps skipped: {skipped}" if skipped else ""
    rate = f"  |  {speed['images_per_second']:.0f} images/s, input wait {speed['input_wait']:.1%}" if speed else ""
    return state, words, rate


def _chosen(experiment: Experiment, checkpoints: Checkpoints, last: TrainState) -> TrainState:
    """The state that a run ends with: never chosen by the images that it is tested on."""
    chosen = experiment.dataset.validation and checkpoints.best_step is not None
    return checkpoints.restore(last, "best") if chosen else last


@contextlib.contextmanager
def _saving_upon_damage(save: Callable[[], None], now: Callable[[], int], say: Callable[[str], None]) -> Iterator[None]:
    """An image that is damaged, to be trained on or tested, must not cost what was trained.

    Of several processes only the one that reads it knows: they lose what came after the last checkpoint.
    """
    try:
        yield
    except DataError:
        if jax.process_count() == 1:  # saving takes all
            save()
            say(f"Saved at step {now()}. Once it is mended, the same command goes on.")
        raise


@contextlib.contextmanager
def _telling_what_is_lost(checkpoints: Checkpoints, steps_per_epoch: int, now: Callable[[], int]) -> Iterator[None]:
    """Adds to a NotWrittenError from which step the run goes on, if `now()` steps have been done."""
    try:
        yield
    except NotWrittenError as error:
        saved = max(checkpoints.steps, default=0)
        kept = f"is at step {saved} (epoch {saved / steps_per_epoch:.2f})" if saved else "does not exist yet"
        lost = max(now() - saved, 0)
        raise UserError(
            f"{error}. The last good checkpoint {kept}; {lost} steps ({lost / steps_per_epoch:.2f} epochs) after it are"
            " lost. Make room there, or make it writable; the same command goes on"
        ) from error
