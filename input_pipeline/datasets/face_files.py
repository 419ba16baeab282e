"""Faces in image files, and lists of them: what `faces_csv` and `imdb_wiki` share, which differ in their rows alone."""

import collections
import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from PIL import Image, ImageOps

from input_pipeline.alignment import align, template
from input_pipeline.datasets import faces
from input_pipeline.datasets.files import hash_files, read_file
from input_pipeline.datasets.subjects import draw, subject_numbers
from input_pipeline.detection import Detector, YuNet, main_face
from input_pipeline.errors import DataError
from input_pipeline.records import Dataset, digest
from input_pipeline.transforms import MAX_PIXELS, EncodedImage, TooManyPixels, inside

# Reasons why a row cannot be used.
LEAVES = "a path that leaves the folder"
MISSING = "no image file"
UNREADABLE = "an unreadable image file"
TOO_LARGE = f"an image of more than {MAX_PIXELS // 10**6} million pixels"
NO_FACE = "no face that the detector finds"

GREY = (128, 128, 128)


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One face of a list."""

    line: int  # of the list, from 1
    path: str  # of the image file, from the data set's folder, see `below`
    age_span: tuple[float, float]  # see `age_groups`
    gender: int  # 0 female, 1 male, -1 unknown
    identity: str  # "" unknown
    fold: int = -1  # -1: none
    split: str = ""  # "train", "validation" or "test"; "": none
    reason: str = ""  # why the row is left out without a look at its image; "": it is not
    doubt: str = ""  # why its age is unknown although the list says something; "": it does not, or the age is known
    # Further texts that the records keep, by key. All rows have the same keys.
    texts: dict[str, str] = dataclasses.field(default_factory=dict)


class FaceFiles(faces.FaceBuilder):
    """Prepares the images of a list.

    Args:
        folder: which the paths start from.
        rows: the list.
        cache_dir: see `FaceBuilder`.
        resolution: see `FaceBuilder`.
        min_size, whole_image: see `read_face`.
        align: find the main face of each image, see `detection.main_face`, and cut it out upright, as `alignment.align`
            does, with this margin on each side as a part of the face's side, whatever `whole_image` says; None: take
            images as they are.
    """

    EXTRA_FEATURES: ClassVar = {"path": np.str_}

    def __init__(
        self,
        folder: pathlib.Path,
        rows: Sequence[Row],
        cache_dir: str | os.PathLike,
        resolution: int,
        min_size: int = 0,
        whole_image: bool = False,
        align: float | None = None,
    ):
        self._folder, self._rows, self._min_size, self._whole_image = folder, rows, min_size, whole_image
        self._detect, self.template = (None, None) if align is None else (YuNet(), template(align))
        self.EXTRA_FEATURES = self.EXTRA_FEATURES | {key: np.str_ for row in rows[:1] for key in row.texts}
        doubts = collections.defaultdict(list)
        for row in rows:
            if row.doubt:
                doubts[row.doubt].append(str(row.line))
        self.remarks = [
            f"ages taken as unknown: {len(lines)} with {doubt} (line {lines[0]}{', ...' if lines[1:] else ''})"
            for doubt, lines in doubts.items()
        ]
        paths = [row.path for row in rows if not (row.reason or leads_out(row.path))]
        content = hash_files(folder, paths, cache_dir)
        super().__init__(cache_dir, resolution, digest(content, min_size, whole_image, self.template, *rows))

    def rows(self) -> Sequence[Row]:
        return self._rows

    def loader(self):
        return self._load

    def _load(self, row: Row) -> dict[str, Any]:
        if row.reason:
            raise faces.UnusableRow(row.reason)
        return {
            "image": read_face(
                self._folder, row.path, self.resolution, self._min_size, self._whole_image, self._detect, self.template
            ),
            "age_span": np.float32(row.age_span),
            "gender": np.int32(row.gender),
            "path": row.path,
            **row.texts,
        }


def below(folder: pathlib.Path, path: str) -> str:
    """Returns the path of an image from `folder`, one text for a/b, ./a//b, a/c/../b and the absolute path of a/b.

    Names count alone: links in the folder are its owner's, and are followed. A path that leads elsewhere is returned as
    it is, but normalised.
    """
    path = os.path.normpath(path) if path else path
    for start in _absolute(folder) if os.path.isabs(path) else ():
        if pathlib.PurePath(path).is_relative_to(start):
            return os.path.relpath(path, start)
    return path


@functools.lru_cache(1)
def _absolute(folder: pathlib.Path) -> tuple[str, str]:
    return os.path.abspath(folder), os.path.realpath(folder)


def leads_out(path: str | os.PathLike) -> bool:
    """Whether the path of an image, from the data set's folder, leads out of it by its names."""
    path = pathlib.PurePath(path)
    return path.is_absolute() or ".." in path.parts


def too_small(min_size: int) -> str:
    """The reason for leaving out an image with a side of fewer pixels."""
    return f"an image smaller than {min_size} pixels a side"


def read_face(
    folder: pathlib.Path,
    path: str | os.PathLike,
    resolution: int,
    min_size: int = 0,
    whole_image: bool = False,
    detect: Detector | None = None,
    template: np.ndarray | None = None,
) -> Image.Image:
    """An image file in RGB, upright as its EXIF data say, its central square resized to `resolution` pixels a side.

    With `whole_image` nothing is cut off: the longer side becomes `resolution` pixels, the other 1 at least. With
    `detect` the square is that of the main face, aligned with `template`, in grey where it leaves the image.

    Raises:
        UnusableRow: the path below the folder leads out of it, or there is no image, or one of fewer than `min_size`
            pixels a side or more than `MAX_PIXELS`, or one in which no face is found.
    """
    if leads_out(path):
        raise faces.UnusableRow(LEAVES)
    try:
        file = EncodedImage(read_file(folder / path), str(path))
        if min(file.size) < min_size:
            raise faces.UnusableRow(too_small(min_size))
        image, _ = file.decode(upright=True)
    except FileNotFoundError:
        raise faces.UnusableRow(MISSING) from None
    except TooManyPixels:
        raise faces.UnusableRow(TOO_LARGE) from None
    except (OSError, ValueError):  # ValueError: a zero byte in the name; or DataError
        raise faces.UnusableRow(UNREADABLE) from None
    if detect is not None:
        if not (found := detect(image)):
            raise faces.UnusableRow(NO_FACE)
        landmarks = main_face(found, image.size).landmarks
        return Image.fromarray(align(image, landmarks, template, resolution, GREY).pixels)
    if whole_image:
        return image.resize(inside(image.size, resolution), Image.Resampling.BICUBIC)
    return ImageOps.fit(image, (resolution, resolution), Image.Resampling.BICUBIC)


def open_at_random(
    builder: faces.FaceBuilder, *, test_share: float, by_person: bool, split_seed: int, **options: Any
) -> Dataset:
    """As `faces.open_faces`, which has the other arguments, with a share of the images to test on, drawn at random.

    Args:
        builder: prepared.
        test_share: of the images, or of the people: above 0, below 1.
        by_person: draw people, so that nobody is both trained and tested on, as far as the data say who is who. If
            not, image files are drawn.
        split_seed: not negative. With the same seed the split is the same.

    Raises:
        DataError: there is no such share or seed.
    """
    if not 0 < test_share < 1 or split_seed < 0:
        raise DataError(
            f"test_share is {test_share} and split_seed {split_seed}; they must be above 0 and below 1, and 0 or more"
        )
    index = builder.info.metadata
    if by_person:
        subjects = subject_numbers(index["identity"])
    else:
        _, first, inverse = np.unique(index["path"], return_index=True, return_inverse=True)
        subjects = first[inverse]  # an image file is known by its first row
    drawn = draw(subjects, test_share, split_seed)
    note = f" ({test_share:.0%} at random{' by person' if by_person else ''}, seed {split_seed})"
    return faces.open_faces(builder, np.where(drawn, "test", "train"), note=note, **options)
