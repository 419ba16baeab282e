"""Residual networks of residual networks: the recursion.

*A residual is a body plus a shortcut. A body is a chain of residuals or, at the bottom, of convolutions.* Nested m
deep this is RoR with m shortcut levels (Zhang et al., RoR, section III); m = 1 is the plain ResNet, Pre-ResNet or WRN.

Two decisions shape this file:

- In a post-activation network the ReLU follows the last of all the additions that end at one place (RoR, eq. 3-5).
  Here whoever *reads* a sum applies it, so that no residual needs to know whether another addition follows. A second
  ReLU on the way into a nested residual changes nothing.
- Equal blocks that follow one another are one module with a leading axis, run by `lax.scan` (see `blocks.BlockStack`):
  a thousand layers compile like twenty, and a checkpoint looks the same however the blocks are run.

The map of a group is the sum after all additions that end with the group: every residual writes its sum into `maps` by
the name of the group of its last block, and the last one to write is the outermost one that ends there.
"""

import dataclasses
import itertools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from ror_jax.errors import UserError, check_fields
from ror_jax.models.backbone import Map
from ror_jax.models.blocks import DropPathKeys, block_stacks, drop_path
from ror_jax.models.layers import BatchNorm, Conv, dropout
from ror_jax.outputs import Pool


@dataclasses.dataclass(frozen=True)
class ResidualConfig:
    """A member of the residual family. Each field is an override of `create_model`.

    Attributes:
      blocks_per_group: how many blocks each group of equal width has.
      widths: the width of each group's 3x3 convolutions.
      kernels: the convolutions of a block: (3, 3) is B(3,3), (3, 3, 3) is B(3,3,3), (1, 3, 1) the bottleneck.
      expansion: a block's output width as a multiple of its group's width (k of the bottleneck: 4, 2 or 1).
      preactivation: BN-ReLU-conv (Pre-ResNet, WRN) instead of conv-BN-ReLU.
      levels: the number of shortcut levels, m.
      shortcut_types: "A", "B" or "C" for each level, outermost first; a single one is the final level's, with "B" in
        all levels above it. A: identity, subsampled and zero-padded where the shape changes; B: identity in the final
        level, a 1x1 projection where the shape changes; C, and B above the final level: always a projection.
      stem: "cifar" (3x3) or "imagenet" (7x7 stride 2, then 3x3 max-pool stride 2).
      stem_width: width of the stem; None: the first group's.
      survival: p_L of stochastic depth, the survival probability of the last block; 1 turns it off.
      drop_path: "batch" (one coin per block and mini-batch), "image" (one per image) or "image_rescaled" (the same,
        survivors divided by p_l in training instead of multiplied by it at test).
      dropout: rate of dropout before the last convolution of a block.
      shortcut_norm: BN after 1x1 shortcuts; None: yes in post-activation networks, no in pre-activation ones.
      both_preact: a projection of the final level shares the block's first BN-ReLU (pre-activation only).
      downsample: how shortcut type A shrinks images: "subsample" or "average" (at the edges of what is there).
      new_shortcut_init: "he", or "zero": the shortcuts above the final level start at exactly zero.
      remat: keep only the input of every block for the backward pass, and compute the rest of it again: less memory,
        a third more arithmetic.
      unroll: run equal blocks one after the other instead of in a loop: the same numbers to rounding, a longer
        compilation. On CPU it is slower, too.
      dtype: data type of the computation, "float32" or "bfloat16".
      param_dtype: data type of the parameters. BN statistics are float32.
    """

    blocks_per_group: tuple[int, ...]
    widths: tuple[int, ...]
    kernels: tuple[int, ...] = (3, 3)
    expansion: int = 1
    preactivation: bool = False
    levels: int = 1
    shortcut_types: tuple[str, ...] = ("B",)
    stem: str = "cifar"
    stem_width: int | None = None
    survival: float = 1.0
    drop_path: str = "batch"
    dropout: float = 0.0
    shortcut_norm: bool | None = None
    both_preact: bool = False
    downsample: str = "subsample"
    new_shortcut_init: str = "he"
    remat: bool = False
    unroll: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    trunk: ClassVar[Pool] = Pool()

    def __post_init__(self):
        for field in ("blocks_per_group", "widths", "kernels", "shortcut_types"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        blocks, widths, types = self.blocks_per_group, self.widths, self.shortcut_types
        outs = [self.stem_width or 0, *(width * self.expansion for width in widths)]
        wanted = {
            "blocks_per_group": (blocks and min(blocks) > 0, "positive numbers"),
            "widths": (
                len(widths) == len(blocks) and min(widths, default=0) > 0,
                f"{len(blocks)} positive numbers, one a group",
            ),
            "kernels": (
                len(self.kernels) > 1 and {3} <= set(self.kernels) <= {1, 3, 5, 7},
                "two or more, odd, one a 3",
            ),
            "expansion": (self.expansion >= 1, "1 or more"),
            "levels": (
                self.levels >= 1 and 2 ** (self.levels - 3) <= min(blocks, default=0),
                "1 or more, and few enough for every group to be halved level by level",
            ),
            "shortcut_types": (
                set(types) <= set("ABC") and len(types) in (1, self.levels),
                f"'A', 'B' or 'C', one for the final level or {self.levels}, one a level",
            ),
            "stem": (self.stem in ("cifar", "imagenet"), "'cifar' or 'imagenet'"),
            "survival": (0 < self.survival <= 1, "in (0, 1]"),
            "drop_path": (
                self.drop_path in ("batch", "image", "image_rescaled"),
                "'batch', 'image' or 'image_rescaled'",
            ),
            "dropout": (0 <= self.dropout < 1, "in [0, 1)"),
            "both_preact": (self.preactivation or not self.both_preact, "False without preactivation"),
            "downsample": (self.downsample in ("subsample", "average"), "'subsample' or 'average'"),
            "new_shortcut_init": (self.new_shortcut_init in ("he", "zero"), "'he' or 'zero'"),
        }
        check_fields(self, wanted)
        if "A" in types and sorted(outs) != outs:
            raise UserError(f"widths are {widths}; shortcuts of type A cannot make an image's channels fewer")

    def build(self) -> "ResidualNetwork":
        return ResidualNetwork(self)

    def survivals(self) -> np.ndarray:
        """The survival probability of each block, falling in equal steps to `survival`: float32 [blocks]."""
        count = sum(self.blocks_per_group)
        return 1 - np.arange(1, count + 1, dtype=np.float32) / count * (1 - self.survival)


class Shape(NamedTuple):
    """What a residual does to an image: channels in and out, and the stride. For blocks also inner width and group."""

    in_width: int
    out_width: int
    stride: int
    width: int = 0
    group: str = "group1"


class Shortcut(nnx.Module):
    """Identity (type A where it must be, with subsampling and zero-padding) or a 1x1 projection."""

    def __init__(self, config: ResidualConfig, shape: Shape, *, project: bool, new: bool = False):
        self.shape, self.downsample = shape, config.downsample
        norm = not config.preactivation if config.shortcut_norm is None else config.shortcut_norm
        zero = new and config.new_shortcut_init == "zero"
        std = 0.0 if zero and not norm else None
        size = (shape.in_width, shape.out_width, 1, shape.stride)
        self.conv = Conv(*size, std=std, config=config) if project else None
        self.norm = BatchNorm(shape.out_width, scale=0.0 if zero else 1.0, config=config) if project and norm else None

    def __call__(self, x, train: bool):
        if self.conv is not None:
            x = self.conv(x)
            return x if self.norm is None else self.norm(x, train)
        stride, wider = self.shape.stride, self.shape.out_width - self.shape.in_width
        if stride > 1:
            window = (stride, stride)
            average = self.downsample == "average"
            x = nnx.avg_pool(x, window, window, "SAME", False) if average else x[:, ::stride, ::stride]
        return jnp.pad(x, ((0, 0),) * 3 + ((0, wider),)) if wider else x

    def to_onnx(self, graph, x):
        if self.conv is not None:
            x = self.conv.to_onnx(graph, x)
            return x if self.norm is None else self.norm.to_onnx(graph, x)
        in_width, out_width, stride = self.shape[:3]
        if stride > 1 and self.downsample == "average":
            sizes, stride = [stride] * 2, 1
            x = graph.node("AveragePool", x, kernel_shape=sizes, strides=sizes, auto_pad="SAME_UPPER")
        if (in_width, stride) == (out_width, 1):
            return x
        # As a convolution, which leaves the image in the layout of those around it, where slices and padding do not.
        identity = np.eye(out_width, in_width, dtype=np.float32)
        return graph.node("Conv", x, identity[:, :, None, None], strides=[stride] * 2)


class Block(nnx.Module):
    """F of the papers: the convolutions of one block with their BN and ReLU, without the shortcut."""

    def __init__(self, config: ResidualConfig, shape: Shape, *, first_norm: bool = True):
        self.preactivation = config.preactivation
        self.dropout = config.dropout
        outs = (*[shape.width] * (len(config.kernels) - 1), shape.out_width)
        ins = (shape.in_width, *outs[:-1])
        strides = [shape.stride if index == config.kernels.index(3) else 1 for index in range(len(outs))]
        layers = zip(ins, outs, config.kernels, strides, strict=True)
        self.convs = nnx.List([Conv(*layer, config=config) for layer in layers])
        norms = [BatchNorm(width, config=config) for width in (ins if config.preactivation else outs)]
        self.norms = nnx.List(norms if first_norm else [None, *norms[1:]])

    def __call__(self, x, key, train: bool):
        last = len(self.convs) - 1
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            if self.preactivation and norm is not None:
                x = nnx.relu(norm(x, train))
            elif not self.preactivation and index > 0:
                x = nnx.relu(x)
            if index == last and train:
                x = dropout(x, self.dropout, key)
            x = conv(x)
            if not self.preactivation:
                x = norm(x, train)
        return x

    def to_onnx(self, graph, x):
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            if self.preactivation and norm is not None:
                x = graph.relu(norm.to_onnx(graph, x))
            elif not self.preactivation and index > 0:
                x = graph.relu(x)
            x = conv.to_onnx(graph, x)
            if not self.preactivation:
                x = norm.to_onnx(graph, x)
        return x


class FinalResidual(nnx.Module):
    """A residual of the final level: h(x) + F(x), where F may be dropped."""

    def __init__(self, config: ResidualConfig, shape: Shape):
        kind, changes = config.shortcut_types[-1], (shape.in_width, 1) != (shape.out_width, shape.stride)
        project = kind == "C" or (kind == "B" and changes)
        shared = config.both_preact and project
        self.preactivation, self.drop_path = config.preactivation, config.drop_path
        self.stochastic = config.survival < 1
        self.shared_norm = BatchNorm(shape.in_width, config=config) if shared else None
        self.shortcut = Shortcut(config, shape, project=project)
        self.body = Block(config, shape, first_norm=not shared)

    def __call__(self, x, keys: DropPathKeys, train: bool):
        survival, key = keys
        if self.shared_norm is not None:
            x = nnx.relu(self.shared_norm(x, train))
        elif not self.preactivation:
            x = nnx.relu(x)
        shortcut = self.shortcut(x, train)
        if not self.stochastic:
            return shortcut + self.body(x, key, train)
        rescaled = self.drop_path == "image_rescaled"
        if not train:
            scale = 1.0 if rescaled else survival
            return shortcut + (self.body(x, key, train) * scale).astype(x.dtype)
        coin_key, key = jax.random.split(key)
        if self.drop_path == "batch":
            return self._one_coin(x, shortcut, jax.random.bernoulli(coin_key, survival), key)
        return shortcut + drop_path(self.body(x, key, train), survival, coin_key, rescaled=rescaled)

    def _one_coin(self, x, shortcut, coin, key):
        """A block that is dropped computes nothing and leaves its BN statistics alone: the branch is a real one."""
        graph, statistics, parameters = nnx.split(self.body, nnx.BatchStat, ...)

        def survive(statistics):
            body = nnx.merge(graph, statistics, parameters)
            return shortcut + body(x, key, train=True), nnx.state(body, nnx.BatchStat)

        y, statistics = lax.cond(coin, survive, lambda statistics: (shortcut, statistics), statistics)
        nnx.update(self.body, statistics)
        return y

    def to_onnx(self, graph, x, survival: np.float32):
        if self.shared_norm is not None:
            x = graph.relu(self.shared_norm.to_onnx(graph, x))
        elif not self.preactivation:
            x = graph.relu(x)
        y = self.body.to_onnx(graph, x)
        if self.stochastic and self.drop_path != "image_rescaled":
            y = graph.node("Mul", y, survival)
        return graph.node("Add", self.shortcut.to_onnx(graph, x), y)


class Residual(nnx.Module):
    """A residual above the final level: g(x) + a chain of residuals. Without a shortcut it is the chain alone."""

    def __init__(self, config: ResidualConfig, blocks: list[Shape], level: int):
        self.preactivation = config.preactivation
        self.length, self.group = len(blocks), blocks[-1].group
        kind = config.shortcut_types[level - 1] if len(config.shortcut_types) > 1 else "B"
        span = Shape(blocks[0].in_width, blocks[-1].out_width, int(np.prod([block.stride for block in blocks])))
        self.shortcut = Shortcut(config, span, project=kind != "A", new=True) if level > 0 else None
        inner = level + 1
        if inner == config.levels:
            self.children = block_stacks(FinalResidual, config, blocks)
        else:
            self.children = nnx.List([Residual(config, part, inner) for part in _parts(blocks, inner)])

    def __call__(self, x, keys: DropPathKeys, train: bool, maps: dict):
        if not self.preactivation:
            x = nnx.relu(x)
        y = x
        for child, part in zip(self.children, keys.split(child.length for child in self.children), strict=True):
            y = child(y, part, train, maps)
        maps[self.group] = y if self.shortcut is None else y + self.shortcut(x, train)
        return maps[self.group]

    def to_onnx(self, graph, x, keys: DropPathKeys, maps: dict):
        if not self.preactivation:
            x = graph.relu(x)
        y = x
        for child, part in zip(self.children, keys.split(child.length for child in self.children), strict=True):
            y = child.to_onnx(graph, y, part, maps)
        maps[self.group] = y if self.shortcut is None else graph.node("Add", y, self.shortcut.to_onnx(graph, x))
        return maps[self.group]


def _parts(blocks: list[Shape], level: int) -> list[list[Shape]]:
    """What level `level` puts shortcuts over: all blocks (root), each group, then the halves of the level above.

    The first half of an odd number of blocks is the larger one.
    """
    if level == 1:
        return [blocks]
    if level == 2:
        return [list(group) for _, group in itertools.groupby(blocks, lambda block: block.group)]
    middle = (len(blocks) + 1) // 2
    return [blocks[:middle], blocks[middle:]]


class ResidualNetwork(nnx.Module):
    """Stem and residuals, see `models.backbone.Backbone`.

    In post-activation networks all maps are taken after the ReLU. In pre-activation ones, "stem" and the groups' maps
    are the raw sums, before any BN-ReLU, and "last" comes after the last BN-ReLU.
    """

    def __init__(self, config: ResidualConfig):
        self.config = config
        blocks = _blocks(config)
        imagenet = config.stem == "imagenet"
        self.stem = Conv(3, blocks[0].in_width, 7 if imagenet else 3, 2 if imagenet else 1, config=config)
        # Post-activation: after the stem. Pre-activation: after the root addition.
        self.norm = BatchNorm(blocks[-1].out_width if config.preactivation else blocks[0].in_width, config=config)
        self.residuals = Residual(config, blocks, level=0)

    @property
    def maps(self) -> dict[str, Map]:
        blocks, stride = _blocks(self.config), 4 if self.config.stem == "imagenet" else 1
        maps = {"stem": Map(blocks[0].in_width, stride)}
        for block in blocks:
            stride *= block.stride
            maps[block.group] = Map(block.out_width, stride)
        return maps | {"last": maps[blocks[-1].group]}

    def __call__(self, images, *, train: bool = False, rngs: nnx.Rngs | None = None):
        config = self.config
        keys = DropPathKeys.create(config.survivals(), train and (config.survival < 1 or config.dropout > 0), rngs)
        x = self.stem(images)
        if not config.preactivation:
            x = nnx.relu(self.norm(x, train))
        if config.stem == "imagenet":
            x = nnx.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        maps = {"stem": x}
        last = self.residuals(x, keys, train, maps)
        if config.preactivation:
            return maps | {"last": nnx.relu(self.norm(last, train))}
        return {name: nnx.relu(y) for name, y in maps.items()} | {"last": nnx.relu(last)}

    def to_onnx(self, graph, images):
        config = self.config
        x = self.stem.to_onnx(graph, images)
        if not config.preactivation:
            x = graph.relu(self.norm.to_onnx(graph, x))
        if config.stem == "imagenet":
            x = graph.max_pool(x, 3, 2, pads=[1] * 4)
        maps = {"stem": x}
        last = self.residuals.to_onnx(graph, x, DropPathKeys(config.survivals(), None), maps)
        if config.preactivation:
            return maps | {"last": graph.relu(self.norm.to_onnx(graph, last))}
        return {name: graph.relu(y) for name, y in maps.items()} | {"last": graph.relu(last)}


def _blocks(config: ResidualConfig) -> list[Shape]:
    """The shapes of all blocks from input to output."""
    blocks, in_width = [], config.stem_width or config.widths[0]
    for group, (count, width) in enumerate(zip(config.blocks_per_group, config.widths, strict=True)):
        for block in range(count):
            stride = 2 if group > 0 and block == 0 else 1
            blocks.append(Shape(in_width, width * config.expansion, stride, width, f"group{group + 1}"))
            in_width = width * config.expansion
    return blocks
