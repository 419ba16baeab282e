"""A backbone with named prediction layers: what every model of this package is."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx

from ror_jax.errors import UserError
from ror_jax.models.layers import BatchNorm, Linear, dropout


class Mlp(nnx.Module):
    """Hidden layers between backbone and prediction layers, which all of these share: [B, F] to [B, last of `widths`].

    Each is Linear, BatchNorm, GELU, dropout (multi-task article, section 6). `config` is the backbone's.
    """

    def __init__(self, in_width: int, widths: tuple[int, ...], rate: float, *, config):
        if not all(isinstance(width, int) and width > 0 for width in widths):
            raise UserError(f"mlp_widths are {widths}; they must be positive whole numbers")
        if not 0 <= rate < 1:
            raise UserError(f"mlp_dropout is {rate}; it must be in [0, 1)")
        self.rate = rate
        ins = (in_width, *widths[:-1])
        self.linears = nnx.List([Linear(*layer, config=config) for layer in zip(ins, widths, strict=True)])
        self.norms = nnx.List([BatchNorm(width, config=config) for width in widths])

    def __call__(self, x, *, train: bool, rngs: nnx.Rngs | None):
        for linear, norm in zip(self.linears, self.norms, strict=True):
            x = nnx.gelu(norm(linear(x), train), approximate=False)
            if train and self.rate:
                x = dropout(x, self.rate, rngs.dropout())
        return x


class Learnt(nnx.Module):
    """Numbers that are learnt and the same for all images: of any [B, F], [B, K]. They begin at 0."""

    def __init__(self, width: int):
        self.bias = nnx.Param(jnp.zeros(width, jnp.float32))

    def __call__(self, x):
        return jnp.broadcast_to(self.bias[...], (len(x), self.bias.shape[0]))


class Network(nnx.Module):
    """Raw pixels to a dict of outputs, of which `create_model` tells more.

    The network normalises its own input, so that no caller can get that wrong. `backbone` maps [B, H, W, 3] to
    [B, num_features]; it has the attributes `config` and `num_features`.

    Attributes:
      mlp: shared hidden layers, or None.
      heads: a prediction layer by output name.
      mean, std: of the training pixels in 0...255, one number a channel.
    """

    def __init__(
        self,
        backbone: nnx.Module,
        num_classes: Mapping[str, int | tuple[int, int]],
        *,
        mean,
        std,
        mlp_widths: tuple[int, ...] = (),
        mlp_dropout: float = 0.0,
    ):
        self.backbone = backbone
        width = backbone.num_features
        self.mlp = Mlp(width, mlp_widths, mlp_dropout, config=backbone.config) if mlp_widths else None
        width = mlp_widths[-1] if mlp_widths else width
        self.mean, self.std = tuple(mean), tuple(std)
        config = dataclasses.replace(backbone.config, dtype=jnp.float32)  # so small that it costs nothing
        self.heads = nnx.Dict(
            {
                name: Learnt(size[1]) if np.shape(size) and size[0] == 0 else Linear(width, size, config=config)
                for name, size in num_classes.items()
            }
        )

    def __call__(self, images, *, train: bool = False, rngs: nnx.Rngs | None = None) -> dict:
        """images: [B, H, W, 3], uint8 or float, 0...255. Returns float32 `features` [B, F] of the backbone and an
        output [B, K] a head.

        `train` uses batch statistics (and updates the running ones in place), stochastic depth and dropout. These
        two draw from `rngs`: stochastic depth, and dropout within blocks, from its stream `drop_path`, other dropout
        from `dropout`, both from the default stream where these are not named.
        """
        mean, std = (jnp.asarray(numbers, jnp.float32) for numbers in (self.mean, self.std))
        images = ((images.astype(jnp.float32) - mean) / std).astype(self.backbone.config.dtype)
        features = self.backbone(images, train=train, rngs=rngs)
        hidden = features if self.mlp is None else self.mlp(features, train=train, rngs=rngs)
        outputs = {name: head(hidden) for name, head in self.heads.items()}
        return outputs | {"features": features.astype(jnp.float32)}
