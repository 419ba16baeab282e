"""Ages as spans of years, and groups of ages.

The age of a person is known as a span [low, high) in years: "25 to 32 years" is [25, 33), and an age of 35 years, which
is a number of completed years, is [35, 36). An age with a fraction keeps it: 35.7 is [35.7, 36.7). A span that ends at
`OPEN_END` is open above: "70 and more" is [70, 101). A span that is unknown is (-1, -1).
"""

import itertools
from typing import Any, NamedTuple

import numpy as np

OLDEST = 100  # completed years
OPEN_END = OLDEST + 1
UNKNOWN_SPAN = (-1.0, -1.0)


class Grouping(NamedTuple):
    """Groups of ages, in their order.

    Attributes:
        names: of the groups.
        ranges: the first and the last year of each, in completed years.
    """

    names: tuple[str, ...]
    ranges: tuple[tuple[int, int], ...]


ADIENCE = Grouping(
    ("0-2", "4-6", "8-13", "15-20", "25-32", "38-43", "48-53", "60-"),
    ((0, 2), (4, 6), (8, 13), (15, 20), (25, 32), (38, 43), (48, 53), (60, OLDEST)),
)
FAIRFACE = Grouping(
    ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70-"),
    ((0, 2), (3, 9), (10, 19), (20, 29), (30, 39), (40, 49), (50, 59), (60, 69), (70, OLDEST)),
)
GROUPINGS = {"adience": ADIENCE, "fairface": FAIRFACE}

AGE_GROUPS = ADIENCE.names


def span_of_years(first: float, last: float | None = None) -> tuple[float, float]:
    """Returns the span of the ages from `first` to `last` completed years, both included; of one age without `last`."""
    return float(first), float(first if last is None else last) + 1


def middle(spans: np.ndarray) -> np.ndarray:
    """Returns the ages in the middle of spans [N, 2], in completed years, float32 [N]; -1 where a span is unknown.

    It is the mean of the first and the last year: 28.5 of "25 to 32 years", 35 of "35 years".
    """
    spans = spans.reshape(-1, 2)  # of none, too
    return np.where(spans[:, 0] < 0, -1, spans.mean(1) - 0.5).astype(np.float32)


def nearest_age_group(age: Any, grouping: Grouping = ADIENCE) -> Any:
    """Returns the index of the group that contains the age or is nearest to it, int32; -1 of an age below 0.

    `age` is an array of numpy or JAX, or a number. A tie, such as 3 or 35 of Adience, goes to the older group.
    """
    age = np.asarray(age) if np.isscalar(age) else age
    borders = np.array([(high + low) / 2 for (_, high), (low, _) in itertools.pairwise(grouping.ranges)])
    group = (age[..., None] >= borders).sum(-1)
    return ((group + 1) * (age >= 0) - 1).astype(np.int32)
