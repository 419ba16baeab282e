"""What runs answered to each test image: `predictions.csv`, and how good an answer was."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ror_jax.errors import UserError

FILE = "predictions.csv"
ANSWERS = ("predicted", "confidence", "expected")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The answers to N images, and what is known about these.

    Attributes:
      facts: text [N] by name of the column: the label as `true`, and what else the records know.
      true: class index [N].
      predicted: class index [N].
      confidence: probability of the predicted class [N].
      expected: expectation under the probabilities [N], in classes or years; None unless the classes are ordered.
    """

    facts: dict[str, np.ndarray]
    true: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    expected: np.ndarray | None

    def number(self, fact: str) -> np.ndarray:
        """A fact as a number [N], -1 where it is not known."""
        return self.facts[fact].astype(float) if fact in self.facts else np.full(len(self.true), -1.0)

    @property
    def subjects(self) -> np.ndarray:
        """Whom an image shows, as a number [N]; who has no identity is someone else on each image."""
        names = self.facts.get("identity", np.full(len(self.true), ""))
        return np.where(names == "", np.arange(len(names)), len(names) + np.unique(names, return_inverse=True)[1])

    def scores(self, task: str) -> dict[str, np.ndarray]:
        """How good each answer is, by metric: 1 or 0 [N], errors of age in years. The first is the task's own."""
        hits = (self.predicted == self.true).astype(float)
        if task == "age_group":
            return {"exact": hits, "one_off": (abs(self.predicted - self.true) <= 1).astype(float)}
        if task != "age_years":
            return {"accuracy": hits}
        error = abs(self.predicted - self.number("age"))
        scores = {"within_5": (error <= 5).astype(float), "accuracy": hits, "mae_predicted": error}
        if self.expected is not None:
            scores["mae_expectation"] = abs(self.expected - self.number("age"))
        return scores


def read_predictions(folders: Sequence[Path]) -> Predictions:
    """The predictions of runs, one after the other, with the columns that all of them have.

    Raises:
      UserError: a file is missing, empty or damaged.
    """
    tables = [_read(folder / FILE) for folder in folders]
    names = [name for name in tables[0] if all(name in table for table in tables)]
    columns = {name: np.concatenate([table[name] for table in tables]) for name in names}
    try:
        return Predictions(
            facts={name: column for name, column in columns.items() if name not in ANSWERS},
            true=columns["true"].astype(int),
            predicted=columns["predicted"].astype(int),
            confidence=columns["confidence"].astype(float),
            expected=columns["expected"].astype(float) if "expected" in columns else None,
        )
    except (KeyError, ValueError) as error:
        places = ", ".join(str(folder / FILE) for folder in folders)
        raise UserError(f"{places}: damaged, test the run again: {type(error).__name__}: {error}") from error


def _read(path: Path) -> dict[str, np.ndarray]:
    """The columns of a file as text."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        if not rows:
            raise ValueError("it has no images")
        return {name: np.array(column) for name, column in zip(header, zip(*rows, strict=True), strict=True)}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; a run writes it when it is tested") from error
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} is damaged, test the run again: {error}") from error
