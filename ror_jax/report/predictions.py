"""What was answered to each image of a test: collected, and kept in `predictions.csv`."""

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from input_pipeline.datasets.subjects import subject_numbers
from input_pipeline.records import Source
from ror_jax.errors import UserError
from ror_jax.files import replacing
from ror_jax.tasks.answers import Answer, read_answer, with_intervals
from ror_jax.training.step import Tested

FILE = "predictions.csv"
SUBMISSION = "submission.csv"


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The answers to N images that have a label, in the order of the split, and what is known about these.

    Attributes:
      answers: by name, of N faces each.
      truth: by name of the answer, [N, ...]; none of a vector.
      facts: [N] by name of the column: `number` of the record in its split and, in the file, what else it knows.
    """

    answers: dict[str, Answer]
    truth: dict[str, np.ndarray]
    facts: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.facts.values())))

    def number(self, fact: str) -> np.ndarray:
        """A fact as a number [N], -1 where it is not known."""
        return self.facts[fact].astype(float) if fact in self.facts else np.full(len(self), -1.0)

    @property
    def subjects(self) -> np.ndarray:
        """Whom an image shows, as a number [N]; who has no identity is someone else on each image."""
        return subject_numbers(self.facts.get("identity", np.full(len(self), "")))

    def groups(self, fact: str) -> dict[str, np.ndarray]:
        """Which images have a fact in each of its values, bool [N] by value, in alphabetical order; "" is unknown."""
        values = self.facts[fact]
        return {str(value): values == value for value in np.unique(values) if value}

    def judged(self) -> dict[str, tuple[Answer, np.ndarray]]:
        """The answers that have a truth, and the truth."""
        return {name: (answer, self.truth[name]) for name, answer in self.answers.items() if name in self.truth}

    def with_intervals(self, intervals: Mapping[str, Mapping[str, Any]]) -> "Predictions":
        """The predictions with what `Answer.calibrate` found, by name of the answer."""
        return dataclasses.replace(self, answers=with_intervals(self.answers, intervals))

    def scores(self) -> dict[str, np.ndarray]:
        """How good each answer is, [N] by name of the metric, the main one first; NaN where the truth is unknown.

        Where there are several answers, the name of the metric begins with that of the answer.
        """
        prefixed = len(self.judged()) > 1
        return {
            f"{name}_{metric}" if prefixed else metric: values
            for name, (answer, truth) in self.judged().items()
            for metric, values in answer.scores(truth).items()
        }

    def mistakes(self) -> np.ndarray:
        """Which images have a wrong answer, bool [N]."""
        found = (answer.mistakes(truth) for answer, truth in self.judged().values())
        return np.any([np.zeros(len(self), bool), *found], axis=0)

    def words(self, row: int) -> str:
        """What was answered to an image, a line each, and, where one of the answers is not the truth, what is true."""
        judged = self.judged().values()
        said = [answer.words(row) for answer in self.answers.values()]
        true = "; ".join(filter(None, (answer.value_words(truth[row]) for answer, truth in judged)))
        if true and any(answer.differs(truth)[row] for answer, truth in judged):
            said.append(f"is {true}")
        return "\n".join(filter(None, said))

    def describe(self) -> dict[str, dict]:
        """The form of the answers, for JSON: what `read_predictions` needs."""
        return {name: answer.describe() for name, answer in self.answers.items()}


class Collector:
    """Collects what a test yields, batch by batch and in order, into `Predictions`."""

    def __init__(self):
        self._parts, self._seen = [], 0

    def __call__(self, tested: Tested) -> None:
        tested = jax.device_get(tested)
        kept = np.flatnonzero(tested.counted)
        rows = jax.tree.map(lambda values: values[kept], (tested.answers, tested.truth))
        self._parts.append((*rows, self._seen + kept))
        self._seen += len(tested.images)

    def predictions(self) -> Predictions:
        """Those of all batches so far, one at least."""
        answers, truth, numbers = jax.tree.map(lambda *parts: np.concatenate(parts), *self._parts)
        return Predictions(answers, {name: truth[name] for name in answers if name in truth}, {"number": numbers})


def write_predictions(predictions: Predictions, test: Source, folder: Path) -> Predictions:
    """Writes a row for each image: what its record says of it, what was answered and what is true.

    Returns:
      The predictions with the text of the records as facts.
    """
    columns, texts = {}, []
    for name, answer in predictions.answers.items():
        columns |= answer.columns(name, predictions.truth.get(name))
    with replacing(folder / FILE) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = None
        for at, number in enumerate(predictions.facts["number"]):
            record = test[int(number)]
            row = {"number": number} | {key: record[key] for key in sorted(record.keys() - {"image"})}
            row = {key: value for key, value in row.items() if np.ndim(value) == 0}
            texts.append({key: value for key, value in row.items() if isinstance(value, str)})
            row |= {
                name: values[at] if values.dtype.kind in "iu" else f"{values[at]:.6g}"
                for name, values in columns.items()
            }
            if writer is None:
                writer = csv.DictWriter(file, list(row))
                writer.writeheader()
            writer.writerow(row)
    facts = {key: np.array([text[key] for text in texts]) for key in (texts[0] if texts else ())}
    return dataclasses.replace(predictions, facts=predictions.facts | facts)


def write_submission(predictions: Predictions, test: Source, folder: Path) -> None:
    """Writes `submission.csv` where age and gender are answered: id, age and gender (0 female, 1 male).

    It is the multi-task article's, section 13. `id` is the record's own, or else its path or its number.
    """
    age, gender = predictions.answers.get("age"), predictions.answers.get("gender")
    if age is None or gender is None:
        return
    with replacing(folder / SUBMISSION) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "age", "gender"))
        for number, years, chosen in zip(predictions.facts["number"], age.shown, gender.chosen, strict=True):
            record = test[int(number)]
            name = record.get("id") or record.get("path", number)
            writer.writerow((name, f"{years:.4f}", chosen))


def read_predictions(folders: Sequence[Path], descriptions: Mapping[str, Mapping[str, Any]]) -> Predictions:
    """Returns the predictions of runs, one after the other, with the columns that all of them have.

    Args:
      descriptions: of the answers by name, as `summary.json` has them.

    Raises:
      UserError: a file is missing, empty, damaged, or of an older version.
    """
    tables = [_read(folder / FILE) for folder in folders]
    names = [name for name in tables[0] if all(name in table for table in tables)]
    columns = {name: np.concatenate([table[name] for table in tables]) for name in names}
    places = ", ".join(str(folder / FILE) for folder in folders)
    try:
        found = {name: read_answer(name, form, columns) for name, form in descriptions.items()}
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        words = f"{places}: damaged, or of another version; test the run again"
        raise UserError(f"{words}: {type(error).__name__}: {error}") from error
    if not found:
        raise UserError(f"{places}: no answers are described in summary.json; test the run again")
    told = {column for name, (answer, truth) in found.items() for column in answer.columns(name, truth)}
    return Predictions(
        {name: answer for name, (answer, _) in found.items()},
        {name: truth for name, (_, truth) in found.items() if truth is not None},
        {name: column for name, column in columns.items() if name not in told},
    )


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
