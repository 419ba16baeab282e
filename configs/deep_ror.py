"""What the experiments of Deep-RoR on Adience share: the networks of its tables, their recipes, the two mechanisms.

K. Zhang et al., "Age Group and Gender Estimation in the Wild with Deep RoR Architecture". `configs/recipes/` has one
file for each network of Tables III to VI and VIII to XI. After its name comes what is learnt:

    age              age groups, all of them weighing the same
    gender
    two_mechanisms   gender first, then age groups with the loss weights LW3 (section III.B and III.C)
    pretrained       gender first, then age groups, all of them weighing the same (Figure 6, "pt")
    LW1, LW2, LW3    age groups with these loss weights (Table I)
    older_than_K     the question whether a face is older than age group K, 1 to 7 (equation 2, Figure 4)

and perhaps a comma and `smoke`: the same stages, small, in minutes on a laptop.
"""

from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from ror_jax.config import default_config, stage_config
from ror_jax.errors import UserError, unknown
from ror_jax.models.families import MODELS

AGE, GENDER, OLDER = "age_group", "gender", "older_than"
SMOKE = "smoke"
# What is learnt -> task, loss weights, the stage before it.
VARIANTS = {
    "age": (AGE, None, None),
    "gender": (GENDER, None, None),
    "two_mechanisms": (AGE, "LW3", "gender"),
    "pretrained": (AGE, None, "gender"),
    **{name: (AGE, name, None) for name in ("LW1", "LW2", "LW3")},
    **{f"older_than_{group}": (OLDER, None, None) for group in range(1, 8)},
}


def _network(name: str, *, survival: float | None = None, **model) -> dict[str, Any]:
    """From scratch (section IV.A)."""
    return {"model": {"name": name, "survival": survival, **model}}


def _bottleneck(name: str) -> dict[str, Any]:
    return _network(name, survival=0.5) | {"batch_size": 32}


def _from_imagenet(name: str, *, survival: float | None = None) -> dict[str, Any]:
    """Section IV.D."""
    return _network(name, survival=survival) | {
        "init_from": f"weights/{name}",
        "epochs": 120,
        "optimizer": {"learning_rate": 0.01, "decay_epochs": (80,)},
    }


def _from_imdb_wiki(name: str, *, survival: float | None = None) -> dict[str, Any]:
    """Section IV.E. Stochastic depth comes with Adience only: the paper speaks of "adding" it to a trained network."""
    return _from_imagenet(name, survival=survival) | {
        "epochs": 60,
        "optimizer": {"learning_rate": 0.0001, "decay_epochs": ()},
        "stages": ("imdb_wiki",),
        "stage": {
            "imdb_wiki": {
                "name": f"imdb_wiki_{name}",
                "row": "",
                "dataset": {"name": "imdb_wiki"},
                "model": {"survival": 1.0},
                "task": {"name": "age_years"},
                "epochs": 120,
                "optimizer": {"learning_rate": 0.01, "decay_epochs": (60, 90)},
            }
        },
    }


NETWORKS: dict[str, dict[str, Any]] = {
    # Section IV.A gives a rate of 0.1 for all. These two have no batch norm, and 4c2f learnt next to nothing with it in
    # 8 epochs of 1,200 drawn faces (18 % exact in training, 35 % with 0.01).
    "cnn_4c2f": _network("cnn_4c2f")
    | {"image_size": 227, "resize": 256, "augmentation": "scale", "optimizer": {"learning_rate": 0.01}},
    "vgg16": _network("vgg16") | {"optimizer": {"learning_rate": 0.01}},
    "preresnet34": _network("preresnet34"),
    "preresnet34_sd": _network("preresnet34", survival=0.5),
    "preror34_sd_b": _network("preror34_b", survival=0.5),
    "preror34_sd_dropout_b": _network("preror34_b", survival=0.5, dropout=0.3),  # WRN's rate; the paper gives none
    "preror34_sd": _network("preror34", survival=0.5),
    "preror34_sd_300epochs": _network("preror34", survival=0.5)
    | {"epochs": 300, "optimizer": {"decay_epochs": (146, 223)}},  # 80 and 122 of 164
    "preror58": _network("preror58"),
    "preror58_sd": _network("preror58", survival=0.5),
    "preror82_sd": _network("preror82", survival=0.5),
    "preresnet50_sd": _bottleneck("preresnet50"),
    "preror50_sd": _bottleneck("preror50"),
    "preror50_sd_k2": _bottleneck("preror50_k2"),
    "preror50_sd_k1": _bottleneck("preror50_k1"),
    "preresnet101_sd": _bottleneck("preresnet101"),
    "preror101_sd": _bottleneck("preror101"),
    "preror101_sd_k2": _bottleneck("preror101_k2"),
    "preror101_sd_k1": _bottleneck("preror101_k1"),
    "resnet34": _network("resnet34"),
    "ror34": _network("ror34"),
    "resnet34_imagenet": _from_imagenet("resnet34"),
    "resnet34_sd_imagenet": _from_imagenet("resnet34", survival=0.5),
    "ror34_imagenet": _from_imagenet("ror34"),
    "ror34_sd_imagenet": _from_imagenet("ror34", survival=0.5),
    "resnet34_imdb_wiki": _from_imdb_wiki("resnet34"),
    "ror34_imdb_wiki": _from_imdb_wiki("ror34"),
    "ror34_sd_imdb_wiki": _from_imdb_wiki("ror34", survival=0.5),
    "ror152_imdb_wiki": _from_imdb_wiki("ror152"),
}


def recipe(network: str, usual: str = "age") -> Callable[[str], ConfigDict]:
    """The function `get_config` of a network's file; `usual` is what is learnt unless an argument says otherwise."""

    if network not in NETWORKS:
        raise unknown("network of Deep-RoR", network, NETWORKS)

    def get_config(argument: str = usual) -> ConfigDict:
        variant, *rest = argument.split(",")
        if rest not in ([], [SMOKE]):
            raise UserError(f"unknown argument {','.join(rest)!r} after {variant!r}; the only one is {SMOKE!r}")
        config = default_config()  # the optimiser, the batch and the schedule are those of section IV.A already
        config.dataset.update({"name": "adience", "fold": 0, "protocol": "levi"})
        settings = NETWORKS[network]
        before = {name: stage_config(**changes) for name, changes in settings.get("stage", {}).items()}
        with config.unlocked():
            config.update(settings | {"stage": before})
        set_variant(config, network, variant, f"recipes/{network}")
        if rest:
            with config.unlocked():
                _shrink(config)
        return config

    return get_config


def set_variant(config: ConfigDict, name: str, variant: str, file: str | None = None) -> None:
    """Sets what is learnt, one of `VARIANTS`, and what before it; with it the names, and the row of `file` if given.

    Raises:
      UserError: there is no such variant; the nearest ones are named.
    """
    if variant not in VARIANTS:
        raise unknown("recipe", variant, VARIANTS)

    def names(variant: str) -> dict[str, str | None]:
        return {"name": f"{name}_{variant}", "row": file and f"{file}:{variant}"}

    with config.unlocked():
        config.update(names(variant))
        config.task.name, config.task.weights, before = VARIANTS[variant]
        if config.task.name == OLDER:
            config.task.group = int(variant.rpartition("_")[2])
        if before:
            config.stages += (before,)
            config.stage[before] = stage_config(**names(before), task={"name": GENDER})


def _shrink(config: ConfigDict) -> None:
    """The same, small."""
    config.name += f"_{SMOKE}"
    config.dataset.protocol, config.dataset.resolution, config.dataset.limit = "all", 72, 2000
    config.image_size, config.resize, config.min_area = 64, 72, 0.5
    config.init_from = None  # these networks have no pretrained counterpart
    config.batch_size = 32
    config.epochs, config.optimizer.decay_epochs = 8, (6,)
    if (model := MODELS.get(config.model.name)) is not None:
        config.model.blocks_per_group = (2,) * len(model.widths)
        config.model.widths = (16, 32, 64, 128)
        config.optimizer.learning_rate = 0.1
    for stage in config.stage.values():
        stage.name += f"_{SMOKE}"
        stage.epochs = stage.optimizer.learning_rate = stage.optimizer.decay_epochs = None
        stage.dataset.resolution, stage.dataset.limit = config.dataset.resolution, config.dataset.limit
