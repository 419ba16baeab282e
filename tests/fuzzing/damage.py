"""Damaging what is whole: bytes, tables of texts, and files in a folder. All of it is drawn from a generator."""

import os
import pathlib
import struct
from collections.abc import Sequence

import numpy as np

# What a cell may hold, but should not.
CELLS = (
    *("", " ", "-1", "0", "101", "1_0", "٣٠", "²", "½", "nan", "inf", "-inf", "1e400", "1e1", "0x10", "+5", "9" * 5000),
    *(
        "30\x00",
        "a\x00b",
        "\x85",
        "\u2028",
        "\u202e",
        "\ufeff",
        '"open',
        '"',
        "a\tb",
        "a,b",
        "a\r",
        "=1+1",
        "None",
        "woman",
    ),
    *("../../etc/passwd", "/etc/passwd", "..", ".", "/", "a/../..", "/dev/zero", "x" * 300, "x" * 140_000, "é" * 2000),
)
ODD_FILES = ("missing", "pipe", "folder", "empty", "zeros", "outside", "loop", "device", "dangling")


def one_of(rng: np.random.Generator, choices: Sequence):
    return choices[rng.integers(len(choices))]


def damaged(rng: np.random.Generator, data: bytes) -> bytes:
    """Bytes flipped, cut off, doubled, taken out or overwritten; or nothing that was there."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        # Near the beginning as often as anywhere: that is where headers are.
        end = max(1, min(len(data), int(one_of(rng, (64, 512, len(data))))))
        start = int(rng.integers(end))
        stop = start + int(rng.integers(1, 200))
        kind = rng.integers(8)
        if kind < 2:
            for place in rng.integers(end, size=rng.integers(1, 20)):
                data[place : place + 1] = bytes([rng.integers(256)])
        elif kind == 2:
            del data[start:]
        elif kind == 3:
            del data[start:stop]
        elif kind == 4:
            data[start:start] = data[start:stop]
        elif kind == 5:
            number = int(one_of(rng, (0, 1, -1, 2**31 - 1, -(2**31), 2**24, 60_000, 2**28)))
            data[start : start + 4] = struct.pack(one_of(rng, "<>") + "i", number)
        elif kind == 6:
            data[start:stop] = bytes(stop - start)
        elif rng.random() < 0.2:
            data = bytearray(rng.bytes(rng.integers(2000)))
    return bytes(data)


def damaged_table(rng: np.random.Generator, rows: list[list[str]], separator: str) -> bytes:
    """A text of rows, the first of which names the columns, with a few things wrong."""
    rows = [list(row) for row in rows]
    for _ in range(rng.integers(3)):
        row = rows[rng.integers(len(rows))] if rng.random() < 0.9 else rows[0]
        kind, place = rng.integers(8), rng.integers(len(row)) if row else 0
        if kind < 4 and row:
            row[place] = one_of(rng, CELLS)
        elif kind == 4:
            row[place : place + 1] = [] if rng.random() < 0.5 else row[place : place + 1] * 2
        elif kind == 5:
            rows.insert(rng.integers(len(rows)), row)
        elif kind == 6 and len(rows) > 1:
            rows.pop(rng.integers(len(rows)))
        else:
            one, other = rng.integers(len(rows), size=2)
            rows[one], rows[other] = rows[other], rows[one]
    text = one_of(rng, ("\n", "\n", "\r\n", "\r", "\n\n")).join(separator.join(row) for row in rows)
    data = text.encode(one_of(rng, ("utf-8",) * 4 + ("utf-8-sig", "utf-16")))
    return damaged(rng, data) if rng.random() < 0.2 else data


def odd_file(rng: np.random.Generator, path: pathlib.Path) -> None:
    """Puts something in the place of a file that is no file, or not one that belongs there."""
    kind = one_of(rng, ODD_FILES)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "zeros":  # they take no room on the disk
        with path.open("wb") as file:
            file.truncate(2**36)
    elif kind != "missing":
        path.symlink_to({"outside": "/etc/passwd", "loop": path.name, "device": "/dev/zero", "dangling": "none"}[kind])
