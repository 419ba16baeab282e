"""The log, of which no line gets lost, and progress: the share of the time in which the devices wait for input."""

import contextlib
import json
import resource
import time

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from ror_jax.errors import UserError
from ror_jax.files import NotWrittenError
from ror_jax.training.logging import MetricsLog, Progress, read_rows

STEPS, IMAGES = 6, 8


class Loss:
    """Of a step that takes some seconds on a device which works on its own, after the step before."""

    def __init__(self, seconds: float, before: "Loss | None"):
        self._ready = max(time.monotonic(), before._ready if before else 0.0) + seconds

    def block_until_ready(self) -> None:
        time.sleep(max(0.0, self._ready - time.monotonic()))


def rates(*, loading: float, computing: float) -> dict[str, float]:
    """Of an epoch in which a batch is made on demand in so many seconds, and a step takes so many."""

    def batches():
        for number in range(STEPS):
            time.sleep(loading)
            yield number

    with contextlib.closing(Progress(0, STEPS, STEPS, IMAGES)) as progress:
        last = None
        for step, _ in enumerate(progress.timed(batches()), start=1):
            loss = Loss(computing, last)
            progress.dispatched(loss)
            if last:  # as the loop does: the step before is waited for while this one runs
                last.block_until_ready()
                progress.update(step - 1, 0.5, str)
            last = loss
        last.block_until_ready()
        progress.update(STEPS, 0.5, str)
        assert progress.end_interval().keys() == {"images_per_second", "input_wait"}
        return progress.end_epoch()


@pytest.mark.parametrize(
    ("loading", "computing", "low", "high"),
    [
        (0.1, 0.0, 0.7, 1.0),  # the device has nothing to do but wait
        (0.0, 0.1, 0.0, 0.1),
        (0.1, 0.2, 0.0, 0.2),  # half of the time is spent loading, but the device works all the while
        (0.2, 0.1, 0.25, 0.75),  # it works in the first half of the loading, and waits in the second
    ],
)
def test_waiting_counts_while_the_device_has_nothing_to_do(loading, computing, low, high):
    found = rates(loading=loading, computing=computing)
    assert low <= found["input_wait"] <= high
    assert found["images_per_second"] > 0


def test_a_run_without_a_call_but_the_first_has_no_rates():
    with contextlib.closing(Progress(0, STEPS, STEPS, IMAGES)) as progress:
        progress.update(1, 0.5, str)
        assert progress.end_interval() == {} == progress.end_epoch()
        progress.update(STEPS, 0.5, str)  # one call may do a whole epoch
        assert progress.end_epoch()["images_per_second"] > 0


@pytest.mark.parametrize(("device", "name"), [("/dev/full", "metrics.jsonl"), ("/dev/null", "tensorboard")])
def test_a_full_disk_is_told_at_once(tmp_path, device, name):
    """At the first line that is not written, of either kind."""
    log = MetricsLog(tmp_path, 0)
    log.write("train", 1, 0.1, {"loss": 1.0})
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").symlink_to(device)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        with contextlib.closing(log), pytest.raises(NotWrittenError, match=f"{name} cannot be written: "):
            log.write("train", 2, 0.2, {"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_tensorboard_shows_what_was_logged(tmp_path):
    """The scalars; and that what a killed run showed after step 3 is void. A record: size, CRC, event, CRC."""
    with contextlib.closing(MetricsLog(tmp_path, 3)) as log:
        log.write("train", 4, 0.5, {"loss": 0.25, "images": 7})
    (path,) = (tmp_path / "tensorboard").iterdir()
    content, events = path.read_bytes(), []
    while content:
        size = int.from_bytes(content[:8], "little")
        events.append(Event.FromString(content[12 : 12 + size]))
        content = content[16 + size :]
    assert [event.step for event in events if event.session_log.status == SessionLog.START] == [4]
    shown = [(event.step, value.tag, value.simple_value) for event in events for value in event.summary.value]
    assert shown == [(4, "train/loss", 0.25)]


@pytest.mark.parametrize("cut", [0, 1, 5])
def test_a_line_that_was_cut_off_is_left_out(tmp_path, cut):
    """The last one, by a kill; the line is written again then. Any other is an error that names it."""
    path, row = tmp_path / "metrics.jsonl", json.dumps({"split": "train", "step": 1, "epoch": 0.5})
    path.write_text(f"{row}\n{row[: len(row) - cut]}")
    assert len(read_rows(path)) == 1
    path.write_text(f"{row[:-1]}\n{row}\n")
    with pytest.raises(UserError, match=r"metrics.jsonl, line 1 is damaged"):
        read_rows(path)
