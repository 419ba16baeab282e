"""A backbone with named prediction layers: what every model of this package is."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx

from ror_jax.models.layers import Linear


class Network(nnx.Module):
    """Raw pixels to a dict of outputs.

    The network normalises its own input, so that no caller can get that wrong. `backbone` maps [B, H, W, 3] to
    [B, num_features]; it has the attributes `config` and `num_features`.

    Attributes:
      heads: a linear prediction layer by output name.
      mean, std: of the training pixels in 0...255, one number a channel.
    """

    def __init__(self, backbone: nnx.Module, num_classes: Mapping[str, int | tuple[int, int]], *, mean, std):
        self.backbone = backbone
        self.mean, self.std = tuple(mean), tuple(std)
        config = dataclasses.replace(backbone.config, dtype=jnp.float32)  # so small that it costs nothing
        heads = {name: Linear(backbone.num_features, size, config=config) for name, size in num_classes.items()}
        self.heads = nnx.Dict(heads)

    def __call__(self, images, *, train: bool = False, rngs: nnx.Rngs | None = None) -> dict:
        """images: [B, H, W, 3], uint8 or float, 0...255. Returns float32 `features` [B, F] and an output [B, K] a head.

        `train` uses batch statistics (and updates the running ones in place), stochastic depth and dropout. These
        two draw from `rngs`: residual networks from its stream `drop_path`, the others from `dropout`, all of them from
        the default stream where these are not named.
        """
        mean, std = (jnp.asarray(numbers, jnp.float32) for numbers in (self.mean, self.std))
        images = ((images.astype(jnp.float32) - mean) / std).astype(self.backbone.config.dtype)
        features = self.backbone(images, train=train, rngs=rngs)
        outputs = {name: head(features) for name, head in self.heads.items()}
        return outputs | {"features": features.astype(jnp.float32)}
