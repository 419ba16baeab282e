"""Processes and threads of the pipeline: what they say when something dies, and what they leave behind."""

import functools
import gc
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import pytest

from input_pipeline import pipeline, transforms
from input_pipeline.records import ArraySource

pytestmark = pytest.mark.soak


def run_alone(code, number=None):
    """The end of a program of its own that makes batches with worker processes: exit status, stdout, stderr.

    When it has printed a line, the signal `number` is sent to all its processes, as a terminal does.
    """
    lines = [
        "import multiprocessing, os, signal, sys, time, numpy as np",
        "from input_pipeline import DataError, pipeline",
        "from input_pipeline.records import ArraySource",
        "from input_pipeline.transforms import Crop",
        "class Source(ArraySource):",
        "    def __getitem__(self, index):",
        "        if index in self.columns['bad']: raise DataError(f'row {index} of faces: damaged')",
        "        return super().__getitem__(index)",
        "def batches(bad=-1, workers=2, **options):",
        "    columns = {'image': np.zeros((64, 8, 8, 3), np.uint8), 'bad': np.full(64, bad)}",
        "    crop = lambda image, rng: Crop(image, np.eye(2, 3))",
        "    return pipeline.train_batches(Source(columns), transform=crop, batch_size=8, seed=0, epochs=10**6,",
        "                                  workers=workers, **options)",
        "if __name__ == '__main__':",
        *(f"    {line}" for line in code),
    ]
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    with tempfile.TemporaryDirectory() as folder:
        script = pathlib.Path(folder, "script.py")
        script.write_text("\n".join(lines))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
        with subprocess.Popen([sys.executable, script], env=environment, **pipes) as process:
            if number is not None:
                process.stdout.readline()
                os.killpg(process.pid, number)
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err


@pytest.mark.parametrize("workers", [0, 2])
def test_a_record_that_is_damaged_ends_an_epoch_in_one_line(workers):
    code = [
        f"try: [None for _ in batches(bad=50, workers={workers})]",
        "except DataError as error: sys.exit(str(error))",
    ]
    status, out, err = run_alone(code)
    assert (status, out) == (1, "") and err.startswith("row 50 of faces: damaged\n") and "Traceback" not in err


def test_a_worker_that_was_killed_is_told():
    """As by the system when memory runs out: within seconds, with nothing left behind."""
    code = [
        "try:",
        "    for number, batch in enumerate(batches()):",
        "        if number == 3: os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)",
        "except DataError as error: print(multiprocessing.active_children()); sys.exit(str(error))",
    ]
    error = "a process that reads images died (SIGKILL, as when the memory runs out); lower workers\n"
    status, out, err = run_alone(code)
    assert (status, out) == (1, "[]\n") and err.startswith(error)  # then what memory the dead one left


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("first", [True, False], ids=["while they start", "while they work"])
def test_workers_leave_signals_to_the_program(number, first):
    """Sent to all processes of the terminal while the workers start or work: no trace of it, batches come on."""
    code = [
        "for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, lambda *_: caught.append(1))",
        "caught, stream = [], batches()",
        *(["print('now', flush=True)"] if first else ["next(stream); print('now', flush=True)"]),
        "while not caught: next(stream)",
        "for _ in range(20): next(stream)",
        "stream.close()",
    ]
    assert run_alone(code, number=number) == (0, "", "")


def test_workers_end_with_a_program_that_was_killed():
    """They hold its pipe: the end of the output comes when the last one has ended."""
    status, _, _ = run_alone(["next(batches())", "os.kill(os.getpid(), signal.SIGKILL)"])
    assert status == -signal.SIGKILL


@pytest.mark.parametrize(("workers", "times"), [(0, 300), (2, 6)])
def test_iterators_leave_nothing_behind(workers, times):
    """Those that are read to their end and those that are left in the middle: threads, processes, files."""

    source = ArraySource({"image": np.zeros((50, 8, 8, 3), np.uint8)})
    pad = transforms.training_transform("pad_and_crop", size=8, resize=8, fill=(0, 0, 0))

    def left():
        gc.collect()
        return threading.active_count(), len(multiprocessing.active_children()), len(os.listdir("/proc/self/fd"))

    for number in range(times):
        batches = pipeline.train_batches(source, transform=pad, batch_size=8, seed=0, epochs=9, workers=workers)
        next(batches)
        batches.close()
        for _ in pipeline.test_batches(
            source, transform=functools.partial(transforms.center_crop, size=8, resize=8), batch_size=8, workers=workers
        ):
            pass
        if number == 2:
            time.sleep(0.5)
            before = left()
    time.sleep(0.5)
    assert all(now <= then for now, then in zip(left(), before, strict=True))
