"""Who is who in a data set of faces: subjects must not be both trained and tested on."""

import collections
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from input_pipeline.errors import DataError


def check_subjects(rows: Iterable[Any], part: str, where: str | os.PathLike) -> None:
    """Raises `DataError` if a subject is in more than one part: what is tested would have been seen in training.

    Args:
        rows: with the attributes `identity` ("" unknown: not looked at) and `part`.
        part: "fold" or "split".
        where: the file or folder, for the message.
    """
    parts = collections.defaultdict(set)
    for row in rows:
        if row.identity:
            parts[row.identity].add(getattr(row, part))
    shared = [(identity, sorted(found)) for identity, found in parts.items() if len(found) > 1]
    if shared:
        identity, (first, second, *_) = shared[0]
        raise DataError(
            f"{where}: {len(shared)} subjects are in more than one {part} (one of them, {identity!r}, in {part}s "
            f"{first} and {second}): give all rows of a subject the same {part}"
        )


def subject_numbers(identity: np.ndarray) -> np.ndarray:
    """A number for each subject, int64 [N], from identities, str [N]. Who is unknown ("") is a subject of their own."""
    identity = np.asarray(identity, str)
    numbers = np.unique(identity, return_inverse=True)[1]
    unknown = np.flatnonzero(identity == "")
    numbers[unknown] = len(identity) + unknown
    return numbers


def draw(subjects: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which rows belong to a random `share` of the subjects, bool [N], from the number of each row's subject, [N]."""
    everyone = np.unique(subjects)
    drawn = np.random.default_rng(seed).permutation(everyone)[: round(share * len(everyone))]
    return np.isin(subjects, drawn)
