import numpy as np
import pytest
from PIL import Image

from input_pipeline.alignment import EYES_IN_BOX, MARGIN, TEMPLATE, align

SIDE = 256
ACROSS, DOWN = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
RAMP = Image.fromarray(np.stack([ACROSS, DOWN, np.full_like(DOWN, 40)], 2).astype(np.uint8))  # colour tells the place


def test_a_template_that_is_met_changes_nothing():
    template = np.array([(0.3, 0.4), (0.7, 0.4)])
    np.testing.assert_array_equal(align(RAMP, template * SIDE, template, SIDE, (0, 0, 0)), np.asarray(RAMP))


@pytest.mark.parametrize("scale", [1.6, 1, 0.55, 0.2])
@pytest.mark.parametrize("degrees", [0, 20, -75, 180])
def test_every_pixel_comes_from_where_the_eyes_say(scale, degrees):
    """The colours of a ramp survive interpolation and antialiasing, so that they tell where a pixel came from."""
    size, template, middle = 48, np.array([(0.3, 0.4), (0.7, 0.4)]), np.array([130.0, 120.0])
    angle = np.radians(degrees)
    distance = 0.4 * size / scale
    direction = np.array([np.cos(angle), np.sin(angle)])
    eyes = np.stack([middle - distance / 2 * direction, middle + distance / 2 * direction])
    found = align(RAMP, eyes, template, size, (0, 0, 0))
    assert found.shape == (size, size, 3) and found.dtype == np.uint8
    x, y = np.meshgrid(*(np.arange(size) + 0.5 - share * size for share in (0.5, 0.4)))  # from between the eyes
    wanted_x = middle[0] + (x * np.cos(angle) - y * np.sin(angle)) / scale
    wanted_y = middle[1] + (x * np.sin(angle) + y * np.cos(angle)) / scale
    border = 3 / min(scale, 1)
    inside = np.all([(place > border) & (place < SIDE - border) for place in (wanted_x, wanted_y)], axis=0)
    assert inside.mean() > 0.2
    for channel, wanted in enumerate((wanted_x, wanted_y)):
        np.testing.assert_allclose(found[inside][:, channel] + 0.5, wanted[inside], atol=1.2)
    outside = np.any([(place < -border) | (place > SIDE + border) for place in (wanted_x, wanted_y)], axis=0)
    assert (found[outside] == 0).all() and (found[inside][:, 2] == 40).all()


def test_what_is_shrunk_is_antialiased():
    checkers = Image.fromarray(np.repeat((((ACROSS + DOWN) % 2) * 255)[..., None], 3, 2).astype(np.uint8))
    eyes = np.array([(108.0, 128.0), (148.0, 128.0)])
    found = align(checkers, eyes, np.array([(0.4, 0.5), (0.6, 0.5)]), 20, (0, 0, 0))
    assert abs(found[2:-2, 2:-2].astype(int) - 127).max() < 12


def test_more_landmarks_are_fitted_with_least_squares():
    rng = np.random.default_rng(0)
    template = rng.uniform(0.2, 0.8, (5, 2))
    landmarks = template * 150 + 40 + rng.normal(0, 4, (5, 2))
    # x' = a x - b y + c and y' = b x + a y + d for all five, solved without complex numbers
    rows = [row for x, y in landmarks for row in ((x, -y, 1, 0), (y, x, 0, 1))]
    a, b, c, d = np.linalg.lstsq(np.array(rows), (template * 64).ravel(), rcond=None)[0]
    two = np.array([(60.0, 60.0), (120.0, 90.0)])
    mapped = np.stack([a * two[:, 0] - b * two[:, 1] + c, b * two[:, 0] + a * two[:, 1] + d], 1)
    wanted = align(RAMP, two, mapped / 64, 64, (0, 0, 0)).astype(int)
    assert abs(align(RAMP, landmarks, template, 64, (0, 0, 0)) - wanted).max() <= 1
    eyes_alone = align(RAMP, landmarks, template[:2], 64, (0, 0, 0))
    np.testing.assert_array_equal(eyes_alone, align(RAMP, landmarks[:2], template, 64, (0, 0, 0)))


def test_the_usual_crop_has_a_margin_of_two_fifths_of_the_face():
    corners = (np.array([(0, 0), (1, 1)]) + MARGIN) / (1 + 2 * MARGIN)  # of the detector's box in the crop
    np.testing.assert_allclose(corners, [(0.2222, 0.2222), (0.7778, 0.7778)], atol=1e-4)
    np.testing.assert_allclose(TEMPLATE, corners[0] + EYES_IN_BOX * (corners[1] - corners[0]))
