"""The first lines of a model's card and its intervals by group, from predictions by hand."""

import json
import re

import numpy as np

from input_pipeline.age_groups import FAIRFACE
from ror_jax.report.model_card import write_model_card
from ror_jax.tasks.answers import Class, Number

CARD = {
    "name": "own",
    "model": "ror3_8",
    "heads": {"gender": {}},
    "versions": {"ror_jax": "0"},
    "licence": "CC BY 4.0",
    "attribution": "them",
    "init_from": None,
    "preprocessing": {"size": 16, "landmarks": {}},
    "views": "flip",
}
ROBUSTNESS = {"unchanged": {"gender_accuracy": np.array([1.0, 0.0, np.nan])}}
COUNTS = {("A", 0): (50, 45), ("A", 1): (50, 40), ("B", 0): (50, 30), ("B", 1): (50, 35), ("C", 0): (49, 0)}


def write(tmp_path, leave_fold, intervals, rows, **told):
    summary = {"selected": "best epoch on validation", "groups": ["race"], "age_groups": FAIRFACE.names}
    leave_fold(tmp_path / "run", "deep_ror:preror58_sd,gender", rows, row=None, name="own", summary=summary, **told)
    (tmp_path / "out").mkdir()
    answers = json.loads((tmp_path / "run" / "summary.json").read_text())["answers"]
    card = CARD | {"intervals": intervals, "answers": answers}
    write_model_card(tmp_path / "run", tmp_path / "out", card, "drawn", ROBUSTNESS, "3 images of validation")
    return (tmp_path / "out" / "README.md").read_text()


def test_the_first_lines_say_who_is_read_worst(tmp_path, leave_fold):
    """Of race A 85 of 100 are right, of B 65; C has too few. Of women 75 of 149, of men 75 of 100. All are over 70."""
    rows = [
        (f"{race}{gender}{number}", 8, gender, race, gender, gender if number < right else 1 - gender, 0.9)
        for (race, gender), (images, right) in COUNTS.items()
        for number in range(images)
    ]
    columns = ("race", "gender_true", "gender_predicted", "gender_confidence")
    answers = {"gender": Class(None, names=("female", "male")).describe()}
    text = write(tmp_path, leave_fold, {}, rows, columns=columns, answers=answers, results={"accuracy": 150 / 249})
    opening = text.split("## What it must not be used for")[0]
    (line,) = (line for line in opening.splitlines() if line.startswith("- "))
    mean = r"(\d+\.\d) \(\d+\.\d to \d+\.\d\)"
    wanted = (
        f"by gender worst female with {mean}, best male with {mean}; by race worst B with {mean}, best A with {mean}\\."
    )
    found = re.fullmatch(r"- \*\*Gender\*\*, accuracy \(%\): " + wanted, line)
    assert [float(number) for number in found.groups()] == [50.3, 75.0, 65.0, 85.0]
    assert "| race C | 0.0 | 49 / 49 |" in text and "| gender male | 75.0 (" in text
    assert "| 70- | 50.3 (" in text and "| age group 70- | 60.2 (" in text  # the ninth of FairFace's groups
    assert (
        "told by who exported it: CC BY 4.0" in text
        and "**Attribution**: them" in text
        and "| unchanged | 50.0 (" in text
    )


def test_intervals_are_those_that_the_model_gives_and_told_by_group(tmp_path, leave_fold):
    """Answers of 30 years, and intervals of 5 years about them: 60 of age 34 lie inside, of 60 of age 72 none."""
    rows = [(f"{number}", *((8, 0, "x", 72.0) if number % 2 else (4, 0, "x", 34.0)), 30.0) for number in range(120)]
    answers = {"age": Number(None, unit="years", title="age").describe()}
    found = {"below": 5.0, "above": 5.0, "faces": 40, "own": False, "set_on": "validation", "coverage": {"test": 0.5}}
    columns, results = ("race", "age_true", "age_predicted"), {"mae": 23.0, "within_5": 0.5}
    text = write(tmp_path, leave_fold, {"age": found}, rows, columns=columns, answers=answers, results=results)
    assert "**Age**, MAE (years): by age group worst 70+ with 42.0, best 30-39 with 4.0." in text
    assert "Groups differ in that share, in percent: by age group least 70+ with 0.0, most 30-39 with 100.0." in text
    assert "| age group 30-39 | 4.0 | 100.0 | 100.0 | 60 / 60 |" in text
