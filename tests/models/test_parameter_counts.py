"""Every model against a count from the papers' tables, in plain Python, by what its name says."""

import math
import re

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from ror_jax.models import create_model, list_models, model_config
from ror_jax.models.network import Network
from ror_jax.models.residual import ResidualConfig
from ror_jax.outputs import Head

# Deep-RoR, Table II (82 layers need 18 blocks in the third group), and He et al. for 18 and 152 layers.
GROUPS = {
    "18": (2, 2, 2, 2), "34": (3, 4, 6, 3), "58": (5, 6, 12, 5), "82": (7, 8, 18, 7),
    "50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3),
}  # fmt: skip
BOTTLENECKS = ("50", "101", "152")

# By hand, or published: torchvision's ResNets, VGG, EfficientNets and ConvNeXts; WRN-28-10 with 36.5 M, Pre-RoR-3-1202
# with 19.4 M.
KNOWN = [
    ("resnet18", 1000, 11_689_512),
    ("resnet34", 1000, 21_797_672),
    ("resnet50", 1000, 25_557_032),
    ("resnet101", 1000, 44_549_160),
    ("resnet152", 1000, 60_192_808),
    ("vgg16", 1000, 138_357_544),
    ("efficientnet_b0", 1000, 5_288_548),
    ("efficientnet_b1", 1000, 7_794_184),
    ("efficientnet_b2", 1000, 9_109_994),
    ("convnext_tiny", 1000, 28_589_128),
    ("convnext_small", 1000, 50_223_688),
    ("convnext_base", 1000, 88_591_464),
    ("small_efficientnet", 10, 663_530),  # as torchvision counts a B0 of half the width and half the depth
    # Stem; blocks of C channels have 8 C^2 + 58 C; between groups norm and convolution; norm; layer.
    (
        "small_convnext",
        10,
        (48 * 24 + 24 + 48)
        + sum(count * (8 * width**2 + 58 * width) for count, width in ((2, 24), (2, 48), (4, 96), (2, 192)))
        + sum(2 * width + 8 * width**2 + 2 * width for width in (24, 48, 96))
        + 2 * 192
        + (192 * 10 + 10),
    ),
    # Stem; 1 block of 8 channels; 3 that expand to 32; from 8 over 32 to 16; 16 over 64; head; layer. A block: expand,
    # depthwise, squeeze, excite, project, the convolutions with BN.
    (
        "tiny_efficientnet",
        10,
        (27 * 8 + 16)
        + (9 * 8 + 16 + 8 * 2 + 2 + 2 * 8 + 8 + 8 * 8 + 16)
        + 3 * (8 * 32 + 64 + 9 * 32 + 64 + 32 * 2 + 2 + 2 * 32 + 32 + 32 * 8 + 16)
        + (8 * 32 + 64 + 25 * 32 + 64 + 32 * 2 + 2 + 2 * 32 + 32 + 32 * 16 + 32)
        + (16 * 64 + 128 + 25 * 64 + 128 + 64 * 4 + 4 + 4 * 64 + 64 + 64 * 16 + 32)
        + (16 * 32 + 64)
        + (32 * 10 + 10),
    ),
    # Stem; 2 blocks of 7x7 with bias, norm, two linear layers, layer scale; to 16 channels; 3 blocks; norm; layer.
    (
        "tiny_convnext",
        10,
        (48 * 8 + 8 + 16)
        + 2 * (50 * 8 + 16 + 8 * 32 + 32 + 32 * 8 + 8 + 8)
        + (16 + 4 * 8 * 16 + 16)
        + 3 * (50 * 16 + 32 + 16 * 64 + 64 + 64 * 16 + 16 + 16)
        + 32
        + (16 * 10 + 10),
    ),
    ("wrn28_10", 10, 36_479_194),
    ("preror3_1202", 10, 19_425_114),
    # 7*7*3*96 + 96, 5*5*96*256 + 256, 3*3*256*384 + 384, 7*7*384*512 + 512, 512*512 + 512, 512*8 + 8
    ("cnn_4c2f", 8, 14_208 + 614_656 + 885_120 + 9_634_304 + 262_656 + 4_104),
    # The root and the four middle shortcuts, each a 1x1 convolution with its BN.
    (
        "ror34",
        1000,
        21_797_672 + 64 * 512 + 64 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 2 * (512 + 64 + 128 + 256 + 512),
    ),
]


def shapes(name, num_classes):
    """The shapes of all parameters, by path. Nothing is computed, and nothing drawn: that is what takes the time."""

    def parameters():
        network = Network(model_config(name).build(), {"label": Head(num_classes)}, mean=(0,) * 3, std=(1,) * 3)
        return nnx.to_pure_dict(nnx.state(network, nnx.Param))

    leaves = jax.tree_util.tree_leaves_with_path(jax.eval_shape(parameters))
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}


@pytest.mark.parametrize(("name", "num_classes", "count"), KNOWN)
def test_known_counts(name, num_classes, count):
    """The published networks have the published sizes."""
    assert sum(map(math.prod, shapes(name, num_classes).values())) == count


RESIDUAL = [name for name in list_models() if isinstance(model_config(name), ResidualConfig)]


def test_no_model_is_forgotten():
    assert set(list_models()) == set(RESIDUAL) | {name for name, *_ in KNOWN}


@pytest.mark.parametrize("name", RESIDUAL)
def test_depth_and_count_follow_from_the_name(name):
    """A name means what the papers mean by it: so many weighted layers, and exactly so many parameters."""
    depth, facts = read(name)
    parameters = shapes(name, 10)
    assert sum(map(math.prod, parameters.values())) == count(**facts, classes=10)
    # Weighted layers without shortcuts. Equal blocks are stacked along a leading axis.
    kernels = [shape for path, shape in parameters.items() if "kernel" in path and "shortcut" not in path]
    assert depth in (None, sum(shape[0] if len(shape) == 5 else 1 for shape in kernels))


@pytest.mark.parametrize("name", ["tiny_ror", "preror3_20", "cnn_4c2f", "tiny_efficientnet", "tiny_convnext"])
def test_create_model_makes_that_network(name):
    """`create_model` returns a network of these parameters, with an output of the right size under each name."""
    model = nnx.eval_shape(lambda: create_model(name, {"age": 8, "gender": 2}, rngs=nnx.Rngs(0)))
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert count == sum(map(math.prod, shapes(name, 10).values()))
    images = jnp.zeros((5, 227, 227, 3) if name == "cnn_4c2f" else (5, 32, 32, 3), jnp.uint8)
    outputs = nnx.eval_shape(lambda model: model(images), model)
    assert {key: value.shape for key, value in outputs.items()} == {
        "age": (5, 8),
        "gender": (5, 2),
        "features": (5, model.trunks["features"].width),
    }


def read(name):
    """Depth, and what `count` needs to know, from the name alone."""
    if match := re.fullmatch(r"(pre)?(resnet|ror)(\d+)(?:_k(\d))?(_b)?", name):
        pre, family, depth, k, type_b = match.groups()
        bottleneck, ror = depth in BOTTLENECKS, family == "ror"
        facts = dict(groups=GROUPS[depth], widths=(64, 128, 256, 512), stem=7, levels=3 if ror else 1)
        facts |= dict(kernels=(1, 3, 1) if bottleneck else (3, 3), expansion=int(k or (4 if bottleneck else 1)))
        return int(depth), facts | dict(preactivation=bool(pre), final="A" if pre and ror and not type_b else "B")
    if match := re.fullmatch(r"(ror3_)?wrn(\d+)_(\d+)", name):
        ror, depth, k = match[1], int(match[2]), int(match[3])
        facts = dict(groups=((depth - 4) // 6,) * 3, widths=(16 * k, 32 * k, 64 * k), stem_width=16)
        facts |= dict(preactivation=True, levels=3 if ror else 1, final="A" if ror else "B")
        return depth - 2, facts  # WRN counts the three projections, and not the classifier
    if match := re.fullmatch(r"(?:cifar_)?(pre)?(?:resnet|ror(\d)_)(\d+)_?(a|ab|b333)?", name):
        pre, levels, depth, suffix = match.groups()
        kernels = (3, 3, 3) if suffix == "b333" else (3, 3)
        facts = dict(groups=((int(depth) - 2) // (3 * len(kernels)),) * 3, widths=(16, 32, 64), kernels=kernels)
        facts |= dict(preactivation=bool(pre), levels=int(levels or 1), above="A" if suffix == "a" else "B")
        return int(depth), facts | dict(final="A" if suffix in ("a", "ab") or (pre and levels) else "B")
    small, pre, family = re.fullmatch(r"(small|tiny)_(pre)?(resnet|ror|bottleneck)", name).groups()
    widths = (32, 64, 128) if small == "small" else (8, 16, 24, 32)
    facts = dict(groups=(2,) * len(widths), widths=widths, stem=7, levels=1 if family == "resnet" else 3)
    if family == "bottleneck":
        facts |= dict(kernels=(1, 3, 1), expansion=4)
    return None, facts | dict(preactivation=bool(pre), final="A" if pre else "B")


def count(
    *, groups, widths, classes, preactivation, levels, final, above="B", kernels=(3, 3), expansion=1, stem=3,
    stem_width=None,
):  # fmt: skip
    """Parameters of a residual network, layer by layer."""

    def conv(size, in_width, width):
        return size * size * in_width * width

    def projection(in_width, width):
        return conv(1, in_width, width) + (0 if preactivation else 2 * width)

    width = stem_width or widths[0]
    total = conv(stem, 3, width) + (0 if preactivation else 2 * width)
    start = width
    for group, (blocks, inner) in enumerate(zip(groups, widths, strict=True)):
        out = inner * expansion
        if above == "B":  # middle shortcuts: one over the group, two over its halves, four over its quarters
            for level in range(2, levels):
                total += projection(width, out) + (2 ** (level - 2) - 1) * projection(out, out)
        for block in range(blocks):
            if final == "B" and (width != out or (group > 0 and block == 0)):
                total += projection(width, out)
            for index, size in enumerate(kernels):
                to = out if index == len(kernels) - 1 else inner
                total += conv(size, width, to) + 2 * (width if preactivation else to)
                width = to
    if above == "B" and levels > 1:
        total += projection(start, width)
    return total + (2 * width if preactivation else 0) + width * classes + classes
