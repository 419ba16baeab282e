"""VGG-16: Simonyan and Zisserman, "Very Deep Convolutional Networks" (ICLR 2015), configuration D."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import nnx

from ror_jax.errors import UserError
from ror_jax.models.backbone import Map, name_groups
from ror_jax.models.layers import Conv
from ror_jax.outputs import Flatten, Hidden


@dataclasses.dataclass(frozen=True)
class VggConfig:
    """A VGG; the defaults are VGG-16. Each field is an override of `create_model`.

    Attributes:
      blocks_per_group: how many convolutions each group has.
      widths: the width of each group's convolutions.
      hidden: width of the two hidden layers.
      image_size: pixels a side.
      dropout: rate of dropout after the hidden layers.
      dtype: data type of the computation, "float32" or "bfloat16".
      param_dtype: data type of the parameters.
    """

    blocks_per_group: tuple[int, ...] = (2, 2, 3, 3, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    hidden: int = 4096
    image_size: int = 224
    dropout: float = 0.5
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        halvings = len(self.blocks_per_group)
        if len(self.widths) != halvings:
            raise UserError(f"widths are {self.widths}; there must be {halvings}, one a group")
        if self.image_size < 2**halvings:
            raise UserError(f"image_size is {self.image_size}; {halvings} max-pools need {2**halvings} or more")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout is {self.dropout}; it must be in [0, 1)")

    @property
    def trunk(self) -> Flatten:
        return Flatten(hidden=(Hidden(self.hidden, dropout=self.dropout),) * 2)

    def build(self) -> "Vgg":
        return Vgg(self)


MODELS = {"vgg16": VggConfig()}


class Vgg(nnx.Module):
    """Groups of 3x3 convolutions with ReLU, a 2x2 max-pool after each, see `models.backbone.Backbone`."""

    def __init__(self, config: VggConfig):
        self.config = config
        groups, in_width = [], 3
        for count, width in zip(config.blocks_per_group, config.widths, strict=True):
            ins = (in_width, *[width] * (count - 1))
            groups.append(nnx.List([Conv(channels, width, 3, bias=True, config=config) for channels in ins]))
            in_width = width
        self.groups = nnx.List(groups)

    @property
    def maps(self) -> dict[str, Map]:
        widths, side = self.config.widths, self.config.image_size
        return name_groups([Map(width, 2**group, side // 2**group) for group, width in enumerate(widths, start=1)])

    def __call__(self, images, *, train: bool = False, rngs: nnx.Rngs | None = None):
        maps, x = [], images
        for group in self.groups:
            for conv in group:
                x = nnx.relu(conv(x))
            x = nnx.max_pool(x, (2, 2), (2, 2))
            maps.append(x)
        return name_groups(maps)

    def to_onnx(self, graph, images):
        maps, x = [], images
        for group in self.groups:
            for conv in group:
                x = graph.relu(conv.to_onnx(graph, x))
            x = graph.max_pool(x, 2, 2)
            maps.append(x)
        return name_groups(maps)
