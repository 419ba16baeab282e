"""One run from its settings to what it leaves."""

import csv
import json
import os
import socket

import jax
import numpy as np
import pytest

from ror_jax.errors import UserError
from ror_jax.models.weights import flatten, load_weights
from ror_jax.report.predictions import read_predictions
from ror_jax.runs.experiment import create_experiment
from ror_jax.runs.run import train_and_test
from ror_jax.runs.workdir import locked
from ror_jax.training.logging import read_rows


def test_validation_chooses_the_epoch(tiny_config, tmp_path, monkeypatch, capsys):
    """The first of three epochs is made the best on validation, the last the best in the test: the first it is."""
    settings = {"dataset__validation": 0.3, "epochs": 3, "optimizer__decay_epochs": ()}
    scores = iter((0.9, 0.5, 0.7))
    monkeypatch.setattr("ror_jax.tasks.ordered.AgeGroup.score", lambda task, results: next(scores, 0.0))
    train_and_test(tiny_config(**settings), tmp_path / "chosen")
    summary = json.loads((tmp_path / "chosen" / "summary.json").read_text())
    assert summary["epoch"] == 1 and summary["selected"] == "best epoch on validation"
    rows = read_rows(tmp_path / "chosen" / "metrics.jsonl")
    first = next(row for row in rows if row["split"] == "test")
    assert summary["test"]["cross_entropy"] == first["cross_entropy"]
    assert [row["split"] for row in rows if row["split"] != "step"] == ["train", "validation", "test"] * 3
    images = summary["images"]
    assert images["train"] + images["validation"] == 48 and images["validation"] > 0 and images["test"] == 12
    assert "too good to report" not in capsys.readouterr().out

    # The weights that are left, and that a next stage begins with, are those of that epoch too.
    train_and_test(tiny_config(**settings | {"epochs": 1}), tmp_path / "first")
    chosen, alone = (load_weights(tmp_path / name).tensors for name in ("chosen", "first"))
    for name in chosen:
        np.testing.assert_array_equal(chosen[name], alone[name])


def test_without_validation_the_last_epoch_counts(tiny_config, tmp_path):
    train_and_test(tiny_config(), tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["epoch"] == 2 and summary["selected"] == "last epoch"
    assert not (tmp_path / "sampling.png").exists()


def test_what_sampling_draws_is_shown(tiny_config, tmp_path, capsys):
    """The faces are 90 years old at most; eight of them leave groups out, which is told of classes that are learnt."""
    few = {"dataset__limit": 8, "epochs": 1, "optimizer__decay_epochs": ()}
    train_and_test(tiny_config(**few, sampling__label="age"), tmp_path)
    assert (tmp_path / "sampling.png").stat().st_size > 5000
    said = [line for line in capsys.readouterr().out.splitlines() if "No training image" in line]
    assert len(said) == 2 and said[0].startswith("No training image has its age in ")
    assert said[0].endswith("-100: none can be drawn there.")
    assert said[1].startswith("No training image has the age_group ") and said[1].endswith(": it cannot be learnt.")


def test_examples_to_look_at(tiny_config, tmp_path):
    train_and_test(tiny_config(epochs=1, optimizer__decay_epochs=()), tmp_path)
    results = json.loads((tmp_path / "summary.json").read_text())["test"]
    assert (tmp_path / "surest_mistakes.png").exists() == (results["exact"] < 1)
    assert (tmp_path / "typical_hits.png").exists() == (results["exact"] > 0)


def test_a_run_that_skips_every_step_says_so(tiny_config, tmp_path, capsys):
    """No running variance is below the limit: nothing is learnt, nothing logged is NaN, and the summary counts."""
    settings = {"guard__max_batch_stat": 1e-6, "guard__max_skips": 12}
    train_and_test(tiny_config(**settings), tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text())["skipped"] == 12
    assert not any("loss" in row for row in read_rows(tmp_path / "metrics.jsonl"))
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    assert "bad steps skipped: 12" in capsys.readouterr().out
    start = create_experiment(tiny_config()).state
    weights, first = load_weights(tmp_path).tensors, flatten(*jax.device_get((start.params, start.batch_stats)))
    for name in first:
        np.testing.assert_array_equal(weights[name], first[name])


def test_a_folder_that_another_run_has_is_not_touched(tiny_config, tmp_path):
    """The second run is told who has it; a lock that a killed process left behind says nothing."""
    (tmp_path / "lock").write_bytes(b"\xff left by a killed process")
    holder = f"process {os.getpid()} on {socket.gethostname()} .since .*: .* is training in {tmp_path}"
    with locked(tmp_path), pytest.raises(UserError, match=holder):
        train_and_test(tiny_config(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    with locked(tmp_path):
        pass


def test_a_run_of_the_program_before_0_2_is_not_gone_on_with(tiny_config, tmp_path):
    """It is told in a line, and nothing in the folder is changed."""
    config = tiny_config()
    (tmp_path / "config.json").write_text(old := config.to_json_best_effort())
    with pytest.raises(UserError, match=r"config\.json was written by ror-jax before 0\.2; choose another --workdir"):
        train_and_test(config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == old


def test_a_run_that_ended_between_two_files_of_its_result(tiny_config, tmp_path):
    """Where one cannot be written, the same command ends well later, with the same files."""
    config = tiny_config(epochs=1, optimizer__decay_epochs=())
    train_and_test(config, tmp_path)
    expected = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    broken = ("predictions.csv", "summary.json")
    for name in broken:
        (tmp_path / name).unlink()
        (tmp_path / name).mkdir()
    for name in broken:
        with pytest.raises(UserError, match=f"{name} cannot be written: Is a directory"):
            train_and_test(config, tmp_path)
        (tmp_path / name).rmdir()
    train_and_test(config, tmp_path)
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert found.keys() == expected.keys()
    for name in ("weights.safetensors", "model.json", "metrics.jsonl", *broken):
        assert found[name] == expected[name]


AGE_GENDER = {
    "task__name": "age_gender",
    "task__threshold": "validation",
    "dataset__validation": 0.4,
    "model__mlp_widths": (8,),
    "model__mlp_dropout": 0.2,
    "views": "flip",
    "optimizer__learning_rate": 0.001,
}


def test_age_and_gender_in_a_run(tiny_config, tmp_path):
    """The answers to each image, the threshold beside the weights, the result of answers that see no image."""
    folder = tmp_path / "first"
    train_and_test(tiny_config(**AGE_GENDER), folder)
    summary = json.loads((folder / "summary.json").read_text())
    test = summary["test"]
    with (folder / "submission.csv").open() as file:
        rows = list(csv.DictReader(file))
    predictions = read_predictions([folder], summary["answers"])
    (age, true_age), (gender, true_gender) = predictions.judged().values()
    assert [*rows[0]] == ["id", "age", "gender"] and len(rows) == test["images"] == 12
    assert [float(row["age"]) for row in rows] == pytest.approx(age.values, abs=1e-3)
    assert [int(row["gender"]) for row in rows] == gender.chosen.tolist()
    np.testing.assert_allclose(true_age, predictions.number("age"), rtol=1e-5)
    np.testing.assert_array_equal(true_gender, predictions.number("gender"))
    error = age.values - true_age
    assert test["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-4)
    assert test["accuracy"] == pytest.approx((gender.chosen == true_gender).mean())
    card = json.loads((folder / "model.json").read_text())
    rows = [row for row in read_rows(folder / "metrics.jsonl") if row["split"] == "validation"]
    (chosen,) = (row["best_threshold"] for row in rows if row["epoch"] == summary["epoch"])
    assert card["task_state"] == summary["task_state"] == {"gender.threshold": pytest.approx(chosen)}

    train = create_experiment(tiny_config(**AGE_GENDER)).dataset.train.columns["age"]
    blind = true_age - train.mean()
    assert test["baseline"]["rmse"] == pytest.approx(np.sqrt((blind**2).mean()), rel=1e-4)
    assert test["baseline"]["mae"] == pytest.approx(abs(blind).mean(), rel=1e-4)

    again = tiny_config(**AGE_GENDER, init_from=str(folder))
    state = create_experiment(again).state
    taken, weights = flatten(*jax.device_get((state.params, state.batch_stats))), load_weights(folder).tensors
    for name in weights:
        np.testing.assert_array_equal(taken[name], weights[name])
    assert float(state.task_state["gender"]["threshold"]) == pytest.approx(chosen)


def test_ages_begin_at_their_mean(tiny_config):
    """A network that has learnt nothing answers about the mean age of the training images."""
    experiment = create_experiment(tiny_config(**AGE_GENDER))
    ages = experiment.dataset.train.columns["age"]
    assert float(experiment.state.params["heads"]["age"]["bias"][0]) == pytest.approx(ages.mean())
