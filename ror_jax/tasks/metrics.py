"""Metrics as sums and counts, so that neither padding nor sharding can bias them.

A confusion matrix of counts is the sum from which all else follows: `confusion` is computed on the device, batch by
batch, and added up; the other functions read the total, a numpy array [K, K] with a row for each true class. Where a
batch is divided over devices, sums are those of the whole batch.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ror_jax import parallel
from ror_jax.errors import UserError

WITHIN = (3, 5, 10)  # years
ROUNDING = 1e-5  # what float32 makes of a difference of sums that are equal, as a part of them
MIDDLE = 50.0  # years. Squares of ages would be so large that float32 lost the differences between them


class Metric(NamedTuple):
    """How a result is shown: `factor` times it, in `unit`, with so many digits after the point."""

    label: str
    factor: float = 100.0
    unit: str = " %"
    digits: int = 2
    lower_is_better: bool = False
    tabled: bool = True  # whether reports have a column for it

    @property
    def sign(self) -> int:
        """1, or -1 where lower is better."""
        return -1 if self.lower_is_better else 1

    def number(self, value: float, sign: str = "") -> str:
        """A result as text, without its unit; `sign` is "+" for a difference."""
        return f"{self.factor * value:{sign}.{self.digits}f}"

    def text(self, value: float) -> str:
        """A result as text, with its unit."""
        return f"{self.number(value)}{self.unit}"


YEARS = {"factor": 1.0, "unit": " years", "lower_is_better": True}
SCORE = {"factor": 1.0, "unit": "", "digits": 4}

METRICS = {
    "error": Metric("test error", lower_is_better=True),
    "top_5_error": Metric("top-5 error", lower_is_better=True),
    "exact": Metric("exact"),
    "one_off": Metric("1-off"),
    "harmonic": Metric("harmonic score", **SCORE),
    "rmse": Metric("RMSE (years)", **YEARS),
    "mae": Metric("MAE (years)", **YEARS),
    "mae_argmax": Metric("MAE of the most probable year (years)", **YEARS, tabled=False),
    "mae_expectation": Metric("MAE of the expectation (years)", **YEARS),
    "r2": Metric("R²", **SCORE),
    "within_3": Metric("within 3 years"),
    "within_5": Metric("within 5 years"),
    "within_10": Metric("within 10 years"),
    "macro_f1": Metric("macro F1", **SCORE),
    "accuracy": Metric("accuracy"),
    "mean_accuracy": Metric("mean accuracy"),
    "nme": Metric("normalised mean error", lower_is_better=True),
    "cross_entropy": Metric("cross-entropy", 1.0, " nats", digits=4, lower_is_better=True, tabled=False),
    "nll": Metric("negative log-likelihood", 1.0, " nats", digits=4, lower_is_better=True),
    "coverage": Metric("90 % interval covers"),
    "width": Metric("mean width of the 90 % interval (years)", **YEARS),
    "hours": Metric("hours", factor=1.0, unit=" h"),
}


def register(name: str, shown: Metric) -> None:
    """Adds how a result is shown, for tasks with results of their own; raises UserError if the name is taken."""
    if name in METRICS:
        raise UserError(f"there is a metric {name!r} already; choose another name")
    METRICS[name] = shown


def metric(name: str) -> Metric:
    """How the result of that name is shown; "PART_exact" as "exact", with the part in its label."""
    part, known = _split(name)
    if known is None:
        return Metric(name.replace("_", " "), factor=1.0, unit="", digits=4)
    found = METRICS[known]
    return found._replace(label=f"{part.replace('_', ' ')}: {found.label}") if part else found


def tabled(results: Mapping[str, Any]) -> list[str]:
    """The names of those results that tables show, in the order of `METRICS`, part by part."""
    names = [name for name, value in results.items() if isinstance(value, float)]
    split = {name: found for name in names if (found := _split(name))[1] and METRICS[found[1]].tabled}
    parts = list(dict.fromkeys(part for part, _ in split.values()))
    return sorted(split, key=lambda name: (parts.index(split[name][0]), list(METRICS).index(split[name][1])))


def _split(name: str) -> tuple[str, str | None]:
    """The part, perhaps "", and the known name of a result; none where it is not known."""
    known = [known for known in METRICS if name == known or name.endswith(f"_{known}")]
    longest = max(known, key=len, default=None)
    return (name, None) if longest is None else (name[: -len(longest)].rstrip("_"), longest)


def confusion(predictions, labels, mask, shape: tuple[int, int]):
    """Counts int32 of that shape (row: label, column: prediction) of the images whose mask is 1; the others are [B]."""
    # Matrices of a thousand classes are too large to be sent about; what they count is not.
    predictions, labels, mask = parallel.gathered((predictions, labels, mask))
    counts = jnp.zeros(shape, jnp.int32)
    return counts.at[jnp.where(mask > 0, labels, 0), predictions].add((mask > 0).astype(jnp.int32))


def cross_entropy(probabilities, labels, mask):
    """Sum of -log p of the label in nats, no p being taken for less than the smallest normal number.

    It is NaN if any of the probabilities is, so that no other number has to be asked. `probabilities` are [B, K], the
    others [B].
    """
    of_label = _of_label(probabilities, labels, mask)[:, 0]
    losses = -jnp.log(jnp.maximum(of_label, jnp.finfo(of_label.dtype).tiny)) * mask
    return parallel.total(jnp.where(jnp.isnan(probabilities).any(1), jnp.nan, losses).sum())


def top_k_correct(probabilities, labels, mask, k: int):
    """Images whose class is among the k likeliest, int32: what top-k accuracy counts.

    `probabilities` are [B, K], the others [B]. A class that is as likely as the label's counts as less likely.
    """
    of_label = _of_label(probabilities, labels, mask)
    likelier = (~(probabilities <= of_label)).sum(1)  # so that what is not a number is never correct
    return parallel.total((likelier < k).astype(jnp.int32) @ (mask > 0).astype(jnp.int32))


def errors(predicted, true, mask) -> dict:
    """Sums over the errors of the images whose mask is 1, of which `summarize_errors` makes what a person reads.

    All arguments are [B], in years.
    """
    error = jnp.abs(predicted - true)
    centred = true - MIDDLE
    sums = {
        "absolute": error * mask,
        "squared": error * error * mask,
        "true": centred * mask,
        "true_squared": centred * centred * mask,
        "count": mask > 0,
        **{f"within_{years}": (error <= years) & (mask > 0) for years in WITHIN},
    }
    return parallel.total({name: values.sum() for name, values in sums.items()})


def summarize_errors(sums: dict) -> dict:
    """`rmse` and `mae` in years, `r2`, and the shares of errors of up to 3, 5 and 10 years, `within_3` ...

    R^2 is 1 - (squared errors) / (squared distances of the true ages from their mean); 0 where these are all equal.
    """
    sums = {name: float(value) for name, value in sums.items()}
    count = max(sums["count"], 1.0)
    spread = sums["true_squared"] - sums["true"] ** 2 / count
    return {
        "rmse": math.sqrt(sums["squared"] / count),
        "mae": sums["absolute"] / count,
        "r2": 1 - sums["squared"] / spread if spread > ROUNDING * sums["true_squared"] else 0.0,
        **{name: sums[name] / count for name in (f"within_{years}" for years in WITHIN)},
    }


def macro_f1(counts: np.ndarray) -> float:
    """Mean over the classes of F1 = 2 TP / (2 TP + FP + FN), without those that are neither true nor predicted."""
    hits, total = np.diag(counts), counts.sum(0) + counts.sum(1)
    return float((2 * hits[total > 0] / total[total > 0]).mean()) if total.any() else 0.0


def harmonic(rmse: float, f1: float) -> float:
    """Harmonic mean of F1 and of the age score 1 - min(RMSE, 30) / 30 (multi-task article, section 10)."""
    age_score = 1 - min(rmse, 30.0) / 30
    return 2 * age_score * f1 / (age_score + f1) if age_score + f1 else 0.0


def accuracy(counts: np.ndarray) -> float:
    """Share of images whose class was found: "exact" accuracy where the classes are age groups."""
    return _share(np.trace(counts), counts.sum())


def one_off_accuracy(counts: np.ndarray) -> float:
    """Share of images whose class or a neighbouring one was found (Deep-RoR, section IV.B)."""
    near = sum(np.trace(counts, offset) for offset in (-1, 0, 1))
    return _share(near, counts.sum())


def recall(counts: np.ndarray) -> list[float | None]:
    """Share found of each class; None for a class without images."""
    return [
        float(found / total) if total else None for found, total in zip(np.diag(counts), counts.sum(1), strict=True)
    ]


def majority_rate(counts: np.ndarray) -> float:
    """The accuracy of always answering the most frequent class."""
    return _share(counts.sum(1).max(), counts.sum())


def _of_label(probabilities, labels, mask):
    return jnp.take_along_axis(probabilities, jnp.where(mask > 0, labels, 0)[:, None], axis=1)


def _share(part, whole) -> float:
    return float(part / max(whole, 1))
