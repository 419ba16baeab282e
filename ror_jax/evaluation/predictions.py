"""What was answered to each image of a test: collected, and kept in `predictions.csv`."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from input_pipeline.datasets.faces import subject_numbers
from input_pipeline.pipeline import GEOMETRY
from input_pipeline.records import Source
from ror_jax.errors import UserError
from ror_jax.files import replacing

FILE = "predictions.csv"
SUBMISSION = "submission.csv"
ANSWERS = {"predicted": int, "confidence": float, "position": float, "expected": float, "predicted_age": float}


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The answers to N images that have a label, in the order of the split, and what is known about these.

    Attributes:
      facts: [N] by name of the column: `number` of the record in its split, the class index as `true`, other labels
        that were learnt, and, in the file, what else the record knows.
      true: class index [N]; -1 for an image that has another label only.
      predicted: class index [N].
      confidence: probability of the predicted class [N].
      position, expected: of classes with an order, where the answer lies among them, as the loss reads it, and the mean
        under the probabilities [N], in classes or years; None for others.
      predicted_age: beside a class, in years [N]; None where no age is.
    """

    facts: dict[str, np.ndarray]
    true: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    position: np.ndarray | None = None
    expected: np.ndarray | None = None
    predicted_age: np.ndarray | None = None

    def number(self, fact: str) -> np.ndarray:
        """A fact as a number [N], -1 where it is not known."""
        return self.facts[fact].astype(float) if fact in self.facts else np.full(len(self.true), -1.0)

    @property
    def years(self) -> np.ndarray | None:
        """What was read as the age [N], in years where these were learnt; None for classes without an order."""
        return self.position if self.predicted_age is None else self.predicted_age

    @property
    def mistakes(self) -> np.ndarray:
        """Where the class is known and another was answered, bool [N]."""
        return (self.true >= 0) & (self.predicted != self.true)

    @property
    def subjects(self) -> np.ndarray:
        """Whom an image shows, as a number [N]; who has no identity is someone else on each image."""
        return subject_numbers(self.facts.get("identity", np.full(len(self.true), "")))

    def scores(self, task: str) -> dict[str, np.ndarray]:
        """How good each answer is, by metric: 1 or 0 [N], errors of age in years; NaN where the label is not known. The
        first is the task's own."""
        hits = np.where(self.true >= 0, self.predicted == self.true, np.nan)
        if task == "age_group":
            return {"exact": hits, "one_off": (abs(self.predicted - self.true) <= 1).astype(float)}
        ages = np.where(self.number("age") >= 0, self.number("age"), np.nan)
        if task == "age_gender":
            return {"mae": abs(self.years - ages), "accuracy": hits}
        if task != "age_years":
            return {"accuracy": hits}
        error, error_of_mean = (abs(years - ages) for years in (self.years, self.expected))
        within = (error <= 5).astype(float)
        return {"within_5": within, "accuracy": hits, "mae": error, "mae_expectation": error_of_mean}


class Collector:
    """Called with what is predicted and true of each batch of a test, it makes `Predictions` of that."""

    def __init__(self, task):
        self._task, self._columns, self._seen = task, [], 0

    def __call__(self, predictions: dict, truth: dict) -> None:
        """Batches must come in order, and padding at the end only, as `pipeline.test_batches` makes them."""
        task = self._task
        predictions, labels, truth = jax.device_get((predictions, task.labels(truth), truth))
        found, mask = predictions[task.target], truth["mask"]
        kept = np.flatnonzero((mask > 0) & np.any([truth[label] >= 0 for label in task.targets()], axis=0))
        columns = {label: truth[label][kept] for label in task.beside} | {
            "number": self._seen + kept,
            "true": labels[kept],
            "predicted": found["class"][kept],
            "confidence": np.take_along_axis(found["probabilities"], found["class"][:, None], 1)[kept, 0],
        }
        ordered = {"position": "position", "expected": "expectation"}
        columns |= {name: found[key][kept] for name, key in ordered.items() if key in found}
        if "age" in task.beside:
            columns["predicted_age"] = predictions["age"]["years"][kept]
        self._columns.append(columns)
        self._seen += len(mask)

    def predictions(self) -> Predictions:
        """Those of all batches so far, one at least."""
        columns = {name: np.concatenate([part[name] for part in self._columns]) for name in self._columns[0]}
        facts = {name: columns[name] for name in ("number", "true", *self._task.beside)}
        answers = {name: column for name, column in columns.items() if name in ANSWERS}
        return Predictions(facts, facts["true"], **answers)


def write_predictions(predictions: Predictions, test: Source, folder: Path) -> None:
    """A row for each image: what its record says of it, the true and the predicted class, how sure that was.

    Classes are numbers, as in `classes` of `summary.json`.
    """
    answers = {name: getattr(predictions, name) for name in ANSWERS if getattr(predictions, name) is not None}
    records = (test[int(number)] for number in predictions.facts["number"])
    with replacing(folder / FILE) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = None
        for at, record in enumerate(records):
            facts = {key: record[key] for key in sorted(record.keys() - {"image", *GEOMETRY})}
            row = {"number": predictions.facts["number"][at], **facts, "true": predictions.true[at]}
            row |= {
                name: values[at] if values.dtype.kind == "i" else f"{values[at]:.6g}"
                for name, values in answers.items()
            }
            if writer is None:
                writer = csv.DictWriter(file, list(row))
                writer.writeheader()
            writer.writerow(row)


def write_submission(predictions: Predictions, test: Source, folder: Path) -> None:
    """`submission.csv` with the columns id, age and gender (0 female, 1 male), as multi-task article, section 13.

    `id` is the record's own, or else its path or its number. An image without any label is no test image.
    """
    with replacing(folder / SUBMISSION) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "age", "gender"))
        answers = zip(predictions.facts["number"], predictions.predicted_age, predictions.predicted, strict=True)
        for number, age, gender in answers:
            record = test[int(number)]
            name = record.get("id") or record.get("path", number)
            writer.writerow((name, f"{age:.4f}", gender))


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
            {name: column for name, column in columns.items() if name not in ANSWERS},
            columns["true"].astype(int),
            **{name: columns[name].astype(kind) for name, kind in ANSWERS.items() if name in columns},
        )
    except (KeyError, OverflowError, TypeError, ValueError) as error:
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
