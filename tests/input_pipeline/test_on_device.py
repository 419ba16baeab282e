import functools
import io
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image
from processes import environment

from input_pipeline import DataError, on_device, pipeline, transforms
from input_pipeline.records import ArraySource
from input_pipeline.transforms import Crop

FILL = (7.2, 6.8, 7)


@pytest.fixture(scope="module")
def noise():
    """Images [6, 30, 40, 3] in which every pixel counts."""
    return np.random.default_rng(0).integers(0, 256, (6, 30, 40, 3)).astype(np.uint8)


def transform(name, size, resize=12, min_area=0.08):
    augment = on_device.training_transform(name, size=size, resize=resize, fill=FILL, min_area=min_area)
    return jax.jit(lambda images, key: augment(images, key).pixels)


def resized(images, boxes, size):
    """What Pillow makes of the boxes."""
    pictures = [Image.fromarray(image) for image in images]
    bilinear = Image.Resampling.BILINEAR
    return np.stack([p.resize((size, size), bilinear, box=tuple(b)) for p, b in zip(pictures, boxes, strict=True)])


def assert_as_pillow(pixels, expected):
    assert pixels.dtype == np.uint8
    difference = np.abs(np.asarray(pixels, int) - expected)
    assert difference.max() <= 1 and difference.mean() < 0.02  # Pillow's weights are whole numbers: halves may go down


def whole(image, rng=None):
    return Crop(np.asarray(image), np.eye(2, 3))


def jpeg(shape):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)).save(file, "JPEG")
    return file.getvalue()


# --- Columns and order ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["pixels", "jpeg"])
def test_rows_of_the_columns_in_the_order_of_an_epoch_are_the_batches_of_the_pipeline(form):
    count, batch_size = 200, 24
    images = np.array([jpeg((8, 10, 3)) for _ in range(count)], object)
    if form == "pixels":
        images = np.random.default_rng(0).integers(0, 256, (count, 8, 10, 3)).astype(np.uint8)
    source = ArraySource(
        {
            "image": images,
            "label": np.arange(count, dtype=np.int32),
            "age": np.linspace(0, 80, count, dtype=np.float32),
            "identity": np.array([f"person {number}" for number in range(count)]),
            "landmarks": np.zeros((count, 5, 2), np.float32),
        }
    )
    columns = on_device.load_columns(source)
    order = pipeline.record_order(source, seed=3)
    orders = [on_device.epoch_order(order, batch_size, epoch) for epoch in range(3)]
    assert {(order.shape, order.dtype) for order in orders} == {((8, batch_size), np.dtype(np.int32))}
    batches = pipeline.train_batches(source, transform=whole, batch_size=batch_size, seed=3, epochs=3)
    for numbers, batch in zip(np.concatenate(orders), batches, strict=True):
        assert batch.keys() == columns.keys()
        for key, column in columns.items():
            assert column.dtype == batch[key].dtype
            np.testing.assert_array_equal(column[numbers], batch[key])


def test_images_of_two_sizes_and_damaged_ones_are_refused():
    images = [jpeg((8, 10, 3))] * 70 + [jpeg((8, 12, 3))]
    with pytest.raises(DataError, match=r"record 70 is an image of 12x8 pixels, record 0 one of 10x8"):
        on_device.load_columns(ArraySource({"image": np.array(images, object)}))
    columns = {"image": np.array([images[0], images[0][:300]], object), "identity": np.array(["anna", "otto"])}
    with pytest.raises(DataError, match="record with identity otto: the image cannot be decoded"):
        on_device.load_columns(ArraySource(columns))


# --- Applying: the same pixels as on the host -----------------------------------------------------------------------


def test_a_box_is_resampled_as_by_pillow(noise):
    boxes = [(0, 0, 40, 30), (3, 4, 33, 25), (10, 0, 14, 30), (39, 29, 40, 30), (5, 6, 17, 18), (0, 10, 40, 16)]
    resample = jax.jit(jax.vmap(functools.partial(on_device.resample, size=12)))
    assert_as_pillow(resample(noise, np.array(boxes, np.float32)), resized(noise, boxes, 12))


@pytest.mark.parametrize(
    ("upright", "size", "resize"), [(False, 12, 13), (True, 12, 13), (True, 36, 37), (False, 25, 30), (True, 30, 30)]
)
def test_the_central_crop_is_that_of_the_host(noise, upright, size, resize):
    images = noise.swapaxes(1, 2) if upright else noise
    expected = np.stack([transforms.center_crop(image, size, resize).pixels for image in images])
    crops = transform("none", size, resize)(images, jax.random.key(5))
    assert_as_pillow(crops, expected)
    if resize == 30:
        np.testing.assert_array_equal(crops, expected)


@pytest.mark.parametrize("views", transforms.VIEWS)
@pytest.mark.parametrize("resize", [30, 20])
def test_the_views_are_those_of_the_host(noise, views, resize):
    crop = jax.jit(functools.partial(on_device.crop_views, size=14, resize=resize, views=views))
    expected = [transforms.crop_views(image, 14, resize, views) for image in noise]
    found = crop(noise)
    assert_as_pillow(found.pixels, np.stack([crop.pixels for crop in expected]))
    np.testing.assert_allclose(found.matrix, expected[0].matrix, rtol=1e-6)


def test_resident_batches_are_those_of_the_pipeline():
    """From the middle of an epoch on, and with the padding of the last test batch: the same rows in the same order."""
    images = np.random.default_rng(0).integers(0, 256, (25, 8, 8, 3)).astype(np.uint8)
    source = ArraySource({"image": images, "label": np.arange(25, dtype=np.int32)})
    columns = on_device.load_columns(source)
    options = {"batch_size": 10, "epochs": 3, "start_step": 1}
    center = functools.partial(transforms.center_crop, size=8, resize=8)
    expected = pipeline.train_batches(source, transform=lambda image, rng: center(image), seed=3, **options)
    order = pipeline.record_order(source, seed=3)
    resident = on_device.train_batches(columns, order=order, place=jax.device_put, **options)
    rows = jax.jit(on_device.training_rows, static_argnames="transform")
    plain = on_device.training_transform("none", size=8, resize=8, fill=FILL)
    for step, (batch, other) in enumerate(zip(resident, expected, strict=True), start=1):
        assert_batches_equal(rows(batch, step, transform=plain, key=jax.random.key(0)), other)

    views = functools.partial(on_device.crop_views, size=8, resize=8, views="single")
    single = functools.partial(transforms.crop_views, size=8, resize=8, views="single")
    tested = on_device.test_batches(columns, batch_size=10, place=jax.device_put)
    for batch, other in zip(tested, pipeline.test_batches(source, transform=single, batch_size=10), strict=True):
        assert_batches_equal(on_device.test_rows(batch, views), other)


def assert_batches_equal(batch, other):
    assert batch.keys() == other.keys()
    for key in batch:
        np.testing.assert_array_equal(batch[key], other[key])


def test_pad_and_crop_shows_every_window_of_the_padded_image_and_its_mirror_image():
    y, x = np.mgrid[:20, :24]
    ramps = np.stack([x, y, np.full_like(x, 100)], axis=-1).astype(np.uint8)
    padded = np.pad(ramps, ((4, 4), (4, 4), (0, 0)), constant_values=7)
    crops = np.asarray(transform("pad_and_crop", 20)(np.broadcast_to(ramps, (3000, *ramps.shape)), jax.random.key(5)))
    assert crops.dtype == np.uint8
    seen = {}
    for crop in crops:
        flipped = bool(crop[10, 9, 0] > crop[10, 10, 0])
        window = crop[:, ::-1] if flipped else crop
        left, top = 4 + int(window[10, 10, 0]) - 10, 4 + int(window[10, 10, 1]) - 10
        np.testing.assert_array_equal(window, padded[top : top + 20, left : left + 20])
        seen[left, top, flipped] = seen.get((left, top, flipped), 0) + 1
    assert len(seen) == 13 * 9 * 2
    assert max(seen.values()) < 35  # 13 expected
    assert 0.46 < sum(count for (*_, flipped), count in seen.items() if flipped) / 3000 < 0.54


# --- Drawing: the same distributions as on the host -----------------------------------------------------------------


class Recorder(Image.Image):
    """An image without pixels that remembers the box that a transform of the host cuts out."""

    def __init__(self, width, height):
        super().__init__()
        self._size, self.box = (width, height), None

    def resize(self, size, resample, box):
        self.box = box
        return np.zeros((*size, 3), np.uint8)


def host_boxes(crop, width, height, min_area, count):
    image, rng, boxes = Recorder(width, height), np.random.default_rng(0), []
    for _ in range(count):
        crop(image, rng, 8, min_area)
        boxes.append(image.box)
    return np.array(boxes)


@pytest.mark.parametrize(
    ("crop", "draw"),
    [
        (transforms.scale_and_aspect_crop, functools.partial(on_device.draw_scale_and_aspect, size=8)),
        (transforms.scale_crop, on_device.draw_scale),
    ],
)
def test_boxes_are_distributed_as_on_the_host(crop, draw):
    width, height, min_area, count = 60, 50, 0.2, 4000
    draw = jax.jit(jax.vmap(functools.partial(draw, height=height, width=width, min_area=min_area)))
    boxes, expected = (
        np.asarray(draw(jax.random.split(jax.random.key(5), count))),
        host_boxes(crop, width, height, min_area, count),
    )
    assert (boxes == boxes.round()).all() and boxes.min() == 0 and boxes.max() == width

    def statistics(boxes):
        left, top, right, bottom = boxes.T
        w, h = right - left, bottom - top
        with np.errstate(invalid="ignore"):
            places = np.nan_to_num([left / (width - w), top / (height - h)], nan=0.5)
        return np.stack([w * h / (width * height), np.log(w / h), *places])

    deciles = [np.quantile(statistics(some), np.linspace(0, 1, 11), axis=1) for some in (boxes, expected)]
    np.testing.assert_allclose(*deciles, atol=0.04)


def test_the_centre_is_taken_when_nothing_fits():
    stripe = np.zeros((3, 400, 20, 3), np.uint8)
    stripe[:, 190:210] = 255
    assert np.asarray(transform("scale_and_aspect", 20)(stripe, jax.random.key(5))).min() == 255


# --- In the compiled step -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scale_and_aspect", "scale"])
def test_crops_are_flipped_every_second_time_and_differ_by_row_and_key(name):
    ramp = (np.arange(40) * 6).astype(np.uint8)  # brighter to the right
    images = np.broadcast_to(ramp[:, None], (400, 30, 40, 3))
    augment = transform(name, 12)
    crops = np.asarray(augment(images, jax.random.key(5)), int)
    flipped = crops[:, 5, 0, 0] > crops[:, 5, -1, 0]
    assert 0.4 < flipped.mean() < 0.6
    assert len(np.unique(crops, axis=0)) > 300
    np.testing.assert_array_equal(augment(images, jax.random.key(5)), crops)
    assert (np.asarray(augment(images, jax.random.key(6))) != crops).any(axis=(1, 2, 3)).mean() > 0.9


@pytest.mark.parametrize("name", ["pad_and_crop", "center", "none"])
def test_images_are_flipped_with_the_probability_that_is_asked_for(noise, name):
    flips = (jax.jit(on_device.training_transform(name, size=12, resize=12, fill=FILL, flip=p)) for p in (0.0, 1.0))
    plain, mirrored = (np.asarray(flip(noise[:, :, :30], jax.random.key(5)).pixels) for flip in flips)
    np.testing.assert_array_equal(mirrored, plain if name == "none" else plain[:, :, ::-1])
    if name == "center":
        assert_as_pillow(plain, np.stack([transforms.center_crop(image, 12, 12).pixels for image in noise[:, :, :30]]))


def test_what_the_host_refuses_is_refused(noise):
    with pytest.raises(DataError, match="did you mean 'scale'"):
        transform("scales", 12)
    with pytest.raises(DataError, match=r"must be in \(0, 1\]"):
        transform("scale", 12, min_area=0)
    with pytest.raises(DataError, match="40x30 pixels, padded by 4, has no 39x39"):
        transform("pad_and_crop", 39)(noise, jax.random.key(5))


SHARDED = """
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from input_pipeline import on_device, transforms

def run(name, devices):
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    everywhere, shared = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    images = np.random.default_rng(0).integers(0, 256, (50, 14, 16, 3)).astype(np.uint8)
    inputs = jax.device_put((images, np.arange(0, 48, 3)), (everywhere, shared))
    augment = on_device.training_transform(name, size=12, resize=13, fill=(1, 2, 3))
    program = jax.jit(lambda images, numbers: augment(images[numbers], jax.random.key(0))).lower(*inputs).compile()
    assert not any(word in program.as_text() for word in ("all-gather", "all-reduce", "all-to-all", "permute"))
    crops = program(*inputs)
    assert all(len(part.sharding.device_set) == devices for part in crops)
    return crops

for name in transforms.AUGMENTATIONS:
    for part, alone in zip(run(name, 4), run(name, 1)):
        np.testing.assert_array_equal(part, alone, name)
"""


def test_devices_share_a_batch_without_exchanging_anything_and_the_result_is_that_of_one():
    subprocess.run([sys.executable, "-c", SHARDED], env=environment(4), check=True)
