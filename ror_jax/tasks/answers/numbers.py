"""A number with a unit."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from ror_jax.tasks.answers.answer import (
    Answer,
    Columns,
    Figure,
    Table,
    answer_kind,
    calibration,
    flat_cells,
    floats,
    words_with_interval,
)
from ror_jax.tasks.metrics import WITHIN


@answer_kind("values", "expected", "interval")
class Number(Answer):
    """A number, such as an age.

    Attributes:
      values: [N], as the loss reads them; also the form of the truth.
      expected: [N], where the network gives a distribution, its mean; this is what people are shown.
      interval: [N, 2].
      low, high: between which numbers lie; a truth below `low` is unknown, as NaN is.
      tolerance: an error of more than this is a mistake in pictures.
    """

    values: Any
    expected: Any = None
    interval: Any = None
    unit: str = ""
    low: float = 0.0
    high: float = 100.0
    tolerance: float = WITHIN[-1]
    title: str = ""
    derived: bool = False

    kind: ClassVar[str] = "number"

    @property
    def shown(self) -> Any:
        """What people are shown, [N]."""
        return self.values if self.expected is None else self.expected

    def columns(self, name: str, truth: np.ndarray | None) -> Columns:
        columns = {"true": truth, "predicted": self.values, "expected": self.expected}
        return {f"{name}_{key}": column for key, column in columns.items() if column is not None}

    @classmethod
    def from_columns(cls, name: str, columns: Columns, static: dict[str, Any]) -> tuple["Number", np.ndarray | None]:
        values, expected = columns[f"{name}_predicted"].astype(float), floats(columns, f"{name}_expected")
        return cls(values, expected, **static), floats(columns, f"{name}_true")

    def reading(self, name: str, face: int) -> dict[str, Any]:
        said: dict[str, Any] = {name: round(float(self.shown[face]), 1)}
        if self.interval is not None:
            said[f"{name}_interval"] = [round(float(end), 1) for end in self.interval[face]]
        return said

    @staticmethod
    def cells(name: str, reading: Mapping[str, Any]) -> dict[str, Any]:
        return flat_cells(name, reading, ())

    def words(self, face: int) -> str:
        return words_with_interval(self.title, self.value_words(self.shown[face]), self.interval, face)

    def value_words(self, value: Any) -> str:
        return f"{value:.0f}" if value >= self.low else "?"

    def _errors(self, truth: np.ndarray, answers: Any = None) -> np.ndarray:
        return np.where(truth >= self.low, (self.values if answers is None else answers) - truth, np.nan)

    def scores(self, truth: np.ndarray) -> Columns:
        errors = abs(self._errors(truth))
        found = {"mae": errors, "within_5": np.where(np.isnan(errors), np.nan, errors <= 5)}
        return found | ({} if self.expected is None else {"mae_expectation": abs(self._errors(truth, self.expected))})

    def mistakes(self, truth: np.ndarray) -> np.ndarray:
        return abs(self._errors(truth)) > self.tolerance

    def differs(self, truth: np.ndarray) -> np.ndarray:
        return (truth >= self.low) & (np.round(self.shown) != np.round(truth))

    def severity(self, truth: np.ndarray) -> np.ndarray:
        return np.nan_to_num(abs(self._errors(truth)))

    def tables(self, truth: np.ndarray, mean: Callable[..., tuple[str, str]]) -> Iterator[Table]:
        errors, rows = self._errors(truth), []
        for first in range(int(self.low), int(self.high) + 1, 10):
            chosen = (truth >= first) & (truth < first + 10)
            if chosen.any():
                mae, count = mean(abs(errors), chosen, 1.0)
                rmse, bias = np.sqrt(np.square(errors[chosen]).mean()), errors[chosen].mean()
                rows.append([f"{first}-{first + 9}", mae, f"{rmse:.1f}", f"{bias:+.1f}", count])
        words = f"In {self.unit}, by the decade of the truth; the mean error is above 0 where the answers are too high:"
        yield Table(words, [f"true {self.title}", "MAE", "RMSE", "mean error", "images / subjects"], rows)

    def figures(self, truth: np.ndarray) -> Iterator[Figure]:
        known = truth >= self.low
        data = {"true": truth[known], "predicted": self.values[known], "limits": (self.low, self.high)}
        yield Figure("scatter", f"answers over the truth, {self.unit}", data)

    def calibrate(self, truth: np.ndarray) -> dict[str, Any] | None:
        return calibration(truth, self.shown, truth >= self.low)

    def with_interval(self, calibration: Mapping[str, Any]) -> "Number":
        ends = np.stack([self.shown - calibration["below"], self.shown + calibration["above"]], 1)
        return dataclasses.replace(self, interval=ends.clip(self.low, self.high))
