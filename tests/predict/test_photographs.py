import io
import re

import numpy as np
import pytest
from PIL import Image, ImageSequence

from input_pipeline.face_renderer import render_face, sample_person
from input_pipeline.transforms import Crop
from ror_jax.predict.faces import NO_FACE, FaceFinder, Preprocessing
from ror_jax.predict.photographs import read_photographs

PREPROCESSING = Preprocessing(8, 8, "crop", [0, 0, 0], [1, 1], {}, {})
COUNTS = [0, 3, 1, 0, 0, 7, 2, 1, 0]


def find(source, name):
    """The source is how many faces there are; the crop of face k in photograph p is filled with 10 p + k."""
    number = int(name.removeprefix("image "))
    faces = [{"box": [0, 0, 1, 1], "score": 1.0} for _ in range(int(source))]
    crops = [Crop(np.full((2, 2, 3), 10 * number + k, np.uint8), np.eye(2, 3)) for k in range(int(source))]
    return {"photograph": name, "faces": faces, "problem": None}, crops


@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
def test_batches_fill_up_across_photographs(batch_size):
    batches = []

    def read(crops):
        batches.append(len(crops))
        return [{"age": int(crop.pixels.max())} for crop in crops]

    found = list(read_photographs([np.array(count) for count in COUNTS], find, read, batch_size))
    assert [photograph["photograph"] for photograph in found] == [f"image {number}" for number in range(len(COUNTS))]
    ages = [[face["age"] for face in photograph["faces"]] for photograph in found]
    assert ages == [[10 * number + k for k in range(count)] for number, count in enumerate(COUNTS)]
    full, rest = divmod(sum(COUNTS), batch_size)
    assert batches == [batch_size] * full + [rest] * (rest > 0)


def test_a_photograph_is_told_as_soon_as_its_faces_are_read():
    told = read_photographs(iter([np.array(2)] * 1000), find, lambda crops: [{}] * len(crops), 4)
    assert next(told)["photograph"] == "image 0"  # without waiting for the other 999
    told.close()


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def ramp():
    return Image.fromarray(np.linspace(0, 255, 16 * 8 * 3).reshape(8, 16, 3).astype(np.uint8))


def cropped(source):
    photograph, crops = FaceFinder(PREPROCESSING, "cropped", "yunet")(source, "x")
    assert photograph["problem"] is None, photograph
    (crop,) = crops
    return photograph, crop.pixels.astype(int)


def test_whatever_the_kind_of_file_the_network_sees_the_same(ramp):
    photograph, wanted = cropped(ramp)
    assert photograph["faces"] == [{"box": [0, 0, 16, 8], "score": None}]
    assert (photograph["width"], photograph["height"]) == (16, 8)
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    turned = ramp.transpose(Image.Transpose.ROTATE_90)
    opaque = ramp.convert("RGBA")
    same = {
        "array": np.asarray(ramp),
        "PNG": encoded(ramp, "PNG"),
        "upright by EXIF": encoded(turned, "PNG", exif=exif),
        "RGBA": encoded(opaque, "PNG"),
        "CMYK": encoded(ramp.convert("CMYK"), "TIFF"),
        "palette": encoded(ramp.quantize(256), "PNG"),
        "animated": encoded(ramp.quantize(256), "GIF", save_all=True, append_images=[Image.new("RGB", ramp.size)]),
    }
    for kind, source in same.items():
        assert abs(cropped(source)[1] - wanted).max() <= 3, kind
    grey = np.linspace(0, 255, 128).reshape(8, 16).astype(np.uint8)
    wanted = cropped(grey)[1]
    assert abs(cropped(encoded(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"))[1] - wanted).max() <= 1  # 16 bits
    assert abs(cropped(encoded(Image.fromarray(grey), "JPEG", quality=100))[1] - wanted).max() <= 3


def test_what_is_transparent_is_white():
    clear = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    assert (cropped(encoded(clear, "PNG"))[1] == 255).all()


def test_what_cannot_be_read_is_told(tmp_path, ramp):
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"\0\0\0\x20ftypisom" + bytes(1000))
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "cut.png").write_bytes(encoded(ramp, "PNG")[:-40])
    huge = encoded(Image.new("1", (9_000, 9_000)), "PNG")
    cases = [
        (video, r"clip\.mp4: the image cannot be decoded \(it is no image in one of the formats JPEG,"),
        (tmp_path / "empty.jpg", r"empty\.jpg: the file is empty"),
        (tmp_path / "folder.jpg", r"folder\.jpg: not a regular file"),
        (tmp_path / "cut.png", r"cut\.png: the image cannot be decoded"),
        (tmp_path / "none.png", r"none\.png: No such file or directory"),
        (huge, "x: 9000x9000 pixels are more than 50000000; make it smaller"),
        (np.zeros((2, 2, 3)), r"x: an array float64 \[2, 2, 3\]; it must be uint8"),
    ]
    found = FaceFinder(PREPROCESSING, "detect", "yunet")
    for source, words in cases:
        photograph, crops = found(source, "x" if isinstance(source, bytes | np.ndarray) else str(source))
        assert photograph["faces"] == [] == crops and photograph["width"] is None
        assert re.search(words, photograph["problem"])
    photograph, crops = found(ramp, "x")
    assert photograph["problem"] == NO_FACE and (photograph["width"], crops) == (16, [])


@pytest.fixture(scope="module")
def face():
    rng = np.random.default_rng(7)
    return np.asarray(render_face(sample_person(rng), 35, rng, 256)[0])


def counted(sources):
    """How many faces each photograph has, or its problem."""
    found = FaceFinder(PREPROCESSING, "detect", "yunet")
    photographs = read_photographs(sources, found, lambda crops: [{}] * len(crops), 4)
    return [len(photograph["faces"]) or photograph["problem"] for photograph in photographs]


def frames(face, buffer):
    """A video of pictures with and without a face, one after the other, in one buffer."""
    for number in range(24):
        buffer[:] = 90 if number % 2 else face
        yield buffer


@pytest.mark.parametrize("channels", [3, 4])
def test_a_buffer_that_is_filled_again_is_read_before(face, channels):
    face = np.dstack([face, np.full(face.shape[:2], 255, np.uint8)])[..., :channels]
    assert counted(frames(face, np.empty_like(face))) == [1, NO_FACE] * 12


def test_a_pillow_image_that_goes_on_to_its_next_picture_is_read_before(face):
    pictures = [Image.fromarray(array.copy()) for array in frames(face, np.empty_like(face))]
    film = Image.open(io.BytesIO(encoded(pictures[0], "TIFF", save_all=True, append_images=pictures[1:])))
    assert counted(ImageSequence.Iterator(film)) == [1, NO_FACE] * 12


def test_the_same_unread_image_many_times(face):
    image = Image.open(io.BytesIO(encoded(Image.fromarray(face), "PNG")))
    assert counted([image] * 12) == [1] * 12


def test_what_happens_to_a_photograph_is_its_own_problem(face):
    closed = Image.fromarray(face)
    closed.close()
    cut = Image.open(io.BytesIO(encoded(Image.fromarray(face), "PNG")[:-40_000]))

    class Torn(np.ndarray):
        def copy(self, *_):
            raise MemoryError("no room")

    torn = face.view(Torn)
    first, *problems, last = counted([face, closed, cut, torn, 3, object(), face])
    assert first == last == 1
    for number, (problem, words) in enumerate(
        zip(
            problems,
            (
                r"the image cannot be decoded \(ValueError: Operation on closed image\)",
                r"the image cannot be decoded \(.*truncated",
                r"the image cannot be decoded \(MemoryError: no room\)",
                "a int; a photograph is given as a path, bytes, a Pillow image or an array",
                "a object; a photograph",
            ),
            strict=True,
        ),
        start=1,
    ):
        assert re.match(f"image {number}: {words}", problem)


def test_a_long_text_is_not_repeated():
    photograph, _ = FaceFinder(PREPROCESSING, "detect", "yunet")(text := "data:image/png;base64," + "A" * 10**5, text)
    assert photograph["problem"].startswith("data:image/png;base64,AAA") and len(photograph["problem"]) < 450
    assert "File name too long; a text is the path of a file: give an image in base64 decoded" in photograph["problem"]
