"""Age group and gender from one network: its folds, their page, and two of them compared."""

import csv
import json
import re
import shutil

import numpy as np
import pytest

from ror_jax.report.__main__ import main
from ror_jax.runs.studies import cross_validate

NAMES = ["age_group_exact", "age_group_one_off", "gender_macro_f1", "gender_accuracy"]
PICTURES = [f"{name}_{kind}" for name in ("age_group", "gender") for kind in ("confusion", "reliability")]


@pytest.fixture(scope="module")
def runs(tiny_config, tmp_path_factory):
    """A folder of runs with a cross-validation on two folds, that folder, and the results of the folds."""
    config = tiny_config(task__name="age_group+gender", dataset__fold=0, epochs=1, optimizer__decay_epochs=())
    folder = tmp_path_factory.mktemp("runs")
    cross_validate(config, folder / "both", [0, 1])
    summaries = [json.loads((folder / "both" / f"fold_{fold}" / "summary.json").read_text()) for fold in (0, 1)]
    return folder, folder / "both", [summary["test"] for summary in summaries]


def predictions(folder):
    with (folder / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_folds_are_pooled_answer_by_answer(runs):
    _, folder, results = runs
    pooled = json.loads((folder / "cross_validation.json").read_text())
    assert list(pooled["metrics"]) == NAMES and list(pooled["classes"]) == ["age_group", "gender"]
    for name in NAMES:
        assert pooled["metrics"][name]["values"] == [result[name] for result in results]
    rows = predictions(folder / "fold_0") + predictions(folder / "fold_1")
    for name, found in pooled["classes"].items():
        counts = np.zeros((len(found["names"]),) * 2, int)
        for row in rows:
            counts[int(row[f"{name}_true"]), int(row[f"{name}_predicted"])] += 1
        assert found["confusion"] == counts.tolist() and counts.sum() == len(rows) == 24
        assert (folder / f"{name}_confusion.png").stat().st_size > 5000


def test_a_run_leaves_the_pictures_of_both(runs):
    _, folder, _ = runs
    for name in PICTURES:
        assert (folder / "fold_0" / f"{name}.png").stat().st_size > 5000


def test_the_page_tells_both(runs, capsys):
    folder, _, results = runs
    main(["--paper=deep_ror", f"--runs={folder}", f"--output={folder / 'out'}"])
    text = (folder / "out" / "deep_ror.md").read_text().split("## tiny (age group+gender)")[1]
    assert "24 test images" in text and "Objective: cross_entropy of age_group + cross_entropy of gender." in text
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert lines[0] == ["", "images", "age group: exact", "age group: 1-off", "gender: macro F1", "gender: accuracy"]
    shown = {name: (1, 4) if name == "gender_macro_f1" else (100, 2) for name in NAMES}
    for line, result in zip(lines[2:4], results, strict=True):
        assert line[1:] == ["12", *(f"{factor * result[name]:.{digits}f}" for name, (factor, digits) in shown.items())]
    assert lines[4][:2] == ["mean ± standard deviation (n - 1)", "24"]

    rows = predictions(folder / "both" / "fold_0") + predictions(folder / "both" / "fold_1")
    women = [row for row in rows if row["gender_true"] == "0"]
    recall = 100 * sum(row["gender_predicted"] == "0" for row in women) / len(women)
    (female,) = (line for line in lines if line[0] == "female")
    assert female[1].startswith(f"{recall:.1f}") and female[2].startswith(f"{len(women)} / ")
    for title, name, label in (("Age group", "age_group", "exact"), ("Gender", "gender", "accuracy")):
        assert f"**{title}.** Recall in percent:" in text and f"**{title}.** Always the most frequent class" in text
        table = text.split(f"**{title}.** {label} (%) of the 24 images whose age group and gender are known:")
        of_all = re.search(r"^\| all \| ([\d.]+)", table[1], re.MULTILINE)[1]
        hits = [row[f"{name}_true"] == row[f"{name}_predicted"] for row in women]
        assert float(of_all) == pytest.approx(100 * np.mean(hits), abs=0.051)
    for name in PICTURES:
        assert f"](deep_ror_1_{name}.png)" in text


def test_two_are_compared_answer_by_answer(runs, tmp_path, capsys):
    """B is A with all genders right."""
    _, folder, _ = runs
    accuracies = []
    for fold in ("fold_0", "fold_1"):
        shutil.copytree(folder / fold, tmp_path / fold, ignore=shutil.ignore_patterns("checkpoints"))
        rows = predictions(folder / fold)
        accuracies += [row["gender_true"] == row["gender_predicted"] for row in rows]
        with (tmp_path / fold / "predictions.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(row | {"gender_predicted": row["gender_true"]} for row in rows)
    main(["--compare", str(folder), str(tmp_path)])
    text = capsys.readouterr().out
    accuracy = 100 * np.mean(accuracies)
    assert "On folds 0, 1: 24 test images" in text
    assert f"gender: accuracy: A {accuracy:.2f} %, B 100.00 %; B - A = +{100 - accuracy:.2f} points" in text
    for label in ("exact", "1-off"):
        line = re.search(rf"^- age group: {label}: .*$", text, re.MULTILINE)[0]
        assert line.endswith("B - A = +0.00 points, interval +0.00 to +0.00, which contains 0")
    assert "## Settings that differ\n\nNone." in text


def test_a_network_of_one_answer_is_not_compared_with_one_of_both(runs, tmp_path, leave_fold):
    leave_fold(tmp_path / "one", "deep_ror:preror58_sd,age", [("a", 0, 0, 0, 0, 0.5)])
    with pytest.raises(SystemExit, match=r"nothing to compare: .* answers with age_group, gender, .* with age_group$"):
        main(["--compare", str(runs[1]), str(tmp_path / "one")])
