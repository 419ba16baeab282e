"""Opening files that may be anything."""

import contextlib
import csv
import errno
import hashlib
import io
import os
import pathlib
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

from tqdm import tqdm

from input_pipeline.errors import DataError
from input_pipeline.records import digest

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


def hash_files(folder: pathlib.Path, paths: Iterable[str], cache_dir: str | os.PathLike) -> str:
    """Returns a hash of the contents of these files of a folder, and of which of them cannot be read.

    They are read again where one of them may have changed: its inode, its size, or the time at which its content or
    anything else of it changed. Programs can set the first of these times, but not the second.

    Args:
        folder: which the paths start from.
        paths: of the files.
        cache_dir: where hashes are kept, in `hashes`.
    """
    paths = list(dict.fromkeys(paths))

    def status(path: str) -> tuple:
        try:
            found = os.stat(os.path.join(folder, path))
        except (OSError, ValueError):  # ValueError: a zero byte in the name
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def content(path: str) -> str:
        try:
            with open_file(os.path.join(folder, path)) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, ValueError) as error:
            return type(error).__name__

    signature = digest(os.path.realpath(folder), *((path, status(path)) for path in paths))
    remembered = pathlib.Path(cache_dir).expanduser() / "hashes" / signature
    if remembered.is_file():
        return remembered.read_text()
    contents = hashlib.sha256()
    with ThreadPoolExecutor() as pool, tqdm(total=len(paths), desc="reading files", unit=" files", delay=2) as progress:
        for start in range(0, len(paths), 1000):  # a future for each of a million would fill the memory
            for text in pool.map(content, paths[start : start + 1000]):
                contents.update(f"{text} ".encode())
                progress.update()
    with contextlib.suppress(OSError):  # then they are read again
        remembered.parent.mkdir(parents=True, exist_ok=True)
        unfinished = remembered.with_suffix(f".{os.getpid()}")
        unfinished.write_text(contents.hexdigest())
        unfinished.replace(remembered)  # so that what other processes find is complete
    return contents.hexdigest()


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
