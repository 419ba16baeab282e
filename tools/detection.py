"""Counts the faces that a detector finds when photographs are turned, shrunk, cut, covered, or pasted into one.

python -m tools.detection FOLDER      # of photographs that show one face each, upright
"""

import argparse
import collections
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from input_pipeline.detection import DETECTOR, Detector, Face, create_detector, main_face
from input_pipeline.geometry import apply
from input_pipeline.process import prepare_process
from ror_jax.predict.__main__ import find_photographs
from ror_jax.predict.faces import open_photograph

ANGLES = (15, 30, 45, 60, 75, 90, 180)  # degrees
WIDTHS = (16, 24, 32, 48)  # of a face, pixels
WALL = (20, 12)  # photographs across and down
CELL = (225, 275)  # pixels, of each of them
UPRIGHT = 15  # degrees that a face may still lean when its landmarks were set upright
GREY, MASK = (128, 128, 128), (60, 90, 160)

Change = tuple[str, Image.Image, np.ndarray]  # its name, the photograph, and the matrix [2, 3] to it


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.detection", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--limit", type=int, default=240, metavar="N", help="look at N photographs; default 240")
    parser.add_argument("--detector", default=DETECTOR, metavar="NAME", help="default %(default)s")
    options = parser.parse_args(arguments)
    prepare_process()
    files = [*find_photographs([options.folder])]
    images = [open_photograph(file, file.name) for file in files[:: max(1, len(files) // options.limit)]]
    counts = count(create_detector(options.detector), images[: options.limit])
    print("| photographs | faces | found | of them upright | others |\n|---|---:|---:|---:|---:|")
    for name, (faces, found, upright, others) in counts.items():
        print(f"| {name} | {faces} | {found} | {upright} | {others} |")


def count(detect: Detector, images: list[Image.Image]) -> dict[str, np.ndarray]:
    """Returns for each change of photographs the numbers [4] of faces, of those found, of those upright, and of others.

    A face is where it was found in the photograph as it is. It counts as upright if its landmarks say how it is turned.
    """
    counts = collections.defaultdict(lambda: np.zeros(4, int))
    cells, expected = [], []
    for image in images:
        if not (faces := detect(image)):
            counts["as they are"] += (1, 0, 0, 0)
            continue
        face = main_face(faces, image.size)
        for name, changed, matrix in changes(image, face):
            counts[name] += compare(detect(changed), [apply(matrix, face.landmarks)])
        scale = np.divide(CELL, image.size)
        corner = np.multiply(CELL, np.divmod(len(cells), WALL[0])[::-1])
        cells.append((image.resize(CELL, Image.Resampling.BICUBIC), corner))
        expected.append(face.landmarks * scale + corner)
    wall = Image.new("RGB", tuple(np.multiply(CELL, WALL).tolist()), GREY)
    for cell, corner in cells[: WALL[0] * WALL[1]]:
        wall.paste(cell, tuple(corner.tolist()))
    counts[f"all in one of {wall.width} x {wall.height}"] += compare(detect(wall), expected[: WALL[0] * WALL[1]])
    return dict(counts)


def changes(image: Image.Image, face: Face) -> Iterator[Change]:
    """The photograph as it is, and changed in many ways."""
    left, top, width, height = face.box
    x, y = round(left + width / 2), round(top + height / 2)
    yield "as they are", image, np.eye(2, 3)
    for degrees in ANGLES:
        turned = image.rotate(degrees, Image.Resampling.BILINEAR, expand=True, fillcolor=GREY)
        across, down = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turn = np.array([(across, down), (-down, across)])
        shift = np.divide(turned.size, 2) - turn @ np.divide(image.size, 2)
        yield f"turned by {degrees} degrees", turned, np.column_stack([turn, shift])
    for pixels in WIDTHS:
        scale = pixels / width
        small = image.resize([max(1, round(side * scale)) for side in image.size], reducing_gap=3)
        photograph = Image.new("RGB", (640, 480), GREY)
        photograph.paste(small, (100, 100))
        yield f"faces of {pixels} pixels, in 640 x 480", photograph, np.array([(scale, 0, 100), (0, scale, 100)])
    for name, box in {
        "left half cut off": (x, 0, *image.size),
        "upper half cut off": (0, y, *image.size),
        "lower half cut off": (0, 0, image.width, y),
    }.items():
        yield name, image.crop(box), np.array([(1, 0, -box[0]), (0, 1, -box[1])])
    for name, first, last in (("upper", 0, 1 / 3), ("lower", 2 / 3, 1)):
        covered = image.copy()
        covered.paste(MASK, [round(edge) for edge in (left, top + first * height, left + width, top + last * height)])
        yield f"{name} third covered", covered, np.eye(2, 3)


def compare(found: list[Face], expected: list[np.ndarray]) -> tuple[int, int, int, int]:
    """The numbers of faces, of those found, of those upright, and of others, from landmarks [5, 2] of each."""
    upright, seen, left = 0, 0, list(found)
    for landmarks in expected:
        size = 2 * np.linalg.norm(landmarks - landmarks.mean(0), axis=1).mean()
        near = [face for face in left if np.linalg.norm(face.landmarks.mean(0) - landmarks.mean(0)) < 0.75 * size]
        if near:
            left = [face for face in left if face is not near[0]]
            seen += 1
            one, other = ((points - points.mean(0)) @ (1, 1j) for points in (near[0].landmarks, landmarks))
            upright += abs(np.degrees(np.angle(one.conj() @ other))) < UPRIGHT
    return len(expected), seen, int(upright), len(left)


if __name__ == "__main__":
    main()
