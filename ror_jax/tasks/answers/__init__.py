"""What is read from faces, by kind: the one place that knows how an answer is shown, stored and judged.

An `Answer` holds arrays [N, ...] of N faces, in numpy or JAX; it is a pytree with static fields, which `describe` puts
into JSON. The truth of an answer is an array [N, ...] as well; -1 or NaN is unknown. Reports, model cards, predictions
and the page go through the answers of a task, whatever they are.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ror_jax.tasks.answers.answer import Answer, Columns, Figure, Table
from ror_jax.tasks.answers.classes import Class
from ror_jax.tasks.answers.flags import Flags
from ror_jax.tasks.answers.numbers import Number
from ror_jax.tasks.answers.points import Points
from ror_jax.tasks.answers.vectors import Vector

__all__ = [
    "FACE_KEYS",
    "KINDS",
    "Answer",
    "Class",
    "Figure",
    "Flags",
    "Number",
    "Points",
    "Table",
    "Vector",
    "cells",
    "read_answer",
    "readings",
    "with_intervals",
]

KINDS: dict[str, type[Answer]] = {kind.kind: kind for kind in (Class, Number, Flags, Points, Vector)}
FACE_KEYS = ("photograph", "face", "box", "left", "top", "width", "height", "score", "words", "problem")
"""What JSON and `results.csv` say of a face beside its answers: none of these can be the name of an answer."""


def read_answer(name: str, description: Mapping[str, Any], columns: Columns) -> tuple[Answer, np.ndarray | None]:
    """The answer of a description, and its truth, from the columns of `predictions.csv`, text [N].

    Raises:
      KeyError, TypeError, ValueError: the description or the columns are damaged.
    """
    kind = KINDS[description["kind"]]
    static = {field: _frozen(description[field]) for field in kind.static}
    return kind.from_columns(name, columns, static)


def readings(answers: Mapping[str, Answer], faces: int) -> list[dict[str, Any]]:
    """What JSON says of each of so many faces: the reading of all answers, and all of it in `words`."""
    told = []
    for face in range(faces):
        said = {key: value for name, answer in answers.items() for key, value in answer.reading(name, face).items()}
        words = (answer.words(face) for answer in answers.values() if not answer.derived)
        told.append(said | {"words": "; ".join(filter(None, words))})
    return told


def cells(descriptions: Mapping[str, Mapping[str, Any]], reading: Mapping[str, Any]) -> dict[str, Any]:
    """What `results.csv` says of a face, from its reading and the descriptions of the answers."""
    return {
        column: cell
        for name, description in descriptions.items()
        for column, cell in KINDS[description["kind"]].cells(name, reading).items()
    }


def with_intervals(answers: Mapping[str, Answer], found: Mapping[str, Mapping[str, Any]]) -> dict[str, Answer]:
    """The answers with intervals, from what `Answer.calibrate` found of those that can have one."""
    return {name: answer.with_interval(found[name]) if name in found else answer for name, answer in answers.items()}


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
