"""The eight age groups of Adience."""

import itertools
from typing import Any

import numpy as np

AGE_GROUPS = ("0-2", "4-6", "8-13", "15-20", "25-32", "38-43", "48-53", "60-")
AGE_RANGES = ((0, 2), (4, 6), (8, 13), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100))  # years, both ends included
BORDERS = np.array([(high + low) / 2 for (_, high), (low, _) in itertools.pairwise(AGE_RANGES)])


def nearest_age_group(age: Any) -> Any:
    """Returns the index of the age group that contains the age or is nearest to it, int32; -1 for an age below 0.

    `age` is an array of numpy or JAX, or a number. A tie (3, 35) goes to the older group.
    """
    age = np.asarray(age) if np.isscalar(age) else age
    group = (age[..., None] >= BORDERS).sum(-1)
    return ((group + 1) * (age >= 0) - 1).astype(np.int32)
