"""Early stopping: by results that never change, so that it is known when it must come."""

import json

import pytest

from ror_jax.errors import UserError
from ror_jax.runs.run import train_and_test
from ror_jax.training.logging import read_rows
from ror_jax.training.stopping import EarlyStopping

SETTINGS = {
    "dataset__validation": 0.2,
    "epochs": 9,
    "optimizer__decay_epochs": (),
    "early_stopping__metric": "majority_rate",  # of the images for validation: always the same
    "early_stopping__patience": 2,
}


class Task:
    def score(self, results):
        return results["harmonic"]


@pytest.mark.parametrize(
    ("metric", "patience", "min_epochs", "values", "stale"),
    [
        (None, 2, 0, [0.5, 0.7, 0.6, 0.6], True),
        (None, 3, 0, [0.5, 0.7, 0.6, 0.6], False),
        (None, 2, 5, [0.5, 0.7, 0.6, 0.6], False),
        ("rmse", 2, 0, [9, 7, 8, 7], True),  # as good is no better
        ("rmse", 2, 0, [9, 8, 7, 6], False),
        ("r2", 1, 0, [0.1, 0.2, 0.1], True),
        ("rmse", 1, 0, [], False),
        (None, None, 0, [0.5, 0.4, 0.3], False),
    ],
)
def test_when_it_is_time(metric, patience, min_epochs, values, stale):
    """Also of a run that was stopped after its second epoch, whose history went through JSON."""
    whole = EarlyStopping(patience, metric, None, min_epochs)
    stopped = EarlyStopping(patience, metric, None, min_epochs)
    for epoch, value in enumerate(values, start=1):
        assert not whole.stale
        whole.update(Task(), {metric or "harmonic": value}, epoch)
        stopped.update(Task(), {metric or "harmonic": value}, epoch)
        if epoch == 2:
            history, stopped = json.dumps(stopped.history), EarlyStopping(patience, metric, None, min_epochs)
            stopped.history = json.loads(history)
    assert whole.stale == stopped.stale == stale


def test_a_run_ends_early_and_stays_ended(tiny_config, tmp_path, capsys):
    """After epochs 1, 2 and 3, of nine; the same command tests again, and trains no more."""
    config = tiny_config(**SETTINGS)
    train_and_test(config, tmp_path)
    assert "(patience 2)" in "".join(capsys.readouterr())
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert max(row["epoch"] for row in rows) == 3
    train_and_test(config, tmp_path)
    assert read_rows(tmp_path / "metrics.jsonl") == rows


def test_a_metric_that_does_not_exist(tiny_config, tmp_path):
    with pytest.raises(UserError, match="'exacto'; did you mean 'exact'"):
        train_and_test(tiny_config(**SETTINGS | {"early_stopping__metric": "exacto"}), tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_split_that_does_not_exist(tiny_config, tmp_path):
    with pytest.raises(UserError, match=r"early_stopping\.split 'valid'; did you mean 'validation'"):
        train_and_test(tiny_config(**SETTINGS | {"early_stopping__split": "valid"}), tmp_path)
    assert not any(tmp_path.iterdir())


def test_without_images_for_validation(tiny_config, tmp_path):
    with pytest.raises(UserError, match="patience is 2, which needs images for validation"):
        train_and_test(tiny_config(**SETTINGS | {"dataset__validation": None}), tmp_path)
    assert not any(tmp_path.iterdir())
