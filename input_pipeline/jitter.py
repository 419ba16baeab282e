"""Random changes of place, light, colour and sharpness of a training image, one after the other.

"ShiftScaleRotate to simulate different camera angles and subject distances; RandomBrightnessContrast and
HueSaturationValue to combat diverse lighting conditions; GaussNoise and Blur to prevent overfitting to high-resolution
noise patterns" (Multi-task age and gender, section 4, which gives no ranges).

Images are uint8 [H, W, 3], RGB, and stay so. `Jitter` draws how much; the functions below it change an image by that.
"""

import dataclasses
from collections.abc import Sequence
from statistics import NormalDist

import cv2
import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.geometry import between_centres
from input_pipeline.transforms import Crop

OPERATIONS = ("shift_scale_rotate", "brightness_contrast", "hue_saturation", "noise", "blur")
LARGEST = {"scale": 0.9, "rotation": 180, "hue": 180, "noise_std": 255, "blur_sigma": 100}  # of all others, 1

# Quantiles of the normal distribution. One of them at random takes a third of the time of `standard_normal`, and in
# whole levels it is the same.
_NORMAL = np.array([NormalDist().inv_cdf((number + 0.5) / 4096) for number in range(4096)], np.float32)


@dataclasses.dataclass(frozen=True)
class Jitter:
    """Called with a crop and a generator, it does each operation with its probability, in their order.

    Amounts are drawn evenly from minus to plus what is given here, those of noise and blur from 0. An operation of
    probability 0 draws nothing.

    Args:
        fill: colour [3], 0..255, of pixels outside the image.
        shift_scale_rotate: probability of moving, enlarging and turning the image.
        shift: share of the width to the right, and of the height down.
        scale: share by which the image is enlarged.
        rotation: degrees, counter-clockwise, about the centre.
        brightness_contrast: probability of changing both.
        brightness: share of 255 levels that is added.
        contrast: share by which the distance from the mean level of the image grows.
        hue_saturation: probability of changing hue, saturation and value.
        hue: degrees on the colour wheel, from red towards green; in steps of 2.
        saturation: share by which saturation grows; grey stays grey.
        value: share by which the brightest channel grows.
        noise: probability of adding noise.
        noise_std: standard deviation of Gaussian noise in levels, independent in each channel.
        blur: probability of blurring.
        blur_sigma: standard deviation of a Gaussian in pixels.

    Raises:
        DataError: a number out of range.
    """

    fill: tuple[float, ...] = (0, 0, 0)
    shift_scale_rotate: float = 0.0
    shift: float = 0.0625
    scale: float = 0.1
    rotation: float = 15.0
    brightness_contrast: float = 0.0
    brightness: float = 0.2
    contrast: float = 0.2
    hue_saturation: float = 0.0
    hue: float = 10.0
    saturation: float = 0.2
    value: float = 0.2
    noise: float = 0.0
    noise_std: float = 10.0
    blur: float = 0.0
    blur_sigma: float = 1.5

    def __post_init__(self):
        for name, number in dataclasses.asdict(self).items():
            largest = LARGEST.get(name, 1)
            if name != "fill" and not 0 <= number <= largest:
                raise DataError(f"jitter.{name} is {number}; it must be from 0 to {largest}")

    @property
    def on(self) -> bool:
        """Whether it ever does anything."""
        return any(getattr(self, name) > 0 for name in OPERATIONS)

    def __call__(self, crop: Crop, rng: np.random.Generator) -> Crop:
        def happens(probability: float) -> bool:
            return probability > 0 and rng.random() < probability

        def around(reach: float) -> float:
            return rng.uniform(-reach, reach)

        if happens(self.shift_scale_rotate):
            shift = around(self.shift), around(self.shift)
            amounts = shift, around(self.scale), around(self.rotation)
            crop = crop.then(shift_scale_rotate(crop.pixels, *amounts, self.fill))
        pixels = crop.pixels
        if happens(self.brightness_contrast):
            pixels = change_brightness(pixels, around(self.brightness), around(self.contrast))
        if happens(self.hue_saturation):
            pixels = change_colour(pixels, around(self.hue), around(self.saturation), around(self.value))
        if happens(self.noise):
            pixels = add_noise(pixels, rng.uniform(0, self.noise_std), rng)
        if happens(self.blur):
            pixels = blur(pixels, rng.uniform(0, self.blur_sigma))
        return Crop(pixels, crop.matrix)


def shift_scale_rotate(
    pixels: np.ndarray, shift: tuple[float, float], scale: float, rotation: float, fill: Sequence[float]
) -> Crop:
    """One bilinear warp; see `Jitter` for the amounts, `shift` being (right, down)."""
    height, width, _ = pixels.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rotation, 1 + scale)
    matrix[:, 2] += shift[0] * width, shift[1] * height
    border = [round(level) for level in fill]
    return Crop(cv2.warpAffine(pixels, between_centres(matrix), (width, height), borderValue=border), matrix)


def change_brightness(pixels: np.ndarray, brightness: float, contrast: float) -> np.ndarray:
    """See `Jitter` for the amounts."""
    mean = np.mean(cv2.mean(pixels)[:3])
    levels = np.arange(256)
    return cv2.LUT(pixels, _levels(levels + (levels - mean) * contrast + 255 * brightness))


def change_colour(pixels: np.ndarray, hue: float, saturation: float, value: float) -> np.ndarray:
    """See `Jitter` for the amounts. They change HSV of 8 bits; the way there and back is exact to a few levels."""
    levels = np.arange(256)
    hues = (levels + round(hue / 2)) % 180  # OpenCV counts in steps of 2 degrees
    table = np.stack([hues, levels * (1 + saturation), levels * (1 + value)], axis=-1)
    hsv = cv2.LUT(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV), _levels(table)[None])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def add_noise(pixels: np.ndarray, std: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of mean 0 and that standard deviation in levels."""
    noise = np.take(_NORMAL, rng.integers(len(_NORMAL), size=pixels.shape, dtype=np.uint16))
    return cv2.add(pixels, noise * np.float32(std), dtype=cv2.CV_8U)


def blur(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian of that standard deviation in pixels, cut off at three of it; edges are mirrored."""
    side = 2 * round(3 * sigma) + 1
    return cv2.GaussianBlur(pixels, (side, side), sigma)


def _levels(numbers: np.ndarray) -> np.ndarray:
    return np.clip(np.round(numbers), 0, 255).astype(np.uint8)
