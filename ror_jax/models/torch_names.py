"""What torchvision and timm call the modules of the networks that both of them and this package have.

Each function gives a dict from our name of a module to theirs. Here `blocks.i` is block i, counted through the whole
network, `norm` that of the trunk "features", and `head` a single prediction layer. The ResNets of timm have
torchvision's names.
"""

from collections.abc import Iterator

from ror_jax.models.convnext import ConvNextConfig
from ror_jax.models.efficientnet import EfficientNetConfig
from ror_jax.models.residual import ResidualConfig


def _blocks(config) -> Iterator[tuple[str, int, int]]:
    """Our name of each block, its group and its place in the group, both from 0."""
    places = [(group, index) for group, count in enumerate(config.blocks_per_group) for index in range(count)]
    for block, place in enumerate(places):
        yield f"blocks.{block}", *place


def resnet(config: ResidualConfig) -> dict[str, str]:
    names = {"backbone.stem": "conv1", "backbone.norm": "bn1", "head": "fc"}
    for ours, group, index in _blocks(config):
        theirs = f"layer{group + 1}.{index}"
        for conv in range(len(config.kernels)):
            names[f"{ours}.body.convs.{conv}"] = f"{theirs}.conv{conv + 1}"
            names[f"{ours}.body.norms.{conv}"] = f"{theirs}.bn{conv + 1}"
        names[f"{ours}.shortcut.conv"] = f"{theirs}.downsample.0"
        names[f"{ours}.shortcut.norm"] = f"{theirs}.downsample.1"
    return names


def torchvision_efficientnet(config: EfficientNetConfig) -> dict[str, str]:
    last = len(config.widths) + 1
    names = {"head": "classifier.1"}
    convs = {"backbone.stem": "features.0", "backbone.head": f"features.{last}"}
    for ours, group, index in _blocks(config):
        layers = ["expand"] * (config.expansions[group] > 1) + ["depthwise", "squeeze", "project"]
        places = {layer: f"features.{group + 1}.{index}.block.{place}" for place, layer in enumerate(layers)}
        squeeze = places.pop("squeeze")
        names |= {f"{ours}.squeeze": f"{squeeze}.fc1", f"{ours}.excite": f"{squeeze}.fc2"}
        convs |= {f"{ours}.{layer}": theirs for layer, theirs in places.items()}
    for ours, theirs in convs.items():
        names |= {f"{ours}.conv": f"{theirs}.0", f"{ours}.norm": f"{theirs}.1"}
    return names


def timm_efficientnet(config: EfficientNetConfig) -> dict[str, str]:
    names = {"head": "classifier"}
    for ours, theirs, norm in (("stem", "conv_stem", "bn1"), ("head", "conv_head", "bn2")):
        names |= {f"backbone.{ours}.conv": theirs, f"backbone.{ours}.norm": norm}
    for ours, group, index in _blocks(config):
        theirs = f"blocks.{group}.{index}"
        layers = {"depthwise": "conv_dw", "project": "conv_pw"}
        if config.expansions[group] > 1:
            layers = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}
        for place, (layer, conv) in enumerate(layers.items(), start=1):
            names |= {f"{ours}.{layer}.conv": f"{theirs}.{conv}", f"{ours}.{layer}.norm": f"{theirs}.bn{place}"}
        names |= {f"{ours}.squeeze": f"{theirs}.se.conv_reduce", f"{ours}.excite": f"{theirs}.se.conv_expand"}
    return names


def torchvision_convnext(config: ConvNextConfig) -> dict[str, str]:
    names = {"norm": "classifier.0", "head": "classifier.2"}
    for group in range(len(config.widths)):
        conv, norm = (0, 1) if group == 0 else (1, 0)
        names[f"backbone.convs.{group}"] = f"features.{2 * group}.{conv}"
        names[f"backbone.norms.{group}"] = f"features.{2 * group}.{norm}"
    for ours, group, index in _blocks(config):
        theirs = f"features.{2 * group + 1}.{index}"
        layers = {"depthwise": 0, "norm": 2, "expand": 3, "project": 5}
        names |= {f"{ours}.{layer}": f"{theirs}.block.{place}" for layer, place in layers.items()}
        names[f"{ours}.layer_scale"] = f"{theirs}.layer_scale"
    return names


def timm_convnext(config: ConvNextConfig) -> dict[str, str]:
    names = {"norm": "head.norm", "head": "head.fc"}
    for group in range(len(config.widths)):
        theirs, conv, norm = ("stem", 0, 1) if group == 0 else (f"stages.{group}.downsample", 1, 0)
        names |= {f"backbone.convs.{group}": f"{theirs}.{conv}", f"backbone.norms.{group}": f"{theirs}.{norm}"}
    layers = {
        "depthwise": "conv_dw",
        "norm": "norm",
        "expand": "mlp.fc1",
        "project": "mlp.fc2",
        "layer_scale": "gamma",
    }
    for ours, group, index in _blocks(config):
        names |= {f"{ours}.{layer}": f"stages.{group}.blocks.{index}.{theirs}" for layer, theirs in layers.items()}
    return names
