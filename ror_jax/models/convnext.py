"""ConvNeXt: Liu, Mao, Wu, Feichtenhofer, Darrell, Xie, "A ConvNet for the 2020s" (CVPR 2022)."""

import dataclasses
from functools import partial
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from ror_jax.errors import UserError, check_fields
from ror_jax.models.backbone import Map, name_groups
from ror_jax.models.blocks import BlockStack, DropPathKeys, drop_path
from ror_jax.models.layers import Conv, LayerNorm, Linear
from ror_jax.outputs import Pool

# Of the initial weights: from a normal distribution, which the authors cut off at a hundred times that.
STD = 0.02
LAYER_SCALE = 1e-6  # at first


@dataclasses.dataclass(frozen=True)
class ConvNextConfig:
    """A ConvNeXt. Each field is an override of `create_model`.

    Attributes:
      blocks_per_group: how many blocks each group has.
      widths: the width of each group.
      survival: 1 - drop path rate: the survival probability falls in equal steps from 1 at the first block to this at
        the last.
      remat: keep only the input of every block for the backward pass: less memory, a third more arithmetic.
      unroll: run equal blocks one after the other instead of in a loop.
      dtype: data type of the computation, "float32" or "bfloat16".
      param_dtype: data type of the parameters. The normalisations' statistics are float32.
    """

    blocks_per_group: tuple[int, ...]
    widths: tuple[int, ...]
    survival: float
    remat: bool = False
    unroll: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    trunk: ClassVar[Pool] = Pool(norm=True)

    def __post_init__(self):
        for field in ("blocks_per_group", "widths"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        blocks, widths = self.blocks_per_group, self.widths
        wanted = {
            "blocks_per_group": (blocks and min(blocks) > 0, "positive numbers"),
            "widths": (
                len(widths) == len(blocks) and min(widths, default=0) > 0,
                f"{len(blocks)} positive numbers, one a group",
            ),
            "survival": (0 < self.survival <= 1, "in (0, 1]"),
        }
        check_fields(self, wanted)

    def build(self) -> "ConvNext":
        return ConvNext(self)

    def survivals(self) -> np.ndarray:
        """The survival probability of each block: float32 [blocks]."""
        return np.linspace(1, self.survival, sum(self.blocks_per_group), dtype=np.float32)


MODELS = {
    "convnext_tiny": ConvNextConfig((3, 3, 9, 3), (96, 192, 384, 768), survival=0.9),
    "convnext_small": ConvNextConfig((3, 3, 27, 3), (96, 192, 384, 768), survival=0.6),
    "convnext_base": ConvNextConfig((3, 3, 27, 3), (128, 256, 512, 1024), survival=0.5),
    "small_convnext": ConvNextConfig((2, 2, 4, 2), (24, 48, 96, 192), survival=0.9),
    "tiny_convnext": ConvNextConfig((2, 3), (8, 16), survival=0.9),
}


class ConvNextBlock(nnx.Module):
    """x + a 7x7 depthwise convolution, normalised, and two linear layers on each pixel, scaled channel by channel."""

    def __init__(self, config: ConvNextConfig, width: int):
        self.stochastic = config.survival < 1
        self.depthwise = Conv(width, width, 7, depthwise=True, bias=True, std=STD, config=config)
        self.norm = LayerNorm(width, config=config)
        self.expand = Linear(width, 4 * width, std=STD, config=config)
        self.project = Linear(4 * width, width, std=STD, config=config)
        self.layer_scale = nnx.Param(jnp.full(width, LAYER_SCALE, config.param_dtype))

    def __call__(self, x, keys: DropPathKeys, train: bool):
        y = self.expand(self.norm(self.depthwise(x)))
        y = self.project(nnx.gelu(y, approximate=False))
        y = y * self.layer_scale[...].astype(y.dtype)
        return x + (drop_path(y, *keys) if train and self.stochastic else y)

    def to_onnx(self, graph, x, survival: np.float32):
        y = self.norm.to_onnx(graph, graph.channels_last(self.depthwise.to_onnx(graph, x)))
        y = self.project.to_onnx(graph, graph.gelu(self.expand.to_onnx(graph, y)))
        return graph.node("Add", x, graph.channels_first(graph.node("Mul", y, self.layer_scale)))


class ConvNext(nnx.Module):
    """Groups of blocks, each after a convolution that shrinks the image, see `models.backbone.Backbone`.

    "stem" is normalised; the groups end without normalisation and activation, and "last" is the last group's.
    """

    def __init__(self, config: ConvNextConfig):
        self.config = config
        outs = config.widths
        ins, sizes = (3, *outs[:-1]), (4, *[2] * (len(outs) - 1))
        self.convs = nnx.List(
            [
                Conv(*widths, size, stride=size, padding=0, bias=True, std=STD, config=config)
                for *widths, size in zip(ins, outs, sizes, strict=True)
            ]
        )
        # After the first convolution, and before each of the others.
        self.norms = nnx.List([LayerNorm(width, config=config) for width in (outs[0], *outs[:-1])])
        groups = enumerate(zip(outs, config.blocks_per_group, strict=True), start=1)
        self.stacks = nnx.List(
            [
                BlockStack(partial(ConvNextBlock, config, width), count, f"group{group}", config)
                for group, (width, count) in groups
            ]
        )

    @property
    def maps(self) -> dict[str, Map]:
        groups = [Map(width, 4 * 2**group) for group, width in enumerate(self.config.widths)]
        return {"stem": groups[0], **name_groups(groups)}

    def __call__(self, images, *, train: bool = False, rngs: nnx.Rngs | None = None):
        """Raises UserError where images are too small to be shrunk so often."""
        config, smallest = self.config, 2 * 2 ** len(self.stacks)
        if min(images.shape[1:3]) < smallest:
            sides = "x".join(map(str, images.shape[1:3]))
            raise UserError(f"images are {sides} pixels; this ConvNeXt needs {smallest} or more a side")
        keys = DropPathKeys.create(config.survivals(), train and config.survival < 1, rngs)
        x = self.norms[0](self.convs[0](images))
        maps, parts = {"stem": x}, keys.split(config.blocks_per_group)
        for group, (stack, part) in enumerate(zip(self.stacks, parts, strict=True)):
            if group > 0:
                x = self.convs[group](self.norms[group](x))
            x = stack(x, part, train, maps)
        return maps | {"last": x}

    def to_onnx(self, graph, images):
        def norm(layer, x):
            return graph.channels_first(layer.to_onnx(graph, graph.channels_last(x)))

        x = norm(self.norms[0], self.convs[0].to_onnx(graph, images))
        maps, parts = {"stem": x}, DropPathKeys(self.config.survivals(), None).split(self.config.blocks_per_group)
        for group, (stack, part) in enumerate(zip(self.stacks, parts, strict=True)):
            if group > 0:
                x = self.convs[group].to_onnx(graph, norm(self.norms[group], x))
            x = stack.to_onnx(graph, x, part, maps)
        return maps | {"last": x}
