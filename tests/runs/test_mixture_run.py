"""A run on a mixture of data sets: results by name, resumption in the middle, where its parts lie, what it refuses."""

import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest
from PIL import Image

from input_pipeline import DataError
from ror_jax.errors import UserError
from ror_jax.export import run_config
from ror_jax.runs.experiment import create_experiment
from ror_jax.runs.workdir import check_workdir, open_workdir
from ror_jax.saved_settings import flat_settings
from ror_jax.training.loop import Stopped, train

SETTINGS = {"test_every": 1, "log_every": 2, "checkpoint_minutes": 60}
PARTS = {
    "drawn": {"name": "rendered_faces", "share": 0.25, "people": 20, "pictures_per_person": 2, "resolution": 16},
    "own": {"name": "faces_csv", "share": 0.75, "resolution": 24},
}


@pytest.fixture(scope="module")
def mixed(tiny_config, tmp_path_factory):
    """A function that makes the settings: drawn faces with all labels, and files with ages alone, as spans."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    lines = ["path,age_low,age_high,split"]
    for number in range(30):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3)).astype(np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{number},{number + 9},{('train', 'train', 'test')[number % 3]}")
    (folder / "faces.csv").write_text("\n".join(lines))

    def make(parts=None, **changes):
        config = tiny_config(task__name="age_regression+gender", **changes)
        config.dataset.resolution = config.dataset.people = config.dataset.pictures_per_person = None
        config.dataset.name = "mixture"
        config.dataset.mixture = parts or {**PARTS, "own": {**PARTS["own"], "data_dir": str(folder)}}
        return config

    return make


def test_it_resumes_bit_for_bit_and_names_its_splits(mixed, tmp_path):
    experiment = create_experiment(mixed())
    assert experiment.steps_per_epoch == 6  # of 8: 32 + 20 images

    def copied(**changes):
        return dataclasses.replace(
            experiment, state=jax.tree.map(lambda leaf: leaf.copy(), experiment.state), **changes
        )

    def stopping(start):
        for number, batch in enumerate(experiment.train_batches(start), start=start):
            if number == 8:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    whole = train(copied(), tmp_path / "whole", **SETTINGS)
    with pytest.raises(Stopped):
        train(copied(train_batches=stopping), tmp_path / "stopped", **SETTINGS)
    resumed = train(copied(), tmp_path / "stopped", **SETTINGS)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)

    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    drawn, own = ([row for row in rows if row["split"] == f"test_{part}"][-1] for part in ("drawn", "own"))
    assert (drawn["age_regression_images"], drawn["gender_images"]) == (8, 8)
    assert (own["age_regression_images"], own["gender_images"]) == (10, 0)
    batch = next(experiment.train_batches(0))
    assert (batch["gender"] >= 0).sum() == 2 and (batch["age"] >= 0).all()


def test_without_parts_there_is_no_mixture(mixed):
    config = mixed()
    config.dataset.mixture = {}
    with pytest.raises(DataError, match=r"a mixture needs parts: dataset\.mixture names each, with its share"):
        create_experiment(config)


def test_the_export_reads_its_settings_again(mixed, tmp_path):
    config = mixed()
    open_workdir(tmp_path, config)
    assert flat_settings(run_config(tmp_path, "moved")) == flat_settings(config) | {"data_dir": "moved"}


def test_parts_may_be_moved_and_not_changed(mixed, tmp_path):
    config = mixed()
    open_workdir(tmp_path, config)
    config.dataset.mixture.own.data_dir = "elsewhere"
    check_workdir(tmp_path, config)
    config.dataset.mixture.own.share = 0.5
    with pytest.raises(UserError, match=r"other settings: dataset\.mixture\.own\.share was 0\.75 and is 0\.5"):
        check_workdir(tmp_path, config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 0}, "mixture: the share of drawn is 0; it must be a number above 0"),
        ({"peple": 3}, "mixture, part drawn: unknown option of data set rendered_faces 'peple'; did you mean 'people'"),
        ({"people": "20"}, r"dataset\.mixture\.drawn\.people is '20'; it must be of the type int"),
        ({"validation": True}, r"dataset\.mixture\.drawn\.validation is True; it must be of the type float"),
        ({"resolution": -5}, "mixture, part drawn: rendered_faces needs at least"),
    ],
)
def test_what_cannot_be_mixed_is_one_line(mixed, changes, message):
    with pytest.raises((DataError, UserError), match=message) as error:
        create_experiment(mixed({"drawn": {**PARTS["drawn"], **changes}}))
    assert "\n" not in str(error.value)
