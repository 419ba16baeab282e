"""Models: images in, features and named outputs out. `create_model` builds any of `list_models` by name."""

import dataclasses
from collections.abc import Mapping

from flax import nnx

from ror_jax.errors import UserError, unknown
from ror_jax.models import cnn_4c2f, families, vgg
from ror_jax.models.layers import initialize
from ror_jax.models.network import Network

_MODELS = families.MODELS | cnn_4c2f.MODELS | vgg.MODELS


def list_models() -> list[str]:
    """The names that `create_model` knows, sorted."""
    return sorted(_MODELS)


def model_config(name: str, **overrides):
    """The frozen configuration of a model, with some of its fields replaced.

    Raises:
      UserError: unknown model or field (the nearest ones are named), or a value that makes no sense.
    """
    if name not in _MODELS:
        raise unknown("model", name, _MODELS)
    config = _MODELS[name]
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
    num_classes: int | Mapping[str, int],
    *,
    rngs: nnx.Rngs,
    mean: tuple[float, ...] = (0.0, 0.0, 0.0),
    std: tuple[float, ...] = (1.0, 1.0, 1.0),
    **overrides,
) -> Network:
    """Builds and initialises a network.

    Args:
      name: one of `list_models()`.
      num_classes: size of the one output, then called "label", or of each output by name.
      rngs: the parameters are drawn from its `params` stream.
      mean, std: of the training pixels in 0...255, a number a channel; the network normalises its input by them.
      **overrides: fields of the model's configuration, such as `survival=0.5` or `dtype=jnp.bfloat16`.

    Returns:
      A `Network`: `model(images, train=False, rngs=None) -> {"features": ..., "label": ...}`.

    Raises:
      UserError: as `model_config`; or an output is called "features", which every model has already.
    """
    outputs = num_classes if isinstance(num_classes, Mapping) else {"label": num_classes}
    if "features" in outputs:
        raise UserError("an output cannot be called 'features': that is what the backbone gives")
    network = Network(model_config(name, **overrides).build(), outputs, mean=mean, std=std)
    initialize(network, rngs)
    return network
