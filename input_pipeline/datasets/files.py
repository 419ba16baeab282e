"""Opening files that may be anything."""

import csv
import errno
import io
import os
import stat
from typing import BinaryIO

from input_pipeline.errors import DataError

LARGEST = 2 * 2**30  # bytes; the largest file of a data set that is read here, SVHN's `extra`, has 1.3 * 10**9


def open_file(path: str | os.PathLike) -> BinaryIO:
    """The file, opened for reading bytes.

    Raises:
        OSError: there is none, or it has more than `LARGEST` bytes, or it is not a regular file: a pipe or a device,
            which would be waited for without end.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if status.st_size > LARGEST:
        raise OSError(errno.EFBIG, f"more than {LARGEST} bytes")
    return open(path, "rb")


def read_file(path: str | os.PathLike) -> bytes:
    """All of a file; errors as those of `open_file`."""
    with open_file(path) as file:
        return file.read()


def read_table(path: str | os.PathLike, advice: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Returns the column names in the first line of a CSV file, and the number and the cells of each other line.

    Names and cells have no spaces around them; empty lines are left out.

    Raises:
        DataError: the file cannot be read, is no CSV file in UTF-8, or a line has not as many cells as there are names;
            where it cannot be read, the message ends with the `advice`.
    """
    try:
        with io.TextIOWrapper(open_file(path), encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines)
            names = [name.strip() for name in next(reader, [])]
            rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells]
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); {advice}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file in UTF-8; save it as one") from error
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}; save it as a CSV file") from error
    for line, cells in rows:
        if len(cells) != len(names):
            raise DataError(f"{path}, line {line}: {len(cells)} fields where the first line names {len(names)}")
    return names, rows
