"""Deep-RoR's experiments on Adience (Tables III to VI and VIII to XI, Figures 4 to 8), five folds: NETWORK,WORD,...

    python -m ror_jax.main --mode=cross_validate --config=configs/deep_ror.py:preror58_sd,two_mechanisms \\
        --config.data_dir=FOLDER
    python -m ror_jax.main --config=configs/deep_ror.py:preror58_sd,gender,fold=3 --config.data_dir=FOLDER
    python -m ror_jax.main --config=configs/deep_ror.py --list    # the paper's rows: network, recipe, published result

K. Zhang et al., "Age Group and Gender Estimation in the Wild with Deep RoR Architecture". The default network is
preror58_sd. One word says what is learnt:

    age              age groups, all of them weighing the same (the default)
    gender
    two_mechanisms   gender first, then age groups with the loss weights LW3 (section III.B and III.C)
    pretrained       gender first, then age groups, all of them weighing the same (Figure 6, "pt")
    LW1, LW2, LW3    age groups with these loss weights (Table I)
    older_than_K     the question whether a face is older than age group K, 1 to 7 (equation 2, Figure 4)

`fold=N` tests on fold N, in a folder of its own; otherwise on fold 0, or with --mode=cross_validate on all. `smoke` is
the same stages, small, in minutes on a laptop.

Networks with imagenet or imdb_wiki in their names begin with converted ImageNet weights, and those with imdb_wiki go
on with IMDB-WIKI-101, in --config.stage.imdb_wiki.data_dir, before Adience:

    python -m ror_jax.convert --weights resnet34.pth --model ror34 --output weights/ror34
"""

from typing import Any

from ml_collections import ConfigDict

from ror_jax.config import default_config, stage_config
from ror_jax.config_argument import parse_argument
from ror_jax.models.families import MODELS

AGE, GENDER, OLDER = "age_group", "gender", "older_than"
SMALL_IMAGES = {"dataset": {"resolution": 72}, "image_size": 64, "resize": 72, "min_area": 0.5}
# A Pre-RoR of 14 layers, for two CPU cores.
SMALL = SMALL_IMAGES | {
    "model": {"name": "small_preror", "survival": 0.8},
    "batch_size": 32,
    "epochs": 40,
    "optimizer": {"decay_epochs": (25, 35)},
}
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


def get_config(argument: str = "") -> ConfigDict:
    words = parse_argument(argument, network=NETWORKS, variant=VARIANTS, smoke=bool, fold=range(5))
    network = words.network or "preror58_sd"
    config = default_config()  # the optimiser, the batch and the schedule are those of section IV.A already
    config.dataset.update({"name": "adience", "fold": words.fold or 0, "protocol": "levi"})
    settings = NETWORKS[network]
    before = {name: stage_config(**changes) for name, changes in settings.get("stage", {}).items()}
    with config.unlocked():
        config.update(settings | {"stage": before})
    set_variant(config, network, words.variant or "age", f"deep_ror:{network}")
    if words.smoke:
        _shrink(config)
    if words.fold is not None:
        for run in (config, *config.stage.values()):
            if run.dataset.name != "imdb_wiki":  # which has no folds
                run.name += f"_fold{words.fold}"
    return config


def set_variant(config: ConfigDict, name: str, variant: str, row: str | None = None) -> None:
    """Sets what is learnt, one of `VARIANTS`, and what before it; also the names and, if `row` is given, the rows."""

    def names(variant: str) -> dict[str, str | None]:
        return {"name": f"{name}_{variant}", "row": row and f"{row},{variant}"}

    config.update(names(variant))
    config.task.name, config.task.weights, before = VARIANTS[variant]
    if config.task.name == OLDER:
        config.task.group = int(variant.rpartition("_")[2])
    if before:
        config.stages += (before,)
        with config.unlocked():
            config.stage[before] = stage_config(**names(before), task={"name": GENDER})


def _shrink(config: ConfigDict) -> None:
    """The same, small."""
    config.name += "_smoke"
    config.dataset.protocol, config.dataset.limit = "all", 2000
    config.update(SMALL_IMAGES)
    config.init_from = None  # these networks have no pretrained counterpart
    config.batch_size = 32
    config.epochs, config.optimizer.decay_epochs = 8, (6,)
    if (model := MODELS.get(config.model.name)) is not None:
        config.model.blocks_per_group = (2,) * len(model.widths)
        config.model.widths = (16, 32, 64, 128)
        config.optimizer.learning_rate = 0.1
    for stage in config.stage.values():
        stage.name += "_smoke"
        stage.epochs = stage.optimizer.learning_rate = stage.optimizer.decay_epochs = None
        stage.dataset.resolution, stage.dataset.limit = config.dataset.resolution, config.dataset.limit
