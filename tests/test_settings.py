"""Settings: how they are read from signatures and docstrings, what a config has of them, how they are shown."""

import dataclasses
import json
import pathlib
from typing import Any

import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

import input_pipeline
from input_pipeline import DataError
from ror_jax import models
from ror_jax.config import declarations, default_config, describe, given, load_config, stage_config
from ror_jax.errors import UserError
from ror_jax.runs.workdir import check_workdir, open_workdir
from ror_jax.saved_settings import read_settings
from ror_jax.settings import Setting, declared, optional, to_config

ROOT = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Box:
    """A box.

    Attributes:
      width, height: in pixels,
        along the axes.
      colour: of it; "grey" is a colour.
      depth: of the box.

    Raises:
      ValueError: it is none.
    """

    width: float
    height: float = 2.0
    colour: "str | None" = None


@dataclasses.dataclass(frozen=True)
class Labelled(Box):
    """A box with words.

    Attributes:
      words: on it.
      colour: of the words.
    """

    words: tuple[str, ...] = ()


def cut(box, /, blade, *, depth: int | None = None, at: float | str = 0.5, rest: Any, fast=True, **options):
    """Cuts.

    Args:
      blade: what cuts.
      depth: in pixels.
      at: a place: a number, or

        its name.
      **options: of the blade.
    """


def test_a_dataclass_declares_its_fields():
    assert declared(Box) == {
        "width": Setting(float, None, "in pixels, along the axes."),
        "height": Setting(float, 2.0, "in pixels, along the axes."),
        "colour": Setting(str, None, 'of it; "grey" is a colour.'),
    }


def test_a_subclass_inherits_descriptions_and_may_replace_them():
    found = declared(Labelled, skip=("height",))
    assert list(found) == ["width", "colour", "words"]
    assert found["width"] == declared(Box)["width"]
    assert found["colour"].description == "of the words." and found["words"] == Setting(tuple, (), "on it.")


def test_a_function_declares_its_keyword_only_parameters():
    assert declared(cut) == {
        "depth": Setting(int, None, "in pixels."),
        "at": Setting(object, 0.5, "a place: a number, or its name."),
        "rest": Setting(object, None, ""),
        "fast": Setting(object, True, ""),
    }


def test_options_of_several_readers():
    """None until somebody sets them; of one type if all readers agree."""
    box, other = declared(Box), {"width": Setting(float, 3.0, "else"), "colour": Setting(tuple, (), "")}
    found = optional([{"height": Setting(float, 1.0, "")}, box, other])
    assert found["width"] == Setting(float, None, "in pixels, along the axes.")
    assert found["height"].description == "in pixels, along the axes." and found["colour"].type is object
    config = to_config(found | {"parts": Setting(object, {"left": 1.0}, "")})
    assert config.to_dict() == {"width": None, "height": None, "colour": None, "parts": {"left": 1.0}}
    config.colour, config.parts.left = ("red", 1), 2
    with pytest.raises(TypeError, match="width"):
        config.width = "broad"


def flat(config, prefix=""):
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", config.get_type(name)


def test_every_setting_has_a_type_and_a_description():
    groups = declarations()
    names = {f"{group}.{name}".lstrip("."): groups[group][name] for group in groups for name in groups[group]}
    rates = names.pop("optimizer.rates")
    names |= {f"optimizer.rates.{part}": rates._replace(type=float, default=1.0) for part in rates.default}
    assert list(rates.default) == ["backbone", "trunks", "heads"]
    assert names.pop("dataset.mixture").default == {}  # of which there is no setting until a config names parts
    types = dict(flat(default_config()))
    assert types == {name: setting.type for name, setting in names.items()}
    for name, setting in names.items():
        assert setting.description and "\n" not in setting.description, name
        assert not setting.description.startswith("see "), name
        assert setting.default is None or isinstance(setting.default, setting.type), name
    assert default_config().is_locked and len(types) > 100


def parsed(file, *arguments):
    """The config as the command line makes it."""
    argv, values = ["main", f"--config={file}", *arguments], flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    values(argv)
    return config.value


@pytest.fixture
def plain(tmp_path):
    """A config file that changes nothing."""
    path = tmp_path / "plain.py"
    path.write_text("from ror_jax.config import default_config as get_config\n")
    return path


@pytest.mark.parametrize("name", ["preror58", "ror3_164_b333", "efficientnet_b0", "convnext_tiny", "vgg16", "cnn_4c2f"])
def test_every_field_of_a_model_can_be_given_on_the_command_line(plain, name):
    """With all fields of a model given as they are, the config makes the same model."""
    model = dataclasses.replace(models.model_config(name), dtype="bfloat16", param_dtype="float32")
    fields = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    image_size = {"image_size": fields.pop("image_size")} if "image_size" in fields else {}
    fields = {field: value for field, value in fields.items() if value is not None}
    config = parsed(plain, f"--config.model.name={name}", *(f"--config.model.{key}={fields[key]}" for key in fields))
    assert given(config.model) == {"name": name} | fields
    assert models.model_config(**given(config.model), **image_size) == model


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.kernals=(3,3)", 'Did you mean "kernels" instead of "kernals"'),
        ("jitter.blurr=1", 'Did you mean "blur" instead of "blurr"'),
        ("optimizer.rates.head=1", 'Did you mean "heads" instead of "head"'),
        ("batchsize=1", 'Did you mean "batch_size" instead of "batchsize"'),
    ],
)
def test_a_misspelt_setting_is_refused_with_the_nearest_one(plain, setting, message):
    with pytest.raises((AttributeError, KeyError), match=message):
        parsed(plain, f"--config.{setting}")


def test_a_description_tells_values_defaults_and_what_is_not_read(tiny_config):
    config = tiny_config(model__name="small_preror", model__dtype="bfloat16", optimizer__decay_epochs=(1, 2))
    config.stage.unlock()
    config.stage.gender = stage_config(name="first", epochs=3, optimizer={"rates": {"heads": 2.0}})
    lines = describe(config).splitlines()
    end = lines.index("")
    rows = {line.split()[0]: line for line in lines[:end:2]}
    words = {name: row.split(maxsplit=1)[1] for name, row in rows.items()}
    assert words["model.widths"] == "tuple  (4, 8)" and words["optimizer.decay_epochs"] == "tuple  (1, 2)"
    assert words["model.shortcut_types"] == "tuple  None (default: ('A',))"  # of that model, not of its class
    assert words["model.dtype"] == "any    'bfloat16'"
    assert words["model.param_dtype"] == "any    None (default: float32)"
    assert words["dataset.people"] == "int    30" and words["dataset.seed"] == "int    None (default: 0)"
    assert words["task.sigma"] == "float  None" and words["optimizer.momentum"] == "float  None (default: 0.9)"
    assert words["stage.gender.name"] == "str    'first'" and words["stage.gender.epochs"] == "int    3"
    assert words["stage.gender.optimizer.rates.heads"] == "float  2.0" and "stage.gender.seed" not in words
    assert len({row.index(words[name]) for name, row in rows.items()}) == 1  # aligned
    assert all(line.startswith("    ") and line.strip() for line in lines[1:end:2])
    rest = " ".join(lines[end:])
    for name in ("dataset.protocol", "model.hidden", "task.threshold", "optimizer.beta1"):
        assert name in rest and name not in words
    assert "jitter" not in rest and "model.kernels" not in rest


def test_a_description_of_what_does_not_exist(tiny_config):
    with pytest.raises(UserError, match=r"unknown model\.name 'small_prerorr'; did you mean 'small_preror'"):
        describe(tiny_config(model__name="small_prerorr"))


def test_names_are_registered_once(monkeypatch):
    monkeypatch.setattr(models, "_MODELS", dict(models.registered()))
    monkeypatch.setattr(input_pipeline, "_CREATORS", {"adience": "somewhere"})
    with pytest.raises(UserError, match="there is a model 'vgg16' already"):
        models.register("vgg16", models.model_config("vgg16"))
    with pytest.raises(DataError, match="there is a data set 'adience' already"):
        input_pipeline.register("adience", lambda data_dir, cache_dir, *, labels: None)
    with pytest.raises(DataError, match="data set 'mine' has no keyword-only parameter 'labels'"):
        input_pipeline.register("mine", lambda data_dir, cache_dir, labels: None)
    models.register("mine", models.model_config("vgg16"))
    assert "mine" in models.list_models() and models.model_config("mine").hidden == 4096


def test_a_config_is_loaded_by_its_path(tmp_path):
    assert load_config("configs/ror.py:ror3_110_sd,cifar10").row == "ror:cifar10,ror3_110_sd"
    assert load_config("configs/quickstart.py").name == "quickstart"
    with pytest.raises(UserError, match=f"there is no config file {tmp_path}/mine.py"):
        load_config(f"{tmp_path}/mine.py:row")


def test_settings_of_a_run_before_0_2_are_refused(tiny_config, tmp_path):
    config = tiny_config()
    open_workdir(tmp_path, config)
    path = tmp_path / "config.json"
    written = json.loads(path.read_text())
    assert written.pop("format") == 2 and read_settings(path)["model.widths"] == [4, 8]
    path.write_text(json.dumps(written))
    with pytest.raises(
        UserError, match=r"was written by ror-jax before 0\.2; choose another --workdir, or install that"
    ):
        check_workdir(tmp_path, config)
