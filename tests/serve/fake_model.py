"""A model that answers what a face looks like, without a network; and a server around an application."""

import contextlib
import dataclasses
import io
import threading
from pathlib import Path

import numpy as np
import uvicorn

from input_pipeline.alignment import template
from ror_jax.predict.faces import FaceFinder, Preprocessing
from ror_jax.tasks.answers import Class, Flags, Number, Points, Vector, readings

GROUPS = ("0-2", "4-6", "8-13", "15-20", "25-32", "38-43", "48-53", "60-")
PREPROCESSING = Preprocessing(16, 16, "crop", [120.0, 110.0, 100.0], [1.0, 1.0], {}, {})


def all_kinds(share):
    """An answer of each kind to one face so bright, from 0 to 1."""
    one, group = np.ones(1), np.where(np.arange(8) == 4, 0.3, 0.1)[None]
    halves = np.array([[share / 2**number for number in range(20)]])
    return {
        "age": Number(100 * share * one, interval=np.array([[10.0, 90.0]]), unit="years", title="age"),
        "age_group": Class(np.array([4]), 0.3 * one, group, names=GROUPS, unit="years", derived=True),
        "gender": Class(np.array([0]), share * one, np.array([[share, 1 - share]]), names=("female", "male")),
        "label": Class(np.array([0]), share * one, halves, names=tuple(f"word {number}" for number in range(20))),
        "attributes": Flags(np.array([[1, 0, 1]]), np.array([[0.9, 0.2, 0.6]]), names=("Smiling", "Bald", "Big_Nose")),
        "eyes": Points(template()[None]),
        "descriptor": Vector(share * np.ones((1, 3))),
    }


class FakeModel:
    """Reads from a face how bright it is; remembers what it was asked.

    `gate` is open, or calls of the network wait for it; `failures` are exceptions that the next calls raise.
    """

    engine, views, folder = "fake", "single", Path("/nowhere")

    def __init__(self, answer=all_kinds):
        self._answer, self.answers = answer, {name: made.describe() for name, made in answer(0.5).items()}
        self.card = {
            "name": "a fake",
            "preprocessing": dataclasses.asdict(PREPROCESSING),
            "intervals": {name: {"inside": 0.9, "faces": 50} for name in ("age", "age_group")},
        }
        self.calls, self.failures, self.gate, self.called = [], [], threading.Event(), threading.Event()
        self.gate.set()

    def finder(self, faces, detector, keep):
        return FaceFinder(PREPROCESSING, faces, detector, keep)

    def read(self, crops, views="single"):
        self.calls.append((len(crops), views))
        self.called.set()
        assert self.gate.wait(60)
        if self.failures:
            raise self.failures.pop()
        return [self.reading(crop, views) for crop in crops]

    def reading(self, crop, views):
        matrix = np.linalg.inv([*crop.matrix, (0, 0, 1)])[:2] * (len(crop.pixels), len(crop.pixels), 1)
        answers = self._answer(crop.pixels.mean() / 255)
        return readings({name: answer.to_photograph(matrix[None]) for name, answer in answers.items()}, 1)[0] | {
            "views": views
        }


def encoded(image, kind="JPEG"):
    image.save(buffer := io.BytesIO(), kind, quality=95)
    return buffer.getvalue()


@contextlib.contextmanager
def serving(app):
    """The application behind a port of this machine; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        thread.join(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
