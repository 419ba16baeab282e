"""What was read from photographs, as words and as files."""

import csv
import json
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

COLUMNS = (
    *("photograph", "face", "left", "top", "width", "height", "score", "age", "age_low", "age_high"),
    *("age_group", "age_group_probability", "gender", "gender_probability", "label", "label_probability", "problem"),
)

Photographs = Iterable[dict[str, Any]]


def in_words(face: dict[str, Any]) -> str:
    """What was read from a face: "age 43 (33 to 57); male, 98 %"."""
    low, high = face.get("age_interval", (None, None))
    interval = f" ({low:.0f} to {high:.0f})" if low is not None else ""
    words = []
    if "age" in face:
        words.append(f"age {face['age']:.0f}{interval}")
    elif "age_group" in face:
        words.append(f"age {face['age_group']}{_percent(face, 'age_group')}{interval}")
    words += [f"{face[key]}{_percent(face, key)}" for key in ("gender", "label") if key in face]
    return "; ".join(words)


def _percent(face: dict[str, Any], key: str) -> str:
    return f", {100 * face[f'{key}_probability']:.0f} %" if f"{key}_probability" in face else ""


def write_csv(photographs: Photographs, file: TextIO) -> Iterator[dict[str, Any]]:
    """A row for each face, and for each photograph without."""
    writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    for photograph in photographs:
        name = {"photograph": photograph["photograph"], "problem": photograph["problem"]}
        for number, face in enumerate(photograph["faces"], start=1):
            box = dict(zip(("left", "top", "width", "height"), face["box"], strict=True))
            ends = dict(zip(("age_low", "age_high"), face.get("age_interval", ()), strict=False))
            writer.writerow(face | name | box | ends | {"face": number})
        if not photograph["faces"]:
            writer.writerow(name)
        yield photograph


def write_jsonl(photographs: Photographs, file: TextIO) -> Iterator[dict[str, Any]]:
    """A line for each photograph."""
    for photograph in photographs:
        file.write(json.dumps(photograph) + "\n")
        yield photograph


def write_json(photographs: Photographs, file: TextIO) -> Iterator[dict[str, Any]]:
    """A list of photographs."""
    file.write("[")
    try:
        for number, photograph in enumerate(photographs):
            file.write(f"{',' * (number > 0)}\n{json.dumps(photograph)}")
            yield photograph
    finally:  # a list, too, where it ends too early
        file.write("\n]\n")


WRITERS = {".csv": write_csv, ".json": write_json, ".jsonl": write_jsonl}
