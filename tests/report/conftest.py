import csv
import json
from collections import Counter

import pytest

from input_pipeline.age_groups import AGE_GROUPS
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
        content |= {"answers": answers, "age_groups": AGE_GROUPS, "loss": "cross_entropy", **dict(summary)}
        (folder / "summary.json").write_text(json.dumps(content))

    return leave


@pytest.fixture
def leave_old():
    """A function that leaves a run of ROW as the program did before 0.2; its two images have the classes 0 and 1."""

    def leave(folder, row):
        file, _, name = row.partition(":")
        settings = json.loads(load_config(f"configs/{file}.py:{name}").to_json_best_effort())
        settings["task"].pop("weighting"), settings["task"].pop("loss_weights")
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(settings, indent=2))
        results = {"exact": 0.5, "one_off": 1.0, "cross_entropy": 1.0, "recall": {"young": 1.0, "old": 0.0}}
        results |= {"majority_rate": 0.5, "images": 2, "confusion": [[1, 0], [1, 0]]}
        test = {"split": "test", "step": 1, "epoch": settings["epochs"]} | results
        (folder / "metrics.jsonl").write_text(json.dumps(test) + "\n")
        card = {"format": 1, "model": "preror58_sd", "overrides": {}, "num_classes": 2, "mean": [0] * 3, "std": [1] * 3}
        (folder / "model.json").write_text(json.dumps(card | {"init_from": None}))
        (folder / "predictions.csv").write_text(
            "number,age,age_group,fold,gender,identity,true,predicted,confidence,position,expected\n"
            "0,1.0,0,0,0,a,0,0,0.7,0.2,0.3\n1,5.0,1,0,1,b,1,0,0.6,0.3,0.4\n"
        )
        summary = {"step": 1, "epoch": settings["epochs"], "skipped": 0, "selected": "last epoch", "data": "Adience"}
        summary |= {"images": {"train": 100, "test": 2}, "classes": ["young", "old"], "task_state": {}, "test": results}
        (folder / "summary.json").write_text(json.dumps(summary))

    return leave


def results_of(ordered, rows):
    distances = Counter(abs(true - predicted) for *_, true, predicted, _ in rows)
    exact, near = distances[0] / len(rows), (distances[0] + distances[1]) / len(rows)
    return {"exact": exact, "one_off": near} if ordered else {"accuracy": exact}
