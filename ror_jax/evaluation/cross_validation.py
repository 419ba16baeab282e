"""The results of several folds as one."""

from collections.abc import Mapping

import numpy as np

from ror_jax.tasks import metrics

AGES = ("rmse", "mae", "r2", "within_3", "within_5", "within_10")
METRICS = ("exact", "one_off", "harmonic", *AGES, "macro_f1", "accuracy")


def pool(summaries: Mapping[str, dict]) -> dict:
    """What the test results of all folds, `summary.json` by label of the fold, say together.

    Returns:
      `metrics`: by name, `values` (one a fold), their `mean` and `deviation`, the sample standard deviation (divided by
      n - 1; None for one fold), and `baseline`, the mean of what always the same answer gives, where that is known;
      `confusion` [K, K] and `recall` by class of all images together; `labels`, `classes`.
    """
    first = next(iter(summaries.values()))
    tests = [summary["test"] for summary in summaries.values()]
    confusion = np.sum([test["confusion"] for test in tests], axis=0)
    found = {}
    for name in METRICS:
        if name in first["test"]:
            values = [test[name] for test in tests]
            deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
            found[name] = {"values": values, "mean": float(np.mean(values)), "deviation": deviation}
            if "baseline" in first["test"]:
                found[name]["baseline"] = float(np.mean([test["baseline"][name] for test in tests]))
    return {
        "labels": list(summaries),
        "classes": first["classes"],
        "metrics": found,
        "recall": dict(zip(first["classes"], metrics.recall(confusion), strict=True)),
        "confusion": confusion.tolist(),
    }
