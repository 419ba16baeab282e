"""Reading MATLAB's files of versions 5 to 7: numbers, texts, cell arrays and structs.

The format: "MAT-File Format", The MathWorks. scipy.io reads more of it, but trusts what it reads: a damaged file may
end the process, and a deflated one of a few megabytes fill the memory. Here sizes are checked before memory is taken.
"""

import io
import math
import pathlib
import struct
import zlib
from collections.abc import Collection
from typing import Any, BinaryIO

import numpy as np

from input_pipeline.datasets.files import open_file
from input_pipeline.errors import DataError

# Types of stored data.
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TEXTS = {2: "utf-8", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
MATRIX, COMPRESSED = 14, 15
# Classes of arrays. The stored type may be smaller than the class: doubles that are small integers are bytes.
CELL, STRUCT, TEXT, NUMERIC = 1, 2, 4, range(6, 16)
COMPLEX = 0x800
HEADER = 2**16  # bytes that suffice for an array's header


def array_shapes(path: pathlib.Path, wanted: str) -> dict[str, tuple[int, ...]]:
    """The shapes of a file's arrays by name, from their headers. `wanted` and errors as in `read_arrays`."""
    return _read(path, None, HEADER, wanted)


def read_arrays(path: pathlib.Path, names: Collection[str], most: int, wanted: str) -> dict[str, Any]:
    """The arrays of a file, and the fields of its structs, that have one of these names.

    Numbers become an array of the type in which they are stored, a text a str, a cell array a list in MATLAB's order,
    a struct a dict.

    Args:
        path: the file.
        names: of arrays and fields.
        most: bytes of an array; one that claims more is refused.
        wanted: what the message of an error ends with: which file should be there.

    Raises:
        DataError: the file cannot be read, is damaged or another one, or has arrays that are too large or of other
            kinds.
    """
    return _read(path, {"", *names}, most, wanted)  # arrays inside others have no name


def _read(path: pathlib.Path, names: Collection[str] | None, most: int, wanted: str) -> dict[str, Any]:
    """As `read_arrays`; without names, as `array_shapes`."""
    found = {}
    try:
        with open_file(path) as file:
            head = file.read(128)
            order = {b"IM": "<", b"MI": ">"}.get(head[126:])
            if order is None or head[124:126] != struct.pack(f"{order}H", 0x100):
                raise ValueError("it is not of MATLAB's versions 5 to 7; one of version 7.3 can be saved with -v7")
            while tag := file.read(8):  # of data: their type and size, 4 bytes each
                kind, size = struct.unpack(f"{order}II", tag)
                if kind not in (MATRIX, COMPRESSED):
                    raise ValueError("there is something else where an array should be")
                end = file.tell() + size
                stream = io.BufferedReader(_Inflated(file, size)) if kind == COMPRESSED else file
                part = _Part(stream, order, most)
                size = part.size() if kind == COMPRESSED else size
                if names is None:
                    _, name, value = part.header()
                else:
                    name, value = part.array(size, names)
                    if kind == COMPRESSED and stream.read(1):  # which compares the checksum, too
                        raise ValueError("there is more in an array than it says")
                if value is not None:
                    found[name] = value
                file.seek(end)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); {wanted}") from error
    except Exception as error:  # struct.error, KeyError, RecursionError ..., whose words would help nobody
        reason = error if isinstance(error, ValueError | zlib.error) else "it is damaged"
        raise DataError(f"{path} is not a whole .mat file ({reason}); {wanted}") from error
    return found


class _Inflated(io.RawIOBase):
    """What `size` bytes of a file are when they are inflated."""

    def __init__(self, file: BinaryIO, size: int):
        self._file, self._left, self._inflater = file, size, zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        data = b""
        while not data and not self._inflater.eof:
            packed = self._inflater.unconsumed_tail
            if not packed:
                packed = self._file.read(min(self._left, 2**16))
                self._left -= len(packed)
            if not packed:
                raise ValueError("it ends too early")
            data = self._inflater.decompress(packed, len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Part:
    """An array of a file, with all that is in it, read from its beginning to its end.

    Args:
        stream: what it is read from.
        order: of the bytes, as in `struct`: "<" or ">".
        most: bytes that may be read.
    """

    def __init__(self, stream: BinaryIO, order: str, most: int):
        self._stream, self._order, self._left = stream, order, most

    def _take(self, size: int) -> bytes:
        if not 0 <= size <= self._left:
            raise ValueError("an array is larger than it may be")
        self._left -= size
        data = self._stream.read(size)
        if len(data) < size:
            raise ValueError("it ends too early")
        return data

    def tag(self) -> tuple[int, int, bytes | None]:
        """Type and size of the data that follow, and the data themselves where they are short enough for the tag."""
        tag = self._take(8)
        kind, size = struct.unpack(f"{self._order}II", tag)
        short = kind >> 16
        return (kind % 2**16, short, tag[4 : 4 + short]) if short else (kind, size, None)

    def _data(self, count: int | None = None) -> tuple[int, bytes]:
        """The type of the data that follow, and the data. With a count they must be as many numbers."""
        kind, size, data = self.tag()
        if count is not None and size != count * np.dtype(NUMBERS[kind]).itemsize:
            raise ValueError("an array has not as many numbers as its shape says")
        if data is None:
            data = self._take(size)
            self._take(-size % 8)
        return kind, data

    def header(self) -> tuple[int, str, tuple[int, ...]]:
        """Of the array that follows: the flags, with the class in the last byte, the name and the shape."""
        flags, shape, name = (self._data()[1] for _ in range(3))
        shape = struct.unpack(f"{self._order}{len(shape) // 4}i", shape)
        if not 2 <= len(shape) <= 32 or min(shape) < 0:
            raise ValueError("an array without a shape")
        name = name.decode("ascii")
        if name and not name.isidentifier():
            raise ValueError("an array's name is none that MATLAB gives")
        return struct.unpack(f"{self._order}II", flags)[0], name, shape

    def size(self) -> int:
        """In bytes, of the array that follows, from its tag."""
        kind, size, _ = self.tag()
        if kind != MATRIX:
            raise ValueError("there is something else where an array should be")
        return size

    def array(self, size: int, names: Collection[str]) -> tuple[str, Any]:
        """Name and value of the array that follows, which has so many bytes; None if it is not one of these names."""
        if not size:  # MATLAB writes so what is empty in a cell array
            return "", ""
        end = self._left - size
        flags, name, shape = self.header()
        value = self._value(flags, shape, names) if name in names else None
        self._take(self._left - end)
        return name, value

    def _value(self, flags: int, shape: tuple[int, ...], names: Collection[str]) -> Any:
        kind, count = flags % 256, math.prod(shape)
        if kind in NUMERIC and not flags & COMPLEX:
            stored, data = self._data(count)
            return np.frombuffer(data, self._order + NUMBERS[stored]).reshape(shape, order="F")
        if kind == TEXT and len(shape) == 2 and shape[0] <= 1:
            stored, data = self._data()
            endian = "" if TEXTS[stored] == "utf-8" else {"<": "-le", ">": "-be"}[self._order]
            return data.decode(TEXTS[stored] + endian)
        if kind == CELL and 8 * count <= self._left:
            return [self.array(self.size(), names)[1] for _ in range(count)]
        if kind == STRUCT and count == 1:
            (length,) = struct.unpack(f"{self._order}i", self._data()[1])
            texts = self._data()[1]
            fields = [texts[start : start + length] for start in range(0, len(texts), length)]
            fields = [field.partition(b"\0")[0].decode("ascii") for field in fields]
            values = {field: self.array(self.size(), names if field in names else ())[1] for field in fields}
            return {field: value for field, value in values.items() if value is not None}
        raise ValueError(f"an array of class {kind} and shape {shape}")
