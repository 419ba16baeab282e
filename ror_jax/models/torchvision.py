"""torchvision's ResNets: their state dicts in and out of this package's networks.

torchvision calls block i of group g `layer{g}.{i}`; in it are conv1, bn1, conv2, ... and, where the shape changes,
`downsample.0` and `downsample.1`. Its bottleneck has the stride in the 3x3 convolution, as ours has.
"""

import re
from collections.abc import Mapping

import numpy as np
from flax import nnx

from ror_jax.errors import UserError
from ror_jax.models import families
from ror_jax.models.network import Network
from ror_jax.models.residual import ResidualConfig, ResidualNetwork
from ror_jax.models.surgery import get_blocks, set_blocks

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
SHOWN = 6  # names of each kind in an error


def load_state_dict(model: Network, state: Mapping[str, np.ndarray]) -> None:
    """Puts a torchvision ResNet's state dict into a plain post-activation network such as "resnet34", in place.

    The backbone is always filled; the prediction layer if there is a single one and `fc.weight` fits it. Otherwise `fc`
    is ignored, as `num_batches_tracked` always is.

    Args:
      model: with one shortcut level, the "imagenet" stem and type B shortcuts; any numbers of blocks and widths.
      state: arrays by torchvision's names: convolutions [K, C, h, w], `fc.weight` [K, C], vectors.

    Raises:
      UserError: the model is of another kind; or tensors are missing, misshapen or too many: the message lists them,
        and names the depth that they are of where it is another one. The model is then as it was.
    """
    modules, blocks = _modules(model)
    state = {name: array for name, array in state.items() if not name.endswith(".num_batches_tracked")}
    if "fc" not in modules or np.shape(state.get("fc.weight")) != modules["fc"]["kernel"].shape[::-1]:
        modules.pop("fc", None)
        state = {name: array for name, array in state.items() if not name.startswith("fc.")}
    _check(state, _flat(modules), model.backbone.config)
    for module, arrays in modules.items():
        for leaf, array in arrays.items():  # in place: those of the blocks are seen through `blocks`
            arrays[leaf] = _ours(np.asarray(state[f"{module}.{LEAVES[leaf]}"])).astype(array.dtype)
    for name, module in _outer(model).items():
        if name in modules:
            nnx.update(module, modules[name])
    set_blocks(model.backbone, blocks)


def to_state_dict(model: Network) -> dict[str, np.ndarray]:
    """The inverse of `load_state_dict`. `fc` is in it if the model has a single prediction layer, whatever its name.

    Raises:
      UserError: the model is none that `load_state_dict` takes.
    """
    return _flat(_modules(model)[0])


def _outer(model: Network) -> dict[str, nnx.Module]:
    heads = list(model.heads.values())
    return {"conv1": model.backbone.stem, "bn1": model.backbone.norm} | ({"fc": heads[0]} if len(heads) == 1 else {})


def _modules(model: Network) -> tuple[dict[str, dict], list[dict]]:
    """The arrays of every module by torchvision's name of it, and the blocks (see `get_blocks`) that some are in."""
    config = model.backbone.config
    if not (
        isinstance(model.backbone, ResidualNetwork)
        and (config.levels, config.stem, config.shortcut_types) == (1, "imagenet", ("B",))
        and not config.preactivation
        and config.shortcut_norm is not False
    ):
        raise UserError("torchvision's weights fit plain post-activation networks only, such as 'resnet34'")
    modules = {name: nnx.to_pure_dict(nnx.state(module)) for name, module in _outer(model).items()}
    blocks = get_blocks(model.backbone)
    counts = enumerate(config.blocks_per_group, start=1)
    names = [f"layer{group}.{index}" for group, count in counts for index in range(count)]
    for name, block in zip(names, blocks, strict=True):
        body, shortcut = block["body"], block.get("shortcut", {})
        for index in body["convs"]:
            modules |= {f"{name}.conv{index + 1}": body["convs"][index], f"{name}.bn{index + 1}": body["norms"][index]}
        if shortcut:
            modules |= {f"{name}.downsample.0": shortcut["conv"], f"{name}.downsample.1": shortcut["norm"]}
    return modules, blocks


def _flat(modules: dict[str, dict]) -> dict[str, np.ndarray]:
    return {
        f"{module}.{LEAVES[leaf]}": np.array(_theirs(np.asarray(array)), order="C")  # the caller's own
        for module, arrays in modules.items()
        for leaf, array in arrays.items()
    }


def _theirs(array: np.ndarray) -> np.ndarray:
    """[h, w, C, K] to [K, C, h, w], [C, K] to [K, C]."""
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def _ours(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _check(state: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], config: ResidualConfig) -> None:
    """Raises UserError unless `state` has the names and shapes of `wanted`."""
    both = [name for name in wanted if name in state and np.shape(state[name]) != wanted[name].shape]
    wrong = {
        "missing": [name for name in wanted if name not in state],
        "too many": [name for name in state if name not in wanted],
        "misshapen": [f"{name} (is {np.shape(state[name])}, must be {wanted[name].shape})" for name in both],
    }
    if any(wrong.values()):
        lists = [
            f"{kind}: {', '.join(names[:SHOWN])}" + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
            for kind, names in wrong.items()
            if names
        ]
        raise UserError(f"these tensors are not the model's: {'; '.join(lists)}{_depth_hint(state, config)}")


def _depth_hint(state: Mapping[str, np.ndarray], config: ResidualConfig) -> str:
    """What the names say of the network that they come from, if that has other blocks than `config`."""
    found = [re.match(r"layer(\d+)\.(\d+)\.conv(\d+)\.", name) for name in state]
    places = {tuple(map(int, match.groups())) for match in found if match}  # (group, block, convolution), from 1, 0, 1
    groups = sorted({group for group, _, _ in places})
    blocks = tuple(len({block for group, block, _ in places if group == wanted}) for wanted in groups)
    convs = max((conv for _, _, conv in places), default=0)
    if not blocks or (blocks, convs) == (config.blocks_per_group, len(config.kernels)):
        return ""
    kernels, expansion = ((3, 3), 1) if convs == 2 else ((1, 3, 1), 4)
    plain = dict(kernels=kernels, expansion=expansion, stem="imagenet")
    source = ResidualConfig(blocks, families.WIDTHS, **plain) if len(blocks) == 4 else None
    names = [name for name, known in families.MODELS.items() if known == source]
    what = repr(min(names, key=len)) if names else f"a network of {'-'.join(map(str, blocks))} blocks"
    return f". They are of {what}: choose that model, or other weights"
