"""EfficientNet: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (ICML 2019).

The network of torchvision's and timm's `efficientnet_b0`, `_b1` and `_b2`. The authors' own program has another epsilon
in its batch normalisations, 1e-3 instead of 1e-5, and pads strided convolutions on one side more than on the other.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from ror_jax.errors import check_fields
from ror_jax.models.backbone import Map
from ror_jax.models.blocks import DropPathKeys, block_stacks, drop_path
from ror_jax.models.layers import BatchNorm, Conv
from ror_jax.outputs import Pool

MOMENTUM = 0.99  # of the running statistics, as published


@dataclasses.dataclass(frozen=True)
class EfficientNetConfig:
    """An EfficientNet; the defaults are B0 (Table 1). Each field is an override of `create_model`.

    Attributes:
      blocks_per_group: how many blocks each group has.
      widths: a group's output width.
      kernels: the size of a group's depthwise convolutions.
      strides: the stride of a group's first block.
      expansions: the inner width of a group's blocks as a multiple of their input width.
      stem_width: width of the first convolution.
      head_width: width of the last convolution, that of the map "last".
      survival: 1 - drop connect rate; the survival probability falls from 1 at the first block in equal steps that
        would reach this after the last.
      dropout: rate of dropout on the pooled features.
      remat: keep only the input of every block for the backward pass: less memory, a third more arithmetic.
      unroll: run equal blocks one after the other instead of in a loop.
      dtype: data type of the computation, "float32" or "bfloat16".
      param_dtype: data type of the parameters. BN statistics are float32.
    """

    blocks_per_group: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    widths: tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)
    kernels: tuple[int, ...] = (3, 3, 5, 3, 5, 5, 3)
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    expansions: tuple[int, ...] = (1, 6, 6, 6, 6, 6, 6)
    stem_width: int = 32
    head_width: int = 1280
    survival: float = 0.8
    dropout: float = 0.2
    remat: bool = False
    unroll: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        groups = ("blocks_per_group", "widths", "kernels", "strides", "expansions")
        for field in groups:
            object.__setattr__(self, field, tuple(getattr(self, field)))
        count = len(self.blocks_per_group)
        wanted = {
            field: (
                count > 0 and len(getattr(self, field)) == count and min(getattr(self, field)) > 0,
                f"{count or 'some'} positive numbers, one a group",
            )
            for field in groups
        }
        check_fields(self, wanted)
        check_fields(
            self,
            {
                "kernels": (all(size % 2 for size in self.kernels) and min(self.kernels) > 1, "odd, 3 or more"),
                "stem_width": (self.stem_width > 0, "positive"),
                "head_width": (self.head_width > 0, "positive"),
                "survival": (0 < self.survival <= 1, "in (0, 1]"),
                "dropout": (0 <= self.dropout < 1, "in [0, 1)"),
            },
        )

    def build(self) -> "EfficientNet":
        return EfficientNet(self)

    @property
    def trunk(self) -> Pool:
        return Pool(dropout=self.dropout)

    def survivals(self) -> np.ndarray:
        """The survival probability of each block: float32 [blocks]."""
        count = sum(self.blocks_per_group)
        return 1 - np.arange(count, dtype=np.float32) / count * (1 - self.survival)


def _scaled(width: float, depth: float, **overrides) -> EfficientNetConfig:
    """B0 with `width` times the channels, to the next multiple of 8, and `depth` times the blocks, rounded up."""
    plain = EfficientNetConfig()

    def channels(count: int) -> int:
        rounded = max(8, int(count * width + 4) // 8 * 8)
        return rounded if rounded >= 0.9 * count * width else rounded + 8

    return dataclasses.replace(
        plain,
        blocks_per_group=tuple(math.ceil(count * depth) for count in plain.blocks_per_group),
        widths=tuple(map(channels, plain.widths)),
        stem_width=channels(plain.stem_width),
        head_width=channels(plain.head_width),
        **overrides,
    )


MODELS = {
    "efficientnet_b0": _scaled(1.0, 1.0, dropout=0.2),
    "efficientnet_b1": _scaled(1.0, 1.1, dropout=0.2),
    "efficientnet_b2": _scaled(1.1, 1.2, dropout=0.3),
    "small_efficientnet": _scaled(0.5, 0.5),
    "tiny_efficientnet": EfficientNetConfig((1, 3, 2), (8, 8, 16), (3, 3, 5), (1, 2, 2), (1, 4, 4), 8, 32),
}


class Shape(NamedTuple):
    """What a block does to an image: channels in and out, size and stride of the depthwise convolution, expansion; the
    name of its group."""

    in_width: int
    out_width: int
    kernel: int
    stride: int
    expansion: int
    group: str = "group1"


class ConvNorm(nnx.Module):
    """Convolution and batch normalisation."""

    def __init__(self, in_width, width, size, stride=1, *, depthwise=False, config):
        self.conv = Conv(in_width, width, size, stride, depthwise=depthwise, config=config)
        self.norm = BatchNorm(width, momentum=MOMENTUM, config=config)

    def __call__(self, x, train: bool):
        return self.norm(self.conv(x), train)

    def to_onnx(self, graph, x):
        return self.norm.to_onnx(graph, self.conv.to_onnx(graph, x))


class MBConv(nnx.Module):
    """Inverted bottleneck: a depthwise convolution on more channels than go in and out, weighted channel by channel by
    squeeze-and-excitation, and the input added where it has the output's shape."""

    def __init__(self, config: EfficientNetConfig, shape: Shape):
        in_width, width, size, stride, expansion, _ = shape
        inner, squeezed = in_width * expansion, max(1, in_width // 4)
        self.adds, self.stochastic = (in_width, stride) == (width, 1), config.survival < 1
        self.expand = ConvNorm(in_width, inner, 1, config=config) if expansion > 1 else None
        self.depthwise = ConvNorm(inner, inner, size, stride, depthwise=True, config=config)
        self.squeeze = Conv(inner, squeezed, 1, bias=True, config=config)
        self.excite = Conv(squeezed, inner, 1, bias=True, config=config)
        self.project = ConvNorm(inner, width, 1, config=config)

    def __call__(self, x, keys: DropPathKeys, train: bool):
        y = x if self.expand is None else nnx.silu(self.expand(x, train))
        y = nnx.silu(self.depthwise(y, train))
        mean = y.mean((1, 2), keepdims=True)
        y = y * nnx.sigmoid(self.excite(nnx.silu(self.squeeze(mean))))
        y = self.project(y, train)
        if not self.adds:
            return y
        return x + (drop_path(y, *keys) if train and self.stochastic else y)

    def to_onnx(self, graph, x, survival: np.float32):
        y = x if self.expand is None else graph.silu(self.expand.to_onnx(graph, x))
        y = graph.silu(self.depthwise.to_onnx(graph, y))
        squeezed = graph.silu(self.squeeze.to_onnx(graph, graph.node("GlobalAveragePool", y)))
        y = graph.node("Mul", y, graph.node("Sigmoid", self.excite.to_onnx(graph, squeezed)))
        y = self.project.to_onnx(graph, y)
        return graph.node("Add", x, y) if self.adds else y


class EfficientNet(nnx.Module):
    """Stem, blocks, and a 1x1 convolution, see `models.backbone.Backbone`.

    "stem" and "last" are taken after SiLU; the groups end without an activation.
    """

    def __init__(self, config: EfficientNetConfig):
        self.config = config
        self.stem = ConvNorm(3, config.stem_width, 3, 2, config=config)
        self.stacks = block_stacks(MBConv, config, _shapes(config))
        self.head = ConvNorm(config.widths[-1], config.head_width, 1, config=config)

    @property
    def maps(self) -> dict[str, Map]:
        maps, stride = {"stem": Map(self.config.stem_width, 2)}, 2
        for shape in _shapes(self.config):
            stride *= shape.stride
            maps[shape.group] = Map(shape.out_width, stride)
        return maps | {"last": Map(self.config.head_width, stride)}

    def __call__(self, images, *, train: bool = False, rngs: nnx.Rngs | None = None):
        config = self.config
        keys = DropPathKeys.create(config.survivals(), train and config.survival < 1, rngs)
        x = nnx.silu(self.stem(images, train))
        maps = {"stem": x}
        for stack, part in zip(self.stacks, keys.split(stack.length for stack in self.stacks), strict=True):
            x = stack(x, part, train, maps)
        return maps | {"last": nnx.silu(self.head(x, train))}

    def to_onnx(self, graph, images):
        x = graph.silu(self.stem.to_onnx(graph, images))
        maps, keys = {"stem": x}, DropPathKeys(self.config.survivals(), None)
        for stack, part in zip(self.stacks, keys.split(stack.length for stack in self.stacks), strict=True):
            x = stack.to_onnx(graph, x, part, maps)
        return maps | {"last": graph.silu(self.head.to_onnx(graph, x))}


def _shapes(config: EfficientNetConfig) -> list[Shape]:
    """The shapes of all blocks from input to output."""
    shapes, in_width = [], config.stem_width
    groups = zip(config.blocks_per_group, config.widths, config.kernels, config.strides, config.expansions, strict=True)
    for group, (count, width, kernel, stride, expansion) in enumerate(groups, start=1):
        for block in range(count):
            shapes.append(Shape(in_width, width, kernel, stride if block == 0 else 1, expansion, f"group{group}"))
            in_width = width
    return shapes
