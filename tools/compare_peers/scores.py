"""How well faces were read, by the same rules for all programs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ror_jax.tasks.age_span import AgeSpan
from ror_jax.tasks.answers import Number
from tools.compare_peers.readers import Face


def nearest_to_center(faces: Sequence[Face], size: tuple[int, int]) -> Face | None:
    """The face whose box has its centre nearest to that of a photograph of this width and height."""

    def distance(face: Face) -> float:
        left, top, width, height = face.box
        return np.hypot(left + width / 2 - size[0] / 2, top + height / 2 - size[1] / 2)

    return min(faces, key=distance, default=None)


def measure(faces: Sequence[Face | None], spans: np.ndarray, genders: np.ndarray) -> dict[str, Any]:
    """Returns what a program reaches on N photographs.

    Args:
      faces: what it read from each; None where it found no face.
      spans: the ages, [N, 2], see `input_pipeline.age_groups`.
      genders: 0 female, 1 male, -1 unknown, [N].

    Returns:
      `photographs`, N, and `found`. `exact`, `one_off` (of FairFace's groups, where the true span lies in one) and
      `gender`: each a pair, the share that is right of the faces found, and of all, those not found being wrong. Of the
      faces found: `mae` and `mean_error` in years where the truth is one year; `coverage`, the mean share of the true
      span in the interval. What the program or the data do not know is None.
    """
    truth = {name: np.asarray(values) for name, values in AgeSpan().truth({"age_span": spans}).items()}
    found = np.array([face is not None for face in faces])
    ages, groups, said = (_column(faces, name) for name in ("age", "group", "gender"))
    low, high = (_column(faces, "interval", end) for end in (0, 1))
    off = np.abs(groups - truth["age_group"])

    def shares(hits: np.ndarray, answers: np.ndarray, known: np.ndarray) -> tuple[float, float] | None:
        if np.isnan(answers[known]).all():
            return None
        return float(hits[known & found].mean()), float(hits[known].mean())

    single = (truth["age"][:, 0] >= 0) & (truth["age"][:, 0] == truth["age"][:, 1]) & ~np.isnan(ages)
    errors = (ages - truth["age"][:, 0])[single]
    inside = Number(ages, interval=np.stack([low, high], 1)).scores(truth["age"])["coverage"]
    inside = inside[~np.isnan(inside) & ~np.isnan(low)]
    return {
        "photographs": len(faces),
        "found": int(found.sum()),
        "exact": shares(off == 0, groups, truth["age_group"] >= 0),
        "one_off": shares(off <= 1, groups, truth["age_group"] >= 0),
        "gender": shares(said == genders, said, genders >= 0),
        "mae": float(np.abs(errors).mean()) if len(errors) else None,
        "mean_error": float(errors.mean()) if len(errors) else None,
        "coverage": float(inside.mean()) if len(inside) else None,
    }


def _column(faces: Sequence[Face | None], name: str, end: int | None = None) -> np.ndarray:
    """The answers of that name, or one end of them, float [N]; NaN where there is none."""
    answers = [getattr(face, name, None) for face in faces]
    return np.array([np.nan if value is None else value if end is None else value[end] for value in answers], float)
