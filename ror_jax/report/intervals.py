"""Intervals around the answers of a run: set on the images for validation, where there are any, and then tested."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ror_jax.report.predictions import Predictions
from ror_jax.tasks.answers import Answer


def calibrate(validation: Sequence[Predictions], tests: Mapping[str, Predictions]) -> dict[str, dict[str, Any]]:
    """Returns by name of the answer what `Answer.calibrate` finds on the images for validation, all together.

    As these have chosen the epoch, too, what it promises holds for new images nearly, not strictly: tests tell.
    Without such images it is what it finds on the first test. `set_on` says which, "validation" or the name of the
    test; `coverage`, by name of the test, which share of its truth then lies inside of the intervals, None of no truth.
    """
    set_on, sources = ("validation", validation) if validation else next((name, [each]) for name, each in tests.items())
    judged = jax.tree.map(lambda *parts: np.concatenate(parts), *(each.judged() for each in sources))
    found = {name: answer.calibrate(truth) for name, (answer, truth) in judged.items()}
    return {
        name: {
            **calibration,
            "set_on": set_on,
            "coverage": {
                split: _coverage(predictions.answers[name].with_interval(calibration), predictions.truth[name])
                for split, predictions in tests.items()
            },
        }
        for name, calibration in found.items()
        if calibration
    }


def coverage_words(name: str, found: Mapping[str, Any]) -> str:
    """Returns, in a sentence, which share of the truth of each test lies in the intervals."""
    title = f"Intervals of the {name.replace('_', ' ')}"
    known = {split: share for split, share in found["coverage"].items() if share is not None}
    shares = ", ".join(f"{100 * share:.1f} % of {split}" for split, share in known.items())
    if found["set_on"] == "validation":
        return f"{title}, set on {found['faces']} images for validation, contain the truth for {shares}."
    return (
        f"{title} contain the truth for {shares}; they were set on these same {found['faces']} images of"
        f" {found['set_on']}, as there are none for validation."
    )


def _coverage(answer: Answer, truth: np.ndarray) -> float | None:
    inside = answer.scores(truth)["coverage"]
    return None if np.isnan(inside).all() else float(np.nanmean(inside))
