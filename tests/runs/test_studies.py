"""Several runs of one recipe: folds, questions, losses; on a few drawn faces, by tiny networks."""

import json

import numpy as np
import pytest
from processes import Process

from input_pipeline import DataError
from ror_jax.config import stage_config
from ror_jax.errors import UserError
from ror_jax.models.weights import load_weights
from ror_jax.runs.aging_curve import propose_weights
from ror_jax.runs.experiment import create_experiment
from ror_jax.runs.recipe import stages
from ror_jax.runs.run import evaluate_checkpoint, train_and_test
from ror_jax.runs.studies import aging_curve, compare_losses, cross_validate
from ror_jax.tasks.losses import OBJECTIVES


def gender_first(config):
    """The same with a stage before it."""
    with config.unlocked():
        config.stages = ("gender",)
        config.stage = {"gender": stage_config(name="tiny_gender", task={"name": "gender"})}
    return config


@pytest.fixture
def two_stages(tiny_config):
    """Gender, then age, one epoch each."""

    def make(**changes):
        settings = {"epochs": 1, "optimizer__decay_epochs": (), "dataset__fold": 0}
        return gender_first(tiny_config(**settings | changes))

    return make


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture(scope="module")
def folds(tiny_config, tmp_path_factory):
    """Two folds of a recipe of two stages that have been done, and where."""
    config = gender_first(tiny_config(epochs=1, optimizer__decay_epochs=(), dataset__fold=0))
    workdir = tmp_path_factory.mktemp("study") / "age"
    cross_validate(config, workdir, [1, 3])
    return config, workdir


def test_cross_validation_of_a_recipe(folds):
    """Every fold of both stages is a run of its own, tested on that fold; the result is their mean."""
    _, workdir = folds
    for fold in (1, 3):
        for name in ("age", "tiny_gender"):
            settings = json.loads((workdir.parent / name / f"fold_{fold}" / "config.json").read_text())
            assert settings["dataset"]["fold"] == fold
    pooled = json.loads((workdir / "cross_validation.json").read_text())
    exact = [summary(workdir / f"fold_{fold}")["test"]["exact"] for fold in (1, 3)]
    assert pooled["metrics"]["exact"]["values"] == exact
    counts = pooled["classes"]["age_group"]["confusion"]
    assert np.sum(counts) == sum(summary(workdir / f"fold_{fold}")["test"]["images"] for fold in (1, 3))
    genders = json.loads((workdir.parent / "tiny_gender" / "cross_validation.json").read_text())
    assert len(genders["metrics"]["accuracy"]["values"]) == 2
    assert list(genders["classes"]) == ["gender"]
    for name in ("age/age_group", "tiny_gender/gender"):
        assert (workdir.parent / f"{name}_confusion.png").stat().st_size > 5000


def test_an_answer_that_sees_no_image(folds):
    """Always the gender that most training images have, counted in the test images; ages in groups have none."""
    _, workdir = folds
    pooled = json.loads((workdir.parent / "tiny_gender" / "cross_validation.json").read_text())
    shares = []
    for fold in (1, 3):
        experiment = create_experiment(stages(folds[0], workdir, fold)[0].config)
        train, test = (source.columns["gender"] for source in (experiment.dataset.train, experiment.dataset.test))
        shares.append(float((test == np.bincount(train).argmax()).mean()))
        blind = summary(workdir.parent / "tiny_gender" / f"fold_{fold}")["test"]["baseline"]
        assert blind["accuracy"] == pytest.approx(shares[-1])
        assert "baseline" not in summary(workdir / f"fold_{fold}")["test"]
    assert pooled["metrics"]["accuracy"]["baseline"] == pytest.approx(np.mean(shares))


def test_a_stage_begins_with_the_weights_of_the_one_before_it(folds):
    """Its card remembers them, and its prediction layer is another one."""
    _, workdir = folds
    age, gender = load_weights(workdir / "fold_1"), load_weights(workdir.parent / "tiny_gender" / "fold_1")
    assert age.card["init_from"] == gender.card
    assert list(gender.card["heads"]) == ["gender"] and list(age.card["heads"]) == ["age_group"]


def test_a_stage_that_does_not_train_has_the_weights_of_the_one_before_it(two_stages, tmp_path):
    """All of them, the prediction layer too, since both learn the same."""
    config = two_stages(task__name="gender", epochs=0)
    config.stage.gender.epochs = 1
    train_and_test(config, tmp_path / "again")
    first, again = (load_weights(tmp_path / name).tensors for name in ("tiny_gender", "again"))
    assert first.keys() == again.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])


def test_what_is_done_is_not_done_again_and_the_rest_is(folds, capsys):
    config, workdir = folds
    before = (workdir / "fold_1" / "weights.safetensors").stat().st_mtime_ns
    (workdir / "fold_3" / "summary.json").unlink()
    capsys.readouterr()
    cross_validate(config, workdir, [1, 3])
    printed = capsys.readouterr().out
    assert f"tiny is complete in {workdir / 'fold_1'}" in printed
    assert f"complete in {workdir / 'fold_3'}" not in printed and (workdir / "fold_3" / "summary.json").exists()
    assert (workdir / "fold_1" / "weights.safetensors").stat().st_mtime_ns == before
    assert "mean ± sample standard deviation" in printed


def test_the_result_is_that_of_all_folds_that_are_done(folds):
    config, workdir = folds
    cross_validate(config, workdir, [3])
    assert json.loads((workdir / "cross_validation.json").read_text())["labels"] == ["fold 1", "fold 3"]


def test_a_fold_can_be_tested_again_by_itself(folds):
    config, workdir = folds
    config = config.copy_and_resolve_references()
    config.dataset.fold, config.views = 3, "flip"
    evaluate_checkpoint(config, workdir / "fold_3", "latest")
    again = summary(workdir / "fold_3" / "evaluate_latest_flip")
    assert again["test"]["images"] == 12 and again["selected"] == "latest checkpoint"


def test_predictions_are_those_of_the_summary(folds):
    """One row an image: shares of right answers are the accuracies, and the facts of the record stand beside them."""
    _, workdir = folds
    rows = [line.split(",") for line in (workdir / "fold_1" / "predictions.csv").read_text().splitlines()]
    columns = {name: [row[number] for row in rows[1:]] for number, name in enumerate(rows[0])}
    true, predicted = (np.array(columns[f"age_group_{what}"], int) for what in ("true", "predicted"))
    test = summary(workdir / "fold_1")["test"]
    assert np.mean(true == predicted) == pytest.approx(test["exact"])
    assert np.mean(np.abs(true - predicted) <= 1) == pytest.approx(test["one_off"])
    assert columns["age_group"] == columns["age_group_true"] and set(columns["fold"]) == {"1"}
    assert columns["identity"][0].startswith("person ") and 0 < float(columns["age_group_confidence"][0]) <= 1
    assert columns["number"] == [str(number) for number in range(len(true))]


def test_the_fold_and_the_loss_and_the_mode_must_make_sense(tiny_config, tmp_path):
    with pytest.raises(UserError, match="no folds: dataset"):
        cross_validate(tiny_config(), tmp_path / "run")
    for wrong in ([], [0, 0]):
        with pytest.raises(UserError, match="name each fold to test on once"):
            cross_validate(tiny_config(dataset__fold=0), tmp_path / "run", wrong)
    with pytest.raises(DataError, match="no fold 5"):  # before fold 0 is trained
        cross_validate(tiny_config(dataset__fold=0), tmp_path / "run", [0, 5])
    assert not (tmp_path / "run").exists()


def test_all_settings_are_looked_at_before_the_first_stage(two_stages, tmp_path):
    """Hours of the first stage should not end in a misspelt setting of the last."""
    for misspelt in ({"task__name": "age_grup"}, {"task__weights": "LW9"}, {"model__name": "ror3_9"}):
        with pytest.raises(UserError, match=r"did you mean|do not exist"):
            train_and_test(two_stages(**misspelt), tmp_path / "run")
    assert not (tmp_path / "tiny_gender").exists()


def test_a_stage_whose_weights_to_start_from_are_missing(two_stages, tmp_path):
    with pytest.raises(UserError, match=r"no weights in .*nowhere.*ror_jax\.convert"):
        train_and_test(two_stages(init_from=str(tmp_path / "nowhere")), tmp_path / "run")


def test_another_stage_in_the_way_is_not_taken_for_this_one(folds):
    config, workdir = folds
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.stage.gender.task.weights = (1, 2)
    with pytest.raises(UserError, match=r"tiny_gender/fold_1 holds a run with other settings: task.weights"):
        cross_validate(config, workdir, [1])


def test_aging_curve(tiny_config, tmp_path, capsys, monkeypatch):
    """A run for each question that can be asked, their accuracies, weights for the eight groups."""
    monkeypatch.setattr("ror_jax.runs.studies.answerable", lambda groups, sources: ([4, 5], [1, 2, 3, 6, 7]))
    row = "deep_ror:cnn_4c2f,LW3"
    aging_curve(tiny_config(row=row, epochs=1, optimizer__decay_epochs=(), task__weights="LW3"), tmp_path)
    found = json.loads((tmp_path / "aging_curve.json").read_text())
    assert found["curves"]["accuracy"].keys() == {"4", "5"}
    balanced = {}
    for group, accuracy in found["curves"]["accuracy"].items():
        test = summary(tmp_path / f"older_than_{group}")["test"]
        assert test["accuracy"] == accuracy
        balanced[int(group)] = sum(test["recall"].values()) / 2
        settings = json.loads((tmp_path / f"older_than_{group}" / "config.json").read_text())
        assert settings["task"]["group"] == int(group) and settings["task"]["weights"] is None
        assert settings["row"] == f"deep_ror:cnn_4c2f,older_than_{group}"
    assert found["proposed_weights"] == pytest.approx(propose_weights(balanced, 8))
    printed = capsys.readouterr().out
    assert "Left out: older than 48-53?" in printed and "LW3" in printed and "always the same answer" in printed
    assert (tmp_path / "aging_curve.png").exists()


def test_table_of_losses(tiny_config, tmp_path, monkeypatch):
    """Two of them, to be quick."""
    monkeypatch.setattr(
        "ror_jax.runs.studies.OBJECTIVES", {name: OBJECTIVES[name] for name in ("coral", "mean_variance")}
    )
    compare_losses(tiny_config(epochs=1, optimizer__decay_epochs=()), tmp_path)
    table = (tmp_path / "losses.md").read_text()
    for objective in ("coral", "mean_variance"):
        assert f"| {objective} | {summary(tmp_path / objective)['test']['exact']:.4f} |" in table


def test_folds_that_train_at_once_give_the_same_as_in_turn(folds, tmp_path):
    """Two folds on a device each, against the same two one after the other."""
    config, workdir = folds
    file = tmp_path / "study.py"
    file.write_text(f"""
import json
from ror_jax.config import default_config

def get_config():
    config = default_config()
    with config.unlocked():
        config.update(json.loads({config.to_json_best_effort()!r}))
    return config
""")
    folder = f"--workdir={tmp_path / 'age'}"
    study = ("--mode=cross_validate", "--folds=1,3", "--config.mesh.data=1")
    process = Process("ror_jax.main", f"--config={file}", folder, *study, devices=2)
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert "fold 1: Compiling" in stdout and "fold 3: Compiling" in stdout
    for fold in (1, 3):
        for stage, other in zip(stages(config, tmp_path / "age", fold), stages(config, workdir, fold), strict=True):
            ours, theirs = summary(stage.folder)["test"], summary(other.folder)["test"]
            assert ours["cross_entropy"] == pytest.approx(theirs["cross_entropy"], rel=1e-3)
