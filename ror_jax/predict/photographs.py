"""Photographs in, readings of their faces out, in batches that fill up across photographs."""

import collections
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from input_pipeline.transforms import Crop
from ror_jax.models.export import threads
from ror_jax.predict.faces import FaceFinder, Source, own

MOST_WAITING = 200  # photographs for a batch to fill; where few have faces, a part of one is read


def read_photographs(
    sources: Iterable[Source],
    find: FaceFinder,
    read: Callable[[Sequence[Crop]], list[dict]],
    batch_size: int,
) -> Iterator[dict[str, Any]]:
    """Finds and reads the faces of all photographs; threads decode and detect while the network reads.

    Args:
      sources: see `Model.predict`.
      find: finds the faces.
      read: reads B of them.
      batch_size: the largest B; usually all are so large but the last.

    Yields:
      For each photograph, in their order: its name as `photograph`, `width` and `height` of it, upright, in pixels;
      `problem`, None or why it has no faces; and `faces`, from left to right. Each is a dict with `box` (left, top,
      width, height in pixels), `score` (the detector's, in its own measure; None without one) and the answers, see
      `ror_jax.tasks.answers.readings`.
    """
    unread = collections.deque()  # (face, crop), in the order of the photographs
    waiting = collections.deque()  # photographs of which faces are unread, or that come after such

    def read_batch():
        batch = [unread.popleft() for _ in range(min(batch_size, len(unread)))]
        for (face, _), reading in zip(batch, read([crop for _, crop in batch]), strict=True):
            face |= reading

    for photograph, crops in _found(sources, find):
        unread.extend(zip(photograph["faces"], crops, strict=True))
        waiting.append(photograph)
        while len(unread) >= batch_size or (unread and len(waiting) > MOST_WAITING):
            read_batch()
        while waiting and not (unread and any(face is unread[0][0] for face in waiting[0]["faces"])):
            yield waiting.popleft()
    while unread:
        read_batch()
    yield from waiting


def _found(sources: Iterable[Source], find: FaceFinder) -> Iterator[tuple[dict, list[Crop]]]:
    """What `find` finds, in order, by as many threads as there are cores, a few photographs ahead."""
    count = threads()
    running: collections.deque[Future] = collections.deque()
    with ThreadPoolExecutor(count) as pool:
        try:
            for number, source in enumerate(sources):
                name = str(source) if isinstance(source, str | os.PathLike) else f"image {number}"
                try:
                    source = own(source)
                except Exception as error:  # Pillow decodes its file only now, or it is closed
                    source = error
                running.append(pool.submit(find, source, name))
                if len(running) > 2 * count:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:  # who asked has left
                future.cancel()
