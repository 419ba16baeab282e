"""What the experiments of the RoR paper share: its recipes, and its rows by name.

A row is a network with its recipe: `ror3_110`; with stochastic depth `ror3_110_sd`; with the shorter schedule of the
paper's ablations `ror3_110_164epochs` (CIFAR only); or both, `ror3_110_sd_164epochs`. A comma and `smoke` make it a
look at everything within minutes on a laptop: few blocks, images and epochs, the same levels and shortcuts.

    python -m ror_jax.report --paper=ror --list    # the rows of the paper's tables, with parameters and errors
"""

from typing import Any

from ml_collections import ConfigDict

from ror_jax.config import default_config
from ror_jax.errors import UserError, unknown
from ror_jax.models.families import MODELS

DEPTHS = (20, 32, 44, 56, 110, 164, 182, 218, 1202)
WIDE = ("40_2", "40_4", "58_2", "58_4")
SHORT, DROPPED, SMOKE = "_164epochs", "_sd", "smoke"


def get_config(data: str, argument: str) -> ConfigDict:
    """The settings of a row: `argument` is ROW or ROW,smoke; `data` one of "cifar10", "cifar100", "svhn", "imagenet".

    Raises:
      UserError: there is no such row; the nearest ones are named.
    """
    row, *rest = argument.split(",")
    if rest not in ([], [SMOKE]):
        raise UserError(f"unknown argument {','.join(rest)!r} after the row {row!r}; the only one is {SMOKE!r}")
    rows, set_recipe = EXPERIMENTS[data]
    if row not in rows:
        listing = "python -m ror_jax.report --paper=ror --list prints the paper's rows"
        raise UserError(f"{unknown(f'{data} row', row, rows)} ({listing})")
    config = default_config()
    config.name, config.row = f"{data}_{row}", f"{data}:{row}"
    config.dataset.name, config.task.name = data, "classification"
    config.model.update(rows[row])
    if row.removesuffix(SHORT).endswith(DROPPED):
        config.model.survival = 0.5
    set_recipe(config, row)
    if rest:
        _shrink(config)
    return config


def _cifar(config: ConfigDict, row: str) -> None:
    """Section V.A and V.B."""
    config.image_size = config.resize = 32
    config.augmentation = "pad_and_crop"
    config.data_on_device = True
    config.batch_size = 32 if "1202" in row else 128
    config.test_batch_size = 256
    config.epochs, config.optimizer.decay_epochs = (164, (80, 122)) if row.endswith(SHORT) else (500, (250, 375))


def _svhn(config: ConfigDict, row: str) -> None:
    """Section V.H."""
    _cifar(config, row)
    config.augmentation = "none"
    config.epochs, config.optimizer.decay_epochs = 50, (30, 35)
    config.test_every_steps = 200


def _imagenet(config: ConfigDict, row: str) -> None:
    """Section V.J: a RoR is built from a pretrained ResNet and trained on; the ResNets are the pretrained ones."""
    depth = int(row.rpartition("_")[2].removeprefix("resnet"))
    config.batch_size = {101: 64, 152: 48}.get(depth, 128)
    config.views, config.test_batch_size = "ten_crop", 48
    config.init_from = f"weights/{config.model.name}"
    config.epochs = 0 if row.startswith("resnet") else 10
    config.optimizer.learning_rate, config.optimizer.decay_epochs = 0.001, (5,)


def _cifar_rows(final: str) -> dict[str, dict[str, Any]]:
    """Row -> model, with shortcuts of the type `final` in the final level of post-activation networks.

    Section IV.B: type B on CIFAR-10, type A on CIFAR-100; above the final level type B always; Pre-RoR as on CIFAR-100.
    """
    other = {"A": "B", "B": "A"}[final]
    rows = _wide_rows()
    for depth in DEPTHS:
        by_type = {"A": {"name": f"cifar_resnet{depth}_a"}, "B": {"name": f"cifar_resnet{depth}"}}
        rows[f"resnet{depth}"], rows[f"resnet{depth}_{other.lower()}"] = by_type[final], by_type[other]
        # Pre-RoR is made "only by adding" levels to a Pre-ResNet (section V.E), so that has type A as well.
        rows[f"preresnet{depth}"] = {"name": f"cifar_preresnet{depth}", "shortcut_types": ("A",)}
        for levels in (2, 3, 4, 5):
            if (name := f"ror{levels}_{depth}") in MODELS:
                rows[name] = {"name": f"{name}_ab" if final == "A" else name}
                # Table I: type A in all levels but the final one.
                rows[f"{name}_a"] = {"name": name, "shortcut_types": ("A",) * (levels - 1) + (final,)}
                rows[f"pre{name}"] = {"name": f"pre{name}"}
    for name in ("ror3_164_b333", "ror4_164_b333"):
        rows[name] = {"name": name, "shortcut_types": (final,)}
    rows |= {f"{row}{DROPPED}": model for row, model in rows.items()}
    return rows | {f"{row}{SHORT}": model for row, model in rows.items()}


def _wide_rows() -> dict[str, dict[str, Any]]:
    """WRN like Pre-ResNet: type A in the final level, as RoR-WRN has it."""
    plain = {f"wrn{size}": {"name": f"wrn{size}", "shortcut_types": ("A",)} for size in WIDE}
    return plain | {f"ror3_wrn{size}": {"name": f"ror3_wrn{size}"} for size in WIDE}


def _svhn_rows() -> dict[str, dict[str, Any]]:
    return _wide_rows() | {f"{row}{DROPPED}": model for row, model in _wide_rows().items()}


def _imagenet_rows() -> dict[str, dict[str, Any]]:
    depths = (18, 34, 50, 101, 152)
    plain = {f"resnet{depth}": {"name": f"resnet{depth}"} for depth in depths}
    return plain | {f"ror3_{depth}": {"name": f"ror{depth}"} for depth in depths}


EXPERIMENTS = {  # data -> rows and recipe
    "cifar10": (_cifar_rows("B"), _cifar),
    "cifar100": (_cifar_rows("A"), _cifar),
    "svhn": (_svhn_rows(), _svhn),
    "imagenet": (_imagenet_rows(), _imagenet),
}


def _shrink(config: ConfigDict) -> None:
    """The same, small."""
    model = MODELS[config.model.name]
    groups = len(model.widths)
    config.name += f"_{SMOKE}"
    config.model.blocks_per_group = (max(2, 2 ** (model.levels - 3)),) * groups
    config.model.widths = (16, 32, 64, 128)[:groups]
    config.dataset.limit = 2000
    config.epochs, config.optimizer.decay_epochs = 4, (2, 3)
    config.batch_size = 64
    config.test_every_steps = None
    if config.dataset.name == "imagenet":
        config.dataset.classes, config.dataset.limit = 0, 200
        config.image_size, config.resize = 64, 72
        config.batch_size, config.test_batch_size = 16, 16
        config.init_from = None  # these networks have no pretrained counterpart
        config.optimizer.learning_rate = 0.1
