"""Progress: the share of the time in which the devices wait for input."""

import contextlib
import time

import pytest

from ror_jax.training.logging import Progress

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
