"""4c2f-CNN, the baseline of Deep-RoR: Levi and Hassner, "Age and Gender Classification using CNNs" (CVPRW 2015)."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import lax

from ror_jax.errors import UserError
from ror_jax.models.backbone import Map, name_groups
from ror_jax.models.layers import Conv
from ror_jax.outputs import Flatten, Hidden


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

    @property
    def trunk(self) -> Flatten:
        return Flatten(hidden=(Hidden(512, dropout=self.dropout),) * 2)

    def build(self) -> "Cnn4c2f":
        return Cnn4c2f(self)


WIDTHS = (96, 256, 384)
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
    """Three convolutions, each a group, see `models.backbone.Backbone`.

    After each come ReLU and a max-pool, and after the first two a response normalisation.
    """

    def __init__(self, config: Config4c2f):
        self.config = config
        self.convs = nnx.List(
            [
                Conv(3, WIDTHS[0], 7, 4, padding=0, bias=True, config=config),
                Conv(WIDTHS[0], WIDTHS[1], 5, bias=True, config=config),
                Conv(WIDTHS[1], WIDTHS[2], 3, bias=True, config=config),
            ]
        )

    @property
    def maps(self) -> dict[str, Map]:
        side = (self.config.image_size - 7) // 4 + 1  # and then, in each group, ceil((side - 1) / 2)
        return name_groups([Map(width, 4 * 2**group, side // 2**group) for group, width in enumerate(WIDTHS, start=1)])

    def __call__(self, images, *, train: bool = False, rngs: nnx.Rngs | None = None):
        maps, x = [], images
        for index, conv in enumerate(self.convs):
            x = max_pool_ceil(nnx.relu(conv(x)))
            x = local_response_norm(x) if index < 2 else x
            maps.append(x)
        return name_groups(maps)

    def to_onnx(self, graph, images):
        maps, x = [], images
        for index, conv in enumerate(self.convs):
            x = graph.max_pool(graph.relu(conv.to_onnx(graph, x)), 3, 2, ceil_mode=1)
            x = graph.node("LRN", x, size=5, alpha=1e-4, beta=0.75) if index < 2 else x
            maps.append(x)
        return name_groups(maps)
