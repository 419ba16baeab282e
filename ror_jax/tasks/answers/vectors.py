"""Numbers that mean something only in comparison, such as a descriptor of a face."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ror_jax.tasks.answers.answer import Answer, Columns, answer_kind


@answer_kind("values")
class Vector(Answer):
    """A vector `values` [N, D]; it has no truth."""

    values: Any
    title: str = ""
    derived: bool = False

    kind: ClassVar[str] = "vector"

    def columns(self, name: str, truth: np.ndarray | None) -> Columns:
        return {f"{name}_{number}": column for number, column in enumerate(self.values.T)}

    @classmethod
    def from_columns(cls, name: str, columns: Columns, static: dict[str, Any]) -> tuple["Vector", None]:
        size = sum(f"{name}_{number}" in columns for number in range(len(columns)))
        return cls(np.stack([columns[f"{name}_{number}"].astype(float) for number in range(size)], 1), **static), None

    def reading(self, name: str, face: int) -> dict[str, Any]:
        return {name: [round(float(number), 5) for number in self.values[face]]}

    @staticmethod
    def cells(name: str, reading: Mapping[str, Any]) -> dict[str, Any]:
        return {f"{name}_{number}": value for number, value in enumerate(reading[name])}
