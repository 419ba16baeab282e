"""The rows of the RoR paper: the networks and recipes that ror.toml names exist and are what the paper says."""

import re

import pytest

from configs import ror
from ror_jax.errors import UserError
from ror_jax.models import model_config
from ror_jax.report.paper import cells, load_paper


def config_of(row):
    return ror.get_config(row.removeprefix("ror:"))


def network_of(row):
    return model_config(**{key: value for key, value in config_of(row).model.items() if value is not None})


def rows_of_the_paper():
    return sorted({cell["run"] for _, cell in cells(load_paper("ror")) if "run" in cell})


@pytest.mark.parametrize("row", rows_of_the_paper())
def test_every_row_of_the_paper_is_an_experiment_of_that_name(row):
    config = config_of(row)
    assert config.row == row and f"ror_{config.name}" == re.sub("[:,]", "_", row)
    network = network_of(row)
    assert network.survival == (0.5 if "_sd" in row else 1)
    data, name = row.removeprefix("ror:").split(",")
    assert network.levels == (int(name.split("ror")[1][0]) if "ror" in name else 1)
    assert network.preactivation == ("pre" in name or "wrn" in name)
    assert config.dataset.name == data


@pytest.mark.parametrize(
    "row", ["cifar10,ror5_110_sd,smoke", "cifar100,ror3_wrn58_4_sd,smoke", "imagenet,ror3_101,smoke"]
)
def test_smoke_keeps_levels_shortcuts_and_drop_path(row):
    whole, small = network_of(row.removesuffix(",smoke")), network_of(row)
    for field in ("levels", "shortcut_types", "preactivation", "kernels", "survival", "expansion"):
        assert getattr(small, field) == getattr(whole, field)
    assert sum(small.blocks_per_group) < sum(whole.blocks_per_group)
    assert config_of(row).dataset.limit <= 2000
    assert config_of(row).name.endswith("_smoke")


def test_recipes():
    """Section V of the paper: epochs, schedule, batches."""

    def recipe(row):
        config = config_of(row)
        optimizer = config.optimizer
        assert (optimizer.name, optimizer.weight_decay) == ("sgd", 1e-4)
        return config.epochs, tuple(optimizer.decay_epochs), optimizer.learning_rate, config.batch_size

    assert recipe("cifar10,ror3_110") == (500, (250, 375), 0.1, 128)
    assert recipe("cifar100,ror3_110_sd_164epochs") == (164, (80, 122), 0.1, 128)
    assert recipe("cifar10,preror3_1202_sd") == (500, (250, 375), 0.1, 32)
    assert recipe("svhn,wrn58_4") == (50, (30, 35), 0.1, 128)
    assert recipe("imagenet,ror3_34") == (10, (5,), 0.001, 128)
    assert recipe("imagenet,ror3_101")[3] == 64 and recipe("imagenet,ror3_152")[3] == 48
    assert recipe("imagenet,resnet152")[0] == 0  # pretrained: only tested
    assert config_of("svhn,wrn58_4").test_every_steps == 200
    assert config_of("svhn,wrn58_4").augmentation == "none"
    assert config_of("imagenet,ror3_34").views == "ten_crop"


def test_shortcut_types_are_those_of_section_iv_b():
    """Outermost first: type B everywhere on CIFAR-10, type A in the final level on CIFAR-100, Pre-RoR and RoR-WRN."""
    assert network_of("cifar10,ror3_110").shortcut_types == ("B",)
    assert network_of("cifar10,ror3_110_a").shortcut_types == ("A", "A", "B")
    assert network_of("cifar100,ror3_110").shortcut_types == ("A",)
    assert network_of("cifar100,ror3_110_a").shortcut_types == ("A", "A", "A")
    assert network_of("cifar10,preror3_164").shortcut_types == ("A",)
    assert network_of("cifar10,resnet110").shortcut_types == ("B",)
    assert network_of("cifar10,resnet110_a").shortcut_types == ("A",)
    assert network_of("cifar100,resnet110_b").shortcut_types == ("B",)
    for row in ("cifar10,preresnet164", "cifar100,preresnet164", "cifar10,wrn40_2", "svhn,wrn58_4"):
        assert network_of(row).shortcut_types == ("A",)  # so that a RoR differs from it by its levels alone
    assert network_of("cifar100,resnet110").shortcut_types == ("A",)
    assert network_of("cifar100,ror3_164_b333").kernels == (3, 3, 3)


def test_a_network_of_other_data_does_not_exist():
    with pytest.raises(UserError, match="unknown svhn network 'resnet110'"):
        ror.get_config("svhn,resnet110")
    with pytest.raises(UserError, match="did you mean 'ror3_110_sd'"):
        ror.get_config("cifar10,ror3_110sd")


def test_without_words_it_is_the_papers_best_known_row():
    assert ror.get_config().row == ror.get_config("cifar10").row == "ror:cifar10,ror3_110_sd"
    assert ror.get_config("svhn").row == "ror:svhn,ror3_wrn58_4_sd"
