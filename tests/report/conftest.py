import csv
import json
from collections import Counter

import pytest

from ror_jax.config import load_config
from ror_jax.files import replace_json
from ror_jax.runs.workdir import FORMAT

COLUMNS = ("identity", "age_group", "gender", "true", "predicted", "confidence")


@pytest.fixture
def leave_fold():
    """A function that leaves what a run of a row leaves that was tested on one fold.

    `answers` are rows of `COLUMNS`; settings go by dotted name with __ for a dot; the rest is that of the row itself.
    """

    def leave(folder, row, answers, /, *, fold=0, images=None, start=None, summary=(), classes=None, **settings):
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
        folder.mkdir(parents=True)
        replace_json(folder / "config.json", {"format": FORMAT} | json.loads(config.to_json_best_effort()))
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
            csv.writer(out).writerows([COLUMNS, *answers])
        results = results_of(config.task.name, answers)
        test = {"split": "test", "step": 1, "epoch": config.epochs} | results
        (folder / "metrics.jsonl").write_text(json.dumps(test) + "\n")
        classes = classes or [str(number) for number in range(8 if config.task.name == "age_group" else 2)]
        images = images or {"train": 100, "test": len(answers)}
        content = {"epoch": config.epochs, "classes": classes, "images": images, "test": results, **dict(summary)}
        (folder / "summary.json").write_text(json.dumps(content))

    return leave


def results_of(task, answers):
    distances = Counter(abs(true - predicted) for *_, true, predicted, _ in answers)
    exact, near = distances[0] / len(answers), (distances[0] + distances[1]) / len(answers)
    return {"images": len(answers)} | (
        {"exact": exact, "one_off": near} if task == "age_group" else {"accuracy": exact}
    )
