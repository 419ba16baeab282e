import csv
import json
from collections import Counter

import pytest

from ror_jax.config import load_config
from ror_jax.saved_settings import write_settings
from ror_jax.tasks.answers import Class

FACTS = ("identity", "age_group", "gender")


@pytest.fixture
def leave_fold():
    """A function that leaves what a run of a row leaves that was tested on one fold.

    `rows` are of `FACTS`, the true class, the answer and its confidence. Other answers than one class are told by
    `answers`, their descriptions, with `columns` of the rows after `FACTS` and the `results`. Settings go by dotted
    name with __ for a dot; the rest is that of the row itself.
    """

    def leave(
        folder,
        row,
        rows,
        /,
        *,
        fold=0,
        images=None,
        start=None,
        summary=(),
        classes=None,
        answers=None,
        columns=None,
        results=None,
        **settings,
    ):
        file, _, name = row.partition(":")
        config = load_config(f"configs/{file}.py:{name}")
        with config.unlocked():
            config.dataset.fold = fold
            for setting, value in settings.items():
                *path, last = setting.split("__")
                target = config
                for part in path:
                    target = target[part]
                target[last] = value
        ordered = config.task.name == "age_group"
        label = "gender" if config.task.name == "gender" else "age_group"
        classes = classes or tuple(str(number) for number in range(8 if ordered else 2))
        answers = answers or {label: Class(None, names=classes, ordered=ordered).describe()}
        columns = columns or [f"{label}_{what}" for what in ("true", "predicted", "confidence")]
        folder.mkdir(parents=True)
        write_settings(folder / "config.json", config)
        card = {
            "model": "",
            "overrides": {},
            "heads": {},
            "trunks": {},
            "mean": [0] * 3,
            "std": [1] * 3,
            "init_from": start,
        }
        (folder / "model.json").write_text(json.dumps(card))
        with (folder / "predictions.csv").open("w", newline="") as out:
            csv.writer(out).writerows([(*FACTS, *columns), *rows])
        results = {"images": len(rows)} | (results or results_of(ordered, rows))
        test = {"split": "test", "step": 1, "epoch": config.epochs} | results
        (folder / "metrics.jsonl").write_text(json.dumps(test) + "\n")
        images = images or {"train": 100, "test": len(rows)}
        content = {"epoch": config.epochs, "images": images, "tested": len(rows), "test": results}
        content |= {"answers": answers, "loss": "cross_entropy", **dict(summary)}
        (folder / "summary.json").write_text(json.dumps(content))

    return leave


def results_of(ordered, rows):
    distances = Counter(abs(true - predicted) for *_, true, predicted, _ in rows)
    exact, near = distances[0] / len(rows), (distances[0] + distances[1]) / len(rows)
    return {"exact": exact, "one_off": near} if ordered else {"accuracy": exact}
