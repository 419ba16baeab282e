"""ConvNeXt: Liu, Mao, Wu, Feichtenhofer, Darrell, Xie, "A ConvNet for the 2020s" (CVPR 2022)."""

import dataclasses
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from ror_jax.errors import UserError
from ror_jax.models.blocks import Draw, Run, check, drop_path
from ror_jax.models.layers import Conv, LayerNorm, Linear

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
        check(self, wanted)

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

    def __call__(self, x, draw: Draw, train: bool):
        y = self.expand(self.norm(self.depthwise(x)))
        y = self.project(nnx.gelu(y, approximate=False))
        y = y * self.layer_scale[...].astype(y.dtype)
        return x + (drop_path(y, *draw) if train and self.stochastic else y)


class ConvNext(nnx.Module):
    """Groups of blocks, each behind a convolution that shrinks the image, mean over the image, normalisation:
    [B, H, W, 3] to [B, widths[-1]]."""

    def __init__(self, config: ConvNextConfig):
        self.config, self.num_features = config, config.widths[-1]
        outs = config.widths
        ins, sizes = (3, *outs[:-1]), (4, *[2] * (len(outs) - 1))
        self.convs = nnx.List(
            [
                Conv(*widths, size, stride=size, padding=0, bias=True, std=STD, config=config)
                for *widths, size in zip(ins, outs, sizes, strict=True)
            ]
        )
        # Behind the first convolution, and before each of the others.
        self.norms = nnx.List([LayerNorm(width, config=config) for width in (outs[0], *outs[:-1])])
        counts = zip(outs, config.blocks_per_group, strict=True)
        self.runs = nnx.List([Run(partial(ConvNextBlock, config, width), count, config) for width, count in counts])
        self.norm = LayerNorm(self.num_features, config=config)

    def __call__(self, images, *, train: bool = False, rngs: nnx.Rngs | None = None):
        """Raises UserError where images are too small to be shrunk so often."""
        config, smallest = self.config, 2 * 2 ** len(self.runs)
        if min(images.shape[1:3]) < smallest:
            sides = "x".join(map(str, images.shape[1:3]))
            raise UserError(f"images are {sides} pixels; this ConvNeXt needs {smallest} or more a side")
        draws = Draw.of(config.survivals(), train and config.survival < 1, rngs)
        x = self.norms[0](self.convs[0](images))
        parts = draws.divided(config.blocks_per_group)
        for group, (run, part) in enumerate(zip(self.runs, parts, strict=True)):
            if group > 0:
                x = self.convs[group](self.norms[group](x))
            x = run(x, part, train)
        return self.norm(x.mean((1, 2), dtype=jnp.float32))
