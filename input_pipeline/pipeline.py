"""Records -> shuffled, augmented, batched, shared out among processes.

A batch is a dict of arrays: `image` uint8 [B, H, W, 3], every label that is a number or numbers [B, ...], and `mask`
float32 [B]: 1 for an image, 0 for padding. Labels that are geometry have moved with the image, see `geometry`. Batch k
is a function of the seed and k alone. So a run is resumed by starting at its step, and the number of processes and
workers may change in between.
"""

import contextlib
import functools
import itertools
import multiprocessing
import multiprocessing.resource_tracker
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grain
import numpy as np
from absl import flags

from input_pipeline.errors import DataError
from input_pipeline.geometry import Kind, move
from input_pipeline.process import prepare_process
from input_pipeline.records import Source
from input_pipeline.transforms import Crop, EncodedImage, Picture

Batch = dict[str, np.ndarray]


def steps_per_epoch(num_records: int, batch_size: int) -> int:
    """Batches in an epoch of training. The rest that does not fill a batch is left out, another one in every epoch.

    Raises:
        DataError: there are fewer records than one batch.
    """
    if num_records < batch_size:
        raise DataError(f"{num_records} records do not fill one batch of {batch_size}: choose a smaller batch size")
    return num_records // batch_size


def record_order(
    source: Source, seed: int, draw: Callable[[int, np.random.Generator], int] | None = None
) -> grain.MapDataset:
    """Numbers of the records in the order of the first epoch; beyond its end come those of the next ones.

    `draw` makes a number of the one that would have come without shuffling and a generator of its own for each place.
    Without it, a source that has an `order` of its own decides.
    """
    if draw is None and hasattr(source, "order"):
        return source.order(seed)
    numbers = grain.MapDataset.range(len(source)).seed(seed)
    return numbers.random_map(draw) if draw else numbers.shuffle()


def train_batches(
    source: Source,
    *,
    transform: Callable[[Picture, np.random.Generator], Crop],
    batch_size: int,
    seed: int,
    epochs: int,
    geometry: Mapping[str, Kind] = {},
    draw: Callable[[int, np.random.Generator], int] | None = None,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """Batches to train on. Every epoch has another order and, without `draw`, shows every image once.

    Args:
        source: the records.
        transform: (image, generator) -> `Crop`, see `transforms.training_transform`.
        batch_size: of all processes together. Each gets `batch_size / process_count` consecutive rows of the batch.
        seed: not negative. With the same seed the batches are the same, bit for bit.
        epochs: how many times every image is shown, counted from step 0.
        geometry: the labels that move with the image, see `records.Dataset`.
        draw: draws the images with replacement, see `record_order`; such as `sampling.InverseFrequency`.
        start_step: batches to skip, at no cost.
        process_index: number of this process.
        process_count: number of processes.
        workers: processes that read and transform. 0: threads of this one.

    Raises:
        DataError: the processes cannot share the batch evenly, or there are fewer records than one batch.
    """
    local_size = _local_size(batch_size, process_count)
    steps = steps_per_epoch(len(source), batch_size)
    dataset = record_order(source, seed, draw)[: steps * batch_size].repeat(epochs)
    dataset = dataset.random_map(functools.partial(_train_example, source, transform, geometry)).batch(local_size)
    return _iterate(dataset[start_step * process_count + process_index :: process_count], workers)


def test_batches(
    source: Source,
    *,
    transform: Callable[[Picture], Crop],
    batch_size: int,
    geometry: Mapping[str, Kind] = {},
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """All records in order, every one once. The last batch is filled up with copies of the last record, mask 0.

    Args and errors as in `train_batches`; `transform` is image -> `Crop`, see `transforms.crop_views`. Of several views
    the first is that to which labels move. Every process gets the same number of batches.
    """
    local_size = _local_size(batch_size, process_count)
    padded = -(-len(source) // batch_size) * batch_size
    dataset = grain.MapDataset.range(padded).map(functools.partial(_test_example, source, transform, geometry))
    return _iterate(dataset.batch(local_size)[process_index::process_count], workers)


def _local_size(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise DataError(f"a batch of {batch_size} cannot be shared evenly by {process_count} processes")
    return batch_size // process_count


def _train_example(source: Source, transform, geometry, index: int, rng: np.random.Generator) -> dict[str, Any]:
    record = source[index]
    crop = transform(record_image(record), rng)
    return batch_row(record, crop.pixels, mask=1) | move(record, crop.shares, geometry)


def _test_example(source: Source, transform, geometry, index: int) -> dict[str, Any]:
    record = source[min(index, len(source) - 1)]
    crop = transform(record_image(record))
    first = crop.shares.reshape(-1, 2, 3)[0]
    return batch_row(record, crop.pixels, mask=index < len(source)) | move(record, first, geometry)


def record_image(record: dict[str, Any]) -> Picture:
    """The image of a record; a file is not decoded yet, for a transform may need less than all of it."""
    image = record["image"]
    if isinstance(image, bytes):
        name = ", ".join(f"{key} {value}" for key, value in record.items() if isinstance(value, str))
        return EncodedImage(image, f"record with {name}")
    return image


def batch_row(record: dict[str, Any], image: np.ndarray, mask: float) -> dict[str, Any]:
    """What a record adds to a batch: this image, the labels that are numbers, the mask."""
    labels = {key: value for key, value in record.items() if key != "image" and not isinstance(value, str)}
    return {"image": image, **labels, "mask": np.float32(mask)}


def _iterate(dataset: grain.MapDataset, workers: int) -> Iterator[Batch]:
    """Makes the batches in the background. What works there ends with the iterator.

    Raises:
        DataError: a worker process died.
    """
    if workers:
        # Each worker makes whole batches, one after the other.
        reading = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # grain reads its own flags, and nobody parses flags in tests and notebooks
    else:
        threads = min(os.cpu_count(), 16)
        reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    batches = dataset.to_iter_dataset(reading)
    options = grain.multiprocessing.MultiprocessingOptions(num_workers=workers)
    iterator = iter(batches.mp_prefetch(options, _begin_worker))
    try:
        if workers:
            with _block_signals():  # the processes start with the first batch
                first = list(map(_copy, itertools.islice(iterator, 1)))
            yield from first
        yield from map(_copy, iterator) if workers else iterator
    except RuntimeError as error:
        if died := re.match(r"Worker process was terminated unexpectedly with exit code (-?\d+)", str(error)):
            code = int(died[1])
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            reason = ", as when the memory runs out" if code == -signal.SIGKILL else ""
            raise DataError(f"a process that reads images died ({how}{reason}); lower workers") from error
        raise
    finally:
        iterator.close()


def _copy(batch: Batch) -> Batch:
    """Out of the memory that is shared with a worker process: what is left there when the program ends is a leak."""
    return {key: np.array(value) for key, value in batch.items()}


@contextlib.contextmanager
def _block_signals() -> Iterator[None]:
    """Processes that start inside never hear SIGINT and SIGTERM: a terminal sends them to all, and this one decides."""
    multiprocessing.resource_tracker.ensure_running()  # otherwise its start would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker(number: int, count: int) -> None:
    """Prepares a worker process, and ends it when its parent process is killed."""
    prepare_process()

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
