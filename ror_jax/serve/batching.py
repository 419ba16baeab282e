"""Faces of many requests, read by one call of the network."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from input_pipeline.transforms import Crop

PATIENCE = 0.01  # seconds for which a face waits for others

logger = logging.getLogger(__name__)


class NetworkFailed(Exception):
    """The network raised an exception; it was logged, and the next faces are read as if nothing had been."""


class Batcher:
    """A thread that reads what is there: `batch_size` faces at most, `PATIENCE` after the first one came at the latest.

    Args:
      read: what the network says of faces, seen in these views: `Model.read`.
      batch_size: the largest B.
    """

    def __init__(self, read: Callable[[Sequence[Crop], str], list[dict]], batch_size: int):
        self._read, self._batch_size = read, batch_size
        self._waiting = queue.SimpleQueue()  # (crop, views, future), or None: end
        self._thread = threading.Thread(target=self._work, name="network", daemon=True)
        self._thread.start()

    def submit(self, crop: Crop, views: str) -> Future:
        """The reading of one face, to come; or NetworkFailed."""
        self._waiting.put((crop, views, future := Future()))
        return future

    def close(self) -> None:
        """Ends the thread when what was submitted is read; waits for that for a while."""
        self._waiting.put(None)
        self._thread.join(timeout=5)  # seconds

    def _work(self) -> None:
        ended = False
        while not ended:
            batch, deadline = [self._waiting.get()], time.monotonic() + PATIENCE
            while batch[-1] is not None and len(batch) < self._batch_size:
                try:
                    batch.append(self._waiting.get(timeout=max(0, deadline - time.monotonic())))
                except queue.Empty:
                    break
            ended = batch[-1] is None
            batch = [face for face in batch if face and face[2].set_running_or_notify_cancel()]
            for views in sorted({views for _, views, _ in batch}):
                self._read_batch([(crop, future) for crop, asked, future in batch if asked == views], views)

    def _read_batch(self, batch: list[tuple[Crop, Future]], views: str) -> None:
        try:
            readings = self._read([crop for crop, _ in batch], views)
        except Exception:
            logger.exception("the network failed on %d faces", len(batch))
            for _, future in batch:
                future.set_exception(NetworkFailed())
        else:
            for (_, future), reading in zip(batch, readings, strict=True):
                future.set_result(reading)
