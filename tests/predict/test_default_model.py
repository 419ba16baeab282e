"""Models by name: in photographs, on the command line, and as a beginning of further training."""

import jax
import pytest

import ror_jax
from ror_jax.export import export
from ror_jax.models import zoo
from ror_jax.predict.__main__ import main
from ror_jax.runs.run import train_and_test


@pytest.fixture
def listed(model_folder, edited, tmp_path, monkeypatch):
    """The folder of the model that the zoo calls `faces_small`."""
    folder = edited(model_folder("age_group"), attribution="named: us")
    monkeypatch.setattr(zoo, "ZOO", tmp_path / "zoo.toml")
    zoo.ZOO.write_text(f"""
        [faces_small]
        file = "{folder}"
        sha256 = ""
        size_bytes = 8_149_000
        licence = "free"
        attribution = "named: us"
        training = "python -m ror_jax.main"
        results = {{ age_mae = 5.25, gender_accuracy = 0.93 }}
    """)
    return folder


@pytest.fixture
def predict(tmp_path, capsys):
    """Runs the command in this process: arguments -> (exit status or what `sys.exit` was told, what it printed)."""
    cache = jax.config.jax_compilation_cache_dir

    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([f"--cache_dir={tmp_path / 'cache'}", *map(str, arguments)])
        return stopped.value.code, capsys.readouterr().out

    yield run
    jax.config.update("jax_compilation_cache_dir", cache)


def test_a_photograph_is_read_without_a_word_of_the_model(listed, predict, photographs):
    file = photographs / "one.png"
    assert ror_jax.load().folder == ror_jax.load("faces_small").folder == listed
    assert ror_jax.load().predict(file) == ror_jax.load(listed).predict(file)
    assert predict(file) == predict(file, "--model=faces_small") == predict(file, f"--model={listed}")
    words = "error: model: no folder face_small; unknown pretrained model 'face_small'; did you mean 'faces_small'?"
    assert predict(file, "--model=face_small")[0] == words
    assert list(ror_jax.list_pretrained()) == ["faces_small"]


def test_the_models_are_listed(listed, predict):
    assert predict("--list_models") == (
        0,
        "name         size    results                             licence\n"
        "faces_small  8.1 MB  age_mae 5.25, gender_accuracy 0.93  free\n",
    )


def test_who_must_be_named_is_named_by_what_is_made_from_it(listed, tiny_config, tmp_path, capsys):
    """Whatever the current folder holds; through a run in between, too."""
    small = {"dataset__resolution": 64, "dataset__people": 60, "epochs": 0, "optimizer__decay_epochs": (1,)}
    train_and_test(tiny_config(name="first", init_from="faces_small", **small), tmp_path / "first")
    assert "Starting from ror3_8 in faces_small: took " in capsys.readouterr().out
    train_and_test(tiny_config(name="second", init_from=str(tmp_path / "first"), **small), tmp_path / "second")
    export(tmp_path / "second", tmp_path / "out", licence="ours")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "as told by who exported it: ours\n" in text and "**Attribution**" not in text
    assert (
        "**Its first weights** came from another run; these from tiny_age_group (licence of its images: drawn by the"
        " program: free; attribution: named: us).\n" in text
    )
