"""As a user's own file: a backbone that is no ONNX, a task whose answers are points and flags, and a detector."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from input_pipeline import detection
from ror_jax import models, tasks
from ror_jax.models.backbone import Map
from ror_jax.outputs import Head, Pool
from ror_jax.tasks import Label, Task
from ror_jax.tasks.answers import Flags, Points

LANDMARKS = np.array([(0.3, 0.4), (0.7, 0.45), (0.5, 0.6), (0.35, 0.7), (0.6, 0.75)])  # in the training images
FLAGS = ("Smiling", "Bald", "Big_Nose")


@dataclasses.dataclass(frozen=True)
class Config:
    """The image itself is the only map."""

    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    trunk: ClassVar[Pool] = Pool()

    def build(self):
        return Backbone(self)


class Backbone(nnx.Module):
    def __init__(self, config):
        self.config = config

    @property
    def maps(self):
        return {"last": Map(3, 1)}

    def __call__(self, images, *, train=False, rngs=None):
        return {"last": images}


@dataclasses.dataclass(frozen=True)
class Marks(Task):
    """Three points, all moved by a `shift` that is the same for all faces; and three flags."""

    names: tuple[str, ...] = ()

    labels: ClassVar = {"marks": Label((3, 2), np.float32)}
    heads: ClassVar = {"points": Head(6), "flags": Head(3), "shift": Head(2, trunk=None)}
    primary: ClassVar[str] = "nme"
    plotted: ClassVar[tuple[str, ...]] = ("nme",)
    loss_name: ClassVar[str] = "none"

    def loss(self, outputs, batch, state, step): ...

    def decode(self, outputs, mirrored):
        points = outputs["points"].reshape(*outputs["points"].shape[:2], 3, 2) + outputs["shift"][:, :, None]
        points = jnp.where(np.array(mirrored)[:, None, None], points * np.array([-1, 1]) + np.array([1, 0]), points)
        return points.mean(1), jax.nn.sigmoid(outputs["flags"].mean(1))

    def measure(self, estimates, batch, state): ...

    def summarize(self, sums): ...

    def answers(self, estimates, state):
        points, flags = estimates
        return {"marks": Points(points), "traits": Flags(flags > 0.5, flags, names=FLAGS)}

    def truth(self, batch): ...


def create_detector(min_score=0.5):
    """Sees the same in every photograph: a face that lies on its side, and a smaller one, of which it is less sure."""
    lying, upright = LANDMARKS @ [(0, 150), (-150, 0)] + (300, 100), 90 * LANDMARKS + (500, 60)
    faces = [detection.Face((150, 100, 150, 150), 0.9, lying), detection.Face((500, 60, 90, 90), 0.6, upright)]
    return lambda image: [face for face in faces if face.score >= min_score]


detection.register("own_faces", create_detector)
models.register("own_mean", Config())
tasks.register("own_marks", Marks, ["marks"])
