"""The results of several folds as one."""

from collections.abc import Mapping

import numpy as np

from ror_jax.tasks import metrics


def pool(summaries: Mapping[str, dict]) -> dict:
    """Returns the pooled test results of all folds, from their `summary.json` by label of the fold.

    Returns:
      `labels`, of the folds; `metrics`: by name, `values` (one a fold), their `mean` and `deviation`, the sample
      standard deviation (divided by n - 1; None for one fold), and `baseline`, the mean of what always the same answer
      gives, where that is known; `classes`, by answer, of all images: `names`, `confusion` [K, K] and `recall`.
    """
    first = next(iter(summaries.values()))
    tests = [summary["test"] for summary in summaries.values()]
    found = {}
    for name in metrics.tabled(first["test"]):
        values = [test[name] for test in tests]
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
        found[name] = {"values": values, "mean": float(np.mean(values)), "deviation": deviation}
        if "baseline" in first["test"]:
            found[name]["baseline"] = float(np.mean([test["baseline"][name] for test in tests]))
    classes = {}
    for key in (key for key in first["test"] if key.endswith("confusion")):
        prefix = key.removesuffix("confusion")
        counts = np.sum([test[key] for test in tests], axis=0)
        names = list(first["test"][f"{prefix}recall"])
        recall = dict(zip(names, metrics.recall(counts), strict=True))
        name = prefix.rstrip("_") or _class_answer(first["answers"])
        classes[name] = {"names": names, "confusion": counts.tolist(), "recall": recall}
    return {"labels": list(summaries), "metrics": found, "classes": classes}


def _class_answer(answers: Mapping[str, dict]) -> str:
    """The first answer that is a class, or else the first one."""
    return next((name for name, form in answers.items() if form["kind"] == "class"), next(iter(answers)))
