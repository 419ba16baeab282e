"""What a run leaves behind and what it shows: JSON lines, TensorBoard, a progress bar."""

import contextlib
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import jax
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import scalar
from tqdm import tqdm

from ror_jax.errors import UserError
from ror_jax.files import replace_text, writing

PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy", "pillow"),
    "opencv-python-headless",
)
TRACED = range(5, 15)  # calls of the training step, counted from a start
LINE_EVERY, REDRAW_EVERY = 30.0, 0.5  # seconds, without and with a terminal


def environment() -> dict:
    """Versions, machine, command line and git revision: what one needs to run this again."""
    device = jax.devices()[0]
    return {
        "command": sys.argv,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "git_revision": _git_revision(),
    }


def _git_revision() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None  # installed without its repository


class MetricsLog:
    """`metrics.jsonl`, one JSON object a line, and the same scalars for TensorBoard.

    Lines after `step` come from a run that was stopped after its last checkpoint; they are dropped, for they will be
    written again. Where a line cannot be written, NotWrittenError says so at once.
    """

    def __init__(self, folder: Path, step: int):
        self._path, self._tensorboard = folder / "metrics.jsonl", folder / "tensorboard"
        rows = [row for row in read_rows(self._path) if row["step"] <= step]
        replace_text(self._path, "".join(json.dumps(row) + "\n" for row in rows))
        with writing(self._tensorboard):
            self._tensorboard.mkdir(exist_ok=True)
            # Not `SummaryWriter`: it writes in a thread, which dies of a full disk and lets the run wait for ever.
            self._events = EventsWriter(str(self._tensorboard / "events"))
        self._show(step=step + 1, session_log=SessionLog(status=SessionLog.START))  # hides what came after

    def write(self, split: str, step: int, epoch: float, numbers: dict) -> None:
        # A confusion matrix of a thousand classes has a million numbers; the last one is in summary.json.
        kept = {name: value for name, value in numbers.items() if not name.endswith("confusion")}
        row = {"split": split, "step": step, "epoch": epoch} | kept
        with writing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        scalars = {f"{split}/{name}": value for name, value in numbers.items() if isinstance(value, float)}
        values = [value for name, number in scalars.items() for value in scalar(name, number).value]
        self._show(step=step, summary=Summary(value=values))

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what could not be written has been told
            self._events.close()

    def _show(self, **event) -> None:
        with writing(self._tensorboard):
            self._events.write_event(Event(wall_time=time.time(), **event))
            self._events.flush()


def read_rows(path: Path) -> list[dict]:
    """The rows of a metrics file; none where there is no file. A last line that was cut off is left out.

    Raises:
      UserError: another line is damaged, or the file cannot be read.
    """
    try:
        *lines, _ = path.read_bytes().split(b"\n")  # a line that is complete has an end
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not isinstance(row["split"], str) or not isinstance(row["step"], int) or row["epoch"] < 0:
                raise ValueError
            rows.append(row)
        except (ValueError, TypeError, LookupError, RecursionError):
            raise UserError(f"{path}, line {number} is damaged; delete that line to do without its numbers") from None
    return rows


class Progress:
    """A bar over the steps of a run on a terminal, a line every half minute elsewhere; and how fast it goes.

    The devices *wait for input* while they have nothing left to do and no batch has come: from when the step before is
    done or the next batch is asked for, whichever is later, until that batch is there. What the loader does while they
    work costs nothing and is not counted; nor is the batch's way to the devices.
    """

    def __init__(self, first_step: int, total_steps: int, steps_per_epoch: int, batch_size: int, label: str = ""):
        self._step, self._total, self._steps_per_epoch = first_step, total_steps, steps_per_epoch
        self._batch_size, self._label = batch_size, label
        self._shown = time.monotonic()
        self._images, self._waited, self._paused = 0, 0.0, 0.0  # the last two in seconds
        self._epoch = self._interval = None  # what `_counts` gave when they began
        self._watcher = ThreadPoolExecutor(1)
        self._done: Future[float] | None = None  # when the step is done that was dispatched last
        form = "{desc} |{bar:20}| {percentage:3.0f}% [{elapsed}<{remaining}]{postfix}"
        self._bar = tqdm(
            total=total_steps,
            initial=first_step,
            bar_format=form,
            disable=bool(label) or not sys.stderr.isatty(),  # bars of several runs would overwrite each other
            dynamic_ncols=True,
            mininterval=0,
        )

    def timed(self, batches: Iterator) -> Iterator:
        """The same batches; the time for which the devices wait for them is counted."""
        while True:
            asked = time.monotonic()
            batch = next(batches, None)
            if batch is None:
                return
            if self._done and self._done.done():
                self._waited += time.monotonic() - max(asked, self._done.result())
            yield batch

    def dispatched(self, loss: jax.Array) -> None:
        """Tells that the devices have been given a step, which is done when its loss is there."""
        self._done = self._watcher.submit(_when_ready, loss)

    def update(self, step: int, loss: float, describe: Callable[[], str]) -> None:
        """Tells that `step` steps are done, those since the last time with `loss`.

        `describe` says how the epoch goes so far; it is called no oftener than is shown.
        """
        if self._epoch is None:  # the first call of a process compiles; it would spoil the rate
            self._epoch = self._interval = self._counts()
        else:
            self._images += (step - self._step) * self._batch_size
        self._step = step
        rates = self._rates(self._epoch)
        if time.monotonic() - self._shown < (LINE_EVERY if self._bar.disable else REDRAW_EVERY) or not rates:
            return
        self._shown = time.monotonic()
        epoch = f"epoch {(step - 1) // self._steps_per_epoch + 1}/{self._total // self._steps_per_epoch}"
        speed = rates["images_per_second"]
        numbers = f"loss {loss:.3f}, {describe()}, {speed:.0f} images/s"
        if self._bar.disable:
            left = (self._total - step) * self._batch_size / speed
            self.say(f"{epoch}  step {step}/{self._total}  {numbers}, {_duration(left)} left")
        self._bar.set_description_str(epoch, refresh=False)
        self._bar.set_postfix_str(numbers, refresh=False)
        self._bar.update(step - self._bar.n)

    @contextlib.contextmanager
    def paused(self):
        """What happens inside is no training: its time does not count."""
        began = time.monotonic()
        yield
        self._paused += time.monotonic() - began

    def end_interval(self) -> dict[str, float]:
        """`images_per_second` and `input_wait`, the share of the time spent waiting for input, since the last call.

        Without the first call of a process, which compiles; empty where there was no other.
        """
        rates, self._interval = self._rates(self._interval), self._counts()
        return rates

    def end_epoch(self) -> dict[str, float]:
        """The same of the epoch that ends here."""
        rates, self._epoch = self._rates(self._epoch), self._counts()
        return rates

    def _counts(self) -> tuple[float, int, float]:
        return time.monotonic() - self._paused, self._images, self._waited

    def _rates(self, began: tuple[float, int, float]) -> dict[str, float]:
        seconds, images, waited = (now - then for now, then in zip(self._counts(), began, strict=True))
        return {"images_per_second": images / seconds, "input_wait": waited / seconds} if images else {}

    def say(self, line: str) -> None:
        """A line of text above the bar."""
        tqdm.write(f"{self._label}: {line}" if self._label else line, file=sys.stdout)
        sys.stdout.flush()

    def close(self) -> None:
        self._bar.close()
        self._watcher.shutdown()


def _when_ready(loss: jax.Array) -> float:
    loss.block_until_ready()
    return time.monotonic()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def traced(batches: Iterator, folder: Path, say: Callable[[str], None]) -> Iterator:
    """The same batches. What the host and the devices do with some of them is written to `folder`.

    They come after the first ones, with which programs are compiled and buffers fill; where there are no others,
    `say` tells that nothing was traced.
    """
    number = 0
    with contextlib.ExitStack() as trace:
        for number, batch in enumerate(batches):
            if number == TRACED.start:
                trace.callback(say, f"A trace of some steps is in {folder}, for TensorBoard and ui.perfetto.dev.")
                trace.enter_context(jax.profiler.trace(folder))
            with jax.profiler.StepTraceAnnotation("train", step_num=number):
                yield batch
            if number == TRACED[-1]:
                trace.close()
    if number < TRACED.start:
        say(f"Nothing was traced: that begins with the {TRACED.start + 1}th call of the training step.")
