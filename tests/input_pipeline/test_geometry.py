"""Where transforms take the places in an image: told by their pixels, and by the labels that move with them."""

import csv
import functools
import io
import itertools
import zipfile

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from input_pipeline import create_dataset, geometry, on_device, pipeline, transforms
from input_pipeline.alignment import LANDMARKS, align
from input_pipeline.geometry import Box, Points, Roll, Yaw
from input_pipeline.jitter import Jitter
from input_pipeline.records import ArraySource

WIDTH, HEIGHT, STEP = 120, 90, 2.0
FILL = (0, 0, 0)
WARP = Jitter(shift_scale_rotate=1.0, shift=0.1, scale=0.2, rotation=30)


def ramps(width=WIDTH, height=HEIGHT, step=STEP):
    """An image whose colours tell the place: red is x, green is y, both `step` levels a pixel; blue is 200."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([step * x, step * y, np.full_like(x, 200)], 2).round().astype(np.uint8)


def png(pixels, file_format="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format, quality=100, subsampling=0)
    return transforms.EncodedImage(file.getvalue(), "ramps")


def from_colours(pixels, step=STEP):
    """The matrix [2, 3] from a crop of the ramps to the image, from the colours alone, where these are not border."""
    inner = cv2.erode((abs(pixels[..., 2].astype(int) - 200) < 4).astype(np.uint8), np.ones((5, 5)), borderValue=0) > 0
    assert inner.mean() > 0.1
    y, x = np.nonzero(inner)
    places = np.stack([x + 0.5, y + 0.5, np.ones(len(x))], 1)
    return np.linalg.lstsq(places, pixels[inner][:, :2] / step, rcond=None)[0].T


def assert_tells_the_truth(pixels, matrix, step=STEP, atol=0.25):
    """The colours under a point of the crop say where in the image it was; the matrix takes it from there to the point.

    The tolerance is in pixels of the image, of which a level is half a pixel.
    """
    size = len(pixels)
    points = np.array([(0.3, 0.3), (0.7, 0.4), (0.4, 0.7), (0.5, 0.5)]) * size
    in_image = geometry.apply(from_colours(pixels, step), points)
    wanted = geometry.apply(inverse(matrix), points)
    np.testing.assert_allclose(in_image, wanted, atol=atol)
    assert (np.linalg.det(from_colours(pixels, step)[:, :2]) < 0) == geometry.is_mirrored(matrix)


def inverse(matrix):
    return np.linalg.inv([*np.asarray(matrix, float), (0, 0, 1)])[:2]


# --- Matrices -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jitter", [None, WARP], ids=["still", "warped"])
@pytest.mark.parametrize("name", sorted(transforms.AUGMENTATIONS))
def test_host_transforms_return_the_matrix_from_the_image(name, jitter):
    mirrored = 0
    for fit in transforms.FITS if name in ("center", "none") else ("crop",):
        transform = transforms.training_transform(
            name, size=64, resize=75, fill=FILL, min_area=0.4, fit=fit, jitter=jitter
        )
        for seed in range(8):
            pixels, matrix = transform(png(ramps()), np.random.default_rng(seed))
            assert_tells_the_truth(pixels, matrix)
            mirrored += np.linalg.det(matrix[:, :2]) < 0
    assert (mirrored > 0) == (name != "none")


def test_a_jpeg_that_is_decoded_smaller_keeps_its_place():
    image, size = ramps(801, 603, 0.3), 40
    transform = transforms.training_transform("scale", size=size, resize=size, fill=FILL, min_area=0.5)
    for seed in range(4):
        pixels, matrix = transform(png(image, "JPEG"), np.random.default_rng(seed))
        assert_tells_the_truth(pixels, matrix, step=0.3, atol=1.5)


@pytest.mark.parametrize("fit", transforms.FITS)
@pytest.mark.parametrize("size", [64, 65])
def test_views_return_their_matrices(size, fit):
    crops = transforms.crop_views(ramps(), size, 80, "ten_crop", fit, FILL)
    assert crops.pixels.shape == (10, size, size, 3) and crops.matrix.shape == (10, 2, 3)
    for pixels, matrix, flipped in zip(*crops, transforms.mirrored_views("ten_crop"), strict=True):
        assert_tells_the_truth(pixels, matrix)
        assert geometry.is_mirrored(matrix) == flipped


def test_alignment_returns_the_matrix():
    landmarks = LANDMARKS @ np.array([(50.0, 20), (-20, 50)]) + (40, 20)  # turned and moved
    crop = align(Image.fromarray(ramps()), landmarks, LANDMARKS, 60, FILL)
    assert_tells_the_truth(*crop)
    np.testing.assert_allclose(geometry.apply(crop.shares, landmarks), LANDMARKS, atol=1e-9)


@pytest.mark.parametrize("name", ["scale_and_aspect", "pad_and_crop", "center"])
def test_the_device_returns_what_the_host_would(name):
    """Matrices, and labels that were moved by them, in one compiled program."""
    size = 84 if name == "pad_and_crop" else 64
    rows = 12
    landmarks = np.random.default_rng(0).uniform((0, 0), (WIDTH, HEIGHT), (rows, 6, 2)).astype(np.float32)
    columns = {"image": np.stack([ramps()] * rows), "points": landmarks, "mask": np.ones(rows, np.float32)}
    transform = on_device.training_transform(name, size=size, resize=75, fill=FILL, min_area=0.4)
    kinds = {"points": Points(pairs=((1, 4),))}

    @jax.jit
    def program(columns, order):
        crops = []

        def remembered(*args):
            crops.append(transform(*args))
            return crops[0]

        batch = {"columns": columns, "order": order}
        return on_device.training_rows(batch, jnp.int32(0), remembered, jax.random.key(3), kinds), crops[0].matrix

    batch, matrices = jax.device_get(program(columns, np.arange(rows)[None]))
    assert matrices.shape == (rows, 2, 3) and 0 < sum(map(geometry.is_mirrored, matrices)) < rows
    for row in range(rows):
        matrix = matrices[row].astype(float)
        assert_tells_the_truth(batch["image"][row], matrix)
        moved = geometry.move({"points": landmarks[row]}, matrix / size, kinds)["points"]
        np.testing.assert_allclose(batch["points"][row], moved, atol=1e-5)
    assert 0.1 < np.isnan(batch["points"]).mean() < 0.9


def test_test_rows_of_the_device_have_the_labels_of_the_first_view():
    columns = {"image": ramps()[None], "points": np.array([[[10.0, 60], [60, 45]]], np.float32)}
    columns |= {"box": np.array([[10.0, 20, 60, 45]], np.float32), "mask": np.ones(1, np.float32)}
    kinds = {"points": Points(), "box": Box()}
    views = functools.partial(on_device.crop_views, size=64, resize=90, views="flip")
    rows = jax.jit(functools.partial(on_device.test_rows, views=views, geometry=kinds))
    resident = rows({"columns": columns, "numbers": np.array([0]), "mask": np.ones(1)})
    source = ArraySource({key: column for key, column in columns.items() if key != "mask"})
    views = functools.partial(transforms.crop_views, size=64, resize=90, views="flip")
    (batch,) = pipeline.test_batches(source, transform=views, batch_size=1, geometry=kinds)
    # the centre begins at (28, 13): of the points one is to the left of it, the box is cut off there
    for found in (resident, batch):
        np.testing.assert_allclose(found["points"], [[[np.nan, np.nan], [0.5, 0.5]]], rtol=1e-6)
        np.testing.assert_allclose(found["box"], [[0, 7 / 64, 0.5, 0.5]], rtol=1e-6)


# --- Labels ---------------------------------------------------------------------------------------------------------

HALF = np.array([[0.01, 0, 0], [0, 0.02, 0]])  # an image of 100 x 50 pixels, whole
MIRROR = np.array([[-0.01, 0, 1], [0, 0.02, 0]])
TURN = np.array([[0, -0.02, 1], [0.02, 0, 0]])  # a square of 50 pixels, a quarter turn clockwise
NAN = np.nan


CASES = [  # kind, matrix, before, after
    (Points(), HALF, [(50, 10), (100, 50), (0, 0)], [(0.5, 0.2), (1, 1), (0, 0)]),
    (Points(((0, 2),)), HALF, [(50, 10), (100, 50), (0, 0)], [(0.5, 0.2), (1, 1), (0, 0)]),
    (Points(((0, 2),)), MIRROR, [(50, 10), (75, 50), (0, 0)], [(1, 0), (0.25, 1), (0.5, 0.2)]),
    (Points(((0, 1),)), MIRROR, [(-1, -1), (25, 5)], [(0.75, 0.1), (NAN, NAN)]),
    (Points(), HALF, [(-1, -1), (NAN, NAN), (101, 5), (5, 51), (-3, 5)], [(NAN, NAN)] * 5),
    (Points(), TURN, [(10, 20), (50, 0)], [(0.6, 0.2), (1, 1)]),
    (Box(), HALF, (10, 10, 20, 50), (0.1, 0.2, 0.2, 1)),
    (Box(), HALF, (-10, 10, 20, 60), (0, 0.2, 0.2, 1)),
    (Box(), MIRROR, (10, 10, 20, 50), (0.8, 0.2, 0.9, 1)),
    (Box(), TURN, (10, 0, 20, 40), (0.2, 0.2, 1, 0.4)),
    (Box(), HALF, (101, 0, 150, 20), (NAN,) * 4),
    (Box(), HALF, (-1, -1, -1, -1), (NAN,) * 4),
    (Box(), HALF, (NAN,) * 4, (NAN,) * 4),
    (Yaw(), HALF, 30, 30),
    (Yaw(), MIRROR, 30, -30),
    (Yaw(), TURN, -30, -30),
    (Yaw(), MIRROR, NAN, NAN),
    (Roll(), MIRROR * (1, 0.5, 1), 30, -30),
    (Roll(), TURN, 30, 120),
    (Roll(), TURN, 100, -170),
    (Roll(), HALF, 45, np.degrees(np.arctan(2))),
    (Roll(), TURN, NAN, NAN),
]


@pytest.mark.parametrize("form", ["numpy", "compiled"])
def test_labels_move(form):
    def move(matrices):
        return [
            geometry.move({"it": np.array(before), "age": 7}, matrix, {"it": kind, "missing": kind})
            for (kind, _, before, _), matrix in zip(CASES, matrices, strict=True)
        ]

    matrices = [matrix for _, matrix, _, _ in CASES]
    for case, moved in zip(CASES, (move if form == "numpy" else jax.jit(move))(matrices), strict=True):
        assert moved.keys() == {"it"} and moved["it"].dtype == np.float32
        np.testing.assert_allclose(moved["it"], np.float32(case[-1]), atol=1e-4, err_msg=str(case))


def test_a_turned_box_is_the_smallest_around_its_corners():
    """Of a square of 20 pixels, turned by 45 degrees about its centre: it is a diamond, as wide as the diagonal."""
    turn = np.column_stack([np.array([[1, -1], [1, 1]]) / np.sqrt(2), (50, 50)]) / 100
    wanted = 0.5 + np.array([-1, -1, 1, 1]) * np.sqrt(200) / 100
    np.testing.assert_allclose(Box().move(np.array([-10, -10, 10, 10]), turn), wanted)


# --- Faces ----------------------------------------------------------------------------------------------------------


def assert_shows(crop, image, before, after, pairs):
    """The crop shows the image where the points are that moved from `before`, in pixels, to `after`, in its parts.

    From the points alone follows which part of the image that is; a pixel to the side, it fits worse. Returns whether
    the points have changed names.
    """
    size, seen = len(crop), ~np.isnan(after).any(1)
    shown = cv2.erode(crop.max(2), np.ones((5, 5)), borderValue=0) > 0  # and no border
    misfits = []
    for changed, names in enumerate((np.arange(len(before)), renamed(len(before), pairs))):
        source = np.column_stack([before[names][seen], np.ones(seen.sum())])
        affine, *_ = np.linalg.lstsq(source, after[seen] * size, rcond=None)
        if np.abs(source @ affine - after[seen] * size).max() > 0.01:  # these names do not fit
            continue
        for shift in np.array([(0, 0), (1.5, 0), (-1.5, 0), (0, 1.5), (0, -1.5)]):
            warp = geometry.between_centres(affine.T + np.column_stack([np.zeros((2, 2)), shift]))
            blurred = cv2.GaussianBlur(image, (0, 0), max(0.01, 0.4 / np.sqrt(abs(np.linalg.det(affine[:2])))))
            wanted = cv2.warpAffine(blurred, warp, (size, size)).astype(float)
            known = cv2.warpAffine(np.full_like(image, 255), warp, (size, size), borderValue=(0, 0, 0)) == 255
            misfits.append((np.abs(wanted - crop)[known.all(2) & shown].mean(), np.abs(shift).max(), changed))
    (best, shift, changed), (second, *_) = sorted(misfits)[:2]
    assert shift == 0 and best < min(12, 0.8 * second), misfits
    return bool(changed)


def renamed(count, pairs):
    names = np.arange(count)
    for first, second in pairs:
        names[[first, second]] = second, first
    return names


def test_labels_of_drawn_faces_move_with_the_pixels(tmp_path):
    data = create_dataset("rendered_faces", cache_dir=tmp_path, people=10, pictures_per_person=2, resolution=96)
    records = {float(record["smile"]): record for record in (data.train[number] for number in range(16))}
    transform = transforms.training_transform(
        "scale_and_aspect", size=80, resize=80, fill=data.mean, min_area=0.5, jitter=WARP
    )
    options = {"batch_size": 16, "seed": 0, "epochs": 3, "geometry": data.geometry}
    turned = seen = 0
    for batch in pipeline.train_batches(data.train, transform=transform, **options):
        for row in range(16):
            before, points = records[float(batch["smile"][row])], batch["landmarks"][row]
            assert before["age"] == batch["age"][row] and abs(before["yaw"]) == abs(batch["yaw"][row])
            if np.isnan(points).any():
                continue
            image = np.asarray(transforms.decode_image(before["image"], ""))
            mirrored = assert_shows(batch["image"][row], image, before["landmarks"], points, ((0, 1), (3, 4)))
            assert mirrored == (before["yaw"] != batch["yaw"][row])
            left, top, right, bottom = batch["box"][row]
            assert ((left, top) < points).all() and (points < (right, bottom)).all()
            turned, seen = turned + mirrored, seen + 1
    assert seen > 20 and 0.25 < turned / seen < 0.75


# Of 300-W: contour, brows, nose, eyes, mouth.
MIRRORED_68 = (
    *((number, 16 - number) for number in range(8)),
    *((number, 43 - number) for number in range(17, 22)),
    *((31, 35), (32, 34), (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),
    *((48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67)),
)


@pytest.fixture(scope="module")
def photographs(shared):
    """Four photographs, as files, with 68 points of each. The list counts pixels from 0, at their centres."""
    folder = shared("data/helen")
    with (folder / "landmarks68.csv").open() as lines, zipfile.ZipFile(folder / "helen_00.zip") as images:
        rows = itertools.islice(csv.reader(lines), 1, 5)
        return [(images.read(f"{name}.webp"), np.array(xy, float).reshape(68, 2) + 0.5) for name, *xy in rows]


@pytest.mark.parametrize("name", sorted(transforms.AUGMENTATIONS.keys() - {"pad_and_crop"}))
def test_landmarks_of_photographs_move_with_the_pixels_and_back(photographs, name):
    assert sorted(sum(MIRRORED_68, ())) == sorted({*range(68)} - {8, *range(27, 31), 33, 51, 57, 62, 66})
    kind = Points(MIRRORED_68)
    transform = transforms.training_transform(
        name, size=160, resize=180, fill=FILL, min_area=0.3, fit="pad", jitter=WARP
    )
    for seed, (data, landmarks) in enumerate(photographs):
        image = transforms.EncodedImage(data, "photograph")
        crop = transform(image, np.random.default_rng(seed))
        moved = geometry.move({"landmarks": landmarks}, crop.shares, {"landmarks": kind})["landmarks"]
        known, mirrored = ~np.isnan(moved).any(1), geometry.is_mirrored(crop.matrix)
        assert known.sum() > 10
        original = landmarks[renamed(68, MIRRORED_68)] if mirrored else landmarks
        np.testing.assert_allclose(geometry.apply(inverse(crop.shares), moved)[known], original[known], atol=0.01)
        assert assert_shows(crop.pixels, np.asarray(image), landmarks, moved, MIRRORED_68) == mirrored
