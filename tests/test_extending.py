"""A user's own backbone, task, loss and data set, in one file, used by a config without a change to the package."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import Process

import input_pipeline
import ror_jax.models
import ror_jax.tasks
from ror_jax.errors import UserError

README = Path(ror_jax.tasks.__file__).with_name("README.md")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a user works: their file, their config, and what the commands leave there."""
    folder = tmp_path_factory.mktemp("user")
    parts, config = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (folder / "own_parts.py").write_text(parts)
    (folder / "own_config.py").write_text(config)
    return folder


def run(folder, *command, status=0):
    process = Process(*command, cwd=folder, variables={"HOME": str(folder)})
    said = "".join(process.communicate())
    assert process.returncode == status, said
    return said


@pytest.fixture(scope="module")
def trained(folder):
    said = run(folder, "ror_jax.main", "--config=own_config.py", "--workdir=run", "--config.cache_dir=cache")
    assert "Training two_convolutions" in said
    return folder / "run"


def test_it_trains_and_learns_from_validation(trained):
    """The state of the task is a pytree with a vector; it is updated after every validation, within epochs too."""
    summary = json.loads((trained / "summary.json").read_text())
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    validations = [row for row in rows if row["split"] == "validation"]
    assert len(validations) == 4  # of three steps an epoch: after steps 2, 3, 4 and 6
    state = summary["task_state"]
    assert state["find_square.updates"] == 4 and len(state["find_square.mean_error"]) == 2
    assert summary["loss"] == "distance of find_square + cubic of shade"
    assert summary["test"]["find_square_nme"] > 0 and 0 <= summary["test"]["shade_accuracy"] <= 1
    assert {name: form["kind"] for name, form in summary["answers"].items()} == {
        "square": "points",
        "shade": "class",
    }
    with (trained / "predictions.csv").open() as file:
        sides = [float(row["square_1_x_true"]) - float(row["square_0_x_true"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(sides, 4 / 16, atol=1e-5)  # of the image
    for name in ("square_cumulative.png", "shade_confusion.png", "examples.png"):
        assert (trained / name).exists()


def test_it_is_tested_again(folder, trained):
    said = run(
        folder, "ror_jax.main", "--config=own_config.py", "--workdir=run", "--mode=evaluate", "--config.cache_dir=cache"
    )
    assert "Test after epoch 2" in said
    again = json.loads((trained / "evaluate_latest_flip" / "summary.json").read_text())
    assert again["test"].keys() == json.loads((trained / "summary.json").read_text())["test"].keys()


def test_its_settings_are_listed_and_misspelt_ones_refused(folder, trained):
    said = run(folder, "ror_jax.main", "--config=own_config.py", "--settings")
    for line in (
        "model.width  ",
        "width of both convolutions",
        "task.strength  ",
        "dataset.images  ",
        "number of images",
    ):
        assert line in said
    said = run(folder, "ror_jax.main", "--config=own_config.py", "--config.task.strenght=1", status=1)
    assert "strength" in said and "Traceback" not in said
    said = run(folder, "ror_jax.main", "--config=own_config.py", "--config.model.width=0", "--workdir=other", status=1)
    assert "width is 0; it must be positive" in said


def test_it_is_exported_and_reads_photographs(folder, trained):
    """Corners come out in pixels of the photograph, of which the network sees the middle, from 20 to 60 across."""
    run(
        folder,
        "ror_jax.export",
        "--import=own_parts.py",
        "--workdir=run",
        "--output=model",
        "--licence=none",
        "--stablehlo",
    )
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[10:20, 30:40] = 255
    Image.fromarray(pixels).save(folder / "photograph.png")
    run(
        folder,
        *("ror_jax.predict", "--import=own_parts.py", "--model=model", "--faces=cropped", "--output=found.csv"),
        *("--annotated=seen", "photograph.png"),
    )
    with (folder / "found.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert 20 <= float(row["square_0_x"]) <= 60 and 0 <= float(row["square_0_y"]) <= 40
    assert row["shade"] in ("dark", "grey", "light", "white")
    assert (folder / "seen" / "photograph.png.jpg").exists()


def test_without_its_file_it_is_told_what_to_do(folder, trained):
    said = run(folder, "ror_jax.export", "--workdir=run", "--output=model2", "--licence=none", status=1)
    assert "two_convolutions" in said and "--import" in said and len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("register", "words"),
    [
        (lambda: ror_jax.models.register("ror34", ror_jax.models.model_config("ror34")), "a model 'ror34' already"),
        (lambda: ror_jax.models.register("mine", {}), "frozen dataclass"),
        (lambda: ror_jax.tasks.register("gender", object, ["gender"]), "'gender': that name is taken"),
        (lambda: ror_jax.tasks.losses.register("coral", None), "an objective 'coral' already"),
        (lambda: input_pipeline.register("adience", lambda data_dir, cache_dir, *, labels: None), "adience"),
    ],
)
def test_a_name_is_taken_once(register, words):
    with pytest.raises((UserError, input_pipeline.DataError), match=words):
        register()
