"""Models: images to feature maps (backbone), to features (trunks), to outputs (heads).

`create_model` builds any of `list_models` by name, `load_model` the one whose weights are in a folder. `register` adds
a backbone, see `models.backbone`.
"""

import dataclasses
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ror_jax.errors import UserError, unknown
from ror_jax.models import cnn_4c2f, convnext, efficientnet, families, vgg
from ror_jax.models.layers import initialize
from ror_jax.models.network import Network
from ror_jax.models.weights import flatten, load_weights, take
from ror_jax.outputs import Head, Hidden, Trunk, from_json, to_json

_MODELS = families.MODELS | cnn_4c2f.MODELS | vgg.MODELS | efficientnet.MODELS | convnext.MODELS

MLP_SETTINGS = ("mlp_widths", "mlp_dropout")  # arguments of `create_model` that are no field of a configuration


def register(name: str, config: Any) -> None:
    """Adds a model, for `create_model`, `model_config` and everything that calls them in this process.

    Args:
      config: a frozen dataclass, see `backbone.Config`. Its fields are settings of `config.model`.

    Raises:
      UserError: there is a model of that name; `config` is no frozen dataclass with all that `backbone.Config` has; or
        one of its fields has the name of an argument of `create_model`.
    """
    if name in _MODELS:
        raise UserError(f"there is a model {name!r} already; choose another name")
    frozen = dataclasses.is_dataclass(config) and not isinstance(config, type) and config.__dataclass_params__.frozen
    if not (frozen and all(hasattr(config, part) for part in ("build", "trunk", "dtype", "param_dtype"))):
        raise UserError(
            f"the configuration of model {name!r} is no instance of a frozen dataclass with build, trunk, dtype and"
            " param_dtype"
        )
    fields = {field.name for field in dataclasses.fields(config)}
    if taken := fields & inspect.signature(create_model).parameters.keys():
        raise UserError(f"model {name!r} has a field {taken.pop()!r}, as create_model has an argument; rename it")
    _MODELS[name] = config


def list_models() -> list[str]:
    """The names that `create_model` knows, sorted."""
    return sorted(_MODELS)


def registered() -> Mapping[str, Any]:
    """The configurations of the models' backbones, by name."""
    return _MODELS


def model_config(name: str, **overrides):
    """The frozen configuration of a model's backbone, with some of its fields replaced.

    `MLP_SETTINGS` may be among the overrides, and are ignored.

    Raises:
      UserError: unknown model or field (the nearest ones are named), or a value that makes no sense.
    """
    if name not in _MODELS:
        raise unknown("model", name, _MODELS)
    config = _MODELS[name]
    overrides = {field: value for field, value in overrides.items() if field not in MLP_SETTINGS}
    fields = [field.name for field in dataclasses.fields(config)]
    for field in overrides:
        if field not in fields:
            raise unknown(f"override of model {name!r}:", field, fields)
    try:
        return dataclasses.replace(config, **overrides)
    except UserError as error:
        raise UserError(f"model {name!r}: {error}") from error


def create_model(
    name: str,
    heads: int | Mapping[str, Head | int],
    *,
    rngs: nnx.Rngs,
    mean: tuple[float, ...] = (0.0, 0.0, 0.0),
    std: tuple[float, ...] = (1.0, 1.0, 1.0),
    trunks: Mapping[str, Trunk] | None = None,
    mlp_widths: tuple[int, ...] = (),
    mlp_dropout: float = 0.0,
    **overrides,
) -> Network:
    """Builds and initialises a network.

    Args:
      name: one of `list_models()`.
      heads: the outputs by name; a number K stands for `Head(K)`, and alone for the one output "label".
      rngs: the parameters are drawn from its `params` stream.
      mean, std: of the training pixels in 0...255, a number a channel; the network normalises its input by them.
      trunks: by name, what the heads read besides the model's own "features", or instead of it, see `outputs`.
      mlp_widths: widths of hidden layers that the trunk "features" gets in addition, each linear, batch normalisation,
        GELU and dropout (multi-task article, section 6).
      mlp_dropout: rate of dropout after each of these layers.
      **overrides: fields of the model's configuration, such as `survival=0.5` or `dtype=jnp.bfloat16`.

    Returns:
      A `Network`: `model(images, train=False, rngs=None) -> {"features": ..., "label": ...}`.

    Raises:
      UserError: as `model_config` and `Network`, or hidden layers that make no sense.
    """
    config = model_config(name, **overrides)
    heads = heads if isinstance(heads, Mapping) else {"label": heads}
    heads = {name: head if isinstance(head, Head) else Head(head) for name, head in heads.items()}
    trunks = {"features": config.trunk, **(trunks or {})}
    try:
        hidden = tuple(Hidden(width, norm=True, activation="gelu", dropout=mlp_dropout) for width in mlp_widths)
    except UserError as error:
        raise UserError(f"mlp_widths={mlp_widths}, mlp_dropout={mlp_dropout}: {error}") from error
    features = trunks["features"]
    trunks["features"] = dataclasses.replace(features, hidden=(*features.hidden, *hidden))
    network = Network(config.build(), heads, trunks=trunks, mean=mean, std=std)
    initialize(network, rngs)
    return network


def describe_network(name: str, overrides: Mapping, network: Network) -> dict:
    """Describes a network for `model.json`, so that `load_model` can build it again.

    Args:
      name, overrides: what its backbone was made from; `MLP_SETTINGS` among them are ignored.

    Returns:
      `model`, the name; `overrides`; `heads` and `trunks`, see `outputs.to_json`; `mean` and `std`, by which the
      network normalises pixels.
    """
    return {
        "model": name,
        "overrides": {field: value for field, value in overrides.items() if field not in MLP_SETTINGS},
        "heads": to_json(network.head_specs),
        "trunks": to_json(network.trunk_specs),
        "mean": [float(number) for number in network.mean],
        "std": [float(number) for number in network.std],
    }


def load_model(folder: Path | str) -> Network:
    """The network in a folder of weights, such as `ror_jax.convert` makes (see `models.weights`).

    Raises:
      UserError: there are no weights, or they are damaged or of another model than the folder says.
    """
    folder = Path(folder)
    tensors, card = load_weights(folder)
    options = {"mean": card["mean"], "std": card["std"]} | card["overrides"]
    try:
        specs = {"heads": from_json(card["heads"]), "trunks": from_json(card["trunks"])}
        model = nnx.eval_shape(lambda: create_model(card["model"], rngs=nnx.Rngs(0), **specs, **options))
        graph, *states = nnx.split(model, nnx.Param, nnx.BatchStat)
        params, batch_stats = map(nnx.to_pure_dict, states)
        wanted = flatten(params, batch_stats)
        taken = take(tensors, wanted)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # a card may hold anything
        raise UserError(f"{folder}: {error}") from error
    if missing := wanted.keys() - taken.keys():
        raise UserError(f"{folder} has no {', '.join(sorted(missing))}")
    leaves = [jnp.asarray(taken[name], leaf.dtype) for name, leaf in wanted.items()]
    filled = jax.tree.unflatten(jax.tree.structure({"params": params, "batch_stats": batch_stats}), leaves)
    return nnx.merge(graph, filled["params"], filled["batch_stats"])
