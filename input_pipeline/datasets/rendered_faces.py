"""Faces that the program draws by itself, for trying everything out with nothing downloaded.

See `input_pipeline.face_renderer` for what is drawn. The splits are as in Adience: five folds that share no person.
"""

import dataclasses
import functools
import hashlib
import inspect
import os
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from input_pipeline import face_renderer
from input_pipeline.age_groups import ADIENCE, span_of_years
from input_pipeline.datasets import faces
from input_pipeline.errors import DataError
from input_pipeline.geometry import Box, Points, Yaw
from input_pipeline.records import Dataset

OLDEST = 90  # years


@dataclasses.dataclass(frozen=True)
class Row:
    """One picture to draw."""

    person: int
    picture: int

    @property
    def identity(self) -> str:
        return f"person {self.person}"

    @property
    def fold(self) -> int:
        return self.person % faces.FOLDS


class RenderedFaces(faces.FaceBuilder):
    """Draws faces. See `create` for the arguments."""

    EXTRA_FEATURES: ClassVar = {
        "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),
        "landmarks": tfds.features.Tensor(shape=(5, 2), dtype=np.float32),
        "smile": np.float32,
        "yaw": np.float32,
    }
    geometry: ClassVar = {"box": Box(), "landmarks": Points(pairs=((0, 1), (3, 4))), "yaw": Yaw()}
    threads = 1  # drawing holds the interpreter's lock; a second thread makes it slower

    def __init__(self, cache_dir: str | os.PathLike, people: int, pictures_per_person: int, seed: int, resolution: int):
        self._people, self._pictures_per_person, self._seed = people, pictures_per_person, seed
        content = f"{people} {pictures_per_person} {seed}" + inspect.getsource(face_renderer)
        super().__init__(cache_dir, resolution, hashlib.sha256(content.encode()).hexdigest()[:16])

    def rows(self) -> Sequence[Row]:
        people = sorted(range(self._people), key=lambda person: person % faces.FOLDS)  # one fold after the other
        return [Row(person, picture) for person in people for picture in range(self._pictures_per_person)]

    def loader(self):
        return functools.partial(_draw, self._seed, self.resolution)


def create(
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike,
    *,
    fold: int = 0,
    labels: Sequence[str] = ("age_group", "gender"),
    validation: float | None = None,
    people: int = 1000,
    pictures_per_person: int = 3,
    seed: int = 0,
    resolution: int = 96,
) -> Dataset:
    """Drawn faces: all age groups equally often, every label known. Drawn at first use, some 150 a second.

    Args:
        data_dir: not used.
        cache_dir: where the drawn faces are kept.
        fold: the fold to test on, 0..4.
        labels: not empty; as every row has all labels, all are kept.
        validation: see `create_dataset`.
        people: how many people to draw. A person is in one fold only.
        pictures_per_person: how many pictures of each, at about the same age.
        seed: with the same seed the faces are the same.
        resolution: side of the images in pixels, 16 or more.

    Beside the usual keys the records have `fold` (int32), `box` (float32 [4]: x0, y0, x1, y1 in pixels), `landmarks`
    (float32 [5, 2]: x, y in pixels of eyes, nose tip and mouth corners), `smile` (float32, 0..1) and `yaw` (float32,
    degrees).

    Raises:
        DataError: an argument is none of those.
    """
    if people < faces.FOLDS or pictures_per_person < 1 or resolution < 16:
        raise DataError(
            f"rendered_faces needs at least {faces.FOLDS} people, 1 picture per person and 16 pixels, "
            f"but was asked for {people}, {pictures_per_person} and {resolution}"
        )
    builder = RenderedFaces(cache_dir, people, pictures_per_person, seed, resolution)
    builder.prepare()
    return faces.open_fold(builder, fold, labels=labels, validation=validation)


def _draw(seed: int, resolution: int, row: Row) -> dict[str, Any]:
    """See `FaceBuilder.loader`. Depends on nothing but the arguments."""
    rng = np.random.default_rng((seed, row.person))
    person = face_renderer.sample_person(rng)
    youngest, oldest = ADIENCE.ranges[rng.integers(len(ADIENCE.ranges))]
    oldest = min(oldest, OLDEST)
    usual_age = rng.uniform(youngest, oldest)

    rng = np.random.default_rng((seed, row.person, row.picture))
    age = np.clip(usual_age + rng.uniform(-1, 1), youngest, oldest)
    image, truth = face_renderer.render_face(person, age, rng, size=resolution)
    return {
        "image": image,
        "age_span": np.float32(span_of_years(age)),
        "gender": np.int32(person.gender),
        "box": truth.box,
        "landmarks": truth.landmarks,
        "smile": np.float32(truth.smile),
        "yaw": np.float32(truth.yaw),
    }
