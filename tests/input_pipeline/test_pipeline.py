import functools
import io
import itertools
import multiprocessing
import os
import signal

import numpy as np
import pytest
from PIL import Image

from input_pipeline import DataError, pipeline, transforms
from input_pipeline.records import ArraySource

RECORDS, BATCH = 50, 8


@pytest.fixture
def source():
    """Records that can be told apart by their label, with a text, which a batch leaves out."""
    rng = np.random.default_rng(0)
    return ArraySource(
        {
            "image": rng.integers(0, 256, (RECORDS, 12, 12, 3)).astype(np.uint8),
            "label": np.arange(RECORDS, dtype=np.int32),
            "age": np.linspace(0, 80, RECORDS, dtype=np.float32),
            "identity": np.array([f"person {number}" for number in range(RECORDS)]),
            "landmarks": np.full((RECORDS, 5, 2), 6, np.float32),
        }
    )


train = functools.partial(
    pipeline.train_batches,
    transform=transforms.training_transform("scale_and_aspect", size=8, resize=8, fill=(0, 0, 0)),
    batch_size=BATCH,
    seed=1,
    epochs=3,
)
evaluate = functools.partial(
    pipeline.test_batches, transform=functools.partial(transforms.center_crop, size=8, resize=8)
)
STEPS = RECORDS // BATCH  # in an epoch


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key])


def labels(batches):
    return [batch["label"].tolist() for batch in batches]


def test_a_training_batch_holds_images_numbers_and_mask(source):
    batch = next(train(source))
    assert {key: (value.shape, value.dtype) for key, value in batch.items()} == {
        "image": ((BATCH, 8, 8, 3), np.uint8),
        "label": ((BATCH,), np.int32),
        "age": ((BATCH,), np.float32),
        "landmarks": ((BATCH, 5, 2), np.float32),
        "mask": ((BATCH,), np.float32),
    }
    assert batch["mask"].all()
    np.testing.assert_allclose(batch["age"], batch["label"] * 80 / (RECORDS - 1), rtol=1e-5)  # labels stay together


def test_an_epoch_shows_every_image_once_in_another_order(source):
    epochs = np.array(labels(train(source, batch_size=10))).reshape(3, RECORDS)
    for epoch in epochs:
        assert sorted(epoch) == list(range(RECORDS))
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations([*epochs, np.arange(RECORDS)], 2))


def test_the_rest_that_fills_no_batch_is_another_one_in_every_epoch(source):
    assert pipeline.steps_per_epoch(RECORDS, BATCH) == STEPS
    epochs = np.array(labels(train(source))).reshape(3, STEPS * BATCH)
    shown = [set(epoch) for epoch in epochs.tolist()]
    assert [len(epoch) for epoch in shown] == [STEPS * BATCH] * 3
    assert shown[0] != shown[1]


def test_an_image_is_augmented_differently_in_every_epoch(source):
    shown = {epoch: {} for epoch in range(3)}
    for step, batch in enumerate(train(source)):
        shown[step // STEPS].update(zip(batch["label"].tolist(), batch["image"], strict=True))
    both = shown[0].keys() & shown[1].keys()
    assert sum(np.array_equal(shown[0][label], shown[1][label]) for label in both) < 5


def test_seeds_are_independent(source):
    same, again, other = labels(train(source)), labels(train(source)), labels(train(source, seed=2))
    assert same == again
    assert all(batch not in same for batch in other)  # not even the order of seed 1's next epoch


@pytest.mark.parametrize("step", [1, STEPS, 2 * STEPS + 3, 3 * STEPS])
def test_starting_at_a_step_gives_what_would_have_come(source, step):
    assert_same(train(source, start_step=step), list(train(source))[step:])


def test_two_processes_share_each_batch_of_one(source):
    whole = list(train(source))
    halves = [list(train(source, process_index=index, process_count=2)) for index in range(2)]
    joined = [{key: np.concatenate([a[key], b[key]]) for key in a} for a, b in zip(*halves, strict=True)]
    assert_same(joined, whole)
    resumed = train(source, process_index=1, process_count=2, start_step=4)
    assert_same(resumed, halves[1][4:])


def test_worker_processes_change_nothing_and_end_with_the_iterator(source):
    batches = train(source, workers=2)
    assert_same(itertools.islice(batches, 9), list(train(source))[:9])
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert not multiprocessing.active_children()
    assert_same(evaluate(source, batch_size=BATCH, workers=2), evaluate(source, batch_size=BATCH))


@pytest.mark.parametrize("batch_size", [8, 10, 64])
@pytest.mark.parametrize("process_count", [1, 2])
def test_testing_counts_every_image_once_in_order(source, batch_size, process_count):
    shares = [
        list(evaluate(source, batch_size=batch_size, process_index=index, process_count=process_count))
        for index in range(process_count)
    ]
    assert {len(share) for share in shares} == {-(-RECORDS // batch_size)}
    rows = [batch for step in zip(*shares, strict=True) for batch in step]
    assert {batch["image"].shape for batch in rows} == {(batch_size // process_count, 8, 8, 3)}
    found, mask = (np.concatenate([batch[key] for batch in rows]) for key in ("label", "mask"))
    assert found[mask == 1].tolist() == list(range(RECORDS))


def test_batches_that_cannot_be_made_are_refused_at_once(source):
    with pytest.raises(DataError, match="50 records do not fill one batch of 51"):
        train(source, batch_size=51)
    with pytest.raises(DataError, match="a batch of 8 cannot be shared evenly by 3 processes"):
        train(source, process_count=3)
    with pytest.raises(DataError, match="cannot be shared evenly"):
        evaluate(source, batch_size=8, process_count=3)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named(workers):
    file = io.BytesIO()
    Image.new("RGB", (20, 20)).save(file, "JPEG")
    images = np.array([file.getvalue(), file.getvalue()[:300]], object)
    source = ArraySource({"image": images, "identity": np.array(["anna", "otto"])})
    with pytest.raises(DataError, match="record with identity otto: the image cannot be decoded"):
        list(evaluate(source, batch_size=2, workers=workers))


def test_a_worker_that_was_killed_is_told(source):
    """As by the system when memory runs out: within seconds, with no process left behind."""
    batches = train(source, workers=1, epochs=1000)
    next(batches)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    with pytest.raises(DataError, match=r"a process that reads images died \(SIGKILL, as when .*\); lower workers"):
        list(batches)
    assert not multiprocessing.active_children()
