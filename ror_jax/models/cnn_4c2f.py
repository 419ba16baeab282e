"""4c2f-CNN, the baseline of Deep-RoR: Levi and Hassner, "Age and Gender Classification using CNNs" (CVPRW 2015)."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import lax

from ror_jax.errors import UserError
from ror_jax.models.layers import Conv, Linear, dropout


@dataclasses.dataclass(frozen=True)
class Config4c2f:
    """The network of the paper. Each field is an override of `create_model`.

    Attributes:
      image_size: pixels a side.
      dropout: rate of dropout after the two hidden layers.
      dtype: data type of the computation, "float32" or "bfloat16".
      param_dtype: data type of the parameters.
    """

    image_size: int = 227
    dropout: float = 0.5
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        if self.image_size < SMALLEST:
            raise UserError(f"image_size is {self.image_size}; it must be {SMALLEST} or more")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout is {self.dropout}; it must be in [0, 1)")

    def build(self) -> "Cnn4c2f":
        return Cnn4c2f(self)


SMALLEST = 35  # pixels a side: 8 after the first convolution, of which three max-pools leave one
MODELS = {"cnn_4c2f": Config4c2f()}


def max_pool_ceil(x):
    """3x3 max-pool of stride 2 that keeps partial windows, as Caffe's does: [B, H, W, C] to
    [B, ceil((H - 1) / 2), ceil((W - 1) / 2), C]."""
    pad = tuple((0, (side - 3) % 2) for side in x.shape[1:3])
    return nnx.max_pool(x, (3, 3), (2, 2), padding=pad)


def local_response_norm(x, size: int = 5, alpha: float = 1e-4, beta: float = 0.75):
    """x / (1 + alpha/size * sum of x^2 over `size` neighbouring channels)^beta (Krizhevsky et al. 2012, as Caffe)."""
    squares = lax.reduce_window(
        jnp.square(x.astype(jnp.float32)),
        0.0,
        lax.add,
        (1, 1, 1, size),
        (1, 1, 1, 1),
        ((0, 0),) * 3 + ((size // 2, (size - 1) // 2),),
    )
    return (x * (1 + alpha / size * squares) ** -beta).astype(x.dtype)


class Cnn4c2f(nnx.Module):
    """Three convolutions and two hidden layers: [B, S, S, 3] to [B, 512], S = `image_size`."""

    num_features = 512

    def __init__(self, config: Config4c2f):
        self.config = config
        self.convs = nnx.List(
            [
                Conv(3, 96, 7, 4, padding=0, bias=True, config=config),
                Conv(96, 256, 5, bias=True, config=config),
                Conv(256, 384, 3, bias=True, config=config),
            ]
        )
        side = (config.image_size - 7) // 4 + 1
        for _ in range(3):
            side = side // 2  # ceil((side - 1) / 2)
        self.hidden = nnx.List([Linear(384 * side * side, 512, config=config), Linear(512, 512, config=config)])

    def __call__(self, images, *, train: bool = False, rngs: nnx.Rngs | None = None):
        x = images
        for index, conv in enumerate(self.convs):
            x = max_pool_ceil(nnx.relu(conv(x)))
            if index < 2:
                x = local_response_norm(x)
        x = x.reshape(len(x), -1)
        for hidden in self.hidden:
            x = nnx.relu(hidden(x))
            x = dropout(x, self.config.dropout, rngs.dropout()) if train and self.config.dropout else x
        return x
