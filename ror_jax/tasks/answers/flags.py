"""Several properties that a face has or has not."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from ror_jax.tasks.answers.answer import Answer, Columns, Figure, Table, answer_kind

MAX_FLAGS_IN_WORDS = 6  # flags that are named in words
MISTAKE_SHARE = 0.2  # share of wrong flags that makes a face a mistake


@answer_kind("chosen", "probabilities")
class Flags(Answer):
    """K properties, such as "Smiling".

    Attributes:
      chosen: which of them a face has, [N, K] bool or 0 and 1; the truth is 1, 0 or -1.
      probabilities: of having them [N, K].
      names: of the properties.
    """

    chosen: Any
    probabilities: Any
    names: tuple[str, ...] = ()
    title: str = ""
    derived: bool = False

    kind: ClassVar[str] = "flags"

    def columns(self, name: str, truth: np.ndarray | None) -> Columns:
        found = {}
        for number, flag in enumerate(self.names):
            if truth is not None:
                found[f"{name}_{flag}_true"] = truth[:, number]
            found[f"{name}_{flag}_predicted"] = self.chosen[:, number].astype(int)
            found[f"{name}_{flag}_probability"] = self.probabilities[:, number]
        return found

    @classmethod
    def from_columns(cls, name: str, columns: Columns, static: dict[str, Any]) -> tuple["Flags", np.ndarray | None]:
        def of(what: str, kind: type) -> np.ndarray:
            return np.stack([columns[f"{name}_{flag}_{what}"].astype(kind) for flag in static["names"]], 1)

        truth = of("true", int) if any(f"{name}_{flag}_true" in columns for flag in static["names"]) else None
        return cls(of("predicted", int), of("probability", float), **static), truth

    def reading(self, name: str, face: int) -> dict[str, Any]:
        shares = [round(float(share), 4) for share in self.probabilities[face]]
        return {name: self._held(face), f"{name}_probabilities": dict(zip(self.names, shares, strict=True))}

    @staticmethod
    def cells(name: str, reading: Mapping[str, Any]) -> dict[str, Any]:
        return {f"{name}_{flag}": share for flag, share in reading[f"{name}_probabilities"].items()}

    def _held(self, face: int) -> list[str]:
        return [flag for flag, holds in zip(self.names, self.chosen[face], strict=True) if holds > 0]

    def words(self, face: int) -> str:
        """The flags that hold, the most probable first."""
        surest = np.argsort(-self.probabilities[face], kind="stable")
        return self._list([number for number in surest if self.chosen[face][number] > 0])

    def value_words(self, value: Any) -> str:
        return self._list(np.flatnonzero(np.asarray(value) > 0))

    def _list(self, numbers: Any) -> str:
        named = [self.names[number].replace("_", " ").lower() for number in numbers[:MAX_FLAGS_IN_WORDS]]
        rest = len(numbers) - len(named)
        return ", ".join([*named, *([f"{rest} more"] if rest else [])])

    def _hits(self, truth: np.ndarray) -> np.ndarray:
        return np.where(truth >= 0, (self.chosen > 0) == (truth > 0), np.nan)

    def scores(self, truth: np.ndarray) -> Columns:
        known = (truth >= 0).sum(1)
        return {"mean_accuracy": np.where(known, np.nansum(self._hits(truth), 1) / np.maximum(known, 1), np.nan)}

    def severity(self, truth: np.ndarray) -> np.ndarray:
        return np.nan_to_num(1 - self.scores(truth)["mean_accuracy"])

    def mistakes(self, truth: np.ndarray) -> np.ndarray:
        return self.severity(truth) > MISTAKE_SHARE

    def tables(self, truth: np.ndarray, mean: Callable[..., tuple[str, str]]) -> Iterator[Table]:
        hits, rates, rows = self._hits(truth), self.rates(truth), []
        for number, flag in enumerate(self.names):
            if (known := truth[:, number] >= 0).any():
                text, count = mean(hits[:, number], known)
                shares = ["" if np.isnan(share) else f"{100 * share:.1f}" for share in rates[number]]
                rows.append([flag, text, *shares, count])
        columns = ["", "accuracy", "balanced accuracy", "F1", "have it", "images / subjects"]
        yield Table(
            "In percent; one answer to all would be right for the share that has it, or the rest:", columns, rows
        )

    def rates(self, truth: np.ndarray) -> np.ndarray:
        """Balanced accuracy, F1 and the share that have it, of each flag: [K, 3]; NaN where they are not defined."""
        known, holds, said = truth >= 0, truth > 0, self.chosen > 0
        hits, misses, alarms, passes = (
            (known & one & other).sum(0)
            for one, other in ((holds, said), (holds, ~said), (~holds, said), (~holds, ~said))
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            balanced = (hits / (hits + misses) + passes / (passes + alarms)) / 2
            return np.stack([balanced, 2 * hits / (2 * hits + misses + alarms), (hits + misses) / known.sum(0)], 1)

    def figures(self, truth: np.ndarray) -> Iterator[Figure]:
        known = (truth >= 0).any(0)
        names = [name for name, kept in zip(self.names, known, strict=True) if kept]
        accuracy, balanced = np.nanmean(self._hits(truth)[:, known], 0), self.rates(truth)[known, 0]
        data = {"names": names, "bars": {"accuracy": accuracy, "balanced accuracy": balanced}}
        yield Figure("shares", "accuracy by property", data)
