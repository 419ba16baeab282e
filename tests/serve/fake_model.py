"""A model that answers what a face looks like, without a network; and a server around an application."""

import contextlib
import dataclasses
import io
import threading

import uvicorn

from ror_jax.predict.faces import FaceFinder, Preprocessing

GROUPS = ("0-2", "4-6", "8-13", "15-20", "25-32", "38-43", "48-53", "60-")
PREPROCESSING = Preprocessing(16, 16, "crop", [120.0, 110.0, 100.0], [1.0, 1.0], {}, {})


class FakeModel:
    """Reads from a face how bright it is, as an age, a group, a gender and a label; remembers what it was asked.

    `gate` is open, or calls of the network wait for it; `failures` are exceptions that the next calls raise.
    """

    engine, views = "fake", "single"

    def __init__(self):
        self.card = {
            "name": "a fake",
            "preprocessing": dataclasses.asdict(PREPROCESSING),
            "interval": {"inside": 0.9, "faces": 50},
        }
        self.calls, self.failures, self.gate, self.called = [], [], threading.Event(), threading.Event()
        self.gate.set()

    def finder(self, faces="detect", detector="cascade"):
        return FaceFinder(PREPROCESSING, faces, detector)

    def read(self, crops, views="single"):
        self.calls.append((len(crops), views))
        self.called.set()
        assert self.gate.wait(60)
        if self.failures:
            raise self.failures.pop()
        return [self.reading(float(crop.mean()), views) for crop in crops]

    @staticmethod
    def reading(brightness, views):
        share = round(brightness / 255, 4)
        labels = {f"word {number}": round(share / 2**number, 4) for number in range(20)}
        return {
            "age": round(brightness / 2.55, 1),
            "age_interval": [10.0, 90.0],
            "age_group": GROUPS[4],
            "age_group_probability": 0.3,
            "age_group_probabilities": dict.fromkeys(GROUPS, 0.1) | {GROUPS[4]: 0.3},
            "gender": "female",
            "gender_probability": share,
            "gender_probabilities": {"female": share, "male": round(1 - share, 4)},
            "label": "word 0",
            "label_probability": share,
            "label_probabilities": labels,
            "views": views,
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
