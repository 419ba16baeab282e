"""Files that are written to the end or not at all, and read with an error that a person understands."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from ror_jax.errors import UserError


class NotWrittenError(UserError):
    """A file or folder cannot be written. The message says which one, and why."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """What happens inside writes `path`; raises NotWrittenError where the system refuses that."""
    try:
        yield
    except OSError as error:
        raise NotWrittenError(f"{path} cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the path to write to; in the end, and without an error, that file is called `path`.

    At any moment, and after a power cut, either the old or the new file is there, whole. The name of the
    unfinished one ends like that of `path`.

    Raises:
      NotWrittenError: the system refuses to write it.
    """
    unfinished = path.with_name(f"unfinished_{path.name}")
    try:
        with writing(path):
            yield unfinished
            with unfinished.open("rb+") as file:
                os.fsync(file.fileno())  # or a power cut could leave the new name with nothing behind it
            unfinished.replace(path)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Writes `text` to `path`, see `replacing`."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def replace_json(path: Path, content: dict) -> None:
    """Writes `content` to `path`, see `replacing`."""
    replace_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> dict:
    """Raises UserError where the file cannot be read or is no JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is not an object in braces")
        return content
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
