"""Several folds as one, worked out by hand."""

import pytest

from ror_jax.runs.cross_validation import pool


def summary(exact, confusion):
    return {"classes": ["young", "old"], "test": {"exact": exact, "one_off": 1.0, "confusion": confusion}}


def test_pool():
    """Values 0.5, 0.6, 0.7: mean 0.6, sample standard deviation 0.1. Young: 1 + 3 + 2 of 4 + 3 + 3 found."""
    pooled = pool(
        {
            "fold 0": summary(0.5, [[1, 3], [0, 2]]),
            "fold 1": summary(0.6, [[3, 0], [2, 0]]),
            "fold 2": summary(0.7, [[2, 1], [0, 0]]),
        }
    )
    assert pooled["metrics"]["exact"]["mean"] == pytest.approx(0.6)
    assert pooled["metrics"]["exact"]["deviation"] == pytest.approx(0.1)
    assert pooled["metrics"]["one_off"]["deviation"] == 0 and "accuracy" not in pooled["metrics"]
    assert pooled["confusion"] == [[6, 4], [2, 2]]
    assert pooled["recall"] == pytest.approx({"young": 0.6, "old": 0.5})


def test_one_fold_has_no_deviation():
    assert pool({"fold 3": summary(0.5, [[1, 0], [0, 1]])})["metrics"]["exact"]["deviation"] is None
