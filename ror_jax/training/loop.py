"""The training loop, to be read once from top to bottom."""

import contextlib
import dataclasses
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
import numpy as np

from input_pipeline import DataError
from input_pipeline.records import Source
from ror_jax.errors import UserError
from ror_jax.files import NotWrittenError
from ror_jax.tasks.metrics import metric as metric_named
from ror_jax.training.checkpoint import Checkpoints
from ror_jax.training.distributed import is_first, largest, together
from ror_jax.training.evaluation import evaluate, without_tuned
from ror_jax.training.experiment import Experiment
from ror_jax.training.logging import MetricsLog, Progress, read_rows, traced
from ror_jax.training.mesh import shard_batch
from ror_jax.training.state import TrainState, empty_metrics, with_task_state
from ror_jax.training.step import FAULTS


class Stopped(Exception):
    """SIGINT or SIGTERM came and the run has saved where it is. Its arguments: the signal; the step, or None."""


def train(
    experiment: Experiment,
    workdir: Path,
    *,
    test_every: int,
    test_every_steps: int | None = None,
    log_every: int,
    checkpoint_minutes: float,
    early_stopping: Mapping | None = None,
    allow_changed_data: bool = False,
    profile: bool = False,
    label: str = "",
    asked_to_stop: list[int] | None = None,
) -> TrainState:
    """Trains to the end of the last epoch, from the latest checkpoint in `workdir` if there is one.

    A run that was stopped and started again gives the same weights, bit for bit, as one that was not. Where there are
    images for validation, the state that did best on them is returned, else the last one. With `early_stopping`
    (`patience`, `metric`, `min_epochs`, see `config`), it ends where these have not been done better for long.

    Several runs train at once in threads, each with a `label` that its lines begin with, and with the list of signals
    `asked_to_stop` of the main thread, see `stop_signals`; a run alone looks after signals itself.

    Raises:
      UserError: one bad step too many, see `make_train_step`, and the last good checkpoint is kept; no checkpoint is
        sound, or they are of other data, unless `allow_changed_data`; something cannot be written.
      Stopped: the user or the machine asked for it.
    """
    task, mesh, state = experiment.task, experiment.mesh, experiment.state
    steps_per_epoch, total_steps = experiment.steps_per_epoch, experiment.total_steps
    per_call = experiment.steps_per_call

    def test_due(step: int) -> bool:
        """Whether that step ends an epoch after which is tested."""
        return step % steps_per_epoch == 0 and (step // steps_per_epoch % test_every == 0 or step == total_steps)

    def stale() -> bool:
        """Whether training is to end early."""
        return early_stopping is not None and _stale(workdir, step, task, **early_stopping)

    with contextlib.ExitStack() as stack:
        # --- Go on from where the run stopped, if it did ------------------------------------------------------------
        checkpoints = Checkpoints(
            workdir / "checkpoints",
            for_training=True,
            alone=asked_to_stop is None,
            data=experiment.dataset.fingerprint,
            allow_changed_data=allow_changed_data,
        )
        step = 0
        stack.enter_context(_telling_what_is_lost(checkpoints, steps_per_epoch, lambda: step))
        stack.enter_context(contextlib.closing(checkpoints))
        if newest := max(checkpoints.steps, default=0):
            state = checkpoints.restore(state)
        step = int(state.step)
        untested = step > 0 and test_due(step) and not _tested(workdir, step)
        if (step == total_steps or stale()) and not untested:
            return _chosen(experiment, checkpoints, state)
        # The first process logs for all; what another one would is written where it vanishes.
        logs = workdir if is_first() else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with together():
            checkpoints.check_room(state)
            log = stack.enter_context(contextlib.closing(MetricsLog(logs, step)))
        progress = Progress(step, total_steps, steps_per_epoch, experiment.batch_size, label)
        stack.enter_context(contextlib.closing(progress))
        if checkpoints.damages:
            again = f"{newest - step} steps ({(newest - step) / steps_per_epoch:.2f} epochs)"
            progress.say(f"{'; '.join(checkpoints.damages)}. Its work after step {step}, {again}, is done again.")
        if checkpoints.data_changed:
            progress.say("The data are not those that the run began with; it goes on with these, as you allow.")
        if step:
            progress.say(f"Going on from step {step} of {total_steps}, epoch {step / steps_per_epoch:.2f}.")
        progress.say("Compiling; the first step takes up to a minute.")
        if asked_to_stop is None:
            asked_to_stop = stack.enter_context(stop_signals())

        unsettled = None  # the last call, until it has been looked at

        def settle() -> None:
            """Waits for the last call; logs its loss, if any step of it was good, or ends the run at a bad one."""
            nonlocal unsettled
            if unsettled is None:
                return
            (step, loss, report), unsettled = unsettled, None
            loss, parts, faults, ends = jax.device_get((loss, report["loss_parts"], report["faults"], report["ends"]))
            for index in np.flatnonzero(faults):
                number = step - per_call + 1 + index
                at, fault = f"step {number} (epoch {number / steps_per_epoch:.2f})", FAULTS[faults[index]]
                if ends[index]:
                    kept = f"is at step {checkpoints.steps[-1]}" if checkpoints.steps else "does not exist yet"
                    raise UserError(
                        f"{at}: {fault}; the last good checkpoint {kept}. A lower optimizer.learning_rate is the usual"
                        " remedy; guard.max_skips=10 leaves out up to 10 such steps in a row"
                    )
                progress.say(f"Skipped {at}: {fault}.")
            progress.update(step, loss, lambda: task.line(task.summarize(jax.device_get(report["metrics"]))))
            if step % log_every < per_call:
                several = {f"loss_{name}": float(part) for name, part in parts.items()} if len(parts) > 1 else {}
                known = {} if np.isnan(loss) else {"loss": float(loss)} | several
                log.write("step", step, step / steps_per_epoch, known | progress.end_interval())

        @contextlib.contextmanager
        def saved_upon_damage():
            """An image that is damaged, to be trained on or tested, must not cost what was trained.

            Of several processes only the one that reads it knows: they lose what came after the last checkpoint.
            """
            try:
                yield
            except DataError:
                settle()
                if jax.process_count() == 1:  # saving takes all
                    checkpoints.save(state)
                    progress.say(f"Saved at step {step}. Once it is mended, the same command goes on.")
                raise

        def test(state: TrainState, step: int) -> tuple[TrainState, float | None, str]:
            """The state with what the task learnt from it, the epoch's score, if it ends here, and the words for it."""
            dataset, tested, due = experiment.dataset, {}, test_due(step)
            epoch = step // steps_per_epoch if due else step / steps_per_epoch

            def measure(split: str, source: Source):
                sums = evaluate(experiment.eval_step, state, experiment.test_batches(source), task, mesh)
                results = task.summarize(sums)
                tested[split] = results if split in dataset.validation else without_tuned(results)
                log.write(split, step, epoch, tested[split])
                return sums

            # Validation first: the tests know what it taught.
            if sums := [measure(split, source) for split, source in dataset.validation.items()]:
                pooled = jax.tree.map(lambda *each: sum(each), *sums)
                state = with_task_state(state, task.update(state.task_state, pooled, epoch))
            for split, source in dataset.tests.items():
                measure(split, source)
            if not due:
                return state, None, ""
            words = "".join(f"  |  {split} {task.line(results)}" for split, results in tested.items())
            decides = task.summarize(pooled) if sums else tested[next(iter(dataset.tests))]
            return state, task.score(decides), words

        stack.enter_context(saved_upon_damage())
        if untested:  # a damaged image had stopped it in its last test
            state, score, words = test(state, step)
            checkpoints.save_again(state, score)
            progress.say(f"epoch {step // steps_per_epoch}/{total_steps // steps_per_epoch}{words}")
            if stale():
                return _chosen(experiment, checkpoints, state)
        saved_at = time.monotonic()
        batches = stack.enter_context(contextlib.closing(experiment.train_batches(step)))
        batches = progress.timed(batches)
        if profile:
            batches = stack.enter_context(contextlib.closing(traced(batches, logs / "profile", progress.say)))
        for batch in batches:
            # --- One step, or several; the loss of the one before is fetched while this one runs --------------------
            state, loss, report = experiment.train_step(state, shard_batch(batch, mesh))
            progress.dispatched(loss)
            checkpoints.check()
            settle()
            step += per_call
            unsettled = step, loss, report

            # --- The end of an epoch: sum up ------------------------------------------------------------------------
            end_of_epoch = step % steps_per_epoch == 0
            epoch = step // steps_per_epoch if end_of_epoch else step / steps_per_epoch
            score = None
            if end_of_epoch:
                settle()
                results = task.summarize(jax.device_get(state.metrics))
                skipped = int(state.guard["skipped"])
                counts = {"learning_rate": float(experiment.schedule(step - skipped - 1)), "skipped": skipped}
                speed = progress.end_epoch()
                log.write("train", step, epoch, results | counts | speed)
                state = dataclasses.replace(state, metrics=empty_metrics(task, mesh))
                line = f"epoch {epoch}/{total_steps // steps_per_epoch}  train {task.line(results)}"
                if skipped:
                    line += f"  |  bad steps skipped: {skipped}"

            # --- Test -----------------------------------------------------------------------------------------------
            if test_due(step) or (test_every_steps and step % test_every_steps == 0):
                settle()
                with progress.paused():
                    state, score, words = test(state, step)
                if end_of_epoch:
                    line += words
            if end_of_epoch:
                if speed:
                    line += f"  |  {speed['images_per_second']:.0f} images/s, input wait {speed['input_wait']:.1%}"
                progress.say(line)

            # --- Save at the end of an epoch, every few minutes, and before leaving ---------------------------------
            stop, due = asked_to_stop[0] if asked_to_stop else 0, time.monotonic() - saved_at > 60 * checkpoint_minutes
            if jax.process_count() > 1:  # signals and clocks differ
                agree = end_of_epoch or step % log_every < per_call
                stop, due = largest(stop, due) if agree else (0, False)
            if end_of_epoch or stop or due:
                settle()
                with progress.paused():
                    checkpoints.save(state, score)
                saved_at = time.monotonic()
            if stop and step < total_steps:
                raise Stopped(int(stop), step)
            if score is not None and stale():
                progress.say(f"The end: no better on images for validation (patience {early_stopping['patience']}).")
                break
        return _chosen(experiment, checkpoints, state)


def _tested(workdir: Path, step: int) -> bool:
    """Whether the log has the test of that step; all processes take the word of the first."""
    found = is_first() and any(
        (row["split"], row["step"]) == ("test", step) for row in read_rows(workdir / "metrics.jsonl")
    )
    return any(largest(found))


def _stale(workdir: Path, step: int, task, patience: int, metric: str | None, min_epochs: int) -> bool:
    """Whether training has gone on for `patience` epochs, and `min_epochs` in all, since validation was best.

    It reads what the log says up to that step, so that a run that goes on has not forgotten; all processes take the
    word of the first.
    """
    stale = False
    if is_first():
        rows = [row for row in read_rows(workdir / "metrics.jsonl") if row["split"] == "validation"]
        rows = [row for row in rows if row["epoch"] == int(row["epoch"]) and row["step"] <= step]
        sign = 1 if metric is None else metric_named(metric).sign
        scores = [task.score(row) if metric is None else sign * row[metric] for row in rows]
        epochs = [row["epoch"] for row in rows]
        stale = bool(rows) and epochs[-1] >= min_epochs and epochs[-1] - epochs[int(np.argmax(scores))] >= patience
    return any(largest(stale))


def _chosen(experiment: Experiment, checkpoints: Checkpoints, last: TrainState) -> TrainState:
    """The state that a run ends with: never chosen by the images that it is tested on."""
    chosen = experiment.dataset.validation and checkpoints.best_step is not None
    return checkpoints.restore(last, "best") if chosen else last


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
