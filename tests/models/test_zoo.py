"""Pretrained models by name: those of a zoo of its own here, and at the end those that the package lists."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest

from input_pipeline import DataError
from ror_jax.errors import UserError
from ror_jax.models import zoo
from ror_jax.models.weights import checksum
from ror_jax.predict.model import Model

ROOT = Path(__file__).parents[2]


def leave_model(folder, content=b"weights"):
    """As far as the zoo looks into it."""
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(content)
    (folder / "model.json").write_text(json.dumps({"sha256": hashlib.sha256(content).hexdigest()}))


def list_model(name, path, place):
    """Adds a table to the zoo; `path` is what its checksum is of."""
    with zoo.ZOO.open("a") as file:
        file.write(f'[{name}]\n{place}\nsha256 = "{hashlib.sha256(path.read_bytes()).hexdigest()}"\n')
        file.write(f'size_bytes = {path.stat().st_size}\nlicence = "free"\nattribution = "us"\n')
        file.write('training = "python -m ror_jax.main"\nresults = { age_mae = 5.25 }\n')


@pytest.fixture
def own_zoo(tmp_path, monkeypatch):
    """The folder of a package that lists one model, `faces_small`; the current folder is another one."""
    monkeypatch.setattr(zoo, "ZOO", tmp_path / "package" / "zoo.toml")
    leave_model(tmp_path / "package" / "zoo" / "faces_small")
    weights = tmp_path / "package" / "zoo" / "faces_small" / "weights.safetensors"
    list_model("faces_small", weights, 'file = "zoo/faces_small"')
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "package"


@pytest.fixture
def server(own_zoo, web, tmp_path):
    """A web server that has the model `large` as an archive, which the zoo lists. Returns its requests."""
    address, requests = web
    leave_model(tmp_path / "large", b"more weights")
    archive = shutil.make_archive(tmp_path / "web" / "large", "zip", tmp_path, "large")
    list_model("large", Path(archive), f'url = "{address}/large.zip"')
    return requests


def test_a_name_is_a_pretrained_model_and_a_path_is_a_folder(own_zoo):
    """Where there are both, too."""
    packed = own_zoo / "zoo" / "faces_small"
    assert zoo.list_pretrained()["faces_small"].results == {"age_mae": 5.25}
    for _ in range(2):
        assert zoo.model_folder(None) == zoo.model_folder("faces_small") == packed
        assert zoo.model_folder("./faces_small") == zoo.model_folder(Path("faces_small")) == Path("faces_small")
        Path("faces_small").mkdir(exist_ok=True)
    Path("mine").mkdir()
    assert zoo.model_folder("mine") == Path("mine")
    assert zoo.model_folder("no/where") == Path("no/where")  # what reads it says what is wrong


def test_a_name_that_is_nothing(own_zoo):
    words = "init_from: no folder faces_smal; unknown pretrained model 'faces_smal'; did you mean 'faces_small'?"
    with pytest.raises(UserError, match=f"^{re.escape(words)}$"):
        zoo.model_folder("faces_smal", setting="init_from")
    with pytest.raises(UserError, match=r"^unknown pretrained model 'small'"):
        zoo.pretrained_folder("small")


@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(b"weighty"), Path.unlink])
@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
def test_a_damaged_package(name, damage, own_zoo):
    damage(own_zoo / "zoo" / "faces_small" / name)
    with pytest.raises(UserError, match=r"faces_small in \S+ is damaged; install ror_jax again$"):
        zoo.model_folder("faces_small")


def test_a_model_is_downloaded_once(server, tmp_path):
    folders = {zoo.model_folder("large", tmp_path / "cache") for _ in range(2)}
    (folder,) = folders
    assert folder.is_relative_to(tmp_path / "cache") and server == ["/large.zip"]
    assert (folder / "weights.safetensors").read_bytes() == b"more weights"
    (folder / "weights.safetensors").write_bytes(b"more weight")
    with pytest.raises(UserError, match=rf"large in {folder} is damaged; delete {folder}, and it is downloaded again$"):
        zoo.model_folder("large", tmp_path / "cache")
    shutil.rmtree(folder)
    assert zoo.model_folder("large", tmp_path / "cache") == folder and checksum(folder)


def test_other_weights_of_that_name_are_another_download(server, tmp_path):
    """A newer version of the program lists them."""
    before = zoo.model_folder("large", tmp_path / "cache")
    leave_model(tmp_path / "new" / "large", b"new weights")
    archive = shutil.make_archive(tmp_path / "web" / "large", "zip", tmp_path / "new", "large")
    text = zoo.ZOO.read_text()
    old = zoo.list_pretrained()["large"].sha256
    zoo.ZOO.write_text(text.replace(old, hashlib.sha256(Path(archive).read_bytes()).hexdigest()))
    after = zoo.model_folder("large", tmp_path / "cache")
    assert (before / "weights.safetensors").read_bytes() == b"more weights"
    assert (after / "weights.safetensors").read_bytes() == b"new weights"


def test_what_is_not_the_archive_is_not_kept(server, tmp_path):
    archive = tmp_path / "web" / "large.zip"
    archive.write_bytes(archive.read_bytes()[:-1])
    for words in (r"its SHA-256 is \w{64} instead of \w{64}", "404 Client Error"):
        with pytest.raises(
            DataError, match=rf"/large\.zip cannot be downloaded \({words}.*; its unpacked folder"
        ) as told:
            zoo.model_folder("large", tmp_path / "cache")
        assert "\n" not in str(told.value)
        archive.unlink(missing_ok=True)
    assert not list((tmp_path / "cache").rglob("large*"))


@pytest.mark.parametrize("name", zoo.list_pretrained())
def test_what_the_package_lists(name):
    """Its card says the same of it; it can be used; what is downloaded is not, here."""
    model = zoo.list_pretrained()[name]
    assert model.licence and model.attribution and model.results and (model.file is None) != (model.url is None)
    (config,) = re.findall(r"--config=([^\s:]+)", model.training)
    assert model.training.startswith("python -m ror_jax.main ") and (ROOT / config).is_file()
    if model.file:
        folder = zoo.pretrained_folder(name)
        assert checksum(folder) == model.sha256
        assert (folder / "weights.safetensors").stat().st_size == model.size_bytes
        card = Model(name).card
        assert (card["licence"], card["attribution"]) == (model.licence, model.attribution)
