"""The recipes of Deep-RoR: the networks are what their names say, the settings what sections IV.A, D and E say."""

import pytest

from configs import imdb_wiki
from configs.deep_ror import NETWORKS, get_config
from ror_jax.errors import UserError
from ror_jax.models import model_config


def config_of(name, argument="age"):
    return get_config(f"{name},{argument}")


def network_of(config):
    return model_config(**{key: value for key, value in config.model.items() if value is not None})


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_is_what_its_name_says(name):
    config = config_of(name)
    network = network_of(config)
    assert (config.name, config.row) == (f"{name}_age", f"deep_ror:{name},age")
    if "resnet" in name or "ror" in name:
        assert network.levels == (3 if "ror" in name else 1)
        assert network.preactivation == name.startswith("pre")
        assert network.survival == (0.5 if "_sd" in name else 1)
        assert network.dropout == (0.3 if "dropout" in name else 0)
        assert network.expansion == next((k for k in (1, 2) if f"_k{k}" in name), 4 if network.kernels[0] == 1 else 1)
        final = "A" if name.startswith("preror") and not name.endswith("_b") else "B"
        assert network.shortcut_types[-1] == final
    scratch = "imagenet" not in name and "imdb" not in name
    assert (config.init_from is None) == scratch
    bottleneck = any(depth in name for depth in ("50", "101"))
    assert config.batch_size == (32 if bottleneck else 64)
    epochs = 300 if "300" in name else 164 if scratch else 60 if "imdb" in name else 120
    assert config.epochs == epochs
    rate = {"imagenet": 0.01, "wiki": 0.0001, "4c2f": 0.01, "vgg16": 0.01}.get(name.rpartition("_")[2], 0.1)
    assert config.optimizer.learning_rate == rate


def test_variants():
    """Table I's weights, Figure 4's questions, the two mechanisms."""
    assert config_of("cnn_4c2f").task.weights is None
    assert config_of("cnn_4c2f", "LW2").task.weights == "LW2"
    question = config_of("cnn_4c2f", "older_than_5")
    assert (question.task.name, question.task.group, question.task.weights) == ("older_than", 5, None)
    assert config_of("cnn_4c2f", "pretrained").stages == ("gender",)
    assert config_of("ror152_imdb_wiki", "two_mechanisms").stages == ("imdb_wiki", "gender")
    with pytest.raises(UserError, match="did you mean 'two_mechanisms'"):
        config_of("cnn_4c2f", "two_mechanism")


@pytest.mark.parametrize("name", ["cnn_4c2f", "preror101_sd_k1", "ror34_sd_imdb_wiki"])
def test_smoke_keeps_stages_and_kind(name):
    whole, small = config_of(name, "two_mechanisms"), config_of(name, "two_mechanisms,smoke")
    assert small.stages == whole.stages and small.task.weights == "LW3" and small.epochs < 10
    assert all(stage.name.endswith("_smoke") for stage in small.stage.values())
    if name != "cnn_4c2f":
        for field in ("levels", "shortcut_types", "preactivation", "kernels", "survival", "expansion"):
            assert getattr(network_of(small), field) == getattr(network_of(whole), field)


def test_a_fold_has_folders_of_its_own():
    """But not the stage on IMDB-WIKI, which has no folds."""
    config = config_of("ror34_imdb_wiki", "two_mechanisms,fold=3")
    assert config.dataset.fold == 3 and config.name == "ror34_imdb_wiki_two_mechanisms_fold3"
    assert config.stage.gender.name == "ror34_imdb_wiki_gender_fold3"
    assert config.stage.imdb_wiki.name == "imdb_wiki_ror34"
    assert config.row == config_of("ror34_imdb_wiki", "two_mechanisms").row


def test_the_middle_stage_has_a_file_of_its_own():
    config = imdb_wiki.get_config("resnet34")
    assert config.name == "imdb_wiki_resnet34" and config.init_from == "weights/resnet34"
    assert config.epochs == 120 and config.model.survival == 1 and not config.stages
