"""A number with a unit."""

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
from ror_jax.tasks.metrics import WITHIN

MAX_SPANS_IN_TABLE = 20  # different true spans that have a row each in tables; of more, decades have


@answer_kind("values", "expected", "interval")
class Number(Answer):
    """A number, such as an age.

    The truth is a number as well, or whole numbers one of which it is, [N, 2]: the first and the last of them. A last
    one of `high` means that or more. Errors are those against the middle.

    Attributes:
      values: [N], as the loss reads them.
      expected: [N], where the network gives a distribution, its mean; this is what people are shown.
      interval: [N, 2], in which nine tenths of the truth should lie; before `with_interval`, where the network gives a
        distribution, that of its 5 % and 95 % quantiles.
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
        if truth is not None and truth.ndim == 2:
            columns |= {"true": None, "true_first": truth[:, 0], "true_last": truth[:, 1]}
        if self.interval is not None:
            columns |= {"low": self.interval[:, 0], "high": self.interval[:, 1]}
        return {f"{name}_{key}": column for key, column in columns.items() if column is not None}

    @classmethod
    def from_columns(cls, name: str, columns: Columns, static: dict[str, Any]) -> tuple["Number", np.ndarray | None]:
        def pair(first: str, last: str) -> np.ndarray | None:
            found = [floats(columns, f"{name}_{end}") for end in (first, last)]
            return None if found[0] is None else np.stack(found, 1)

        values, expected = columns[f"{name}_predicted"].astype(float), floats(columns, f"{name}_expected")
        truth = floats(columns, f"{name}_true")
        truth = pair("true_first", "true_last") if truth is None else truth
        return cls(values, expected, pair("low", "high"), **static), truth

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
        first, last = np.broadcast_to(value, 2)
        if not first >= self.low:
            return "?"
        words = [f"{end:.0f}" for end in (first, last)]
        if words[0] == words[1]:
            return words[0]
        return f"{words[0]} and more" if last >= self.high else " to ".join(words)

    def _errors(self, truth: np.ndarray, answers: Any = None) -> np.ndarray:
        middle = _middle(truth)
        return np.where(middle >= self.low, (self.values if answers is None else answers) - middle, np.nan)

    def _distances(self, truth: np.ndarray) -> np.ndarray:
        """How far answers lie outside of what may be true, [N]; NaN where the truth is unknown."""
        first, last = _ends(truth)
        outside = np.maximum(np.maximum(first - self.values, self.values - last), 0)
        return np.where(first >= self.low, outside, np.nan)

    def _spans(self, truth: np.ndarray) -> np.ndarray:
        """Returns the truth as `intervals` takes it, [N, 2].

        A whole number reaches from half a unit below it to half one above, but not below `low`.
        """
        if truth.ndim == 1:
            return np.stack(_ends(truth), 1)
        first, last = _ends(truth)
        above = last >= self.high
        return np.stack([np.maximum(first - 0.5, self.low), np.where(above, np.inf, last + 0.5)], 1)

    def scores(self, truth: np.ndarray) -> Columns:
        errors = abs(self._errors(truth))
        known = ~np.isnan(errors)
        found = {"mae": errors, "within_5": np.where(known, errors <= 5, np.nan)}
        if self.expected is not None:
            found["mae_expectation"] = abs(self._errors(truth, self.expected))
        if self.interval is not None:
            found["coverage"] = np.where(known, intervals.coverage(self._spans(truth), self.interval), np.nan)
        return found

    def mistakes(self, truth: np.ndarray) -> np.ndarray:
        return self._distances(truth) > self.tolerance

    def differs(self, truth: np.ndarray) -> np.ndarray:
        first, last = _ends(truth)
        shown = np.round(self.shown)
        return (first >= self.low) & ((shown < np.round(first)) | (shown > np.round(last)))

    def severity(self, truth: np.ndarray) -> np.ndarray:
        return np.nan_to_num(self._distances(truth))

    def tables(self, truth: np.ndarray, mean: Callable[..., tuple[str, str]]) -> Iterator[Table]:
        errors, inside, rows = self._errors(truth), self.scores(truth).get("coverage"), []
        by, groups = self._rows(truth)
        for name, chosen in groups.items():
            if chosen.any():
                mae, count = mean(abs(errors), chosen, 1.0)
                rmse, bias = np.sqrt(np.square(errors[chosen]).mean()), errors[chosen].mean()
                held = [] if inside is None else [mean(inside, chosen)[0]]
                rows.append([name, mae, f"{rmse:.1f}", f"{bias:+.1f}", *held, count])
        words = f"In {self.unit}, by {by}; the mean error is above 0 where the answers are too high:"
        held = [] if inside is None else ["inside the interval (%)"]
        yield Table(words, [f"true {self.title}", "MAE", "RMSE", "mean error", *held, "images / subjects"], rows)

    def _rows(self, truth: np.ndarray) -> tuple[str, dict[str, np.ndarray]]:
        """What the rows of the table are, in words, and which answers are in each, bool [N]."""
        middle = _middle(truth)
        spans = np.unique(truth[middle >= self.low], axis=0) if truth.ndim == 2 else ()
        if 0 < len(spans) <= MAX_SPANS_IN_TABLE and (spans[:, 0] < spans[:, 1]).all():
            return "the true span", {self.value_words(span): (truth == span).all(1) for span in spans}
        decades = range(int(self.low), int(self.high) + 1, 10)
        return "the decade of the truth", {
            f"{first}-{first + 9}": (middle >= first) & (middle < first + 10) for first in decades
        }

    def figures(self, truth: np.ndarray) -> Iterator[Figure]:
        middle = _middle(truth)
        known = middle >= self.low
        data = {"true": middle[known], "predicted": self.values[known], "limits": (self.low, self.high)}
        yield Figure("scatter", f"answers over the truth, {self.unit}", data)

    def calibrate(self, truth: np.ndarray) -> dict[str, Any] | None:
        known = _middle(truth) >= self.low
        found = intervals.calibrate(self._spans(truth)[known], self._intervals[known])
        return found and found | {"own": self.interval is not None}

    def with_interval(self, calibration: Mapping[str, Any]) -> "Number":
        """It never leaves the answer itself out."""
        low, high = self._intervals.T
        low = np.minimum(low - calibration["below"], self.shown)
        high = np.maximum(high + calibration["above"], self.shown)
        return dataclasses.replace(self, interval=np.stack([low, high], 1).clip(self.low, self.high))

    @property
    def _intervals(self) -> np.ndarray:
        """What `calibrate` widens: the faces' own intervals, or else the answers."""
        return np.stack([self.shown] * 2, 1) if self.interval is None else self.interval


def _ends(truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (truth, truth) if truth.ndim == 1 else (truth[:, 0], truth[:, 1])


def _middle(truth: np.ndarray) -> np.ndarray:
    return truth if truth.ndim == 1 else truth.mean(1)
