"""One class of several."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from ror_jax.tasks.answers import intervals
from ror_jax.tasks.answers.answer import (
    Answer,
    Columns,
    Figure,
    Table,
    answer_kind,
    flat_cells,
    floats,
    words_with_interval,
)

MAX_CLASSES_IN_TABLE = 20  # classes that have a row of their own in tables


@answer_kind("chosen", "confidence", "probabilities", "position", "expected", "interval")
class Class(Answer):
    """One class of K.

    Attributes:
      chosen: the class, int [N]; also the form of the truth.
      confidence: its probability [N].
      probabilities: of the classes [N, K].
      position, expected: of ordered classes, where among them the loss sees the face, and the mean [N].
      interval: [N, 2], in `unit`.
      names: of the classes.
      ordered: a neighbouring class is nearly right.
      spans: what the classes cover, (low, high) in `unit` each; empty if that is not known.
    """

    chosen: Any
    confidence: Any = None
    probabilities: Any = None
    position: Any = None
    expected: Any = None
    interval: Any = None
    names: tuple[str, ...] = ()
    ordered: bool = False
    spans: tuple[tuple[float, float], ...] = ()
    unit: str = ""
    title: str = ""
    derived: bool = False

    kind: ClassVar[str] = "class"

    def compact(self) -> "Class":
        return dataclasses.replace(self, probabilities=None)

    def columns(self, name: str, truth: np.ndarray | None) -> Columns:
        columns = {"true": truth, "predicted": self.chosen, "confidence": self.confidence}
        columns |= {"position": self.position, "expected": self.expected}
        return {f"{name}_{key}": column for key, column in columns.items() if column is not None}

    @classmethod
    def from_columns(cls, name: str, columns: Columns, static: dict[str, Any]) -> tuple["Class", np.ndarray | None]:
        optional = {key: floats(columns, f"{name}_{key}") for key in ("confidence", "position", "expected")}
        chosen = columns[f"{name}_predicted"].astype(int)
        truth = columns[f"{name}_true"].astype(int) if f"{name}_true" in columns else None
        largest = max((*chosen, *(() if truth is None else truth)), default=-1)
        if min(chosen, default=0) < 0 or largest >= len(static["names"]):
            raise ValueError(f"{name}: a class that does not exist")
        return cls(chosen, **optional, **static), truth

    def reading(self, name: str, face: int) -> dict[str, Any]:
        said = {name: self.names[self.chosen[face]]}
        if self.probabilities is not None:
            row = [round(float(value), 4) for value in self.probabilities[face]]
            said[f"{name}_probability"] = row[self.chosen[face]]
            said[f"{name}_probabilities"] = dict(zip(self.names, row, strict=True))
        if self.interval is not None:
            said[f"{name}_interval"] = [float(end) for end in self.interval[face]]
        return said

    @staticmethod
    def cells(name: str, reading: Mapping[str, Any]) -> dict[str, Any]:
        return flat_cells(name, reading, ("probability",))

    def words(self, face: int) -> str:
        sure = "" if self.confidence is None else f", {100 * float(self.confidence[face]):.0f} %"
        return words_with_interval(self.title, f"{self.value_words(self.chosen[face])}{sure}", self.interval, face)

    def value_words(self, value: Any) -> str:
        return self.names[value] if value >= 0 else "?"

    def scores(self, truth: np.ndarray) -> Columns:
        hits = np.where(truth >= 0, self.chosen == truth, np.nan)
        if not self.ordered:
            return {"accuracy": hits}
        found = {"exact": hits, "one_off": np.where(truth >= 0, abs(self.chosen - truth) <= 1, np.nan)}
        if self.interval is not None:
            low, high = np.transpose(self.spans)[:, truth]
            inside = (self.interval[:, 0] <= low) & (high <= self.interval[:, 1])
            found["coverage"] = np.where(truth >= 0, inside, np.nan)
        return found

    def mistakes(self, truth: np.ndarray) -> np.ndarray:
        return (truth >= 0) & (self.chosen != truth)

    def severity(self, truth: np.ndarray) -> np.ndarray:
        return np.zeros(len(truth)) if self.confidence is None else self.confidence

    def tables(self, truth: np.ndarray, mean: Callable[..., tuple[str, str]]) -> Iterator[Table]:
        if len(self.names) > MAX_CLASSES_IN_TABLE:
            return
        present = [number for number in range(len(self.names)) if (truth == number).any()]
        rows = [[self.names[number], *mean(self.chosen == number, truth == number)] for number in present]
        yield Table("Recall in percent:", ["true class", "recall", "images / subjects"], rows)

    def figures(self, truth: np.ndarray) -> Iterator[Figure]:
        known, size = truth >= 0, len(self.names)
        places = size * truth[known] + self.chosen[known]
        counts = np.bincount(places, minlength=size**2).reshape(size, size)
        yield Figure("confusion", "confusion matrix", {"counts": counts, "names": self.names})
        if self.confidence is not None and known.any():
            hits = ~self.mistakes(truth)[known]
            words = "accuracy by confidence, and the number of images in each bin"
            yield Figure("reliability", words, {"confidence": self.confidence[known], "correct": hits})

    def calibrate(self, truth: np.ndarray) -> dict[str, Any] | None:
        if not self.spans:
            return None
        known = truth >= 0
        return intervals.calibrate(np.stack([truth] * 2, 1)[known], np.stack([self.chosen] * 2, 1)[known])

    def with_interval(self, calibration: Mapping[str, Any]) -> "Class":
        last = len(self.spans) - 1
        first = np.clip(self.chosen - calibration["below"], 0, last).astype(int)
        final = np.clip(self.chosen + calibration["above"], 0, last).astype(int)
        low, high = np.transpose(self.spans).astype(float)
        return dataclasses.replace(self, interval=np.stack([low[first], high[final]], 1))
