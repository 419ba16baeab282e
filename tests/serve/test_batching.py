"""Faces that wait at the same time are read at the same time."""

import numpy as np
import pytest

from input_pipeline.transforms import Crop
from ror_jax.serve.batching import Batcher, NetworkFailed


def crop(brightness):
    return Crop(np.full((16, 16, 3), brightness, np.uint8), np.eye(2, 3))


@pytest.fixture
def busy(model):
    """A batcher of at most four faces whose network is busy with one, until `model.gate` is opened."""
    model.gate.clear()
    batcher = Batcher(model.read, 4)
    batcher.submit(crop(0), "single")
    model.called.wait()
    yield batcher
    model.gate.set()
    batcher.close()


def test_what_waits_shares_a_call_up_to_the_batch_size(busy, model):
    """Six faces that came while the network was busy are four and two; each future has its own face's reading."""
    futures = [busy.submit(crop(10 * number), "single") for number in range(6)]
    model.gate.set()
    ages = [future.result(60)["age"] for future in futures]
    assert ages == [model.reading(crop(10 * number), "single")["age"] for number in range(6)]
    assert model.calls == [(1, "single"), (4, "single"), (2, "single")]


def test_faces_to_be_seen_in_other_views_are_read_apart(busy, model):
    futures = [busy.submit(crop(50), views) for views in ("flip", "single", "flip")]
    model.gate.set()
    assert [future.result(60)["views"] for future in futures] == ["flip", "single", "flip"]
    assert sorted(model.calls[1:]) == [(1, "single"), (2, "flip")]


def test_who_has_left_is_not_read(busy, model):
    busy.submit(crop(1), "single").cancel()
    kept = busy.submit(crop(50), "single")
    model.gate.set()
    assert kept.result(60) and model.calls[1:] == [(1, "single")]


def test_a_failure_is_that_of_its_batch_alone(model, caplog):
    """Those who shared it hear of it; those who come later are read."""
    model.failures.append(RuntimeError("no memory left"))
    batcher = Batcher(model.read, 1)
    with pytest.raises(NetworkFailed):
        batcher.submit(crop(1), "single").result(60)
    assert batcher.submit(crop(50), "single").result(60)["age"]
    assert "no memory left" in caplog.text
    batcher.close()


def test_closing_reads_what_was_submitted(model):
    batcher = Batcher(model.read, 4)
    futures = [batcher.submit(crop(50), "single") for _ in range(6)]
    batcher.close()
    assert all(future.done() for future in futures)
