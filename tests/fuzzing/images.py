"""Image files of many kinds, whole, damaged, and made to fill the memory."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

from fuzzing.damage import damaged, one_of

MODES = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
    "BMP": ("RGB", "L", "P", "1"),
    "TIFF": ("RGB", "RGBA", "L", "CMYK", "I;16", "F", "P", "1", "LAB", "YCbCr"),
    "GIF": ("P", "L", "RGB"),
    "WEBP": ("RGB", "RGBA"),
    "PPM": ("RGB", "L"),
    "ICO": ("RGBA",),
    "PCX": ("RGB",),
}
CLAIMS = (0, 1, 7, 255, 20_000, 60_000, 2**16 - 1, 2**24, 2**31 - 1)


def encoded(rng: np.random.Generator, size=(20, 24), mode="RGB", encoding="JPEG", **options) -> bytes:
    pixels = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
    image = Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)
    image = image.convert("L").convert(mode) if mode in ("I;16", "F") else image.convert(mode)
    file = io.BytesIO()
    image.save(file, encoding, **options)
    return file.getvalue()


def image_file(rng: np.random.Generator) -> bytes:
    """Any file that claims to be an image, or none that does."""
    kind = rng.integers(10)
    if kind == 0:
        return one_of(rng, (claim_png, claim_bmp, claim_gif, claim_jpeg, claim_tiff, claim_webp))(rng)
    if kind == 1:
        return one_of(rng, (text_bomb, flat, postscript, animated, narrow, rotated))(rng)
    if kind == 2:
        return rng.bytes(rng.integers(3000))
    encoding = one_of(rng, list(MODES))
    options = {
        "JPEG": {"progressive": bool(rng.random() < 0.5)},
        "TIFF": {"compression": one_of(rng, (None, "tiff_lzw"))},
    }
    size = (int(rng.integers(1, 60)), int(rng.integers(1, 60)))
    mode = one_of(rng, MODES[encoding])
    options = {} if mode in ("LAB", "YCbCr") else options.get(encoding, {})
    data = encoded(rng, size, mode, encoding, **options)
    return damaged(rng, data) if kind < 9 else data


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, data: bytes, *more: bytes, depth=1, colour=0) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def claims(rng):
    return int(one_of(rng, CLAIMS)), int(one_of(rng, CLAIMS))


def claim_png(rng):
    return png(
        *claims(rng),
        zlib.compress(bytes(1000)),
        depth=int(one_of(rng, (1, 8, 16))),
        colour=int(one_of(rng, (0, 2, 3, 6))),
    )


def claim_bmp(rng):
    data = encoded(rng, encoding="BMP")
    return data[:18] + struct.pack("<ii", *claims(rng)) + data[26:]


def claim_gif(rng):
    data, (width, height) = encoded(rng, encoding="GIF"), claims(rng)
    size = struct.pack("<HH", width % 2**16, height % 2**16)
    place = data.index(b",", 13 + 3 * 2 ** ((data[10] & 7) + 1)) + 5  # the frame's size
    return data[:place] + size + data[place + 4 :] if rng.random() < 0.5 else data[:6] + size + data[10:]


def claim_jpeg(rng):
    data = encoded(rng)
    place, (width, height) = data.index(b"\xff\xc0") + 5, claims(rng)
    return data[:place] + struct.pack(">HH", width % 2**16, height % 2**16) + data[place + 4 :]


def claim_tiff(rng):
    data = bytearray(encoded(rng, encoding="TIFF"))
    (place,) = struct.unpack("<I", data[4:8])
    for entry in range(struct.unpack("<H", data[place : place + 2])[0]):
        start = place + 2 + 12 * entry
        tag = struct.unpack("<H", data[start : start + 2])[0]
        if tag in (256, 257) or rng.random() < 0.1:
            data[start + 2 : start + 12] = struct.pack("<HII", 4, int(one_of(rng, (1, 2**31))), claims(rng)[0])
    return bytes(data)


def claim_webp(rng):
    data = encoded(rng, encoding="WEBP", lossless=True)
    place = data.index(b"VP8L") + 9
    return data[:place] + struct.pack("<I", int(rng.integers(2**32))) + data[place + 4 :]


def text_bomb(rng):
    """A PNG with a text that is 1 GiB long when it is inflated."""
    packer = zlib.compressobj(9)
    packed = b"".join([*(packer.compress(bytes(2**20)) for _ in range(64)), packer.flush()])
    names = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}
    name = one_of(rng, list(names))
    return png(8, 8, zlib.compress(bytes(16)), *[chunk(name, names[name] + packed)] * 16)


def flat(rng):
    """A small file of many pixels: 50 million may be read, 64 million not."""
    side = int(one_of(rng, (3000, 8000)))
    return png(side, side, zlib.compress(bytes(side * (side // 8 + 1)), 1))


def narrow(rng):
    """Few pixels, but many of them once the short side is enlarged."""
    size = (1, int(rng.integers(1000, 60_000)))
    return encoded(rng, size if rng.random() < 0.5 else size[::-1], encoding=one_of(rng, ("JPEG", "PNG")))


def postscript(rng):
    return (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n(/tmp/out) (w) file closefile\nshowpage\n"
    )


def animated(rng):
    frames = [Image.new("RGB", (int(rng.integers(1, 30)), 9), (number * 40, 0, 0)) for number in range(4)]
    file, encoding = io.BytesIO(), one_of(rng, ("GIF", "WEBP", "PNG", "TIFF"))
    if encoding == "WEBP":
        frames = [frame.resize((9, 9)) for frame in frames]
    frames[0].save(file, encoding, save_all=True, append_images=frames[1:])
    return damaged(rng, file.getvalue()) if rng.random() < 0.5 else file.getvalue()


def rotated(rng):
    """EXIF data that say how to turn it, right or wrong."""
    exif = Image.Exif()
    exif[0x0112] = one_of(rng, (6, 0, 9, 65535))
    data = exif.tobytes()
    start = int(rng.integers(6, len(data)))
    data = data[:start] + damaged(rng, data[start:])
    if rng.random() < 0.5:
        return encoded(rng, exif=data[:60_000])
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", "\nexif\n  10\n" + data.hex()[: rng.integers(200)])
    return encoded(rng, encoding="PNG", pnginfo=info)
