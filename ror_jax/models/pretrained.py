"""Public weights: the state dicts of torchvision's and timm's ResNets, EfficientNets and ConvNeXts in and out.

timm's `tf_efficientnet_*` have the names and shapes of its `efficientnet_*`, but other paddings and another epsilon.
Nothing in a state dict tells them apart; here their outputs would be wrong.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ror_jax.errors import UserError
from ror_jax.models import convnext, create_model, efficientnet, families, torch_names
from ror_jax.models.convnext import ConvNextConfig
from ror_jax.models.efficientnet import EfficientNetConfig
from ror_jax.models.network import Network
from ror_jax.models.residual import ResidualConfig
from ror_jax.models.surgery import get_blocks, set_blocks
from ror_jax.outputs import Pool

# Of ImageNet's training pixels, in 0...255, as these weights expect them.
IMAGENET_MEAN = tuple(255 * number for number in (0.485, 0.456, 0.406))
IMAGENET_STD = tuple(255 * number for number in (0.229, 0.224, 0.225))

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
SHOWN = 6  # names of each kind in an error


def blank_model(name: str, heads: Mapping[str, int], **overrides) -> Network:
    """The network `name` for a state dict, see `load_state_dict`: it normalises pixels as ImageNet's, and all its
    numbers are 0, as none has to be drawn. Arguments and errors as of `create_model`."""
    pixels = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    shapes = nnx.eval_shape(lambda: create_model(name, heads, rngs=nnx.Rngs(0), **pixels, **overrides))
    graph, state = nnx.split(shapes)
    return nnx.merge(graph, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state))


def load_state_dict(model: Network, state: Mapping[str, np.ndarray]) -> set[str]:
    """Puts a state dict of torchvision's or timm's into the network that it is of, in place.

    The backbone is always filled; the prediction layer if there is a single one and the file's fits it; the
    normalisation after a ConvNeXt's pooling if the trunk "features" has it. Otherwise the file's are ignored, as
    `num_batches_tracked` always is.

    Args:
      model: an EfficientNet, a ConvNeXt, or a plain post-activation network such as "resnet34" (one shortcut level, the
        "imagenet" stem, type B shortcuts); any numbers of blocks and widths.
      state: arrays by PyTorch's names: convolutions [K, C, h, w], linear layers [K, C], vectors.

    Returns:
      The names of those that were taken.

    Raises:
      UserError: the model is of another kind; or tensors are missing, misshapen or too many: the message lists them,
        and names the model that they are of if it is another one. The network is then as it was.
    """
    state = {name: array for name, array in state.items() if not name.endswith(".num_batches_tracked")}
    names, tree = _names(model.backbone.config, state), _tree(_on_host(model))
    wanted = _shapes(tree, names)
    head = f"{names['head']}."
    if f"{head}weight" not in wanted or np.shape(state.get(f"{head}weight")) != wanted[f"{head}weight"]:
        state, wanted = _without(state, head), _without(wanted, head)
    if "norm" in names and "norm" not in tree:
        state = _without(state, f"{names['norm']}.")
    _check(state, wanted)

    def taken(path, leaf):
        name = _their_name(path, names)
        return jnp.asarray(_our_layout(np.asarray(state[name])), leaf.dtype) if name in wanted else leaf

    tree = jax.tree_util.tree_map_with_path(taken, tree)
    nnx.update(model.backbone, tree["backbone"])
    set_blocks(model.backbone, list(tree["blocks"].values()))
    if "norm" in tree:
        nnx.update(model.trunks["features"].norm, tree["norm"])
    if f"{head}weight" in wanted:
        (layer,) = model.heads.values()
        nnx.update(layer, tree["head"])
    return set(wanted)


def to_state_dict(model: Network) -> dict[str, np.ndarray]:
    """The inverse of `load_state_dict`, by torchvision's names.

    The prediction layer is in it if the model has a single one, whatever its name.

    Raises:
      UserError: the model is none that `load_state_dict` takes.
    """
    names = _vocabularies(model.backbone.config)[0]
    arrays = _flat(_tree(_on_host(model)), names)
    return {name: np.array(array, order="C") for name, array in arrays.items()}  # the caller's own


def prediction_layer(config, state: Mapping[str, np.ndarray]) -> str:
    """What the prediction layer of a network with this configuration is called in the state dict, such as "fc".

    Raises:
      UserError: it is of no kind that `load_state_dict` takes.
    """
    return _names(config, state)["head"]


def _vocabularies(config) -> list[dict[str, str]]:
    """Our names to theirs: torchvision's, and timm's where it has others."""
    if isinstance(config, EfficientNetConfig):
        return [torch_names.torchvision_efficientnet(config), torch_names.timm_efficientnet(config)]
    if isinstance(config, ConvNextConfig):
        return [torch_names.torchvision_convnext(config), torch_names.timm_convnext(config)]
    if not (
        isinstance(config, ResidualConfig)
        and (config.levels, config.stem, config.shortcut_types) == (1, "imagenet", ("B",))
        and not config.preactivation
        and config.shortcut_norm is not False
    ):
        raise UserError(
            "torchvision's and timm's weights fit EfficientNets, ConvNeXts and plain post-activation networks only,"
            " such as 'resnet34'"
        )
    return [torch_names.resnet(config)]


def _names(config, state: Mapping[str, np.ndarray]) -> dict[str, str]:
    """The vocabulary that most of the names in `state` are from."""
    modules = {name.rpartition(".")[0] for name in state}
    return max(_vocabularies(config), key=lambda names: len(modules & set(names.values())))


def _on_host(model: Network) -> Network:
    """The same network with numpy's arrays: JAX would compile each slice and transposition of another shape."""
    graph, state = nnx.split(model)
    return nnx.merge(graph, jax.device_get(state))


def _tree(model: Network) -> dict:
    """The arrays of the backbone, of each block by its number, of the features' norm, of a single prediction layer."""
    parts = {"backbone": model.backbone}
    features, heads = model.trunks["features"], list(model.heads.values())
    spec = features.spec
    if isinstance(spec, Pool) and (spec.reads, spec.levels, spec.norm) == ("last", (1,), True):
        parts["norm"] = features.norm
    if len(heads) == 1:
        parts["head"] = heads[0]
    blocks = {"blocks": dict(enumerate(get_blocks(model.backbone)))}
    return blocks | {name: nnx.to_pure_dict(nnx.state(part)) for name, part in parts.items()}


def _their_name(path: tuple, names: Mapping[str, str]) -> str | None:
    """Of the array at `path` in `_tree`; none has the blocks where they lie stacked in the backbone."""
    ours = jax.tree_util.keystr(path, simple=True, separator=".")
    if ours.startswith("backbone.") and ".blocks." in ours:
        return None
    module, _, leaf = ours.rpartition(".")
    return names[ours] if ours in names else f"{names[module]}.{LEAVES[leaf]}"


def _flat(tree: dict, names: Mapping[str, str]) -> dict:
    """The arrays of `_tree` by their names, in their layout."""
    named = {_their_name(path, names): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    return {name: _their_layout(name, leaf) for name, leaf in named.items() if name is not None}


def _shapes(tree: dict, names: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    return {name: leaf.shape for name, leaf in jax.eval_shape(lambda tree: _flat(tree, names), tree).items()}


def _their_layout(name: str, array):
    """[h, w, C, K] to [K, C, h, w], [C, K] to [K, C]; torchvision's layer scale is [C, 1, 1]."""
    if name.endswith(".layer_scale"):
        return array[:, None, None]
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def _our_layout(array: np.ndarray) -> np.ndarray:
    if array.ndim == 3:
        return array[:, 0, 0]
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _without(tensors: Mapping, prefix: str) -> dict:
    return {name: value for name, value in tensors.items() if not name.startswith(prefix)}


def _check(state: Mapping[str, np.ndarray], wanted: Mapping[str, tuple]) -> None:
    """Raises UserError unless `state` has the names and shapes of `wanted`."""
    both = [name for name in wanted if name in state and np.shape(state[name]) != wanted[name]]
    wrong = {
        "missing": [name for name in wanted if name not in state],
        "too many": [name for name in state if name not in wanted],
        "misshapen": [f"{name} (is {np.shape(state[name])}, must be {wanted[name]})" for name in both],
    }
    if any(wrong.values()):
        lists = [
            f"{kind}: {', '.join(names[:SHOWN])}" + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
            for kind, names in wrong.items()
            if names
        ]
        raise UserError(f"these tensors are not the model's: {'; '.join(lists)}{_hint(state, wanted)}")


def _hint(state: Mapping[str, np.ndarray], wanted: Mapping[str, tuple]) -> str:
    """Which other model the tensors are of, if it is one that is known here, or what to take off their names."""
    prefix = f"{next(iter(state), '').partition('.')[0]}."
    if all(name.startswith(prefix) for name in state) and wanted.keys() & {name[len(prefix) :] for name in state}:
        return f". All of the file's names begin with {prefix!r}: save it without that"
    found = {name: np.shape(array) for name, array in state.items()}
    same, alike = [], []
    for model, head, shapes in _known():
        rest = _without(found, head)
        if rest == shapes:
            same.append(model)
        elif rest.keys() == shapes.keys() != _without(wanted, head).keys():
            alike.append(model)
    if same:
        return f". They are of {min(same, key=len)!r}: choose that model, or other weights"
    return f". They have the names of {min(alike, key=len)!r}, in other widths" if alike else ""


@functools.cache
def _known() -> list[tuple[str, str, dict[str, tuple]]]:
    """For each model and vocabulary: the model's name, the prefix of its prediction layer, all other shapes by name."""
    known = []
    for model, config in (families.MODELS | efficientnet.MODELS | convnext.MODELS).items():
        try:
            vocabularies = _vocabularies(config)
        except UserError:
            continue
        tree = jax.eval_shape(lambda: _tree(Network(config.build(), {}, mean=(), std=())))  # noqa: B023
        known += [(model, f"{names['head']}.", _shapes(tree, names)) for names in vocabularies]
    return known
