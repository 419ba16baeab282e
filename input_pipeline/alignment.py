"""Faces cut out of photographs: upright, and in the place that a network knows from its training.

The same function cuts for training, where a data set asks for it, and for prediction.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from input_pipeline.errors import DataError
from input_pipeline.geometry import between_centres
from input_pipeline.transforms import Crop

# Where YuNet sees eyes, nose and corners of the mouth in the square of a face, (x, y) as parts of its side: the medians
# over FairFace's images for validation, which show little more than that square, made symmetric.
LANDMARKS = np.array([(0.322, 0.296), (0.678, 0.296), (0.5, 0.508), (0.353, 0.684), (0.647, 0.684)])
SWAPPED = [1, 0, 2, 4, 3]  # the landmarks of a mirror image, in the same order
MARGIN = 0.4  # the usual one: Rothe et al., "Deep expectation" (DEX), IJCV 2018


def template(margin: float = MARGIN) -> np.ndarray:
    """Returns where landmarks lie [5, 2], as parts of the side of a crop that has a margin on each side of the face.

    The margin is a part of the face's side.

    Raises:
        DataError: the margin is out of range.
    """
    if not 0 <= margin <= 2:
        raise DataError(f"align is {margin}; the margin on each side of a face must be from 0 to 2 of its side")
    return (LANDMARKS + margin) / (1 + 2 * margin)


def symmetric(template: np.ndarray) -> np.ndarray:
    """Returns the mean of landmarks [5, 2], parts of the side, and of those in the mirror image."""
    return (template + (template * (-1, 1) + (1, 0))[SWAPPED]) / 2


def align(image: Image.Image, landmarks: np.ndarray, template: np.ndarray, size: int, fill: Sequence[float]) -> Crop:
    """Returns the square of the image in which a face lies where the template has it, and the matrix to it.

    The image is turned, moved and scaled alike in both directions (a similarity), see `_frame`.

    Args:
        image: RGB.
        landmarks: [5, 2], (x, y) in pixels from the upper left corner, in the order of `LANDMARKS`.
        template: [5, 2], where these lie in the square, as parts of its side.
        size: side of the square, uint8 [size, size, 3].
        fill: colour [3], 0..255, of what lies outside the image.
    """
    # In the complex plane, a similarity is z -> turn * z + shift.
    (source, across), (target, wanted) = _frame(landmarks), _frame(template * size)
    turn = wanted / across
    scale = abs(turn)

    # First the part of the image that is seen is shrunk, with antialiasing, then it is turned.
    corners = source + (np.array([0, size, size * 1j, size * (1 + 1j)]) - target) / turn
    border = 2 / min(scale, 1)
    left, right = np.clip((corners.real.min() - border, corners.real.max() + border), 0, image.width).astype(int)
    top, bottom = np.clip((corners.imag.min() - border, corners.imag.max() + border), 0, image.height).astype(int)
    width, height = (max(1, round(min(scale, 1) * length)) for length in (right - left, bottom - top))
    seen = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=(left, top, right, bottom)))
    across, down = (right - left) / width, (bottom - top) / height
    shift = target - turn * (source - complex(left, top))
    from_seen = [
        [turn.real * across, -turn.imag * down, shift.real],
        [turn.imag * across, turn.real * down, shift.imag],
    ]
    pixels = cv2.warpAffine(
        seen,
        between_centres(np.array(from_seen)),
        (size, size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=tuple(float(round(value)) for value in fill),
    )
    moved = target - turn * source
    return Crop(pixels, np.array([[turn.real, -turn.imag, moved.real], [turn.imag, turn.real, moved.imag]]))


def _frame(landmarks: np.ndarray) -> tuple[complex, complex]:
    """Returns the centre of a face and a vector from its left to its right, whose length is that of the face.

    In a face that is turned aside the eyes come closer together, but eyes and mouth do not: the larger of the two
    distances, in proportion, gives the length (Karras et al., "Progressive growing of GANs", ICLR 2018, appendix C).
    """
    points = np.asarray(landmarks, float) @ (1, 1j)
    eyes, apart = points[:2].mean(), points[1] - points[0]
    down = points[3:].mean() - eyes
    direction = apart - 1j * down
    return eyes + 0.1 * down, direction / abs(direction) * max(2 * abs(apart), 1.8 * abs(down))
