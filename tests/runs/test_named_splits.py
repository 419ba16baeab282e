"""A data set with several splits for validation and for testing, from the settings to the report."""

import csv
import json
import re

import numpy as np
import pytest

import input_pipeline
from input_pipeline import DataError, Dataset
from input_pipeline.records import ArraySource
from ror_jax.report.compare import compare
from ror_jax.report.folds import read_tested, result_parts
from ror_jax.report.model_card import write_model_card
from ror_jax.report.page import Table, to_markdown
from ror_jax.report.runs import read_run
from ror_jax.runs.run import train_and_test
from ror_jax.training.checkpoint import Checkpoints
from ror_jax.training.logging import read_rows

SIZES = {"train": 16, "validation_a": 30, "validation_b": 10, "test_a": 24, "test_b": 8}


def create(data_dir, cache_dir, *, labels):
    """Random pixels and ages; the group of every third face is "x", that of the others "y"."""
    rng, sources = np.random.default_rng(0), {}
    for split, size in SIZES.items():
        columns = {"image": rng.integers(0, 256, (size, 16, 16, 3), np.uint8)}
        columns |= {"age": rng.integers(0, 100, size).astype(np.float32)}
        columns |= {"race": np.array(["x", "y", "y"] * size)[:size], "identity": np.arange(size).astype(str)}
        sources[split] = ArraySource(columns)
    tests = {split: sources[split] for split in ("test_a", "test_b")}
    validation = {split: sources[split] for split in ("validation_a", "validation_b")}
    names = {"age": tuple(map(str, range(101)))}
    return Dataset(
        "several", sources["train"], tests, names, (128,) * 3, (64,) * 3, "", validation=validation, groups=("race",)
    )


@pytest.fixture(scope="module")
def left(tiny_config, tmp_path_factory):
    """The folder of a run of two epochs, and what it said."""
    folder, said = tmp_path_factory.mktemp("several"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(input_pipeline._CREATORS, "several", create)
        patch.setattr("ror_jax.runs.run._say", lambda label, text: said.append(text))
        settings = {"early_stopping__patience": 9, "early_stopping__split": "validation_b"}
        config = tiny_config(task__name="age_regression", model__blocks_per_group=(1, 1), **settings)
        config.dataset.update({"name": "several", "people": None, "pictures_per_person": None, "resolution": None})
        train_and_test(config, folder)
    return folder, "\n".join(said)


def predictions(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return rows, *(np.array([float(row[f"age_{what}"]) for row in rows]) for what in ("true", "predicted"))


def test_all_validation_splits_together_choose_the_epoch(left):
    """The score of an epoch is that of all their images; early stopping looks at the split that it is told."""
    folder, _ = left
    checkpoints, rows = Checkpoints(folder / "checkpoints"), read_rows(folder / "metrics.jsonl")
    splits = [row["split"] for row in rows if row["split"] != "step"]
    assert splits == ["train", "validation_a", "validation_b", "test_a", "test_b"] * 2
    mae = {(row["split"], row["epoch"]): row["mae"] for row in rows if row["split"].startswith("validation")}
    pooled = {e: (30 * mae["validation_a", e] + 10 * mae["validation_b", e]) / 40 for e in (1, 2)}
    assert checkpoints.latest["score"] == pytest.approx(-pooled[2])
    best = min((2, 1), key=lambda epoch: pooled[epoch])
    assert checkpoints.best_step == 2 * best
    stopping = min((1, 2), key=lambda epoch: mae["validation_b", epoch])
    history = {"value": -mae["validation_b", stopping], "best": stopping, "epoch": 2}
    assert checkpoints.latest["notes"]["stopping"] == history
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["epoch"] == best and summary["selected"] == "best epoch on validation"


def test_every_test_is_in_the_summary_and_has_its_predictions(left):
    folder, said = left
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["split"], summary["tested"], summary["images"]) == ("test_a", 24, SIZES)
    assert summary["further_tests"].keys() == {"test_b"} and summary["further_tests"]["test_b"]["tested"] == 8
    found = {"test_a": summary["test"], "test_b": summary["further_tests"]["test_b"]["results"]}
    for split, place in (("test_a", folder), ("test_b", folder / "test_b")):
        rows, true, predicted = predictions(place / "predictions.csv")
        assert len(rows) == SIZES[split] and (place / "age_scatter.png").exists()
        assert found[split]["mae"] == pytest.approx(abs(predicted - true).mean(), rel=1e-4)
        assert re.search(rf"Test on {split} after epoch \d: RMSE .*, MAE {found[split]['mae']:.2f} years", said)
    assert "Best epoch on the 40 images for validation" in said


def test_intervals_are_set_on_validation_and_measured_on_every_test(left):
    """The share of a test is counted from its predictions, as people get them."""
    folder, said = left
    found = json.loads((folder / "summary.json").read_text())["intervals"]["age"]
    assert (found["set_on"], found["faces"]) == ("validation", 40)
    shares = []
    for place in (folder, folder / "test_b"):
        _, true, predicted = predictions(place / "predictions.csv")
        low, high = np.clip([predicted - found["below"], predicted + found["above"]], 0, 100)
        shares.append(np.mean((low - 1e-3 <= true) & (true <= high + 1e-3)))
    assert list(found["coverage"].values()) == pytest.approx(shares)
    words = (
        "set on 40 images for validation, contain the truth for"
        f" {100 * shares[0]:.1f} % of test_a, {100 * shares[1]:.1f} % of test_b"
    )
    assert words in said


def test_results_are_broken_down_by_group(left):
    folder, said = left
    run = read_run(folder)
    assert run.groups == ("race",) and [each.split for each in (run, *run.further)] == ["test_a", "test_b"]
    for each, path in ((run, folder), (run.further[0], folder / "test_b")):
        rows, true, predicted = predictions(path / "predictions.csv")
        parts = result_parts([each], read_tested([each]), str(folder / "page"))
        (table,) = [part for part in parts if isinstance(part, Table) and part.rows[0][0].startswith("race")]
        assert [row[0] for row in table.rows] == ["race x", "race y"]
        for value, mae, *_, count in table.rows:
            chosen = np.array([f"race {row['race']}" == value for row in rows])
            assert float(mae.split()[0]) == pytest.approx(abs(predicted - true)[chosen].mean(), abs=0.06)
            assert count == f"{chosen.sum()} / {chosen.sum()}"
    assert said.count("  race x: ") == 2 and "(16 images)" in said


def test_reports_speak_of_each_test_by_its_name(left, tmp_path):
    folder, _ = left
    text = to_markdown(compare(folder, folder), tmp_path)
    assert "## Results on test_a" in text and "## Results on test_b" in text
    assert "24 images of test_a, of 24 subjects" in text and "8 images of test_b, of 8 subjects" in text
    summary = json.loads((folder / "summary.json").read_text())
    card = json.loads((folder / "model.json").read_text())
    card |= {"name": "several", "versions": {"ror_jax": "0"}, "licence": "none", "attribution": ""}
    card |= {"views": "single", "preprocessing": {"size": 16, "landmarks": {}}} | {
        key: summary[key] for key in ("answers", "intervals")
    }
    write_model_card(folder, tmp_path, card, "", {"unchanged": {"age_mae": np.ones(3)}}, "3 images")
    text = (tmp_path / "README.md").read_text()
    assert "## Results on test_a" in text and "## Results on test_b" in text
    assert (
        "set on 40 images for validation, contain the truth for " in text
        and "](results_test_b_age_scatter.png)" in text
    )


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        ({"tests": {}}, "several has no test"),
        ({"tests": {"Test": None}}, "a split for test is called test or test_name, not 'Test'"),
        ({"validation": {"test_a": None}}, "a split for validation is called validation or"),
    ],
)
def test_splits_have_names_that_say_what_they_are(splits, words):
    usual = {"tests": {"test": None}, "labels": {}, "mean": (), "std": (), "description": ""}
    with pytest.raises(DataError, match=words):
        Dataset("several", None, **usual | splits)
