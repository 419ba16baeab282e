"""What was read from photographs, as files."""

import contextlib
import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from ror_jax.files import replacing
from ror_jax.tasks.answers import cells

FACE = ("photograph", "face", "left", "top", "width", "height", "score")

Photographs = Iterable[dict[str, Any]]
Answers = Mapping[str, Mapping[str, Any]]  # descriptions by name


@contextlib.contextmanager
def open_results(path: Path) -> Iterator[TextIO]:
    """A file to write results to, which is called `path` when this ends without an error. Each line is written at once.

    Raises:
      NotWrittenError: the system refuses it from the first.
    """
    with replacing(path) as unfinished:
        file = unfinished.open("w", buffering=1, newline="", encoding="utf-8", errors="backslashreplace")
        try:
            yield file
        finally:
            with contextlib.suppress(OSError):  # of a line that could not be written, which was told then
                file.close()


def write_csv(
    photographs: Photographs, file: TextIO, answers: Answers, columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """A row for each face, with the `columns` of its answers, and for each photograph without."""
    writer = csv.DictWriter(file, [*FACE, *columns, "problem"])
    writer.writeheader()
    for photograph in photographs:
        name = {"photograph": photograph["photograph"], "problem": photograph["problem"]}
        for number, face in enumerate(photograph["faces"], start=1):
            box = dict(zip(("left", "top", "width", "height"), face["box"], strict=True))
            found = {"face": number, "score": face["score"]} | cells(answers, face)
            writer.writerow(name | box | found)
        if not photograph["faces"]:
            writer.writerow(name)
        yield photograph


def write_jsonl(photographs: Photographs, file: TextIO, *_: Any) -> Iterator[dict[str, Any]]:
    """A line for each photograph."""
    for photograph in photographs:
        file.write(json.dumps(photograph) + "\n")
        yield photograph


def write_json(photographs: Photographs, file: TextIO, *_: Any) -> Iterator[dict[str, Any]]:
    """A list of photographs."""
    file.write("[")
    try:
        for number, photograph in enumerate(photographs):
            file.write(f"{',' * (number > 0)}\n{json.dumps(photograph)}")
            yield photograph
    finally:  # a list, too, where it ends too early
        file.write("\n]\n")


WRITERS = {".csv": write_csv, ".json": write_json, ".jsonl": write_jsonl}
