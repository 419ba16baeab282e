"""Statistics of answers: intervals over subjects, calibration. Pure functions on arrays."""

from typing import NamedTuple

import numpy as np

FEW = 20  # subjects; the interval over fewer is narrower than it should be


class Mean(NamedTuple):
    """A mean over images, and where it would lie with other subjects.

    Attributes:
      low, high: of its 95 % interval.
    """

    value: float
    low: float
    high: float
    images: int
    subjects: int


def mean_over_subjects(values: np.ndarray, subjects: np.ndarray, *, draws: int = 1000) -> Mean:
    """The mean of `values` [N], with a percentile bootstrap interval in which subjects are drawn, not images.

    Images of one person resemble each other, so that N images tell less than N people would. A draw takes as many
    subjects as there are, with replacement, and with a subject all its images (Davison and Hinkley, "Bootstrap methods
    and their application", 1997, section 3.8). The draws are the same in every call.

    Args:
      values: N > 0 numbers, an image each; of two runs the differences, which pairs them.
      subjects: [N], the same number for images of one person.
    """
    subjects = np.unique(subjects, return_inverse=True)[1]
    images, totals = np.bincount(subjects), np.bincount(subjects, values)
    generator = np.random.default_rng(0)
    drawn = (generator.integers(len(images), size=len(images)) for _ in range(draws))
    means = [totals[chosen].sum() / images[chosen].sum() for chosen in drawn]
    low, high = np.percentile(means, (2.5, 97.5))
    return Mean(float(np.mean(values)), float(low), float(high), len(values), len(images))


def mean_text(subjects: np.ndarray, values: np.ndarray, chosen: np.ndarray, factor: float = 100.0) -> tuple[str, str]:
    """The mean of the chosen values [N], times the factor, with its interval; and how many images and subjects."""
    if not chosen.any():
        return "", "0"
    mean = mean_over_subjects(factor * values[chosen], subjects[chosen])
    interval = f" ({mean.low:.1f} to {mean.high:.1f})" if mean.low < mean.high else ""
    few = " †" if mean.subjects < FEW else ""
    return f"{mean.value:.1f}{interval}{few}", f"{mean.images} / {mean.subjects}"


class Calibration(NamedTuple):
    """What confidence is worth, in B bins of equal width; NaN where a bin is empty.

    Attributes:
      images: counts [B].
      confidence: mean probability of the predicted class [B].
      accuracy: share of right answers [B].
      error: the expected calibration error, in [0, 1].
    """

    images: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    error: float


def calibration(confidence: np.ndarray, correct: np.ndarray, bins: int = 10) -> Calibration:
    """Of answers with confidences in [0, 1] [N], right or not [N] (Guo et al., ICML 2017, equation 3).

    A bin holds its upper border, not its lower one.
    """
    place = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    images, sums, hits = (np.bincount(place, weights, bins) for weights in (None, confidence, correct))
    with np.errstate(invalid="ignore"):
        return Calibration(images, sums / images, hits / images, float(abs(hits - sums).sum() / len(confidence)))


def mean_and_deviation(values: list[float], digits: int = 2) -> str:
    """Mean ± sample standard deviation (n - 1) of numbers; one number has no deviation."""
    deviation = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{deviation}"
