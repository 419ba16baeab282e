"""Opening files that may be anything."""

import contextlib
import csv
import difflib
import errno
import hashlib
import io
import itertools
import os
import pathlib
import stat
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

from tqdm import tqdm

from input_pipeline.errors import DataError
from input_pipeline.records import digest

UNKNOWN = {"?", "-", "NaN", "None", "Unknown", "<NA>", "#N/A"}
UNKNOWN |= {text for word in ("na", "n/a", "nan", "null", "none", "unknown") for text in (word, word.upper())}
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


def read_table(
    path: str | os.PathLike,
    known: Sequence[str],
    advice: str,
    *,
    required: Sequence[str] = (),
    other_names: Mapping[str, str] = types.MappingProxyType({}),
    **layout: Any,
) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Returns the column names in the first line of a CSV file, and of each other line its number and cells by name.

    Names are in lower case, as `known` has them, whatever the first line writes; there may be others. Names and cells
    have no spaces around them; lines without any text are left out.

    Args:
        path: of the file.
        known: the columns that are read.
        advice: what such a file must be, for messages.
        required: those that must be there.
        other_names: of columns, to the name that is known.
        layout: see `csv.reader`.

    Raises:
        DataError: the file cannot be read, is no CSV file in UTF-8, lacks a column that is required, has one twice, or
            one that seems to be a misspelt known one; or a line has not as many cells as there are names.
    """
    try:
        with io.TextIOWrapper(open_file(path), encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, **layout)
            names = [name.strip().lower() for name in next(reader, [])]
            rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); {advice}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file in UTF-8; save it as one") from error
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}; save it as a CSV file") from error
    names = [other_names.get(name, name) for name in names]
    _check_names(path, names, known, required, advice)
    rows = [(line, cells) for line, cells in rows if any(cells)]
    for line, cells in rows:
        if len(cells) != len(names):
            raise DataError(f"{path}, line {line}: {len(cells)} fields where the first line names {len(names)}")
    return names, ((line, dict(zip(names, cells, strict=True))) for line, cells in rows)


def _check_names(
    path: str | os.PathLike, names: Sequence[str], known: Sequence[str], required: Sequence[str], advice: str
) -> None:
    absent = [name for name in known if name not in names]
    for name, other in itertools.product(set(names) - set(known), absent):
        alike = sorted(name) == sorted(other) or difflib.SequenceMatcher(None, name, other).ratio() > 0.8
        if alike and len(other) > 3:  # "page" is no age
            raise DataError(f"{path} has a column {name!r} and no {other!r}: call it so, or by a name less like that")
    if missing := [name for name in required if name in absent]:
        raise DataError(f"{path} has no column {', '.join(missing)}; {advice}")
    if twice := [name for name in known if names.count(name) > 1]:
        raise DataError(f"{path} has the column {twice[0]} twice; {advice}")


def known_text(cell: str) -> str:
    """Returns a cell, or "" for what programs write where nothing is known, such as NA; "Na" may be somebody's name."""
    return "" if cell in UNKNOWN else cell
