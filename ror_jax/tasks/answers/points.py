"""Points of a face."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from ror_jax.tasks.answers.answer import Answer, Columns, Figure, Table, answer_kind

FAILURE = 0.1  # normalised mean error from which on a face counts as missed


@answer_kind("values")
class Points(Answer):
    """K points, such as landmarks.

    Attributes:
      values: [N, K, 2], x and y from the upper left corner as parts of the side of the square that the network sees,
        or, when they are placed, in pixels of the photograph; also the form of the truth, NaN where a point is unknown.
      names: of the points; or none.
      normalizer: indices of two points; errors are divided by their true distance.
    """

    values: Any
    names: tuple[str, ...] = ()
    normalizer: tuple[int, int] = (0, 1)
    title: str = ""
    derived: bool = False

    kind: ClassVar[str] = "points"

    def to_photograph(self, matrices: np.ndarray) -> "Points":
        """The points in pixels of the photographs, from the matrices [N, 2, 3] that map (x, y, 1) there."""
        placed = np.einsum("nij,nkj->nki", matrices[:, :, :2], self.values) + matrices[:, None, :, 2]
        return dataclasses.replace(self, values=placed)

    def columns(self, name: str, truth: np.ndarray | None) -> Columns:
        found = {}
        for number in range(self.values.shape[1]):
            for axis, letter in enumerate("xy"):
                if truth is not None:
                    found[f"{name}_{number}_{letter}_true"] = truth[:, number, axis]
                found[f"{name}_{number}_{letter}_predicted"] = self.values[:, number, axis]
        return found

    @classmethod
    def from_columns(cls, name: str, columns: Columns, static: dict[str, Any]) -> tuple["Points", np.ndarray | None]:
        count = sum(f"{name}_{number}_x_predicted" in columns for number in range(len(columns)))

        def of(what: str) -> np.ndarray:
            flat = [
                columns[f"{name}_{number}_{letter}_{what}"].astype(float) for number in range(count) for letter in "xy"
            ]
            return np.stack(flat, 1).reshape(-1, count, 2)

        return cls(of("predicted"), **static), of("true") if f"{name}_0_x_true" in columns else None

    def reading(self, name: str, face: int) -> dict[str, Any]:
        return {name: [[round(float(number), 2) for number in point] for point in self.values[face]]}

    @staticmethod
    def cells(name: str, reading: Mapping[str, Any]) -> dict[str, Any]:
        return {
            f"{name}_{point}_{letter}": number
            for point, place in enumerate(reading[name])
            for letter, number in zip("xy", place, strict=True)
        }

    def errors(self, truth: np.ndarray) -> np.ndarray:
        """The normalised mean error of each face [N]: the mean distance of its known points from the truth."""
        first, second = self.normalizer
        scale = np.linalg.norm(truth[:, first] - truth[:, second], axis=-1)
        distances = np.linalg.norm(self.values - truth, axis=-1)
        known = ~np.isnan(distances)
        sums = np.where(known, distances, 0).sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return sums / known.sum(1) / scale

    def scores(self, truth: np.ndarray) -> Columns:
        return {"nme": self.errors(truth)}

    def severity(self, truth: np.ndarray) -> np.ndarray:
        return np.nan_to_num(self.errors(truth))

    def mistakes(self, truth: np.ndarray) -> np.ndarray:
        return self.severity(truth) > FAILURE

    def tables(self, truth: np.ndarray, mean: Callable[..., tuple[str, str]]) -> Iterator[Table]:
        errors = self.errors(truth)
        known = np.isfinite(errors)
        area = np.clip(1 - errors[known] / FAILURE, 0, 1).mean() if known.any() else np.nan
        text, count = mean(errors, known)
        failures, _ = mean(errors > FAILURE, known)
        words = (
            f"Normalised mean error (NME) in percent; failures are faces of more than {100 * FAILURE:g} %, and the area"
            " is that under the cumulative error curve up to there, in percent of the best:"
        )
        yield Table(
            words,
            ["", "NME", "failures", "area", "images / subjects"],
            [["all points", text, failures, f"{100 * area:.1f}", count]],
        )

    def figures(self, truth: np.ndarray) -> Iterator[Figure]:
        errors = self.errors(truth)
        yield Figure(
            "cumulative",
            "share of faces by normalised mean error",
            {"errors": errors[np.isfinite(errors)], "failure": FAILURE},
        )
