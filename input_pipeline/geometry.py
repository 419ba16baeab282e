"""Places in an image, and where they are in a crop of it.

Every transform returns the matrix [2, 3] from (x, y, 1) in the image to (x, y) in the crop, see `transforms.Crop`. A
data set declares which of its labels are geometry, and of what kind: `Dataset.geometry`, record key -> `Points`, `Box`,
`Yaw` or `Roll`. Records hold such labels in pixels of the stored image, batches as float32 in parts of the crop's side:
from 0, its left or upper edge, to 1, its right or lower edge. What is unknown, or outside the crop, is NaN.

All of this is for arrays of NumPy, and of JAX in a compiled program.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

_MIRROR = np.array([[-1.0], [1.0]])  # made once: a small array takes as long as some rows of an image
_RIGHT = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])


class Kind(Protocol):
    """What a label is in the plane of the image."""

    def move(self, values: Any, matrix: Any) -> Any:
        """The label of one image after the matrix [2, 3] from its pixels to parts of the crop's side."""
        ...


@dataclasses.dataclass(frozen=True)
class Points:
    """K points [K, 2], (x, y). Unknown: NaN or negative. Those outside the crop are NaN.

    Attributes:
        pairs: indices of points that change their names in a mirror image, such as those of the left and the right eye.
    """

    pairs: tuple[tuple[int, int], ...] = ()

    def move(self, values, matrix):
        xp = matrix.__array_namespace__()
        moved = apply(matrix, values)
        seen = (values >= 0).all(-1) & ((moved >= 0) & (moved <= 1)).all(-1)
        moved = xp.where(seen[:, None], moved, np.nan)
        renamed = np.arange(len(moved))
        for first, second in self.pairs:
            renamed[[first, second]] = second, first
        return xp.where(is_mirrored(matrix), moved[renamed], moved)


@dataclasses.dataclass(frozen=True)
class Box:
    """A box [4]: left, top, right, bottom. Unknown: NaN, or without area, as four times -1.

    It becomes the smallest upright box around its moved corners, as far as that is inside the crop; NaN where nothing
    of it is.
    """

    def move(self, values, matrix):
        xp = matrix.__array_namespace__()
        corners = apply(matrix, values[np.array([[0, 1], [2, 1], [0, 3], [2, 3]])])
        first, last = (xp.clip(corner, 0, 1) for corner in (corners.min(0), corners.max(0)))
        seen = (values[:2] < values[2:]).all() & (first < last).all()
        return xp.where(seen, xp.concatenate([first, last]), np.nan)


@dataclasses.dataclass(frozen=True)
class Yaw:
    """How far a head is turned to a side, in degrees; a mirror image turns it to the other side. Unknown: NaN."""

    def move(self, values, matrix):
        return matrix.__array_namespace__().where(is_mirrored(matrix), -values, values)


@dataclasses.dataclass(frozen=True)
class Roll:
    """How far a head leans, in degrees, clockwise as it is seen in the image, -180..180. Unknown: NaN."""

    def move(self, values, matrix):
        xp = matrix.__array_namespace__()
        angle = values * (np.pi / 180)
        x, y = xp.cos(angle), xp.sin(angle)  # from the eye on the left of an upright face to the one on the right
        across, down = (row[0] * x + row[1] * y for row in matrix)
        side = xp.where(is_mirrored(matrix), -1, 1)  # in a mirror image the eyes have changed places
        return xp.arctan2(side * down, side * across) * (180 / np.pi)


def move(labels: Mapping[str, Any], matrix: Any, geometry: Mapping[str, Kind]) -> dict[str, Any]:
    """The labels of one image that are geometry, as they are in its crop, float32.

    Args:
        labels: in pixels of the image, by record key.
        matrix: [2, 3] from these to parts of the crop's side, `transforms.Crop.shares`.
        geometry: see `Dataset.geometry`. A key that the image does not have is left out.
    """
    xp = matrix.__array_namespace__()
    known = {key: xp.asarray(labels[key], dtype=xp.float32) for key in geometry if key in labels}
    return {key: xp.asarray(geometry[key].move(values, matrix), dtype=xp.float32) for key, values in known.items()}


def apply(matrix: Any, points: Any) -> Any:
    """Where the matrix [2, 3] moves points [..., 2]. No matrix product: accelerators would round its factors."""
    xp = matrix.__array_namespace__()
    x, y = points[..., 0], points[..., 1]
    return xp.stack([row[0] * x + row[1] * y + row[2] for row in matrix], -1)


def is_mirrored(matrix: Any) -> Any:
    """Whether what the matrix [2, 3] makes is a mirror image: its determinant is negative."""
    return matrix[0, 0] * matrix[1, 1] < matrix[0, 1] * matrix[1, 0]


def mirrored(matrix: Any, size: int) -> Any:
    """The matrices [..., 2, 3] followed by mirroring left and right in a crop of that size."""
    return matrix * _MIRROR + size * _RIGHT


def box_matrix(box: Any, size: int, xp: Any = np) -> Any:
    """The matrix from an image to its box (left, top, right, bottom), resized to size x size."""
    left, top, right, bottom = box
    across, down = size / (right - left), size / (bottom - top)
    return xp.array([[across, 0, -left * across], [0, down, -top * down]])


def between_centres(matrix: np.ndarray) -> np.ndarray:
    """The matrix [2, 3] between coordinates that count the centres of pixels as whole numbers, as OpenCV does."""
    matrix = matrix.copy()
    matrix[:, 2] += matrix[:, :2].sum(1) / 2 - 0.5
    return matrix
