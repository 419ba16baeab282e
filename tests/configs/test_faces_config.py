"""The networks of the package, and training that starts from them."""

import csv
import json

import numpy as np
import pytest
from processes import Process

from configs import faces, finetune
from input_pipeline.face_renderer import render_face, sample_person
from ror_jax.config import given
from ror_jax.models.zoo import DEFAULT, list_pretrained


@pytest.mark.parametrize("how", ["", "frozen", "scratch"])
def test_fine_tuning_sees_faces_as_the_network_of_the_package_does(how):
    small, own = given(faces.get_config("small")), given(finetune.get_config(how))
    for name in ("model", "image_size", "resize", "augmentation", "views", "task"):
        assert own[name] == small[name], name
    assert own["dataset"] == small["dataset"] | {"name": "faces_csv"}
    assert own.get("init_from") == (None if how == "scratch" else DEFAULT)
    assert own["optimizer"]["frozen"] == (("backbone",) if how == "frozen" else ())


@pytest.mark.skipif(DEFAULT not in list_pretrained(), reason=f"{DEFAULT} is not in the package")
def test_a_csv_file_of_photographs_fine_tunes_the_network_of_the_package(tmp_path):
    """Faces are found in photographs; the backbone stays as it is, and the card names the data of the first weights."""
    rng = np.random.default_rng(0)
    with (tmp_path / "faces.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "age", "gender", "split"])
        for number in range(12):
            person = sample_person(rng)
            render_face(person, 30 + number, rng, 200)[0].save(tmp_path / f"{number}.png")
            table.writerow([f"{number}.png", 30 + number, "fm"[number % 2], ("train", "train", "test")[number % 3]])
    process = Process(
        "ror_jax.main",
        "--config=configs/finetune.py:frozen",
        f"--config.data_dir={tmp_path}",
        f"--config.cache_dir={tmp_path / 'cache'}",
        f"--workdir={tmp_path / 'run'}",
        "--config.dataset.validation=0",
        "--config.epochs=1",
        "--config.batch_size=8",
    )
    said = "".join(process.communicate())
    assert process.returncode == 0, said
    card = json.loads((tmp_path / "run" / "model.json").read_text())
    assert "FairFace" in card["init_from"]["attribution"]
    results = json.loads((tmp_path / "run" / "summary.json").read_text())["test"]
    assert {"age_span_mae", "gender_accuracy"} <= results.keys()
