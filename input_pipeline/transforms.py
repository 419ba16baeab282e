"""One image in, one image of the size that the network sees out, with the matrix from the one to the other.

Images come as files, Pillow images or uint8 [H, W, 3] arrays and leave as a `Crop`, uint8 [size, size, 3]. What is
random takes its numbers from the generator it is given, and from nowhere else. Resizing is bilinear and antialiased.
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
from input_pipeline.geometry import box_matrix, mirrored
from input_pipeline.jpeg import SOI, count_scans

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # Pillow has more; for one it starts Ghostscript
MAX_PIXELS = 50_000_000  # of an image; more could fill the memory
MAX_SCANS = 100  # of a JPEG; progressive ones have about ten, and each goes over all the pixels

TRIES = 10
PADDING = 4
VIEWS = ("single", "flip", "five_crop", "ten_crop")
FITS = ("crop", "pad")
MIN_AREA = 0.08  # fb.resnet.torch


class Crop(NamedTuple):
    """What was made of an image.

    Attributes:
        pixels: uint8 [size, size, 3]; [V, size, size, 3] for V views of the image.
        matrix: float64 [2, 3], or [V, 2, 3], from (x, y, 1) in pixels of the image to (x, y) in pixels of the crop,
            both from the upper left corner: the centre of the first pixel is (0.5, 0.5). A mirror image has a negative
            determinant.
    """

    pixels: np.ndarray
    matrix: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """The matrix to parts of the crop's side, see `geometry`."""
        return self.matrix / self.pixels.shape[-2]

    def then(self, change: "Crop") -> "Crop":
        """What `change` made of these pixels, with the matrix from the image that they come from."""
        matrix = change.matrix[..., :2] @ self.matrix
        matrix[..., 2] += change.matrix[..., 2]
        return Crop(change.pixels, matrix)


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
        if data.startswith(SOI) and count_scans(data) > MAX_SCANS:
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
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # the host's limit is lower
            raise TooManyPixels(f"{self.name}: {str(error).partition(',')[0]}; make it smaller") from error
        except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error ... for damaged files
            known = f"it is no image in one of the formats {', '.join(FORMATS)}"
            reason = known if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
            raise DataError(f"{self.name}: the image cannot be decoded ({reason})") from error


Picture = EncodedImage | Image.Image | np.ndarray


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in 8 bits of red, green and blue: of more bits the upper ones, what is transparent before white.

    Raises:
        DataError: its pixels are numbers of which nothing says what is white (32 bits, signed numbers, floats).
    """
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM"):  # PGM of 9 to 16 bits, scaled to 16
        bits = image.tag_v2.get(258, (16,))[0] if image.format == "TIFF" else 16  # BitsPerSample
        return Image.fromarray((np.asarray(image) >> (bits - 8)).astype(np.uint8)).convert("RGB")  # Pillow would clip
    if image.mode in ("I", "F"):
        raise DataError(f"nothing says which of its numbers is white (mode {image.mode}); save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image.convert("RGB")


def decode_image(data: bytes, name: str) -> Image.Image:
    """Decodes an image file to an RGB image. Arguments and errors as those of `EncodedImage`."""
    return EncodedImage(data, name).decode()[0]


def scale_and_aspect_crop(image: Picture, rng: np.random.Generator, size: int, min_area: float = MIN_AREA) -> Crop:
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


def scale_crop(image: Picture, rng: np.random.Generator, size: int, min_area: float = MIN_AREA) -> Crop:
    """A random square of `min_area` to 100 % of the area of the largest square, resized.

    The "scale augmentation" of the 4c2f network (Deep-RoR, section IV).
    """
    image = _with_size(image)
    side = max(1, round(min(image.size) * math.sqrt(rng.uniform(min_area, 1))))
    x, y = rng.integers(image.width - side + 1), rng.integers(image.height - side + 1)
    return _resized(image, (x, y, x + side, y + side), size)


def pad_and_crop(image: Picture, rng: np.random.Generator, size: int, fill: Sequence[float]) -> Crop:
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
    return Crop(padded[y : y + size, x : x + size], np.array([[1.0, 0, PADDING - x], [0, 1, PADDING - y]]))


def flip(crop: Crop, rng: np.random.Generator, probability: float = 0.5) -> Crop:
    """Mirrors left and right with this probability."""
    if rng.random() < probability:
        return Crop(cv2.flip(crop.pixels, 1), mirrored(crop.matrix, len(crop.pixels)))
    return crop


def inside(size: tuple[int, int], side: int) -> tuple[int, int]:
    """What (width, height) become when the longer of them becomes `side`: 1 at least, to the nearest pixel."""
    return tuple(max(1, round(length * side / max(size))) for length in size)


def pad_to_square(image: Picture, side: int, fill: Sequence[float]) -> Crop:
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
    return Crop(square, np.array([[width / image.width, 0, left], [0, height / image.height, top]]))


def center_crop(image: Picture, size: int, resize: int, fit: str = "crop", fill: Sequence[float] = (0, 0, 0)) -> Crop:
    """The central `size` x `size` pixels of the resized image: the "single" view of `crop_views`.

    With "crop" to the pixel what torchvision's Resize and CenterCrop make of a Pillow image (bilinear, antialiased).
    """
    return Crop(*(views[0] for views in crop_views(image, size, resize, "single", fit, fill)))


def crop_views(
    image: Picture, size: int, resize: int, views: str, fit: str = "crop", fill: Sequence[float] = (0, 0, 0)
) -> Crop:
    """What the network sees of a test image: uint8 [V, size, size, 3], cut out of the image when it has been resized.

    Args:
        resize: side in pixels, see `fit`.
        views: "single", the centre; "flip", the centre and its mirror image; "five_crop", the four corners and the
            centre; "ten_crop", these and their mirror images (Krizhevsky et al. 2012; RoR, Table XIII).
        fit: "crop" resizes the shorter side to `resize`; "pad" the longer one, as `pad_to_square`.
        fill: colour of the border of "pad".

    Raises:
        TooManyPixels: the image is so narrow that "crop" would make too many of it.
    """
    if fit == "pad":
        square = pad_to_square(image, resize, fill)
        return square.then(crop_views(square.pixels, size, resize, views))
    name = image.name if isinstance(image, EncodedImage) else "an image"
    image = _decoded(image)
    (height, width), places, matrices = view_geometry(image.height, image.width, size, resize, views)
    if width * height > MAX_PIXELS:
        raise TooManyPixels(
            f"{name}: {image.width}x{image.height} pixels, resized to {width}x{height}, are more than {MAX_PIXELS}; "
            "cut its long side"
        )
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))  # a copy where the sizes agree
    crops = [pixels[y : y + size, x : x + size] for y, x, _ in places]
    flips = (is_flipped for *_, is_flipped in places)
    return Crop(np.stack([crop[:, ::-1] if flip else crop for crop, flip in zip(crops, flips, strict=True)]), matrices)


def mirrored_views(views: str) -> tuple[bool, ...]:
    """Returns of each of these views of an image whether it is a mirror image."""
    return tuple(is_flipped for *_, is_flipped in view_geometry(1, 1, 1, 1, views)[1])


def view_geometry(height: int, width: int, size: int, resize: int, views: str):
    """What an image is resized to, its crops, and the matrices to them, see `Crop`.

    Returns:
        (height, width); [(top, left, whether it is then mirrored)]; float64 [V, 2, 3].
    """
    short = min(height, width)
    new_height, new_width = resize * height // short, resize * width // short
    bottom, right = new_height - size, new_width - size
    centre = (round(bottom / 2), round(right / 2), False)
    corners = [(y, x, False) for y in (0, bottom) for x in (0, right)]
    five = [centre, *corners]
    # The crops of the mirrored image, as torchvision has them: its centre is a pixel off where `right` is odd.
    flipped = [(y, right - x, True) for y, x, _ in five]
    views_by_name = {
        "single": [centre],
        "flip": [centre, (*centre[:2], True)],
        "five_crop": five,
        "ten_crop": [*five, *flipped],
    }

    def matrix(y, x, is_flipped):
        across, down = new_width / width, new_height / height
        return [[-across, 0, size + x] if is_flipped else [across, 0, -x], [0, down, -y]]

    places = views_by_name[views]
    return (new_height, new_width), places, np.array([matrix(*place) for place in places])


def _scale_and_aspect(image, rng, size, *, min_area, **_):
    return scale_and_aspect_crop(image, rng, size, min_area)


def _scale(image, rng, size, *, min_area, **_):
    return scale_crop(image, rng, size, min_area)


def _pad_and_crop(image, rng, size, *, fill, **_):
    return pad_and_crop(image, rng, size, fill)


def _center(image, rng, size, *, resize, fit, fill, **_):
    return center_crop(image, size, resize, fit, fill)


AUGMENTATIONS: dict[str, Callable[..., Crop]] = {
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
    jitter: Callable[[Crop, np.random.Generator], Crop] | None = None,
) -> Callable[[Picture, np.random.Generator], Crop]:
    """The training transform of that name, to be called with an image and a generator: a crop, a flip, jitter.

    Args:
        name: one of `AUGMENTATIONS`. "center" and "none" take the first view of `crop_views`; "none" never flips.
        size: side of the result in pixels.
        resize, fit: as in `crop_views`, for "center" and "none".
        fill: colour [3], 0..255, of pixels outside the image: the mean of the training data.
        min_area: the smallest part of the area that the random crops of the two scale augmentations keep, (0, 1].
        flip: probability of mirroring left and right.
        jitter: what becomes of the crop at last, such as a `jitter.Jitter`.

    Raises:
        DataError: there is no such augmentation, or an area out of range.
    """
    if name not in AUGMENTATIONS:
        raise unknown_name("augmentation", name, AUGMENTATIONS)
    if not 0 < min_area <= 1:
        raise DataError(f"the smallest area of a crop is {min_area}; it must be in (0, 1]")
    options = {"size": size, "resize": resize, "fill": tuple(fill), "min_area": min_area, "fit": fit}
    crop = functools.partial(AUGMENTATIONS[name], **options)
    return functools.partial(_transformed, crop=crop, flips=0 if name == "none" else flip, jitter=jitter)


def _transformed(image, rng, *, crop, flips, jitter):
    result = flip(crop(image, rng), rng, flips)
    return result if jitter is None else jitter(result, rng)


def _with_size(image: Picture) -> EncodedImage | Image.Image:
    return Image.fromarray(image) if isinstance(image, np.ndarray) else image


def _decoded(image: Picture) -> Image.Image:
    return image.decode()[0] if isinstance(image, EncodedImage) else _with_size(image)


def _resized(image: EncodedImage | Image.Image, box: tuple[int, int, int, int], size: int) -> Crop:
    """The box (left, top, right, bottom) of the image at size x size.

    Two things are done for speed. A JPEG is decoded shrunk where the box keeps `size` pixels in both directions: on
    portraits that changes the result by 0.3 levels in the mean. And where nothing is shrunk, so that nothing needs
    antialiasing, OpenCV enlarges the crop as Pillow does (but for rounding), in a seventh of the time; Pillow with a
    box, as below, looks at the pixels just outside it, too. Without both, the images a second in the two rows of
    `python -m tools.benchmark input_torch` were 1.3 and 1.5 times fewer.
    """
    width, height, matrix = box[2] - box[0], box[3] - box[1], box_matrix(box, size)
    if isinstance(image, EncodedImage):
        image, shrunk = image.decode(max(n for n in (1, 2, 4, 8) if n == 1 or n * size <= min(width, height)))
        box = tuple(edge / shrunk for edge in box)
    if max(width, height) <= size:
        pixels = cv2.resize(np.asarray(image.crop(box)), (size, size), interpolation=cv2.INTER_LINEAR)
    else:
        pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
    return Crop(pixels, matrix)
