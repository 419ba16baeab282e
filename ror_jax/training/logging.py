"""What a run leaves behind and what it shows: JSON lines, TensorBoard, a progress bar."""

import contextlib
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
from tensorboardX import SummaryWriter
from tqdm import tqdm

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy", "pillow")
TRACED = range(5, 15)  # steps, counted from a start
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
    written again.
    """

    def __init__(self, folder: Path, step: int):
        self._path = folder / "metrics.jsonl"
        self.rows = [row for row in read_rows(self._path) if row["step"] <= step]
        replace_text(self._path, "".join(json.dumps(row) + "\n" for row in self.rows))
        self._file = self._path.open("a")
        self._tensorboard = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, split: str, step: int, epoch: float, numbers: dict) -> None:
        row = {"split": split, "step": step, "epoch": epoch} | numbers
        row.pop("confusion", None)  # a million numbers for a thousand classes; the last one is in summary.json
        self.rows.append(row)
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        for name, value in numbers.items():
            if isinstance(value, float):
                self._tensorboard.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        self._file.close()
        self._tensorboard.close()


def replace_text(path: Path, text: str) -> None:
    """Writes a file so that at any moment either the old or the new text is there."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(text)
    unfinished.replace(path)


def read_rows(path: Path) -> list[dict]:
    """The rows of a metrics file; none where there is no file. A last line that was cut off is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


class Progress:
    """A bar over the steps of a run on a terminal, a line every half minute elsewhere."""

    def __init__(self, first_step: int, total_steps: int, steps_per_epoch: int):
        self._total, self._steps_per_epoch = total_steps, steps_per_epoch
        self._shown = time.monotonic()
        self._start_epoch()
        form = "{desc} |{bar:20}| {percentage:3.0f}% [{elapsed}<{remaining}]{postfix}"
        self._bar = tqdm(
            total=total_steps,
            initial=first_step,
            bar_format=form,
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            mininterval=0,
        )

    def _start_epoch(self) -> None:
        self._started, self._first_step, self._images, self._waited = None, 0, 0, 0.0

    def timed(self, batches: Iterator) -> Iterator:
        """The same batches; the time spent waiting for them is counted."""
        while True:
            started = time.monotonic()
            batch = next(batches, None)
            if batch is None:
                return
            self._waited += time.monotonic() - started if self._started else 0.0
            yield batch

    def update(self, step: int, loss: float, images: int, describe: Callable[[], str]) -> None:
        """Tells that `step` steps are done, those since the last time with `loss` over so many `images`.

        `describe` says how the epoch goes so far; it is called no oftener than is shown.
        """
        if self._started is None:  # the first step of a process compiles; it would spoil the rate
            self._started, self._first_step = time.monotonic(), step
        else:
            self._images += images
        if time.monotonic() - self._shown < (LINE_EVERY if self._bar.disable else REDRAW_EVERY) or not self._images:
            return
        self._shown = time.monotonic()
        epoch = f"epoch {(step - 1) // self._steps_per_epoch + 1}/{self._total // self._steps_per_epoch}"
        seconds = self._shown - self._started
        numbers = f"loss {loss:.3f}, {describe()}, {self._images / seconds:.0f} images/s"
        if self._bar.disable:
            left = (self._total - step) * seconds / (step - self._first_step)
            self.say(f"{epoch}  step {step}/{self._total}  {numbers}, {_duration(left)} left")
        self._bar.set_description_str(epoch, refresh=False)
        self._bar.set_postfix_str(numbers, refresh=False)
        self._bar.update(step - self._bar.n)

    @contextlib.contextmanager
    def paused(self):
        """What happens inside is no training: its time does not count."""
        began = time.monotonic()
        yield
        if self._started is not None:
            self._started += time.monotonic() - began

    def end_epoch(self) -> dict[str, float]:
        """Images per second and the share of the time spent waiting for data, in the epoch that ends here.

        Empty if no more than the first step of a process was seen.
        """
        numbers = {}
        if self._images:
            seconds = time.monotonic() - self._started
            numbers = {"images_per_second": self._images / seconds, "input_wait": self._waited / seconds}
        self._start_epoch()
        return numbers

    @staticmethod
    def say(line: str) -> None:
        """A line of text above the bar."""
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()

    def close(self) -> None:
        self._bar.close()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def traced(batches: Iterator, folder: Path, say: Callable[[str], None]) -> Iterator:
    """The same batches. What the host and the devices do with some of them is written to `folder`.

    They come after the first ones, with which programs are compiled and buffers fill.
    """
    with contextlib.ExitStack() as trace:
        for number, batch in enumerate(batches):
            if number == TRACED.start:
                trace.callback(say, f"A trace of some steps is in {folder}, for TensorBoard and ui.perfetto.dev.")
                trace.enter_context(jax.profiler.trace(folder))
            with jax.profiler.StepTraceAnnotation("train", step_num=number):
                yield batch
            if number == TRACED[-1]:
                trace.close()
