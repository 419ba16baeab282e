"""Drawn faces as files, a tiny model, and the application around a fake one."""

import dataclasses
import io
import itertools

import jax
import numpy as np
import pytest
from fake_model import PREPROCESSING, FakeModel, encoded
from flax import nnx
from PIL import Image
from starlette.testclient import TestClient

from input_pipeline.detection import YuNet
from input_pipeline.face_renderer import render_face, sample_person
from ror_jax.models import create_model, describe_network
from ror_jax.models.weights import save_weights
from ror_jax.predict.model import save_model_card
from ror_jax.serve.app import create_app


@pytest.fixture(scope="session")
def drawn():
    """Eight drawn pictures, Pillow images of 128 pixels; in each, and in its JPEG, the detector finds one face."""
    rng, detect, found = np.random.default_rng(3), YuNet(), []
    while len(found) < 8:
        image, _ = render_face(sample_person(rng), float(rng.uniform(5, 80)), rng, 128)
        jpeg = Image.open(io.BytesIO(encoded(image)))
        found += [image] * (len(detect(image)) == len(detect(jpeg)) == 1)
    return found


@pytest.fixture(scope="session")
def faces(drawn):
    """The same as JPEG files."""
    return [encoded(image) for image in drawn]


@pytest.fixture(scope="session")
def two_faces(drawn):
    """A PNG file with two faces side by side."""
    for first, second in itertools.pairwise(drawn):
        image = Image.new("RGB", (300, 150), (200, 205, 200))
        image.paste(first, (11, 11))
        image.paste(second, (161, 11))
        if len(YuNet()(image)) == 2:
            return encoded(image, "PNG")
    raise AssertionError("the detector finds no pair of the drawn faces")


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """The folder of a model of age and gender, of random numbers."""
    folder, overrides = tmp_path_factory.mktemp("model"), {"blocks_per_group": (1, 1), "widths": (4, 8)}
    heads, pixels = {"age": 1, "gender": 1}, {"mean": (120.0,) * 3, "std": (60.0,) * 3}
    make = lambda: create_model("ror3_8", heads, rngs=nnx.Rngs(0), **pixels, **overrides)  # noqa: E731
    state = jax.jit(lambda: nnx.split(make())[1])()
    params, statistics = nnx.split_state(state, nnx.Param, nnx.BatchStat)
    card = {
        "name": "random",
        **describe_network("ror3_8", overrides, nnx.eval_shape(make)),
        "views": "single",
        "task": {"name": "age_gender"},
        "task_state": {"gender.threshold": 0.5},
        "labels": {"age": [str(year) for year in range(101)], "gender": ["female", "male"]},
        "preprocessing": dataclasses.asdict(PREPROCESSING),
        "intervals": {"age": {"below": 5.0, "above": 6.0, "faces": 100, "inside": 0.9}},
        "versions": {},
    }
    save_weights(folder, nnx.to_pure_dict(params), nnx.to_pure_dict(statistics), card)
    save_model_card(folder, card)
    (folder / "README.md").write_text("# A model\n")
    return folder


@pytest.fixture
def model():
    return FakeModel()


@pytest.fixture
def client(model):
    with TestClient(
        create_app(model, "# A fake"), base_url="http://localhost", raise_server_exceptions=False
    ) as client:
        yield client


@pytest.fixture
def send(client):
    """`send(file, ..., views=...)`: the answer to a request with these files, bytes, in a form."""

    def post(*files, query="", **options):
        parts = [("files", (f"{number}.jpg", data)) for number, data in enumerate(files)]
        return client.post(f"/predict{query}", files=parts, **options)

    return post
