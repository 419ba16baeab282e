"""ResNet, Pre-ResNet, WRN and every RoR of the papers, declared as data.

RoR: "Residual Networks of Residual Networks: Multilevel Residual Networks" (Zhang et al.), Tables I-XIII.
Deep-RoR: "Age Group and Gender Estimation in the Wild with Deep RoR Architecture" (Zhang et al.), Tables II-XI.
Depth counts the weighted layers of the main path with stem and classifier; WRN's counts its three projections instead
of the classifier.
"""

import dataclasses

from ror_jax.models.residual import ResidualConfig

MODELS: dict[str, ResidualConfig] = {}

# --- 32 pixels: three groups of 16, 32, 64 channels ---------------------------------------------------------------
# B everywhere for RoR (RoR, section IV.B, CIFAR-10), A in the final level for Pre-RoR and RoR-WRN ("A+B").

for depth in (8, 20, 32, 44, 56, 110, 164, 182, 218, 1202):  # 6n + 2
    plain = ResidualConfig((depth // 6,) * 3, (16, 32, 64))
    before = dataclasses.replace(plain, preactivation=True)
    MODELS[f"cifar_resnet{depth}"] = plain
    MODELS[f"cifar_preresnet{depth}"] = before
    for levels in (2, 3, 4, 5):
        if depth // 6 >= 2 ** (levels - 3):
            MODELS[f"ror{levels}_{depth}"] = dataclasses.replace(plain, levels=levels)
            MODELS[f"ror{levels}_{depth}_ab"] = dataclasses.replace(plain, levels=levels, shortcut_types=("A",))
            MODELS[f"preror{levels}_{depth}"] = dataclasses.replace(before, levels=levels, shortcut_types=("A",))
    MODELS[f"cifar_resnet{depth}_a"] = dataclasses.replace(plain, shortcut_types=("A",))  # Figures 6 and 7

for levels in (3, 4):  # Table IV: B(3,3,3), depth 9n + 2
    MODELS[f"ror{levels}_164_b333"] = ResidualConfig((18,) * 3, (16, 32, 64), kernels=(3, 3, 3), levels=levels)

for depth, k in ((16, 4), (22, 8), (28, 10), (40, 1), (40, 2), (40, 4), (58, 2), (58, 4)):  # 6n + 4
    wide = ResidualConfig(((depth - 4) // 6,) * 3, (16 * k, 32 * k, 64 * k), stem_width=16, preactivation=True)
    MODELS[f"wrn{depth}_{k}"] = wide
    MODELS[f"ror3_wrn{depth}_{k}"] = dataclasses.replace(wide, levels=3, shortcut_types=("A",))

# --- 224 pixels: four groups of 64, 128, 256, 512 channels --------------------------------------------------------

WIDTHS = (64, 128, 256, 512)
BASIC = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 58: (5, 6, 12, 5), 82: (7, 8, 18, 7)}
BOTTLENECK = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def _declare(depth: int, suffix: str, plain: ResidualConfig) -> None:
    before = dataclasses.replace(plain, preactivation=True)
    MODELS[f"resnet{depth}{suffix}"] = plain
    MODELS[f"ror{depth}{suffix}"] = dataclasses.replace(plain, levels=3)
    MODELS[f"preresnet{depth}{suffix}"] = before
    MODELS[f"preror{depth}{suffix}"] = dataclasses.replace(before, levels=3, shortcut_types=("A",))
    MODELS[f"preror{depth}{suffix}_b"] = dataclasses.replace(before, levels=3)  # Deep-RoR, Table III, "Type B"


for depth, blocks in BASIC.items():
    _declare(depth, "", ResidualConfig(blocks, WIDTHS, stem="imagenet"))
for depth, blocks in BOTTLENECK.items():
    for k in (4, 2, 1):
        bottleneck = ResidualConfig(blocks, WIDTHS, kernels=(1, 3, 1), expansion=k, stem="imagenet")
        _declare(depth, f"_k{k}", bottleneck)
        if k == 4:
            _declare(depth, "", bottleneck)

# --- small enough for tests and laptops ---------------------------------------------------------------------------

_tiny = ResidualConfig((2, 2, 2, 2), (8, 16, 24, 32), stem="imagenet")
MODELS |= {
    "tiny_resnet": _tiny,
    "tiny_ror": dataclasses.replace(_tiny, levels=3),
    "tiny_preror": dataclasses.replace(_tiny, levels=3, preactivation=True, shortcut_types=("A",)),
    "tiny_bottleneck": dataclasses.replace(_tiny, kernels=(1, 3, 1), expansion=4, levels=3),
    "small_preror": dataclasses.replace(
        _tiny, blocks_per_group=(2, 2, 2), widths=(32, 64, 128), levels=3, preactivation=True, shortcut_types=("A",)
    ),
}
