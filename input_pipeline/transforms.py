"""One image in, one image of the size that the network sees out.

Images come as files, Pillow images or uint8 [H, W, 3] arrays and leave as uint8 [size, size, 3]. What is random takes
its numbers from the generator it is given, and from nowhere else. Resizing is bilinear and antialiased.
"""

import contextlib
import functools
import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from input_pipeline.errors import DataError, unknown_name

cv2.setNumThreads(0)  # the pipeline has threads or processes of its own, one a core

Image.MAX_IMAGE_PIXELS = None  # `EncodedImage` has a limit of its own, of which Pillow would warn, or stop before it

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # Pillow has more; for one it starts Ghostscript
MAX_PIXELS = 50_000_000  # of an image; more could fill the memory
MAX_SCANS = 100  # of a JPEG; progressive ones have about ten, and each goes over all the pixels

TRIES = 10
PADDING = 4
VIEWS = ("single", "flip", "five_crop", "ten_crop")
FITS = ("crop", "pad")
MIN_AREA = 0.08  # fb.resnet.torch


class Crop(NamedTuple):
    """What was cut out of an image.

    Attributes:
        pixels: uint8 [size, size, 3].
        matrix: float64 [2, 3], from (x, y, 1) in pixels of the image to (x, y) in pixels of the crop, both from the
            upper left corner.
    """

    pixels: np.ndarray
    matrix: np.ndarray


class TooManyPixels(DataError):
    """An image has, or would have, more than `MAX_PIXELS`."""


class EncodedImage:
    """A file in one of the `FORMATS`: its size is known at once, its pixels are decoded when they are asked for.

    Args:
        data: the file.
        name: what an error message begins with.

    Raises:
        TooManyPixels: as its beginning says, before memory is taken for them.
        DataError: the file is damaged. The beginning is looked at here, the rest when it is decoded.
    """

    def __init__(self, data: bytes, name: str):
        self._data, self.name = data, name
        if not data:
            raise DataError(f"{name}: the file is empty")
        if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > MAX_SCANS:
            raise DataError(f"{name}: more than {MAX_SCANS} scans in a JPEG: it would take minutes; save it anew")
        with self._naming_damage():
            self.width, self.height = self.size = self._open().size
        if self.width * self.height > MAX_PIXELS:
            raise TooManyPixels(
                f"{name}: {self.width}x{self.height} pixels are more than {MAX_PIXELS}; make it smaller"
            )

    def _open(self) -> Image.Image:
        return Image.open(io.BytesIO(self._data), formats=FORMATS)

    def decode(self, shrink: int = 1, upright: bool = False) -> tuple[Image.Image, int]:
        """The whole image in RGB, and by what it is shrunk: a JPEG by `shrink` (1, 2, 4 or 8), other files by 1.

        A JPEG holds frequencies. To shrink it is to leave out those that are too high for the smaller image. `upright`
        turns the image as its EXIF data say.
        """
        with self._naming_damage():
            file = self._open()
            drafted = file.draft("RGB", (self.width // shrink, self.height // shrink))
            file.load()
            if upright:
                ImageOps.exif_transpose(file, in_place=True)
            image = to_rgb(file)
        return image, shrink if drafted else 1

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """The whole image, uint8 [H, W, 3]: what `np.asarray` makes of this."""
        return np.array(self.decode()[0], dtype, copy=copy)

    @contextlib.contextmanager
    def _naming_damage(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error ... for damaged files
            known = f"it is no image in one of the formats {', '.join(FORMATS)}"
            reason = known if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
            raise DataError(f"{self.name}: the image cannot be decoded ({reason})") from error


Picture = EncodedImage | Image.Image | np.ndarray


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in 8 bits of red, green and blue: of 16 bits the upper ones, what is transparent before white.

    Raises:
        DataError: its pixels are numbers of which nothing says what is white (32 bits, floats).
    """
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):  # Pillow would cut off what is above 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise DataError(f"pixels of 32 bits (mode {image.mode}); save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image.convert("RGB")


def decode_image(data: bytes, name: str) -> Image.Image:
    """Decodes an image file to an RGB image. Arguments and errors as those of `EncodedImage`."""
    return EncodedImage(data, name).decode()[0]


def scale_and_aspect_crop(
    image: Picture, rng: np.random.Generator, size: int, min_area: float = MIN_AREA
) -> np.ndarray:
    """A random crop of `min_area` to 100 % of the area and aspect ratio 3/4 to 4/3, resized to a square.

    As fb.resnet.torch's RandomSizedCrop (after Szegedy et al., "Going deeper with convolutions", section 6), which
    Deep-RoR's section IV names "scale and aspect ratio augmentation". When ten tries gave no crop that fits into the
    image, the central square is taken.
    """
    image = _with_size(image)
    for _ in range(TRIES):
        area = image.width * image.height * rng.uniform(min_area, 1)
        aspect = rng.uniform(3 / 4, 4 / 3)
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if rng.random() < 0.5:
            width, height = height, width
        if 0 < width <= image.width and 0 < height <= image.height:
            x, y = rng.integers(image.width - width + 1), rng.integers(image.height - height + 1)
            return _resized(image, (x, y, x + width, y + height), size)
    return center_crop(image, size, resize=size)


def scale_crop(image: Picture, rng: np.random.Generator, size: int, min_area: float = MIN_AREA) -> np.ndarray:
    """A random square of `min_area` to 100 % of the area of the largest square, resized.

    The "scale augmentation" of the 4c2f network (Deep-RoR, section IV).
    """
    image = _with_size(image)
    side = max(1, round(min(image.size) * math.sqrt(rng.uniform(min_area, 1))))
    x, y = rng.integers(image.width - side + 1), rng.integers(image.height - side + 1)
    return _resized(image, (x, y, x + side, y + side), size)


def pad_and_crop(image: Picture, rng: np.random.Generator, size: int, fill: Sequence[float]) -> np.ndarray:
    """Pads 4 pixels on every side and cuts out a random square; no resizing. For CIFAR (RoR, section V).

    The border has the colour `fill` [3], 0..255. With the mean of the training data it is about 0 for the network, as
    in fb.resnet.torch, which subtracts the mean first and then pads with zeros.

    Raises:
        DataError: the padded image is smaller than `size`.
    """
    pixels = np.asarray(image)
    height, width, channels = pixels.shape
    padded = np.empty((height + 2 * PADDING, width + 2 * PADDING, channels), np.uint8)
    padded[:] = np.round(fill).astype(np.uint8)
    padded[PADDING:-PADDING, PADDING:-PADDING] = pixels
    if size > min(padded.shape[:2]):
        raise DataError(f"pad_and_crop: an image of {width}x{height} pixels, padded by {PADDING}, has no {size}x{size}")
    y, x = rng.integers(padded.shape[0] - size + 1), rng.integers(padded.shape[1] - size + 1)
    return padded[y : y + size, x : x + size]


def flip(pixels: np.ndarray, rng: np.random.Generator, probability: float = 0.5) -> np.ndarray:
    """Mirrors left and right with this probability."""
    return cv2.flip(pixels, 1) if rng.random() < probability else pixels


def inside(size: tuple[int, int], side: int) -> tuple[int, int]:
    """What (width, height) become when the longer of them becomes `side`: 1 at least, to the nearest pixel."""
    return tuple(max(1, round(length * side / max(size))) for length in size)


def pad_to_square(image: Picture, side: int, fill: Sequence[float]) -> np.ndarray:
    """The whole image, its longer side resized to `side`, in the middle of a square: uint8 [side, side, 3].

    Nothing is cut off or distorted. What is around it has the colour `fill` [3], 0..255; where the two borders cannot
    be equal, the one on the right or below is the larger by a pixel. (Multi-task age and gender, section 4.)
    """
    image = _decoded(image)
    width, height = inside(image.size, side)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.empty((side, side, 3), np.uint8)
    square[:] = np.round(fill).astype(np.uint8)
    square[top : top + height, left : left + width] = image.resize((width, height), Image.Resampling.BILINEAR)
    return square


def center_crop(image: Picture, size: int, resize: int) -> np.ndarray:
    """The central `size` x `size` pixels of the image whose shorter side has been resized to `resize`.

    To the pixel what torchvision's Resize and CenterCrop make of a Pillow image (bilinear, antialiased).
    """
    return crop_views(image, size, resize, "single")[0]


def crop_views(
    image: Picture, size: int, resize: int, views: str, fit: str = "crop", fill: Sequence[float] = (0, 0, 0)
) -> np.ndarray:
    """What the network sees of a test image: uint8 [V, size, size, 3], cut out of the image when it has been resized.

    Args:
        resize: side in pixels, see `fit`.
        views: "single", the centre; "flip", the centre and its mirror image; "five_crop", the four corners and the
            centre; "ten_crop", these and their mirror images (Krizhevsky et al. 2012; RoR, Table XIII).
        fit: "crop" resizes the shorter side to `resize`, as `center_crop`; "pad" the longer one, as `pad_to_square`.
        fill: colour of the border of "pad".

    Raises:
        TooManyPixels: the image is so narrow that "crop" would make too many of it.
    """
    name = image.name if isinstance(image, EncodedImage) else "an image"
    image = _with_size(pad_to_square(image, resize, fill)) if fit == "pad" else _decoded(image)
    (height, width), places = view_geometry(image.height, image.width, size, resize, views)
    if width * height > MAX_PIXELS:
        raise TooManyPixels(
            f"{name}: {image.width}x{image.height} pixels, resized to {width}x{height}, are more than {MAX_PIXELS}; "
            "cut its long side"
        )
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))  # a copy where the sizes agree
    crops = [pixels[y : y + size, x : x + size] for y, x, _ in places]
    return np.stack([crop[:, ::-1] if mirrored else crop for crop, (*_, mirrored) in zip(crops, places, strict=True)])


def center_matrix(width: int, height: int, size: int, resize: int, fit: str) -> np.ndarray:
    """Returns the matrix, see `Crop`, of the "single" view of `crop_views` of an image of that width and height."""
    scale, left, top = np.ones(2), 0.0, 0.0
    if fit == "pad":
        sides = inside((width, height), resize)
        scale = np.array(sides) / (width, height)
        left, top = ((resize - side) // 2 for side in sides)
        width = height = resize
    (resized_height, resized_width), ((y, x, _),) = view_geometry(height, width, size, resize, "single")
    across, down = resized_width / width, resized_height / height
    return np.array([[across * scale[0], 0, across * left - x], [0, down * scale[1], down * top - y]])


def mirrored_views(views: str) -> tuple[bool, ...]:
    """Returns of each of these views of an image whether it is a mirror image."""
    return tuple(mirrored for *_, mirrored in view_geometry(1, 1, 1, 1, views)[1])


def view_geometry(height: int, width: int, size: int, resize: int, views: str):
    """What an image is resized to, (height, width), and its crops: [(top, left, whether it is then mirrored)]."""
    short = min(height, width)
    height, width = resize * height // short, resize * width // short
    bottom, right = height - size, width - size
    centre = (round(bottom / 2), round(right / 2), False)
    corners = [(y, x, False) for y in (0, bottom) for x in (0, right)]
    five = [centre, *corners]
    # The crops of the mirrored image, as torchvision has them: its centre is a pixel off where `right` is odd.
    mirrored = [(y, right - x, True) for y, x, _ in five]
    views_by_name = {
        "single": [centre],
        "flip": [centre, (*centre[:2], True)],
        "five_crop": five,
        "ten_crop": [*five, *mirrored],
    }
    return (height, width), views_by_name[views]


def _scale_and_aspect(image, rng, size, *, min_area, **_):
    return scale_and_aspect_crop(image, rng, size, min_area)


def _scale(image, rng, size, *, min_area, **_):
    return scale_crop(image, rng, size, min_area)


def _pad_and_crop(image, rng, size, *, fill, **_):
    return pad_and_crop(image, rng, size, fill)


def _center(image, rng, size, *, resize, fit, fill, **_):
    return crop_views(image, size, resize, "single", fit, fill)[0]


AUGMENTATIONS: dict[str, Callable[..., np.ndarray]] = {
    "scale_and_aspect": _scale_and_aspect,
    "scale": _scale,
    "pad_and_crop": _pad_and_crop,
    "center": _center,
    "none": _center,
}


def training_transform(
    name: str,
    *,
    size: int,
    resize: int,
    fill: Sequence[float],
    min_area: float = MIN_AREA,
    flip: float = 0.5,
    fit: str = "crop",
    jitter: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
) -> Callable[[Picture, np.random.Generator], np.ndarray]:
    """The training transform of that name, to be called with an image and a generator: a crop, a flip, jitter.

    Args:
        name: one of `AUGMENTATIONS`. "center" and "none" take the first view of `crop_views`; "none" never flips.
        size: side of the result in pixels.
        resize, fit: as in `crop_views`, for "center" and "none".
        fill: colour [3], 0..255, of pixels outside the image: the mean of the training data.
        min_area: the smallest part of the area that the random crops of the two scale augmentations keep, (0, 1].
        flip: probability of mirroring left and right.
        jitter: what becomes of the pixels at last, such as a `jitter.Jitter`.

    Raises:
        DataError: there is no such augmentation, or an area out of range.
    """
    if name not in AUGMENTATIONS:
        raise unknown_name("augmentation", name, AUGMENTATIONS)
    if not 0 < min_area <= 1:
        raise DataError(f"the smallest area of a crop is {min_area}; it must be in (0, 1]")
    options = {"size": size, "resize": resize, "fill": tuple(fill), "min_area": min_area, "fit": fit}
    crop = functools.partial(AUGMENTATIONS[name], **options)
    return functools.partial(_transformed, crop=crop, mirrored=0 if name == "none" else flip, jitter=jitter)


def _transformed(image, rng, *, crop, mirrored, jitter):
    pixels = flip(crop(image, rng), rng, mirrored)
    return pixels if jitter is None else jitter(pixels, rng)


def _with_size(image: Picture) -> EncodedImage | Image.Image:
    return Image.fromarray(image) if isinstance(image, np.ndarray) else image


def _decoded(image: Picture) -> Image.Image:
    return image.decode()[0] if isinstance(image, EncodedImage) else _with_size(image)


def _resized(image: EncodedImage | Image.Image, box: tuple[int, int, int, int], size: int) -> np.ndarray:
    """The box (left, top, right, bottom) of the image at size x size.

    Two things are done for speed. A JPEG is decoded shrunk where the box keeps `size` pixels in both directions: on
    portraits that changes the result by 0.3 levels in the mean. And where nothing is shrunk, so that nothing needs
    antialiasing, OpenCV enlarges the crop as Pillow does (but for rounding), in a seventh of the time; Pillow with a
    box, as below, looks at the pixels just outside it, too. Without both, the images a second in the two rows of
    `python -m tools.benchmark input_torch` were 1.3 and 1.5 times fewer.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    if isinstance(image, EncodedImage):
        image, shrunk = image.decode(max(n for n in (1, 2, 4, 8) if n == 1 or n * size <= min(width, height)))
        box = tuple(edge / shrunk for edge in box)
    if max(width, height) <= size:
        return cv2.resize(np.asarray(image.crop(box)), (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
