"""Intervals around answers: how much of the truth they hold, and by how much to widen them so that they hold enough.

A truth is a span, two numbers between which it lies, each place being as likely as the others; a truth that is a number
is a span without width. An end of a span may be infinite: such a span counts as held as soon as the interval reaches
into it. Spans and intervals are [N, 2], of numpy or JAX.
"""

from typing import Any

import numpy as np

ONE_IN = 20  # faces: one below an interval, and one above it
MIN_CALIBRATION_FACES = 20  # faces to set an interval by


def coverage(spans: Any, intervals: Any) -> Any:
    """Returns the share of each span that lies in its interval, [N]."""
    below, above = (_missed(*side) for side in _sides(spans, intervals))
    return 1 - below - above


def calibrate(spans: np.ndarray, intervals: np.ndarray) -> dict[str, Any] | None:
    """Returns by how much to widen all intervals so that 1 in `ONE_IN` truths lies below them, and 1 in `ONE_IN` above.

    It is conformalised quantile regression (Romano, Patterson, Candès, NeurIPS 2019, theorem 2: either end by itself);
    of intervals without width it is split conformal prediction (Vovk, Gammerman, Shafer, "Algorithmic learning in a
    random world", 2005). As a part of a span may be missed, the widening is that of conformal risk control
    (Angelopoulos et al., ICLR 2024, theorem 1): the smallest one with sum(missed) <= (N + 1) / ONE_IN - 1. For numbers
    that is the usual rank. Then, of a new face like these, the expected share that is missed is 1 / ONE_IN at most.

    Returns:
      `below` and `above`, how much lower the lower ends and how much higher the upper ends must be (below 0: the
      intervals are too wide); `faces`, their number N; `inside`, the share of these faces' truth that then lies inside.
      None if N is below `MIN_CALIBRATION_FACES`.
    """
    if len(spans) < MIN_CALIBRATION_FACES:
        return None
    sides = _sides(np.asarray(spans, float), np.asarray(intervals, float))
    below, above = (_smallest_widening(*side) for side in sides)
    inside = 1 - sum(_missed(*side, widened).mean() for side, widened in zip(sides, (below, above), strict=True))
    return {"below": below, "above": above, "faces": len(spans), "inside": float(inside)}


def _sides(spans: Any, intervals: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Returns (reach, width) for the lower ends and for the upper ends, see `_missed`."""
    (low, high), (first, last) = spans.T, intervals.T
    return _beyond(low, high, first), _beyond(-high, -low, -last)


def _beyond(near: Any, far: Any, end: Any) -> tuple[Any, Any]:
    """How far spans reach beyond the ends of their intervals, and the spans' width, [N] each."""
    width = far - near
    where = width.__array_namespace__().where
    bounded = abs(width) < np.inf
    return end - where(bounded, near, far), where(bounded, width, 0)


def _missed(reach: Any, width: Any, widened: float = 0.0) -> Any:
    """The share of each span that lies beyond the end of its interval, once that is widened."""
    return ((reach - widened) / (width + 1e-30)).clip(0, 1)


def _smallest_widening(reach: np.ndarray, width: np.ndarray) -> float:
    ends = reach[np.isfinite(reach)]
    high = max(ends, default=0.0)  # with which nothing is missed
    low = min(ends - width[np.isfinite(reach)], default=0.0)
    allowed = (len(reach) + 1) / ONE_IN - 1
    for _ in range(100):
        middle = (low + high) / 2
        if _missed(reach, width, middle).sum() <= allowed:
            high = middle
        else:
            low = middle
    return float(high)
