import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from input_pipeline.alignment import LANDMARKS, align, symmetric, template
from input_pipeline.detection import YuNet, main_face
from input_pipeline.errors import DataError
from input_pipeline.transforms import center_crop

SIDE = 256
ACROSS, DOWN = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
RAMP = Image.fromarray(np.stack([ACROSS, DOWN, np.full_like(DOWN, 40)], 2).astype(np.uint8))  # colour tells the place


def face(x, y, across, down=0):
    """Landmarks of a face with the vector from eye to eye (across, down), (x, y) being between the eyes."""
    points = complex(x, y) + complex(across, down) * np.array([-0.5, 0.5, 0.5j, -0.4 + 0.9j, 0.4 + 0.9j])
    return np.stack([points.real, points.imag], 1)


def test_a_template_that_is_met_changes_nothing():
    pixels, matrix = align(RAMP, LANDMARKS * SIDE, LANDMARKS, SIDE, (0, 0, 0))
    np.testing.assert_array_equal(pixels, np.asarray(RAMP))
    np.testing.assert_allclose(matrix, np.eye(2, 3), atol=1e-12)


@pytest.mark.parametrize("scale", [1.6, 1, 0.55, 0.2])
@pytest.mark.parametrize("degrees", [0, 20, -75, 180])
def test_every_pixel_comes_from_where_the_landmarks_say(scale, degrees):
    """The colours of a ramp survive interpolation and antialiasing, so that they tell where a pixel came from."""
    size, middle = 48, np.array([130.0, 120.0])
    angle = np.radians(degrees)
    distance = 0.4 * size / scale
    landmarks = face(*middle, distance * np.cos(angle), distance * np.sin(angle))
    found, matrix = align(RAMP, landmarks, face(0.5, 0.4, 0.4), size, (0, 0, 0))
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
    np.testing.assert_allclose(mapped(matrix, wanted_x, wanted_y), np.indices((size, size))[::-1] + 0.5, atol=1e-9)


def mapped(matrix, x, y):
    """Where the matrix [2, 3] moves points: [2, ...] from two arrays [...]."""
    return np.einsum("ij,j...->i...", matrix, np.stack([x, y, np.ones_like(x)]))


SIZES = [(97, 64), (64, 97), (80, 80), (57, 91)]


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize(("size", "resize"), [(48, 48), (48, 57), (47, 56), (47, 57)])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_points_of_an_image_are_found_in_its_central_crop(width, height, size, resize, fit):
    """Ramps of colour, fitted over the crop, say where in the image it lies; so does the matrix, there and back."""
    rng, steps = np.random.default_rng(0), np.array([200 / width, 200 / height])
    ramps = 20 + steps * (np.stack(np.meshgrid(np.arange(width), np.arange(height)), 2) + 0.5)

    def crop(mirrored):  # with noise, and upwards and downwards, so that rounding cancels out
        red, green = np.moveaxis(np.round(ramps + rng.uniform(-1, 1, ramps.shape)), 2, 0)
        image = abs(mirrored - np.stack([red, green, np.full_like(red, 200)], 2)).astype(np.uint8)
        return abs(mirrored - center_crop(Image.fromarray(image), size, resize, fit).pixels.astype(float))

    colours = np.mean([crop(mirrored) for mirrored in [0, 255] * 25], 0)
    inner = cv2.erode((colours[:, :, 2] == 200).astype(np.uint8), np.ones((9, 9)), borderValue=0) > 0
    rows, columns = np.nonzero(inner)
    known = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], 1)
    to_image = np.linalg.lstsq(known, (colours[inner][:, :2] - 20) / steps, rcond=None)[0].T
    matrix = center_crop(Image.new("RGB", (width, height)), size, resize, fit).matrix
    points = np.array([(0.4, 0.5, 0.6), (0.4, 0.6, 0.5)]) * size
    np.testing.assert_allclose(mapped(matrix, *mapped(to_image, *points)), points, atol=0.01)
    corners = np.array([(0, size, 0, size), (0, 0, size, size)])
    back = np.linalg.inv([*matrix, (0, 0, 1)])[:2]
    np.testing.assert_allclose(mapped(matrix, *mapped(back, *corners)), corners, atol=1e-9)


def test_what_is_shrunk_is_antialiased():
    checkers = Image.fromarray(np.repeat((((ACROSS + DOWN) % 2) * 255)[..., None], 3, 2).astype(np.uint8))
    found = align(checkers, face(128, 128, 40), face(0.5, 0.5, 0.2), 20, (0, 0, 0)).pixels
    assert abs(found[2:-2, 2:-2].astype(int) - 127).max() < 12


@pytest.mark.parametrize("aside", [0.2, 0.6, 1])
def test_a_face_that_is_turned_aside_keeps_its_size(aside):
    """Its eyes and the corners of its mouth come closer together; the distance of eyes and mouth stays."""
    upright = np.array([(80.0, 100), (120, 100), (100, 120), (85, 144.45), (115, 144.45)])  # 1.8 x 44.45 = 2 x 40
    turned = (upright - (100, 0)) * (aside, 1) + (100, 0)
    wanted = align(RAMP, upright, LANDMARKS, 64, (0, 0, 0)).matrix
    np.testing.assert_allclose(align(RAMP, turned, LANDMARKS, 64, (0, 0, 0)).matrix, wanted, rtol=1e-3, atol=1e-3)


def test_the_place_of_a_face_is_a_tenth_of_the_way_from_its_eyes_to_its_mouth():
    """With eyes 40 and mouth 30 pixels away, its size is 80 pixels; in the template it is half of the side."""
    landmarks = np.array([(80.0, 100), (120, 100), (100, 120), (85, 130), (115, 130)])
    crop = align(RAMP, landmarks, face(0.5, 0.4, 0.25), 64, (0, 0, 0))
    wanted_y = 64 * (0.4 + 0.1 * 0.9 * 0.25)
    np.testing.assert_allclose(crop.matrix @ (100, 103, 1), (32, wanted_y), atol=1e-9)
    np.testing.assert_allclose(crop.matrix[:, :2], np.eye(2) * 32 / 80, atol=1e-9)


def test_the_usual_template_has_a_margin_of_two_fifths_of_the_face():
    corners = np.array([(0.4 / 1.8,) * 2, (1.4 / 1.8,) * 2])  # of the face in the crop
    np.testing.assert_allclose(template(), corners[0] + LANDMARKS * (corners[1] - corners[0]))
    np.testing.assert_array_equal(template(0), LANDMARKS)


@pytest.mark.parametrize("margin", [-0.1, 2.1, float("nan")])
def test_a_margin_out_of_range_is_refused(margin):
    with pytest.raises(DataError, match=r"align is .*; the margin on each side of a face must be from 0 to 2"):
        template(margin)


def test_a_template_is_made_symmetric():
    """The right eye is 0.1 too far right and the left one 0.02 too low, the nose 0.04 too far left."""
    measured = np.array([(0.3, 0.42), (0.8, 0.4), (0.46, 0.5), (0.4, 0.7), (0.6, 0.7)])
    wanted = [(0.25, 0.41), (0.75, 0.41), (0.5, 0.5), (0.4, 0.7), (0.6, 0.7)]
    np.testing.assert_allclose(symmetric(measured), wanted)
    np.testing.assert_allclose(symmetric(template()), template())


def test_the_usual_template_is_what_the_detector_sees_in_faces(shared):
    """In square images, 128 pixels a side, that show little more than a face."""
    with zipfile.ZipFile(shared("data/fairface/val_01.zip")) as images:
        faces = [Image.open(images.open(name)).convert("RGB") for name in images.namelist()[:150]]
    detect = YuNet()
    found = [main_face(detect(face), face.size).landmarks / face.size for face in faces if detect(face)]
    np.testing.assert_allclose(symmetric(np.median(found, 0)), LANDMARKS, atol=0.01)
