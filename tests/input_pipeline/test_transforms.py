import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from input_pipeline import DataError, transforms
from input_pipeline.jpeg import count_scans
from input_pipeline.transforms import Crop

FILL = (1, 2, 3)


def encoded(pixels, file_format="JPEG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format, quality=95)
    return file.getvalue()


@pytest.fixture
def landscape():
    """A smooth image [363, 451, 3]; odd, so that no part of it is whole."""
    coarse = np.random.default_rng(0).integers(0, 256, (12, 15, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((451, 363), Image.Resampling.BICUBIC))


@pytest.fixture
def ramps():
    """An image [200, 200, 3] that tells where a pixel comes from: red is x, green is y."""
    y, x = np.mgrid[:200, :200]
    return np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8)


def boxes(crop, ramps, count=400):
    """Width and height, in pixels of the ramps, of what `count` random crops show."""
    rng = np.random.default_rng(0)
    crops = np.stack([crop(ramps, rng, 50).pixels for _ in range(count)]).astype(float)
    # Pixel centres of the outermost columns are 49/50 of the width apart.
    width = (crops[:, 25, -1, 0] - crops[:, 25, 0, 0]) * 50 / 49
    height = (crops[:, -1, 25, 1] - crops[:, 0, 25, 1]) * 50 / 49
    return width, height


def test_scale_and_aspect_crop_covers_the_ranges_of_area_and_aspect(ramps):
    width, height = boxes(transforms.scale_and_aspect_crop, ramps)
    area, aspect = width * height / 200**2, width / height
    assert 0.06 < area.min() < 0.12 and 0.9 < area.max() < 1.04
    assert 0.71 < aspect.min() < 0.78 and 1.28 < aspect.max() < 1.40
    assert abs(np.log(aspect).mean()) < 0.03  # as often lying as standing


def test_scale_and_aspect_crop_takes_the_centre_when_nothing_fits():
    stripe = np.zeros((400, 20, 3), np.uint8)
    stripe[190:210] = 255  # the central square
    assert transforms.scale_and_aspect_crop(stripe, np.random.default_rng(0), 20).pixels.min() == 255


def test_scale_crop_is_square_and_covers_the_range_of_area(ramps):
    width, height = boxes(transforms.scale_crop, ramps)
    assert np.abs(width - height).max() < 5
    area = width * height / 200**2
    assert 0.06 < area.min() < 0.12 and 0.9 < area.max() < 1.04


def test_pad_and_crop_shows_every_window_of_the_padded_image(ramps):
    rng, seen = np.random.default_rng(0), set()
    padded = np.pad(ramps, ((4, 4), (4, 4), (0, 0)), constant_values=7)
    for _ in range(1000):
        crop, _ = transforms.pad_and_crop(ramps, rng, 200, fill=(7.2, 6.8, 7))
        x, y = 4 + int(crop[100, 100, 0]) - 100, 4 + int(crop[100, 100, 1]) - 100
        np.testing.assert_array_equal(crop, padded[y : y + 200, x : x + 200])
        seen.add((x, y))
    assert len(seen) == 81


def test_pad_and_crop_refuses_a_size_that_is_not_there():
    with pytest.raises(DataError, match="32x32 pixels, padded by 4, has no 48x48"):
        transforms.pad_and_crop(np.zeros((32, 32, 3), np.uint8), np.random.default_rng(0), 48, fill=(0, 0, 0))


def test_flip_mirrors_half_of_the_time(ramps):
    rng = np.random.default_rng(0)
    flips = [transforms.flip(Crop(ramps, np.eye(2, 3)), rng).pixels for _ in range(1000)]
    mirrored = sum(np.array_equal(image, ramps[:, ::-1]) for image in flips)
    assert 440 < mirrored < 560
    assert mirrored + sum(np.array_equal(image, ramps) for image in flips) == 1000


def test_center_crop_copies_pixels_where_nothing_is_to_resize():
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    np.testing.assert_array_equal(transforms.center_crop(image, 224, resize=256).pixels, image[16:240, 16:240])
    np.testing.assert_array_equal(transforms.center_crop(image, 256, resize=256).pixels, image)


def test_a_portrait_is_resized_by_its_shorter_side_and_cut_in_its_centre():
    """As torchvision: Resize(8) of 20x41 pixels gives 8x16, CenterCrop(6) of that begins at column 1 and row 5."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (41, 20, 3)).astype(np.uint8))
    small = np.asarray(image.resize((8, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(transforms.center_crop(image, 6, resize=8).pixels, small[5:11, 1:7])


def test_views_are_the_centre_the_corners_and_their_mirror_images():
    """Ten crops are those of the image and of the mirrored image: with 5 columns to spare its centre is another."""
    pixels = np.random.default_rng(0).integers(0, 256, (10, 11, 3)).astype(np.uint8)

    def five(pixels):
        return [pixels[2:8, 2:8], pixels[:6, :6], pixels[:6, 5:], pixels[4:, :6], pixels[4:, 5:]]

    centre, mirrored = pixels[2:8, 2:8], pixels[:, ::-1]
    wanted = {
        "single": [centre],
        "flip": [centre, centre[:, ::-1]],
        "five_crop": five(pixels),
        "ten_crop": [*five(pixels), *five(mirrored)],
    }
    assert wanted.keys() == set(transforms.VIEWS)
    for views, crops in wanted.items():
        np.testing.assert_array_equal(transforms.crop_views(pixels, 6, 10, views).pixels, crops)


@pytest.mark.parametrize(("upright", "top", "left"), [(True, 0, 2), (False, 2, 0)])
def test_padding_keeps_the_whole_image_in_the_middle(upright, top, left):
    """As Albumentations: LongestMaxSize(8) of 20x41 pixels gives 4x8, PadIfNeeded(8, 8) two columns on either side."""
    tall = np.random.default_rng(0).integers(0, 256, (41, 20, 3)).astype(np.uint8)
    image = Image.fromarray(tall if upright else tall.swapaxes(0, 1))
    expected = np.full((8, 8, 3), (1, 2, 3), np.uint8)
    height, width = 8 - 2 * top, 8 - 2 * left
    expected[top : top + height, left : left + width] = image.resize((width, height), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(transforms.pad_to_square(image, 8, fill=(1.2, 1.8, 3)).pixels, expected)


def test_views_are_cut_out_of_the_padded_square(landscape):
    square, _ = transforms.pad_to_square(landscape, 70, FILL)
    assert (square[:7] == FILL).all() and (square[-7:] == FILL).all() and (square[7:-7] != FILL).any((1, 2)).all()
    for views in transforms.VIEWS:
        found, _ = transforms.crop_views(landscape, 60, 70, views, fit="pad", fill=FILL)
        np.testing.assert_array_equal(found, transforms.crop_views(square, 60, 70, views).pixels)
    for name in ("center", "none"):
        transform = transforms.training_transform(name, size=60, resize=70, fill=FILL, fit="pad", flip=0)
        encoded_image = transforms.EncodedImage(encoded(landscape, "PNG"), "")
        np.testing.assert_array_equal(transform(encoded_image, np.random.default_rng(0)).pixels, square[5:65, 5:65])


@pytest.mark.parametrize("shape", [(3000, 1), (1, 3000), (1, 1)])
def test_an_image_that_is_a_line_can_be_padded(shape):
    square, _ = transforms.pad_to_square(np.full((*shape, 3), 200, np.uint8), 8, FILL)
    assert (square == 200).all(-1).sum() == (64 if shape == (1, 1) else 8)


def test_resizing_is_antialiased():
    checkers = np.indices((256, 256)).sum(0) % 2 * np.uint8(255)
    small, _ = transforms.center_crop(np.stack([checkers] * 3, -1).astype(np.uint8), 32, resize=32)
    assert np.abs(small.astype(int) - 127).max() < 12


@pytest.mark.parametrize("name", sorted(transforms.AUGMENTATIONS))
def test_every_augmentation_is_a_function_of_image_and_generator(name):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3)).astype(np.uint8)
    transform = transforms.training_transform(name, size=48, resize=48, fill=(1, 2, 3))
    first, second, third = (transform(pixels, np.random.default_rng(seed)).pixels for seed in (1, 1, 2))
    assert first.shape == (48, 48, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, transform(Image.fromarray(pixels), np.random.default_rng(1)).pixels)
    assert np.array_equal(first, third) == (name == "none")


@pytest.mark.parametrize(("flip", "least", "most"), [(0, 0, 0), (0.5, 30, 70), (0.9, 80, 99), (1, 100, 100)])
@pytest.mark.parametrize("name", sorted(transforms.AUGMENTATIONS.keys() - {"none"}))
def test_training_images_are_flipped(name, flip, least, most, ramps):
    transform = transforms.training_transform(name, size=200, resize=200, fill=(0, 0, 0), flip=flip)
    rng = np.random.default_rng(0)
    images = [transform(ramps, rng).pixels.astype(int) for _ in range(100)]
    flipped = sum(image[100, 100, 0] < image[100, 60, 0] for image in images)  # red falls to the right
    assert least <= flipped <= most


def test_jitter_comes_last(ramps):
    """After the crop and the flip, in which the generator has drawn what it draws without jitter."""
    options = {"size": 50, "resize": 50, "fill": FILL}
    plain = transforms.training_transform("scale", **options)
    jittered = transforms.training_transform(
        "scale", **options, jitter=lambda crop, rng: crop._replace(pixels=crop.pixels // 2 + int(rng.random()))
    )
    for seed in range(5):
        images = [transform(ramps, np.random.default_rng(seed)).pixels for transform in (plain, jittered)]
        np.testing.assert_array_equal(images[0] // 2, images[1])


def test_unknown_augmentation_is_answered_with_the_nearest():
    with pytest.raises(DataError, match="did you mean 'pad_and_crop'"):
        transforms.training_transform("pad_crop", size=32, resize=32, fill=(0, 0, 0))


def test_a_jpeg_that_would_take_minutes_is_refused():
    """Each scan goes over all the pixels, and one of few bytes can be repeated."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data.rindex(b"\xff\xda")
    assert transforms.decode_image(data, "face").size == (64, 64)
    bomb = data[:-2] + data[last:-2] * 100 + data[-2:]
    hidden = data[:-2] + (b"\xff\x02\xff\xff" + data[last:-2]) * 100 + data[-2:]  # no segment of 65,535 bytes
    for file in (bomb, hidden, b"\xff\xd8\xff\xe1\0\x04\xff\xd9" + bomb[2:]):  # an end that is in a comment
        with pytest.raises(DataError, match="face: more than 100 scans in a JPEG"):
            transforms.decode_image(file, "face")


@pytest.mark.parametrize("progressive", [False, True])
def test_what_lies_beside_the_image_of_a_jpeg_are_no_scans(progressive):
    """A phone's photograph: a preview in its header, and behind it another image and a film."""
    file, pixels = io.BytesIO(), np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=100, progressive=progressive)
    data, scans = file.getvalue(), b"\xff\xda\0\x08" * 300
    assert count_scans(data) == (10 if progressive else 1)
    header = b"\xff\xe1" + (len(scans) + 2).to_bytes(2) + scans
    film = np.random.default_rng(0).bytes(8 * 2**20)
    assert film.count(b"\xff\xda") > transforms.MAX_SCANS
    found = transforms.decode_image(data[:2] + header + data[2:] + data + film, "face")
    np.testing.assert_array_equal(found, transforms.decode_image(data, "face"))


def pgm(white, numbers, kind=b"P5"):
    data = numbers.astype(">u2").tobytes() if kind == b"P5" else b" ".join(b"%d" % number for number in numbers)
    return b"%s %d 1 %d\n" % (kind, len(numbers), white) + data


def tiff(bits, data, width, sign=1):
    """A grey image of one line: little-endian, uncompressed."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: 1, 273: 8 + 2 + 10 * 12 + 4, 277: 1, 278: 1, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in (tags | {339: sign}).items())
    return b"II*\0" + struct.pack("<IH", 8, 10) + entries + bytes(4) + data


@pytest.mark.parametrize(
    "data",
    [
        pgm(1023, np.array([0, 512, 1023])),
        pgm(4095, np.array([0, 2048, 4095]), b"P2"),
        pgm(65535, np.array([0, 32768, 65535])),
        tiff(12, bytes.fromhex("000800fff0"), 3),
        tiff(16, np.array([0, 32768, 65535], "<u2").tobytes(), 3),
    ],
)
def test_black_grey_and_white_in_more_than_8_bits(data):
    image = transforms.decode_image(data, "scan")
    assert image.mode == "RGB" and [image.getpixel((x, 0)) for x in range(3)] == [(0,) * 3, (128,) * 3, (255,) * 3]


def test_numbers_of_which_nothing_says_what_is_white_are_refused():
    signed = tiff(16, np.array([0, 9, 32767], "<i2").tobytes(), 3, sign=2)
    with pytest.raises(
        DataError, match=r"scan: .*nothing says which of its numbers is white \(mode I\); save it with 8"
    ):
        transforms.decode_image(signed, "scan")


def test_decoding_gives_rgb_and_names_what_is_damaged():
    file = io.BytesIO()
    Image.new("L", (30, 20), 77).save(file, "JPEG")
    image = transforms.decode_image(file.getvalue(), "face 7")
    assert image.mode == "RGB" and image.size == (30, 20) and image.getpixel((5, 5)) == (77, 77, 77)
    with pytest.raises(DataError, match="face 7: the file is empty"):
        transforms.decode_image(b"", "face 7")
    for damaged in (b"no image", file.getvalue()[:-100]):
        with pytest.raises(DataError, match="face 7: the image cannot be decoded"):
            transforms.decode_image(damaged, "face 7")


@pytest.mark.parametrize("name", ["scale_and_aspect", "scale"])
def test_large_crops_of_a_jpeg_are_decoded_smaller_and_look_the_same(name, landscape, monkeypatch):
    """Never below the wanted size, at the same place, and after the same random numbers."""
    transform = transforms.training_transform(name, size=50, resize=50, fill=(0, 0, 0), min_area=0.02)
    data, decode, shrunk = encoded(landscape), transforms.EncodedImage.decode, []
    whole = transforms.decode_image(data, "")
    monkeypatch.setattr(
        transforms.EncodedImage, "decode", lambda self, shrink=1: (shrunk.append(shrink), decode(self, shrink))[1]
    )
    for seed in range(100):
        one, other = np.random.default_rng(seed), np.random.default_rng(seed)
        pixels = transform(transforms.EncodedImage(data, ""), one).pixels.astype(int)
        assert np.abs(pixels - transform(whole, other).pixels).mean() < 1
        assert one.bit_generator.state == other.bit_generator.state
    assert set(shrunk) == {1, 2, 4}


def test_only_a_jpeg_is_decoded_smaller(landscape):
    """To a size rounded up; the box of a crop is divided by what comes back beside the image."""
    for data, shrink, size in ((encoded(landscape), 4, (113, 91)), (encoded(landscape, "PNG"), 1, (451, 363))):
        image, shrunk = transforms.EncodedImage(data, "").decode(4)
        assert (image.size, shrunk) == (size, shrink)
    transform = transforms.training_transform("scale", size=50, resize=50, fill=(0, 0, 0))
    pixels = transform(transforms.EncodedImage(data, ""), np.random.default_rng(0)).pixels
    np.testing.assert_array_equal(pixels, transform(landscape, np.random.default_rng(0)).pixels)


@pytest.mark.parametrize("size", [20, 400])
def test_a_truncated_file_is_named_at_every_scale(size, landscape):
    transform = transforms.training_transform("scale_and_aspect", size=size, resize=size, fill=(0, 0, 0))
    image = transforms.EncodedImage(encoded(landscape)[:-100], "face 7")
    with pytest.raises(DataError, match="face 7: the image cannot be decoded"):
        transform(image, np.random.default_rng(0))


def test_crops_are_enlarged_as_by_pillow(landscape):
    """But for rounding."""
    image = Image.fromarray(landscape)
    for box in ((0, 0, 451, 363), (7, 11, 107, 111), (100, 0, 340, 363), (450, 362, 451, 363)):
        expected = np.asarray(image.crop(box).resize((460, 460), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(transforms._resized(image, box, 460).pixels - expected).max() <= 2


def test_images_of_too_many_pixels_are_refused_before_they_are_decoded():
    large = encoded(np.zeros((8000, 8000), np.uint8), "PNG")
    with pytest.raises(DataError, match=r"^record 7: 8000x8000 pixels are more than 50000000; make it smaller$"):
        transforms.EncodedImage(large, "record 7")
    narrow = transforms.EncodedImage(encoded(np.zeros((3000, 1), np.uint8), "PNG"), "record 8")
    with pytest.raises(DataError, match=r"^record 8: 1x3000 pixels, resized to 256x768000, are more than 50000000"):
        transforms.center_crop(narrow, 224, resize=256)


def test_no_program_is_started_for_postscript():
    with pytest.raises(
        DataError, match=r"^face: the image cannot be decoded \(it is no image in one of the formats JPEG,"
    ):
        transforms.EncodedImage(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n", "face")


@pytest.mark.parametrize(("limit", "told"), [(50, 100), (101, 101)])
def test_the_hosts_limit_of_pixels_counts_where_it_is_lower(limit, told, monkeypatch):
    """Pillow refuses twice its limit, and warns from the limit on, which here is an error."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    data = encoded(np.zeros((12, 10, 3), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with pytest.raises(transforms.TooManyPixels, match=rf"^x: Image size \(120 pixels\) exceeds limit of {told} "):
            transforms.EncodedImage(data, "x")
