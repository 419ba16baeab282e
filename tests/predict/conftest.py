import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from input_pipeline.face_renderer import render_face, sample_person
from ror_jax.export import export
from ror_jax.runs.run import train_and_test

LICENCE = "drawn by the program: free"


@pytest.fixture(scope="session")
def run(tiny_config, tmp_path_factory):
    """A function that trains a tiny network on drawn faces, once for all tests, and returns the run's folder."""
    folder = tmp_path_factory.mktemp("runs")

    def train(task="age_group"):
        workdir = folder / task
        if not workdir.exists():
            small = {"dataset__resolution": 64, "dataset__people": 60, "epochs": 1, "optimizer__decay_epochs": (1,)}
            with contextlib.redirect_stdout(io.StringIO()):
                train_and_test(tiny_config(name=f"tiny_{task}", task__name=task, **small), workdir)
        return workdir

    return train


@pytest.fixture(scope="session")
def model_folder(run, tmp_path_factory):
    """A function that exports that run."""
    folder = tmp_path_factory.mktemp("models")

    def make(task="age_group"):
        output = folder / task
        if not output.exists():
            with contextlib.redirect_stdout(io.StringIO()):
                export(run(task), output, licence=LICENCE)
        return output

    return make


@pytest.fixture
def edited(tmp_path):
    """A function that copies a model and changes its `model.json`."""

    def edit(folder: Path, **changes):
        copy = tmp_path / "edited"
        copy.mkdir()
        for file in folder.glob("weights.*"):
            (copy / file.name).write_bytes(file.read_bytes())
        card = json.loads((folder / "model.json").read_text()) | changes
        (copy / "model.json").write_text(json.dumps({name: value for name, value in card.items() if value != "gone"}))
        return copy

    return edit


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """A folder: three drawn faces, two of them in one photograph, and one without any face."""
    folder = tmp_path_factory.mktemp("photographs")
    faces = []
    for number in (7, 19, 6):
        rng = np.random.default_rng(number)
        faces.append(render_face(sample_person(rng), 35, rng, 256)[0])
    for name, places in {"one.png": {0: (100, 80)}, "sub/two.jpg": {1: (500, 60), 2: (60, 90)}, "none.jpg": {}}.items():
        image = Image.new("RGB", (800, 400), (90, 110, 120))
        for number, place in places.items():
            image.paste(faces[number], place)
        (folder / name).parent.mkdir(exist_ok=True)
        image.save(folder / name)
    return folder
