import dataclasses
import functools
import pickle

import numpy as np
import pytest
from PIL import Image

from input_pipeline import DataError, jitter, transforms
from input_pipeline.jitter import Jitter
from input_pipeline.transforms import Crop

FILL = (7.2, 6.8, 9)
AMOUNTS = {field.name for field in dataclasses.fields(Jitter)} - {"fill", *jitter.OPERATIONS}
still = functools.partial(Jitter, **dict.fromkeys(AMOUNTS, 0.0))  # amounts of 0 but those that are given
ALL = Jitter(
    fill=FILL,
    **dict.fromkeys(jitter.OPERATIONS, 1.0),
    shift=0.1,
    scale=0.1,
    rotation=15,
    brightness=0.2,
    contrast=0.2,
    hue=10,
    saturation=0.2,
    value=0.2,
    noise_std=10,
    blur_sigma=1.5,
)


class Ends:
    """A generator that draws one end of every range, and counts."""

    def __init__(self, highest=True):
        self.highest, self.draws = highest, 0

    def random(self):
        self.draws += 1
        return 0.0

    def uniform(self, low, high):
        self.draws += 1
        return high if self.highest else low


@pytest.fixture
def noise():
    """Pixels [20, 20, 3] from 60 to 189: a fifth more or less stays in range."""
    return np.random.default_rng(0).integers(60, 190, (20, 20, 3)).astype(np.uint8)


def whole(pixels):
    return Crop(pixels, np.eye(2, 3))


def colour(*levels):
    return np.full((2, 2, 3), levels, np.uint8)


def test_without_probabilities_nothing_is_drawn_or_changed(noise):
    off = dataclasses.replace(ALL, **dict.fromkeys(jitter.OPERATIONS, 0.0))
    rng = Ends()
    assert off(whole(noise), rng).pixels is noise and rng.draws == 0
    assert ALL.on and Jitter(blur=0.1).on and not off.on


def test_a_shift_moves_pixels_and_fills_what_they_leave(noise):
    moved, _ = still(fill=FILL, shift_scale_rotate=1, shift=0.2)(whole(noise), Ends())
    np.testing.assert_array_equal(moved[4:, 4:], noise[:-4, :-4])
    assert (moved[:4] == (7, 7, 9)).all() and (moved[:, :4] == (7, 7, 9)).all()


@pytest.mark.parametrize("highest", [True, False])
def test_a_quarter_turn_is_exact(noise, highest):
    turned, _ = still(shift_scale_rotate=1, rotation=90)(whole(noise), Ends(highest))
    np.testing.assert_array_equal(turned, np.rot90(noise, 1 if highest else -1))


def test_scaling_is_about_the_centre():
    dot = np.zeros((21, 21, 3), np.uint8)
    dot[10, 10] = 255
    dot[10, 14] = 100
    half, _ = jitter.shift_scale_rotate(dot, (0, 0), -0.5, 0, FILL)
    assert (half[10, 10] == 255).all() and (half[10, 12] == 100).all()
    assert (half[0] == (7, 7, 9)).all()  # what lies around the image


def test_brightness_is_added_and_stops_at_the_ends(noise):
    brighter, _ = still(brightness_contrast=1, brightness=0.2)(whole(noise), Ends())
    np.testing.assert_array_equal(brighter, noise + 51)
    assert (jitter.change_brightness(noise, 1, 0) == 255).all() and (jitter.change_brightness(noise, -1, 0) == 0).all()


def test_contrast_is_about_the_mean_level():
    """Of 50 and 150: half as far again from 100."""
    pixels = np.concatenate([colour(50, 50, 50), colour(150, 150, 150)])
    expected = np.concatenate([colour(25, 25, 25), colour(175, 175, 175)])
    np.testing.assert_array_equal(still(brightness_contrast=1, contrast=0.5)(whole(pixels), Ends()).pixels, expected)
    assert (jitter.change_brightness(pixels, 0, -1) == 100).all()


@pytest.mark.parametrize(
    ("hue", "saturation", "value", "before", "after"),
    [
        (120, 0, 0, (255, 0, 0), (0, 255, 0)),
        (-120, 0, 0, (255, 0, 0), (0, 0, 255)),
        (60, 0, 0, (200, 0, 0), (200, 200, 0)),
        (0, -1, 0, (200, 50, 100), (200, 200, 200)),
        (0, 0.5, 0, (200, 100, 100), (200, 50, 50)),
        (0, 0, -0.5, (200, 0, 0), (100, 0, 0)),
        (90, 0.9, 0, (77, 77, 77), (77, 77, 77)),  # grey has no hue to turn and no saturation to grow
    ],
)
def test_hue_turns_and_saturation_and_value_grow(hue, saturation, value, before, after):
    changed = jitter.change_colour(colour(*before), hue, saturation, value).astype(int)
    assert np.abs(changed - colour(*after)).max() <= 1
    if min(hue, saturation, value) >= 0:
        drawn, _ = still(hue_saturation=1, hue=hue, saturation=saturation, value=value)(whole(colour(*before)), Ends())
        np.testing.assert_array_equal(drawn, changed)


def test_noise_has_the_mean_and_the_deviation_of_a_gaussian():
    grey = np.full((100, 100, 3), 128, np.uint8)
    noise = jitter.add_noise(grey, 8, np.random.default_rng(0)).astype(float) - 128
    assert abs(noise.mean()) < 0.2 and abs(noise.std() - 8) < 0.2
    assert 0.66 < (abs(noise) <= 8).mean() < 0.72 and 0.94 < (abs(noise) <= 16).mean() < 0.97  # rounded to levels
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.04
    black = jitter.add_noise(np.zeros_like(grey), 8, np.random.default_rng(0))
    assert (black == 0).mean() > 0.5 and black.max() < 50  # cut off, not wrapped around


def test_a_blurred_pixel_is_a_gaussian_that_sums_to_it():
    dot = np.zeros((15, 15, 3), np.uint8)
    dot[7, 7] = 250
    blurred = Jitter(blur=1, blur_sigma=1.0)(whole(dot), Ends()).pixels.astype(float)
    assert np.abs(blurred.sum((0, 1)) - 250).max() < 10  # 49 levels are rounded
    centre = 1 / np.exp(-(np.arange(-3, 4) ** 2) / 2).sum()
    assert np.abs(blurred[7, 7] - 250 * centre**2).max() < 1
    np.testing.assert_array_equal(jitter.blur(dot, 0), dot)


def test_operations_come_in_the_order_of_the_paper(noise):
    expected, _ = jitter.shift_scale_rotate(noise, (0.1, 0.1), 0.1, 15, FILL)
    expected = jitter.change_brightness(expected, 0.2, 0.2)
    expected = jitter.change_colour(expected, 10, 0.2, 0.2)
    expected = jitter.blur(expected, 1.5)
    np.testing.assert_array_equal(dataclasses.replace(ALL, noise=0.0)(whole(noise), Ends()).pixels, expected)
    noisy = dataclasses.replace(ALL, **dict.fromkeys(jitter.OPERATIONS[:3], 0.0), blur_sigma=1)
    one, other = np.random.default_rng(3), np.random.default_rng(3)
    other.random()
    expected = jitter.add_noise(noise, other.uniform(0, 10), other)
    other.random()
    np.testing.assert_array_equal(noisy(whole(noise), one).pixels, jitter.blur(expected, other.uniform(0, 1)))


@pytest.mark.parametrize("name", sorted(transforms.AUGMENTATIONS))
def test_whatever_a_crop_gives_can_be_jittered(noise, name):
    transform = transforms.training_transform(name, size=18, resize=18, fill=FILL, jitter=ALL)
    for pixels in (noise, Image.fromarray(noise)):
        image, _ = transform(pixels, np.random.default_rng(0))
        assert image.shape == (18, 18, 3) and image.dtype == np.uint8 and image.std() > 5


def test_the_same_generator_gives_the_same_image_in_another_process(noise):
    copy = pickle.loads(pickle.dumps(ALL))
    images = [each(whole(noise), np.random.default_rng(seed)).pixels for each, seed in ((ALL, 1), (copy, 1), (ALL, 2))]
    np.testing.assert_array_equal(images[0], images[1])
    assert (images[0] != images[2]).mean() > 0.5
    assert images[0].shape == noise.shape and images[0].dtype == np.uint8


def test_probabilities_and_ranges_are_kept_over_many_draws():
    """Of a brightness of up to a fifth, three times in ten."""
    rng, grey = np.random.default_rng(0), colour(100, 100, 100)
    dim = still(brightness_contrast=0.3, brightness=0.2)
    levels = np.array([int(dim(whole(grey), rng).pixels[0, 0, 0]) - 100 for _ in range(3000)])
    assert 0.27 < (levels != 0).mean() < 0.33
    assert levels.min() in (-51, -50) and levels.max() in (50, 51) and abs(levels.mean()) < 1.5


@pytest.mark.parametrize(
    ("name", "number"),
    [("blur", 1.1), ("noise", -0.1), ("shift", 2), ("scale", 1), ("rotation", 181), ("blur_sigma", float("nan"))],
)
def test_numbers_out_of_range_are_named(name, number):
    with pytest.raises(DataError, match=rf"^jitter\.{name} is {number}; it must be from 0 to \S+$"):
        Jitter(**{name: number})
