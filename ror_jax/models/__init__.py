"""Models: images in, features and named outputs out.

`create_model` builds any of `list_models` by name, `load_model` the one whose weights are in a folder; `register` adds
a model.
"""

import dataclasses
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

_MODELS = families.MODELS | cnn_4c2f.MODELS | vgg.MODELS | efficientnet.MODELS | convnext.MODELS

AROUND = ("mlp_widths", "mlp_dropout")  # settings of a network that are none of its backbone's


def list_models() -> list[str]:
    """The names that `create_model` knows, sorted."""
    return sorted(_MODELS)


def registered() -> Mapping[str, Any]:
    """The configurations of the models' backbones, by name."""
    return _MODELS


def register(name: str, config: Any) -> None:
    """Adds a model to those that `create_model` knows.

    Args:
      config: of the backbone: a frozen dataclass with the fields `dtype` and `param_dtype` and the method
        `build() -> nnx.Module`, see `network.Network`. Its fields become settings, `config.model.FIELD`.

    Raises:
      UserError: there is a model of that name.
    """
    if name in _MODELS:
        raise UserError(f"there is a model {name!r} already; register yours under another name")
    _MODELS[name] = config


def model_config(name: str, **overrides):
    """The frozen configuration of a model's backbone, with some of its fields replaced.

    What `create_model` takes besides, `AROUND`, may be among the overrides, and is not looked at.

    Raises:
      UserError: unknown model or field (the nearest ones are named), or a value that makes no sense.
    """
    if name not in _MODELS:
        raise unknown("model", name, _MODELS)
    config = _MODELS[name]
    overrides = {field: value for field, value in overrides.items() if field not in AROUND}
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
    num_classes: int | Mapping[str, int | tuple[int, int]],
    *,
    rngs: nnx.Rngs,
    mean: tuple[float, ...] = (0.0, 0.0, 0.0),
    std: tuple[float, ...] = (1.0, 1.0, 1.0),
    mlp_widths: tuple[int, ...] = (),
    mlp_dropout: float = 0.0,
    **overrides,
) -> Network:
    """Builds and initialises a network.

    Args:
      name: one of `list_models()`.
      num_classes: size of the one output, then called "label", or of each output by name; (1, n) is a prediction layer
        whose n outputs share one column of weights and differ by a bias (CORAL), (0, n) are n numbers that are learnt
        and the same for all images.
      rngs: the parameters are drawn from its `params` stream.
      mean, std: of the training pixels in 0...255, a number a channel; the network normalises its input by them.
      mlp_widths: widths of hidden layers between the backbone and all outputs, see `network.Mlp`.
      mlp_dropout: rate of dropout after each of these layers.
      **overrides: fields of the model's configuration, such as `survival=0.5` or `dtype=jnp.bfloat16`.

    Returns:
      A `Network`: `model(images, train=False, rngs=None) -> {"features": ..., "label": ...}`.

    Raises:
      UserError: as `model_config`; or an output is called "features", which every model has already.
    """
    outputs = num_classes if isinstance(num_classes, Mapping) else {"label": num_classes}
    if "features" in outputs:
        raise UserError("an output cannot be called 'features': that is what the backbone gives")
    backbone = model_config(name, **overrides).build()
    network = Network(backbone, outputs, mean=mean, std=std, mlp_widths=tuple(mlp_widths), mlp_dropout=mlp_dropout)
    initialize(network, rngs)
    return network


def load_model(folder: Path) -> Network:
    """The network in a folder of weights, such as `tools.convert_torchvision` makes (see `models.weights`).

    Raises:
      UserError: there are no weights, or they are damaged or of another model than the folder says.
    """
    tensors, card = load_weights(folder)
    options = {"mean": card["mean"], "std": card["std"]} | card["overrides"]
    try:
        model = nnx.eval_shape(lambda: create_model(card["model"], card["heads"], rngs=nnx.Rngs(0), **options))
        graph, *states = nnx.split(model, nnx.Param, nnx.BatchStat)
        params, batch_stats = map(nnx.to_pure_dict, states)
        wanted = flatten(params, batch_stats)
        taken = take(tensors, wanted)
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:  # a card may hold anything
        raise UserError(f"{folder}: {error}") from error
    if missing := wanted.keys() - taken.keys():
        raise UserError(f"{folder} has no {', '.join(sorted(missing))}")
    leaves = [jnp.asarray(taken[name], leaf.dtype) for name, leaf in wanted.items()]
    filled = jax.tree.unflatten(jax.tree.structure({"params": params, "batch_stats": batch_stats}), leaves)
    return nnx.merge(graph, filled["params"], filled["batch_stats"])
