"""Training images drawn with replacement, more often where their kind is rare.

"Placed ages into histogram bins; computed the inverse frequency of each bin; assigned sampling weights dynamically to
every dataset index" (Multi-task age and gender, section 5).
"""

import itertools
import math

import numpy as np

from input_pipeline.errors import DataError, unknown_name
from input_pipeline.records import Dataset

NARROWEST = 0.1  # years


class InverseFrequency:
    """Draws training records by the inverse frequency of their bin, so that all bins come equally often.

    A record whose label is unknown is drawn once an epoch on average, as without this.

    Args:
        dataset: whose records for training are drawn.
        label: one of its labels; records are drawn by its inverse frequency.
        bin_width: width of the bins of ages, in years: from 0 to below this age, and so on; the last bin ends with the
            oldest age. Of other labels every class is a bin.
        power: the weight of a record is 1 / frequency ** power: at 1 all bins come equally often, at 0 all records.

    Attributes:
        label: as above.
        names: of the bins, "0-4" or "female".
        empty: of the bins without a training record, neighbours in one: "85-100".

    Raises:
        DataError: the data set has an order of its own, there is no such label or none that is known, it is not in
            memory, or the width or the power is out of range.
    """

    def __init__(self, dataset: Dataset, label: str, bin_width: float = 5.0, power: float = 1.0):
        if not 0 <= power <= 1:
            raise DataError(f"sampling.power is {power}; it must be from 0 to 1")
        if hasattr(dataset.train, "order"):
            raise DataError(f"{dataset.name} draws images by the shares of its parts; leave out sampling.label")
        kinds = {name for name, classes in dataset.labels.items() if classes}
        if label not in kinds:
            raise unknown_name("sampling.label", label, kinds)
        values = getattr(dataset.train, "columns", {}).get(label)
        if values is None:
            raise DataError(f"{dataset.name} reads each {label} with its image and cannot be sampled by it")
        known = values >= 0
        if not known.any():
            raise DataError(f"no training image of {dataset.name} has a known {label}: it cannot be sampled by it")
        self.label = label
        if values.dtype.kind == "f":
            edges = _edges(len(dataset.labels[label]) - 1, bin_width)
            self._bins = np.minimum(np.searchsorted(edges, values, side="right") - 1, len(edges) - 2)
            spans = [_span(edges, number, number + 1) for number in range(len(edges) - 1)]
        else:
            edges, self._bins, spans = None, values, dataset.labels[label]
        self.names = tuple(spans)
        counts = self.counts()
        self.empty = _empty(counts, self.names, edges)
        weights = np.ones(len(values))
        weights[known] = 1.0 / counts[self._bins[known]] ** power
        weights[~known] = weights[known].mean()
        self._cumulative = np.cumsum(weights)
        self._cumulative /= self._cumulative[-1]

    def __call__(self, number: int, rng: np.random.Generator) -> int:
        """The number of a record, whatever `number` is; a `draw` of `pipeline.record_order`."""
        return int(np.searchsorted(self._cumulative, rng.random(), side="right"))

    def counts(self, numbers: np.ndarray | slice = slice(None)) -> np.ndarray:
        """How many of the records of these numbers lie in each bin, int [bins]; of all training records without."""
        bins = self._bins[numbers]
        return np.bincount(bins[bins >= 0], minlength=len(self.names))


def _edges(oldest: int, width: float) -> np.ndarray:
    if not NARROWEST <= width <= oldest:
        raise DataError(f"sampling.bin_width is {width}; it must be from {NARROWEST} to {oldest} years")
    return np.append(np.arange(math.ceil(oldest / width)) * width, oldest)


def _span(edges: np.ndarray, first: int, last: int) -> str:
    """What lies between two edges in words; whole years are named by the youngest and the oldest of them."""
    low, high = edges[first], edges[last]
    if low % 1 == high % 1 == 0 and last < len(edges) - 1:
        high -= 1
    return f"{low:g}-{high:g}" if low < high else f"{low:g}"


def _empty(counts: np.ndarray, names: tuple[str, ...], edges: np.ndarray | None) -> list[str]:
    if edges is None:
        return [name for name, count in zip(names, counts, strict=True) if not count]
    runs = [
        list(run) for filled, run in itertools.groupby(range(len(counts)), lambda bin: counts[bin] > 0) if not filled
    ]
    return [_span(edges, run[0], run[-1] + 1) for run in runs]
