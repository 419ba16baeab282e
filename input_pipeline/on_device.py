"""Data sets that live on the accelerator: loaded once, shuffled by number, cut and flipped inside the compiled step.

For images of one size that fit into its memory: CIFAR, SVHN, Adience. The order of the records is that of
`pipeline.train_batches`; crops and flips come from the distributions of `transforms`, but from other random numbers.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import grain
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from input_pipeline import pipeline, transforms
from input_pipeline.errors import DataError
from input_pipeline.geometry import Kind, box_matrix, mirrored, move
from input_pipeline.records import Source
from input_pipeline.transforms import MIN_AREA, PADDING, TRIES, Crop

CHUNK = 64  # records that a thread loads in one go: a task for each of 600,000 would take a gigabyte


def load_columns(source: Source) -> dict[str, np.ndarray]:
    """All records, as one large batch: `image` uint8 [N, H, W, 3], the labels [N, ...], `mask` float32 [N], all 1.

    The rows of some numbers are what `pipeline.train_batches` makes of these records, but for the transform: labels
    that are geometry are in pixels of the images.

    Raises:
        DataError: an image is damaged, or not as large as the first; the message says which.
    """

    def example(number: int) -> dict:
        record = source[number]
        return pipeline.batch_row(record, np.asarray(pipeline.record_image(record)), mask=1)

    first = {key: np.asarray(value) for key, value in example(0).items()}
    columns = {key: np.empty((len(source), *value.shape), value.dtype) for key, value in first.items()}

    def load(numbers: range) -> int:
        for number in numbers:
            row = example(number)
            if row["image"].shape != first["image"].shape:
                (height, width, _), (other_height, other_width, _) = row["image"].shape, first["image"].shape
                raise DataError(
                    f"record {number} is an image of {width}x{height} pixels, record 0 one of"
                    f" {other_width}x{other_height}: only images of one size can lie on the accelerator"
                )
            for key, column in columns.items():
                column[number] = row[key]
        return len(numbers)

    numbers = range(len(source))
    chunks = [numbers[start : start + CHUNK] for start in numbers[::CHUNK]]
    with (
        ThreadPoolExecutor() as pool,
        tqdm(total=len(source), desc="loading the images", unit=" images", delay=1, mininterval=1) as progress,
    ):
        for count in pool.map(load, chunks):
            progress.update(count)
    return columns


def epoch_order(order: grain.MapDataset, batch_size: int, epoch: int) -> np.ndarray:
    """Numbers of the records that `pipeline.train_batches` shows in that epoch: int32 [steps, batch_size].

    `order` is that of `pipeline.record_order`.
    """
    steps, start = pipeline.steps_per_epoch(len(order), batch_size), epoch * len(order)
    numbers = (order[place] for place in range(start, start + steps * batch_size))
    return np.fromiter(numbers, np.int32, steps * batch_size).reshape(steps, batch_size)


def train_batches(
    columns: dict[str, jax.Array],
    *,
    order: grain.MapDataset,
    batch_size: int,
    epochs: int,
    start_step: int,
    place: Callable[[np.ndarray], jax.Array],
    steps_per_call: int = 1,
) -> Iterator[dict]:
    """For each call of the training step, all that `training_rows` needs: the columns and the order of the epoch.

    They are the same arrays throughout an epoch: between two steps the host has nothing to do.

    Args:
        columns: of `load_columns`, on the accelerator.
        order: of `pipeline.record_order`.
        place: puts an epoch's order, int32 [steps, batch_size], there too.
        steps_per_call: how many steps a call does; the steps of an epoch are divided by it.
        The others are those of `pipeline.train_batches`.
    """
    steps = pipeline.steps_per_epoch(len(order), batch_size)
    first, done = divmod(start_step, steps)
    ahead = ThreadPoolExecutor(1)  # finding the next epoch's order takes a second for CIFAR
    try:
        following = ahead.submit(epoch_order, order, batch_size, first)
        for epoch in range(first, epochs):
            numbers = place(following.result())
            if epoch + 1 < epochs:
                following = ahead.submit(epoch_order, order, batch_size, epoch + 1)
            for _ in range(done, steps, steps_per_call):
                yield {"columns": columns, "order": numbers}
            done = 0
    finally:
        ahead.shutdown(wait=False)


def test_batches(
    columns: dict[str, jax.Array], *, batch_size: int, place: Callable[[np.ndarray], jax.Array]
) -> Iterator[dict]:
    """All records in order, as `test_rows` takes them: the columns, the numbers of the batch's rows and their mask.

    `place` puts an array [batch_size] on the accelerator.
    """
    records = len(columns["mask"])
    for start in range(0, records, batch_size):
        numbers = np.arange(start, start + batch_size, dtype=np.int32)
        mask = (numbers < records).astype(np.float32)
        yield {"columns": columns, "numbers": place(np.minimum(numbers, records - 1)), "mask": place(mask)}


def training_rows(
    batch: dict, step: jax.Array, transform: Callable, key: jax.Array, geometry: Mapping[str, Kind] = {}
) -> dict:
    """The batch of `pipeline.train_batches` for that step, in a compiled program; `transform` as made below."""
    order = batch["order"]
    rows = _rows(batch["columns"], order[step % len(order)])
    crop = transform(rows["image"], key)
    moved = jax.vmap(functools.partial(move, geometry=geometry))(rows, crop.shares)
    return rows | {"image": crop.pixels} | moved


def test_rows(batch: dict, views: Callable[[jax.Array], Crop], geometry: Mapping[str, Kind] = {}) -> dict:
    """The batch of `pipeline.test_batches` with `views` of its images, in a compiled program."""
    rows = _rows(batch["columns"], batch["numbers"])
    crop = views(rows["image"])
    moved = jax.vmap(functools.partial(move, geometry=geometry), in_axes=(0, None))(rows, crop.shares[0])
    return rows | {"image": crop.pixels, "mask": batch["mask"]} | moved


def _rows(columns: dict[str, jax.Array], numbers: jax.Array) -> dict[str, jax.Array]:
    return {key: column[numbers] for key, column in columns.items()}


def training_transform(
    name: str, *, size: int, resize: int, fill: Sequence[float], min_area: float = MIN_AREA, flip: float = 0.5
) -> Callable[[jax.Array, jax.Array], Crop]:
    """(images uint8 [B, H, W, 3], key) -> `Crop`, to be called inside a compiled program.

    Its pixels are uint8 [B, size, size, 3], its matrices float32 [B, 2, 3].

    What becomes of an image depends on the key and on its row in the batch, not on the devices that share the batch.

    Args and errors as in `transforms.training_transform`, which has two more, but that too small an image for
    `pad_and_crop` is refused when the program is compiled.
    """
    options = {"size": size, "resize": resize, "fill": tuple(fill), "min_area": min_area}
    transforms.training_transform(name, **options)  # refuses what is to be refused
    crop = jax.vmap(functools.partial(RANDOM_CROPS[name], **options)) if name in RANDOM_CROPS else None

    def transform(images: jax.Array, key: jax.Array) -> Crop:
        key, flip_key = jax.random.split(key)
        if crop:
            crops, matrices = crop(images, jax.random.split(key, len(images)))
        else:
            views = crop_views(images, size, resize, "single")
            crops, matrices = views.pixels[:, 0], jnp.broadcast_to(views.matrix, (len(images), 2, 3))
        if name == "none":
            return Crop(crops, matrices)
        flipped = jax.random.bernoulli(flip_key, flip, (len(images), 1, 1, 1))
        crops = jnp.where(flipped, crops[:, :, ::-1], crops)
        return Crop(crops, jnp.where(flipped[:, 0], mirrored(matrices, size), matrices))

    return transform


def crop_views(images: jax.Array, size: int, resize: int, views: str) -> Crop:
    """`transforms.crop_views` of uint8 [B, H, W, 3]: uint8 [B, V, size, size, 3], float32 [V, 2, 3] for all of them."""
    shape = images.shape[1:3]
    resized, places, matrices = transforms.view_geometry(*shape, size, resize, views)

    def crop(y, x, is_flipped):
        if resized == shape:
            pixels = images[:, y : y + size, x : x + size]
        else:
            box = _unresized(shape, resized, (y, x), size)
            pixels = jax.vmap(functools.partial(resample, box=box, size=size))(images)
        return pixels[:, :, ::-1] if is_flipped else pixels

    return Crop(jnp.stack([crop(*place) for place in places], axis=1), jnp.asarray(matrices, jnp.float32))


# From here on for one image [H, W, 3]. A box is float32 [4]: left, top, right, bottom, in pixels.


def draw_scale_and_aspect(key: jax.Array, height: int, width: int, size: int, min_area: float) -> jax.Array:
    """The box of `transforms.scale_and_aspect_crop`."""
    area, aspect, swap, *place = jax.random.uniform(key, (5, TRIES))
    area = height * width * (min_area + (1 - min_area) * area)
    aspect = 3 / 4 + (4 / 3 - 3 / 4) * aspect
    sides = jnp.round(jnp.sqrt(jnp.stack([area * aspect, area / aspect])))  # [2, TRIES]: width, height
    sides = jnp.where(swap < 0.5, sides[::-1], sides)
    fits = ((sides > 0) & (sides <= np.array([[width], [height]]))).all(axis=0)
    first = jnp.argmax(fits)
    box = _place(sides[:, first], jnp.stack(place)[:, first], height, width)
    resized, ((*corner, _),), _ = transforms.view_geometry(height, width, size, size, "single")
    return jnp.where(fits.any(), box, _unresized((height, width), resized, corner, size))


def draw_scale(key: jax.Array, height: int, width: int, min_area: float) -> jax.Array:
    """The box of `transforms.scale_crop`."""
    area, *place = jax.random.uniform(key, (3,))
    side = jnp.maximum(1, jnp.round(min(height, width) * jnp.sqrt(min_area + (1 - min_area) * area)))
    return _place(jnp.stack([side, side]), jnp.stack(place), height, width)


def _place(sides: jax.Array, place: jax.Array, height: int, width: int) -> jax.Array:
    """The box of those sides (width, height), at a place (x, y) from 0, left and top, to 1, right and bottom."""
    corner = jnp.floor(place * (np.array([width, height]) - sides + 1))
    return jnp.concatenate([corner, corner + sides])


def _unresized(shape: tuple[int, int], resized: tuple[int, int], corner: tuple[int, int], size: int) -> np.ndarray:
    """The box in an image of that shape which is the square at `corner` of the resized image; shapes are (H, W)."""
    scale = np.array(shape[::-1]) / resized[::-1]
    start = np.array(corner[::-1])
    return np.concatenate([start * scale, (start + size) * scale]).astype(np.float32)


def resample(image: jax.Array, box: jax.Array, size: int) -> jax.Array:
    """The box of a uint8 image at size x size, as Pillow's bilinear `resize` makes it.

    Where Pillow meets halves it may be a level off, rarely two: Pillow's weights are rounded to whole numbers.
    """
    height, width, _ = image.shape
    weights = _weights(box[0], box[2], width, size)
    # Highest, for the default of GPUs and TPUs costs levels. Pillow, too, rounds between the directions, and halves up.
    pixels = jnp.einsum("xw,hwc->hxc", weights, image.astype(jnp.float32), precision="highest")
    weights = _weights(box[1], box[3], height, size)
    pixels = jnp.einsum("yh,hxc->yxc", weights, jnp.floor(pixels + 0.5), precision="highest")
    return jnp.floor(pixels + 0.5).astype(jnp.uint8)


def _weights(start: jax.Array, stop: jax.Array, pixels: int, size: int) -> jax.Array:
    """What each of so many pixels gives to each of `size` equal parts of start..stop: float32 [size, pixels].

    A triangle around the part's centre, two pixels wide, or two parts where these are larger. As in Pillow it takes in
    pixels outside start..stop, but none outside the image.
    """
    scale = (stop - start) / size
    centers = start + (jnp.arange(size) + 0.5) * scale
    distances = jnp.abs(jnp.arange(pixels) + 0.5 - centers[:, None])
    weights = jnp.maximum(0, 1 - distances / jnp.maximum(scale, 1))
    return weights / weights.sum(axis=1, keepdims=True)


def pad_and_cut(image: jax.Array, corner: jax.Array, size: int, fill: Sequence[float]) -> jax.Array:
    """size x size pixels from `corner` (y, x) on, counted in the image with its border; `transforms.pad_and_crop`."""
    height, width, channels = image.shape
    border = jnp.asarray(np.round(fill).astype(np.uint8))
    padded = jnp.broadcast_to(border, (height + 2 * PADDING, width + 2 * PADDING, channels))
    padded = padded.at[PADDING:-PADDING, PADDING:-PADDING].set(image)
    return jax.lax.dynamic_slice(padded, (*corner, 0), (size, size, channels))


def _scale_and_aspect(image, key, *, size, min_area, **_):
    return _cut(image, draw_scale_and_aspect(key, *image.shape[:2], size, min_area), size)


def _scale(image, key, *, size, min_area, **_):
    return _cut(image, draw_scale(key, *image.shape[:2], min_area), size)


def _cut(image, box, size):
    return Crop(resample(image, box, size), box_matrix(box, size, jnp))


def _pad_and_crop(image, key, *, size, fill, **_):
    height, width, _ = image.shape
    room = np.array([height, width]) + 2 * PADDING - size
    if room.min() < 0:
        raise DataError(f"pad_and_crop: an image of {width}x{height} pixels, padded by {PADDING}, has no {size}x{size}")
    corner = jnp.floor(jax.random.uniform(key, (2,)) * (room + 1)).astype(jnp.int32)
    y, x = PADDING - corner
    return Crop(pad_and_cut(image, corner, size, fill), jnp.array([[1, 0, x], [0, 1, y]], jnp.float32))


RANDOM_CROPS = {"scale_and_aspect": _scale_and_aspect, "scale": _scale, "pad_and_crop": _pad_and_crop}
