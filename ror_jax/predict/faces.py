"""Photographs, and the faces in them as a network wants to see them."""

import dataclasses
import errno
import logging
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from input_pipeline import alignment
from input_pipeline.datasets.files import read_file
from input_pipeline.detection import DETECTOR, Detector, Face, create_detector
from input_pipeline.errors import DataError, shortened
from input_pipeline.transforms import FITS, Crop, EncodedImage, center_crop, to_rgb
from ror_jax.errors import check_fields, unknown

FACES = ("detect", "cropped")
NO_FACE = "no face was found"

logger = logging.getLogger(__name__)

Source = str | os.PathLike | bytes | Image.Image | np.ndarray


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How an image becomes what the network sees, as `model.json` says.

    Attributes:
      size, resize, fit, fill: of a face that is cropped already, see `transforms.crop_views`; `fill` is the colour of
        what lies outside a photograph, too.
      visible: the shares of width and height that are no border in the training images.
      landmarks: by detector [5, 2], (x, y), where these lie in the training images, as parts of the side: the template
        that the images were aligned with, or what was found in them.
      landmarks_from: by detector, in how many images they were found.
    """

    size: int
    resize: int
    fit: str
    fill: list[float]
    visible: list[float]
    landmarks: dict[str, list[list[float]]]
    landmarks_from: dict[str, int]

    def __post_init__(self):
        sides = isinstance(self.size, int) and isinstance(self.resize, int) and 0 < self.size <= self.resize
        shares = np.shape(self.visible) == (2,) and all(0 < share <= 1 for share in self.visible)
        places = [np.array(points, float) for points in self.landmarks.values()]
        if not (sides and shares and self.fit in FITS and np.array(self.fill, float).shape == (3,)):
            raise ValueError("preprocessing: size, resize, fit, fill or visible make no sense")
        if not all(points.shape == alignment.LANDMARKS.shape for points in places):
            raise ValueError("preprocessing: landmarks must be five points of a detector")

    def template(self, detector: str) -> np.ndarray:
        """Where the landmarks of that detector should lie in a crop [5, 2], as parts of its side.

        Where nothing is known of this detector, those of the usual one; else `alignment.template()`.
        """
        known = self.landmarks.get(detector) or self.landmarks.get(DETECTOR)
        return np.array(known) if known else alignment.template()


@dataclasses.dataclass(frozen=True)
class FaceFilter:
    """Which of the faces in a photograph are read.

    Attributes:
      min_score: the least score, in the detector's own measure; None: the detector's default.
      min_size: the least width of a face in pixels.
      largest: how many faces, the widest ones; None: all.

    Raises:
      UserError: a value makes no sense.
    """

    min_score: float | None = None
    min_size: float = 0
    largest: int | None = None

    def __post_init__(self):
        wanted = {
            "min_score": (self.min_score is None or math.isfinite(self.min_score), "a number"),
            "min_size": (0 <= self.min_size < math.inf, "a number of pixels, 0 or more"),
            "largest": (self.largest is None or self.largest >= 1, "a number of faces, 1 or more"),
        }
        check_fields(self, wanted)

    def __call__(self, faces: Sequence[Face]) -> list[Face]:
        """Returns those of the faces that are read, from left to right."""
        min_score = -math.inf if self.min_score is None else self.min_score
        kept = [face for face in faces if face.box[2] >= self.min_size and face.score >= min_score]
        widest = sorted(kept, key=lambda face: face.box[2], reverse=True)[: self.largest]
        return sorted(widest, key=lambda face: face.box)


def _in_words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


class FaceFinder:
    """Called with a photograph, it returns what is known of it, and its faces as the network wants to see them.

    Args:
      preprocessing: of the model.
      faces, detector: see `Model.predict`.
      keep: which of the faces are read.
    """

    def __init__(
        self, preprocessing: Preprocessing, faces: str, detector: str | Detector, keep: FaceFilter | None = None
    ):
        if faces not in FACES:
            raise unknown("faces", faces, FACES)
        self._preprocessing, self._keep = preprocessing, keep or FaceFilter()
        self._detect = None if faces == "cropped" else detector
        self._template = preprocessing.template(detector if isinstance(detector, str) else DETECTOR)
        if isinstance(self._detect, str):
            self._detect = create_detector(self._detect, self._keep.min_score)

    def __call__(self, source: Source, name: str) -> tuple[dict[str, Any], list[Crop]]:
        """The dict of a photograph, see `photographs.read_photographs`, its faces unread; and these, cut out."""
        photograph = {"photograph": name, "width": None, "height": None, "faces": [], "problem": None}
        try:
            image = open_photograph(source, name)
            faces, crops, problem = self._faces(image)
        except DataError as error:
            return photograph | {"problem": str(error)}, []
        except Exception as error:  # whatever it is, it is this photograph's problem alone
            logger.debug("%s", shortened(name), exc_info=True)
            return photograph | {"problem": f"{shortened(name)}: {_in_words(error)}"}, []
        photograph |= {"width": image.width, "height": image.height, "faces": faces, "problem": problem}
        return photograph, crops

    def _faces(self, image: Image.Image) -> tuple[list[dict], list[Crop], str | None]:
        """The faces of a photograph, unread and cut out, and why there are none."""
        seen = self._preprocessing
        if self._detect is None:
            crop = center_crop(image, seen.size, seen.resize, seen.fit, seen.fill)
            return [{"box": [0, 0, *image.size], "score": None}], [crop], None
        found = self._detect(image)
        kept = self._keep(found)
        faces = [{"box": [round(edge, 1) for edge in face.box], "score": round(face.score, 3)} for face in kept]
        crops = (alignment.align(image, face.landmarks, self._template, seen.size, seen.fill) for face in kept)
        crops = [crop._replace(pixels=_bordered(crop.pixels, seen.visible, seen.fill)) for crop in crops]
        problem = f"{NO_FACE} but {len(found)} too small or too uncertain" if found else NO_FACE
        return faces, crops, None if kept else problem


def _bordered(crop: np.ndarray, visible: Sequence[float], fill: Sequence[float]) -> np.ndarray:
    """The crop with the border that training images have which were made squares by one, see `pad_to_square`.

    `visible` are the shares of width and height that are no border.
    """
    size = len(crop)
    width, height = (max(1, round(share * size)) for share in visible)
    left, top = (size - width) // 2, (size - height) // 2
    square = np.empty_like(crop)
    square[:] = np.round(fill).astype(np.uint8)
    square[top : top + height, left : left + width] = crop[top : top + height, left : left + width]
    return square


def own(source: Source) -> Source:
    """Returns a copy of an array or a Pillow image, which the caller may change while threads read it."""
    return source.copy() if isinstance(source, np.ndarray | Image.Image) else source


def open_photograph(source: Source | Exception, name: str) -> Image.Image:
    """A photograph in RGB, upright as its EXIF data say; of an animation, the first picture.

    Args:
      source: see `Model.predict`; or why there is none.

    Raises:
      DataError: there is none, or it cannot be decoded.
    """
    name = shortened(name)
    if isinstance(source, np.ndarray):
        wanted = source.ndim in (2, 3) and source.shape[2:] in ((), (3,), (4,)) and source.size > 0
        if source.dtype != np.uint8 or not wanted:
            shape = list(source.shape)
            raise DataError(f"{name}: an array {source.dtype} {shape}; it must be uint8 [H, W, 3 or 4] or [H, W]")
        source = Image.fromarray(source)
    if isinstance(source, Image.Image):
        if not all(source.size):
            raise DataError(f"{name}: an image without pixels")
        return to_rgb(ImageOps.exif_transpose(source))
    if isinstance(source, Exception):
        raise DataError(f"{name}: the image cannot be decoded ({_in_words(source)})") from source
    if not isinstance(source, str | os.PathLike | bytes):
        kinds = "a path, bytes, a Pillow image or an array"
        raise DataError(f"{name}: a {type(source).__name__}; a photograph is given as {kinds}")
    try:
        data = source if isinstance(source, bytes) else read_file(source)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        hint = "; a text is the path of a file: give an image in base64 decoded, as bytes"
        hint = hint if getattr(error, "errno", None) == errno.ENAMETOOLONG else ""
        raise DataError(f"{name}: {getattr(error, 'strerror', None) or error}{hint}") from error
    return EncodedImage(data, name).decode(upright=True)[0]
