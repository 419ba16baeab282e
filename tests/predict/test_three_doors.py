"""The command line, Python and the server: without options, all give the same answers."""

import json

import jax
import pytest
from starlette.testclient import TestClient

import ror_jax
from ror_jax.predict.__main__ import main
from ror_jax.serve.app import create_app


@pytest.fixture
def cache():
    before = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.parametrize("views", ["single", "flip"])
def test_all_read_a_face_as_the_model_was_tested(views, model_folder, edited, photographs, tmp_path, cache):
    folder = edited(model_folder("age_gender"), views=views)
    model, file = ror_jax.load(folder), photographs / "one.png"
    _, (crop,) = model.finder()(file, "one")
    wanted, other = (model.read([crop], kind)[0] for kind in (views, {"single": "flip", "flip": "single"}[views]))
    assert wanted != other
    with pytest.raises(SystemExit):
        main([f"--model={folder}", f"--cache_dir={tmp_path / 'cache'}", f"--output={tmp_path / 'r.jsonl'}", str(file)])
    with TestClient(create_app(model, ""), base_url="http://localhost") as client:
        served = client.post("/predict", files={"files": file.read_bytes()}).json()
    doors = json.loads((tmp_path / "r.jsonl").read_text()), model.predict(file)[0], served["photographs"][0]
    for photograph in doors:
        (face,) = photograph["faces"]
        assert {name: face[name] for name in wanted} == wanted
        assert face["box"] == doors[0]["faces"][0]["box"] and face["score"] == doors[0]["faces"][0]["score"]
