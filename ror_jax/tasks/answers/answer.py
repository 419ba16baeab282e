"""What all kinds of answers have in common."""

import abc
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

Columns = dict[str, np.ndarray]


class Table(NamedTuple):
    """Cells of text, and what they are in a sentence."""

    words: str
    columns: list[str]
    rows: list[list[str]]


class Figure(NamedTuple):
    """What is to be drawn: a `kind` of drawing (see `ror_jax.report.figures`), its caption and its data by name."""

    kind: str
    words: str
    data: dict[str, Any]


class Answer(abc.ABC):
    """An answer to each of N faces.

    Attributes:
      kind: "class", "number", "flags", "points" or "vector".
      static: names of the fields that are no arrays.
      title: what words begin with, such as "age".
      derived: whether it follows from another answer; it then appears in readings only, and has no score.
    """

    kind: ClassVar[str]
    static: ClassVar[tuple[str, ...]]
    title: str
    derived: bool

    def describe(self) -> dict[str, Any]:
        """The kind and the static fields, for JSON."""
        return {"kind": self.kind} | {name: getattr(self, name) for name in self.static}

    def compact(self) -> "Answer":
        """The answer without what `columns` leaves out."""
        return self

    def to_photograph(self, matrices: np.ndarray) -> "Answer":
        """The answer in pixels of the photographs, from where the crops [N, 2, 3] lie in them, see `Points`."""
        return self

    # --- In files and words -------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def columns(self, name: str, truth: np.ndarray | None) -> Columns:
        """Columns [N] of `predictions.csv`, by their names."""

    @classmethod
    @abc.abstractmethod
    def from_columns(cls, name: str, columns: Columns, static: dict[str, Any]) -> tuple["Answer", np.ndarray | None]:
        """The inverse of `columns`, from text; KeyError, TypeError or ValueError where the columns are not of it."""

    @abc.abstractmethod
    def reading(self, name: str, face: int) -> dict[str, Any]:
        """What JSON says of one face."""

    @staticmethod
    @abc.abstractmethod
    def cells(name: str, reading: Mapping[str, Any]) -> dict[str, Any]:
        """What `results.csv` says of one face, from its reading: a number or text by name of the column."""

    def words(self, face: int) -> str:
        """One face in words; empty where words say nothing."""
        return ""

    def value_words(self, value: Any) -> str:
        """A true value [...] in words; empty where words say nothing."""
        return ""

    # --- Against the truth --------------------------------------------------------------------------------------------

    def scores(self, truth: np.ndarray) -> Columns:
        """How good each answer is, [N] by name of the metric, the main one first; NaN where the truth is unknown."""
        return {}

    def mistakes(self, truth: np.ndarray) -> np.ndarray:
        """Which answers are wrong, bool [N]; of what is no class, those that are far off."""
        return np.zeros(len(truth), bool)

    def differs(self, truth: np.ndarray) -> np.ndarray:
        """Which answers pictures show beside the truth, bool [N]."""
        return self.mistakes(truth)

    def severity(self, truth: np.ndarray) -> np.ndarray:
        """The sort key of mistakes and hits, [N]: the confidence of a class, the size of any other error."""
        return np.zeros(len(truth))

    def tables(self, truth: np.ndarray, mean: Callable[..., tuple[str, str]]) -> Iterator[Table]:
        """Results by class, decade or flag.

        `mean(values, chosen, factor=100)` gives the mean of the chosen values [N], times the factor, with its interval,
        and how many images and subjects they are of, as text.
        """
        yield from ()

    def figures(self, truth: np.ndarray) -> Iterator[Figure]:
        """Pictures of all answers together."""
        yield from ()

    def calibrate(self, truth: np.ndarray) -> dict[str, Any] | None:
        """By how much to widen the answers, or their intervals, see `intervals.calibrate`; None: not defined."""
        return None

    def with_interval(self, calibration: Mapping[str, Any]) -> "Answer":
        """The answer with an interval around it, or with its own corrected, from what `calibrate` found."""
        return self


def answer_kind(*arrays: str) -> Callable[[type], type]:
    """Makes a class of answers a frozen dataclass and a pytree with these arrays."""

    def decorate(cls):
        cls = dataclasses.dataclass(frozen=True)(cls)
        cls.static = tuple(field.name for field in dataclasses.fields(cls) if field.name not in arrays)
        return jax.tree_util.register_dataclass(cls, data_fields=list(arrays), meta_fields=list(cls.static))

    return decorate


def floats(columns: Columns, name: str) -> np.ndarray | None:
    return columns[name].astype(float) if name in columns else None


def flat_cells(name: str, reading: Mapping[str, Any], others: tuple[str, ...]) -> dict[str, Any]:
    """Of a reading the value, those of the others that are there, and the ends of the interval."""
    cells = {key: reading[key] for key in (name, *(f"{name}_{other}" for other in others)) if key in reading}
    return cells | dict(zip((f"{name}_low", f"{name}_high"), reading.get(f"{name}_interval", ()), strict=False))


def words_with_interval(title: str, said: str, interval: np.ndarray | None, face: int) -> str:
    between = "" if interval is None else " ({:.0f} to {:.0f})".format(*interval[face])
    return f"{title} {said}{between}".lstrip()
