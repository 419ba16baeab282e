"""Several folds as one, worked out by hand."""

import pytest

from ror_jax.runs.cross_validation import pool

ANSWERS = {"age": {"kind": "number"}, "age_group": {"kind": "class"}}


def summary(exact, confusion, **more):
    recall = {"young": None, "old": None}  # of all folds it is counted anew
    return {
        "answers": ANSWERS,
        "test": {"exact": exact, "one_off": 1.0, "confusion": confusion, "recall": recall} | more,
    }


def test_pool():
    """Values 0.5, 0.6, 0.7: mean 0.6, sample standard deviation 0.1. Young: 1 + 3 + 2 of 4 + 3 + 3 found."""
    pooled = pool(
        {
            "fold 0": summary(0.5, [[1, 3], [0, 2]]),
            "fold 1": summary(0.6, [[3, 0], [2, 0]]),
            "fold 2": summary(0.7, [[2, 1], [0, 0]]),
        }
    )
    assert pooled["labels"] == ["fold 0", "fold 1", "fold 2"]
    assert pooled["metrics"]["exact"]["mean"] == pytest.approx(0.6)
    assert pooled["metrics"]["exact"]["deviation"] == pytest.approx(0.1)
    assert pooled["metrics"]["one_off"]["deviation"] == 0 and "accuracy" not in pooled["metrics"]
    assert pooled["classes"].keys() == {"age_group"}  # the answer that is a class
    classes = pooled["classes"]["age_group"]
    assert classes["names"] == ["young", "old"] and classes["confusion"] == [[6, 4], [2, 2]]
    assert classes["recall"] == pytest.approx({"young": 0.6, "old": 0.5})


def test_pool_of_several_answers():
    """Each has its own counts; the baseline is a mean over the folds."""
    parts = {"gender_confusion": [[1, 1], [0, 2]], "gender_recall": {"female": 0.5, "male": 1.0}}
    both = [
        summary(
            0.5, [[1, 0], [0, 1]], **parts, gender_accuracy=accuracy, baseline={"exact": exact, "gender_accuracy": 0.5}
        )
        for accuracy, exact in ((0.75, 0.2), (0.25, 0.4))
    ]
    for one in both:
        for name in ("exact", "one_off", "confusion", "recall"):
            one["test"][f"age_group_{name}"] = one["test"].pop(name)
        one["test"]["baseline"] |= {"age_group_exact": one["test"]["baseline"].pop("exact"), "age_group_one_off": 1.0}
    pooled = pool({"fold 0": both[0], "fold 1": both[1]})
    assert list(pooled["metrics"]) == ["gender_accuracy", "age_group_exact", "age_group_one_off"]
    assert pooled["metrics"]["gender_accuracy"]["mean"] == 0.5
    assert pooled["metrics"]["age_group_exact"]["baseline"] == pytest.approx(0.3)
    assert pooled["classes"]["gender"] == {
        "names": ["female", "male"],
        "confusion": [[2, 2], [0, 4]],
        "recall": {"female": 0.5, "male": 1.0},
    }
    assert pooled["classes"]["age_group"]["confusion"] == [[2, 0], [0, 2]]


def test_one_fold_has_no_deviation():
    assert pool({"fold 3": summary(0.5, [[1, 0], [0, 1]])})["metrics"]["exact"]["deviation"] is None
