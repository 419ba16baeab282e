"""Opening files that may be anything."""

import errno
import os
import stat
from typing import BinaryIO

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
