"""What was predicted for each image: collected in a test, kept in `predictions.csv`."""

import csv
import dataclasses
from pathlib import Path

import jax
import numpy as np

from input_pipeline.pipeline import GEOMETRY
from input_pipeline.records import Source


@dataclasses.dataclass
class Predictions:
    """Arrays [N], a row for each image that has the label, in the order of the split.

    Attributes:
      number: of the record in its split, int.
      true, predicted: classes, int.
      confidence: the probability of the predicted class.
      expected: the mean of the classes, or years, under the probabilities; empty for classes without an order.
    """

    number: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    expected: np.ndarray


class Collector:
    """Called with what is predicted and true of each batch of a test, it makes `Predictions` of that."""

    def __init__(self, task):
        self._task, self._rows, self._seen = task, [], 0

    def __call__(self, predictions: dict, truth: dict) -> None:
        """Batches must come in order, and padding at the end only, as `pipeline.test_batches` makes them."""
        found, labels, mask = jax.device_get((predictions[self._task.target], self._task.labels(truth), truth["mask"]))
        kept = np.flatnonzero((mask > 0) & (labels >= 0))
        self._rows.append(
            (
                self._seen + kept,
                labels[kept],
                found["class"][kept],
                np.take_along_axis(found["probabilities"], found["class"][:, None], 1)[kept, 0],
                found["expectation"][kept] if "expectation" in found else np.empty(0),
            )
        )
        self._seen += len(mask)

    def predictions(self) -> Predictions:
        return Predictions(*(np.concatenate(column) for column in zip(*self._rows, strict=True)))


def write_predictions(predictions: Predictions, test: Source, path: Path) -> None:
    """A row for each image: what its record says of it, the true and the predicted class, how sure that was.

    Classes are numbers, as in `classes` of `summary.json`.
    """
    columns = {key: column for key, column in vars(predictions).items() if len(column)}
    with path.open("w", newline="") as file:
        writer = None
        for values in zip(*columns.values(), strict=True):
            row = dict(zip(columns, values, strict=True))
            record = test[int(row["number"])]
            facts = {key: record[key] for key in sorted(record.keys() - {"image", *GEOMETRY})}
            row |= {key: f"{row[key]:.6g}" for key in ("confidence", "expected") if key in row}
            if writer is None:
                writer = csv.DictWriter(file, ["number", *facts, *(key for key in row if key != "number")])
                writer.writeheader()
            writer.writerow(facts | row)
