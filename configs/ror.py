"""The RoR paper's experiments on CIFAR, SVHN and ImageNet (Tables I to XIII, Figures 5 to 14): DATA,NETWORK.

    python -m ror_jax.main --config=configs/ror.py:cifar10,ror3_110_sd --config.data_dir=FOLDER
    python -m ror_jax.main --config=configs/ror.py:cifar10,ror3_110_sd,smoke    # the same, small: minutes on a laptop
    python -m ror_jax.main --config=configs/ror.py --list                       # the paper's rows

Zhang et al., "Residual Networks of Residual Networks: Multilevel Residual Networks", arXiv 1608.02908. DATA is one of

    cifar10      the default; FOLDER holds the binary version, cifar-10-batches-bin
    cifar100     cifar-100-binary
    svhn         train_32x32.mat, extra_32x32.mat and test_32x32.mat
    imagenet     train/CLASS/*.JPEG and val/CLASS/*.JPEG, or tensorflow-datasets' imagenet2012 (array_record)

All but ImageNet are downloaded if there is no data_dir. NETWORK is, with D layers, 20, 32, 44, 56, 110, 164, 182, 218
or 1202, and L levels, 2 to 5, `resnetD`, `preresnetD`, `rorL_D` or `prerorL_D` (CIFAR only); `wrnD_K` or
`ror3_wrnD_K`, 40 or 58 layers that are 2 or 4 times as wide; and what follows tells how it deviates: `_a` or `_b`, the
type of the shortcuts (section IV.B); `_b333`, the block; `_sd`, stochastic depth; `_164epochs`, the schedule of the
paper's ablations. On ImageNet it is `resnetD`, which is only tested, or `ror3_D`, which is built from one and trained
on, with 18, 34, 50, 101 or 152 layers:

    python -m ror_jax.convert --weights resnet34.pth --model ror34 --output weights/ror34
    python -m ror_jax.main --config=configs/ror.py:imagenet,ror3_34 --config.data_dir=FOLDER
    python -m ror_jax.convert --weights resnet34.pth --model resnet34 --output weights/resnet34
    python -m ror_jax.main --config=configs/ror.py:imagenet,resnet34 --config.data_dir=FOLDER

With --config.views=single and a --workdir of its own the last is torchvision's own test (resize 256, centre 224), for
which it publishes top-1 accuracies of 69.76, 73.31, 76.13, 77.37 and 78.31 % for the first weights of its ResNet-18,
34, 50, 101 and 152.
"""

from typing import Any

from ml_collections import ConfigDict

from ror_jax.config import default_config
from ror_jax.config_argument import parse_argument
from ror_jax.errors import unknown
from ror_jax.models.families import MODELS

DEPTHS = (20, 32, 44, 56, 110, 164, 182, 218, 1202)
WIDE = ("40_2", "40_4", "58_2", "58_4")
SHORT, DROPPED = "_164epochs", "_sd"


def get_config(argument: str = "") -> ConfigDict:
    networks = {network for rows, *_ in EXPERIMENTS.values() for network in rows}
    words = parse_argument(argument, data=EXPERIMENTS, network=networks, smoke=bool)
    data = words.data or "cifar10"
    rows, set_recipe, usual = EXPERIMENTS[data]
    row = words.network or usual
    if row not in rows:
        raise unknown(f"{data} network", row, rows)
    config = default_config()
    config.name, config.row = f"{data}_{row}", f"ror:{data},{row}"
    config.dataset.name, config.task.name = data, "classification"
    config.model.update(rows[row])
    if row.removesuffix(SHORT).endswith(DROPPED):
        config.model.survival = 0.5
    set_recipe(config, row)
    if words.smoke:
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


EXPERIMENTS = {  # data -> networks, recipe, default network
    "cifar10": (_cifar_rows("B"), _cifar, "ror3_110_sd"),
    "cifar100": (_cifar_rows("A"), _cifar, "ror3_110_sd"),
    "svhn": (_svhn_rows(), _svhn, "ror3_wrn58_4_sd"),
    "imagenet": (_imagenet_rows(), _imagenet, "ror3_34"),
}


def _shrink(config: ConfigDict) -> None:
    """The same, small."""
    model = MODELS[config.model.name]
    groups = len(model.widths)
    config.name += "_smoke"
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
