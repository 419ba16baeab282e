"""Faces cut out of photographs: upright, and in the place that a network knows from its training.

The same function cuts for training, where a data set asks for it, and for prediction.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from input_pipeline.geometry import between_centres
from input_pipeline.transforms import Crop

MARGIN = 0.4  # of a face on each side of it: Rothe et al., "Deep expectation" (DEX), IJCV 2018
# Where YuNet sees eyes, nose and corners of the mouth in the square of a face, (x, y) as parts of its side: the medians
# over FairFace's images for validation, which show little more than that square, made symmetric.
LANDMARKS = np.array([(0.313, 0.334), (0.687, 0.334), (0.5, 0.551), (0.336, 0.722), (0.664, 0.722)])
TEMPLATE = (LANDMARKS + MARGIN) / (1 + 2 * MARGIN)  # in a crop
SWAPPED = [1, 0, 2, 4, 3]  # the landmarks of a mirror image, in the same order


def symmetric(template: np.ndarray) -> np.ndarray:
    """Returns the mean of landmarks [5, 2], parts of the side, and of those in the mirror image."""
    return (template + (template * (-1, 1) + (1, 0))[SWAPPED]) / 2


def align(image: Image.Image, landmarks: np.ndarray, template: np.ndarray, size: int, fill: Sequence[float]) -> Crop:
    """The square of the image in which the landmarks come to lie, as well as they can, where the template has them.

    The image is turned, moved and scaled alike in both directions (a similarity, of least squares).

    Args:
        image: RGB.
        landmarks: [K, 2], two at least, (x, y) in pixels from the upper left corner.
        template: [K, 2], as parts of the side of the square.
        size: side of the result.
        fill: colour [3], 0..255, of what lies outside the image.

    Returns:
        The square, uint8 [size, size, 3], and the matrix from the image to it.
    """
    # In the complex plane, a similarity is z -> turn * z + shift.
    source, target = (np.asarray(points, float) @ (1, 1j) for points in (landmarks, template))
    target = target * size
    centred = source - source.mean()
    turn = (centred.conj() @ target) / (centred.conj() @ centred).real
    scale = abs(turn)

    # First the part of the image that is seen is shrunk, with antialiasing, then it is turned.
    corners = source.mean() + (np.array([0, size, size * 1j, size * (1 + 1j)]) - target.mean()) / turn
    border = 2 / min(scale, 1)
    left, right = np.clip((corners.real.min() - border, corners.real.max() + border), 0, image.width).astype(int)
    top, bottom = np.clip((corners.imag.min() - border, corners.imag.max() + border), 0, image.height).astype(int)
    width, height = (max(1, round(min(scale, 1) * length)) for length in (right - left, bottom - top))
    seen = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=(left, top, right, bottom)))
    across, down = (right - left) / width, (bottom - top) / height
    shift = target.mean() - turn * (source.mean() - complex(left, top))
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
    moved = target.mean() - turn * source.mean()
    return Crop(pixels, np.array([[turn.real, -turn.imag, moved.real], [turn.imag, turn.real, moved.imag]]))
