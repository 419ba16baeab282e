"""What networks of equal blocks have in common: loops over them, what chance drops of them, checks of settings."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from ror_jax import parallel
from ror_jax.errors import UserError
from ror_jax.models.layers import KEPT


class Draw(NamedTuple):
    """What chance holds for a run of L blocks: survival probabilities [L], and keys [L] in training, else None."""

    survival: Any
    key: Any

    @classmethod
    def of(cls, survivals: np.ndarray, random: bool, rngs: nnx.Rngs | None) -> "Draw":
        """For blocks with these survival probabilities; with keys from the stream `drop_path` if anything is `random`.

        Raises:
          ValueError: something is, and there are no `rngs`.
        """
        if random and rngs is None:
            raise ValueError("training with stochastic depth or dropout needs `rngs`")
        return cls(jnp.asarray(survivals), jax.random.split(rngs.drop_path(), len(survivals)) if random else None)

    def divided(self, lengths: Iterable[int]) -> "Iterator[Draw]":
        """The draws of the first so many blocks, of those behind them, and so on."""
        start = 0
        for length in lengths:
            yield jax.tree.map(lambda draw: draw[start : start + length], self)  # noqa: B023
            start += length


def drop_path(x, survival, key, *, rescaled: bool = True):
    """x [B, ...] with a coin for each image: it stays with the probability `survival`, else it is zero.

    What stays is divided by `survival` if `rescaled`.
    """
    coins = jax.vmap(jax.random.bernoulli, (0, None))(parallel.row_keys(key, len(x)), survival)
    coins = (coins / (survival if rescaled else 1.0)).astype(x.dtype)
    return x * coins.reshape(-1, *[1] * (x.ndim - 1))


class Run(nnx.Module):
    """Equal blocks, one after the other: one module whose arrays have a leading axis [L].

    Args:
      make: makes one; it is called with an image [B, H, W, C], its `Draw` and `train`.
      config: `remat`: keep only the input of every block for the backward pass; `unroll`: no loop.
    """

    def __init__(self, make: Callable[[], nnx.Module], length: int, config):
        self.length, self.unroll = length, config.unroll
        self.keep = () if config.remat else KEPT
        self.residuals = nnx.vmap(make, axis_size=length)()

    def __call__(self, x, draws: Draw, train: bool):
        graph, state = nnx.split(self.residuals)

        def step(x, inputs):
            state, draw = inputs
            residual = nnx.merge(graph, state)
            x = residual(x, draw, train)
            return x, nnx.state(residual, nnx.BatchStat) if train else None

        if train:
            policy = jax.checkpoint_policies.save_only_these_names(*self.keep)
            step = jax.checkpoint(step, prevent_cse=self.length == 1 or self.unroll, policy=policy)
        if self.length > 1:
            x, statistics = lax.scan(step, x, (state, draws), unroll=self.unroll)
        else:  # a block that changes the shape cannot be a loop's body
            x, statistics = step(x, jax.tree.map(lambda leaf: leaf[0], (state, draws)))
            statistics = jax.tree.map(lambda leaf: leaf[None], statistics)
        if train:
            nnx.update(self.residuals, statistics)
        return x


def runs(block: type[nnx.Module], config, shapes: Iterable) -> nnx.List:
    """Blocks of these shapes, `block(config, shape)`: a `Run` for equal ones that follow one another."""
    return nnx.List(
        [Run(partial(block, config, shape), len(list(equal)), config) for shape, equal in itertools.groupby(shapes)]
    )


def check(config, wanted: Mapping[str, tuple[bool, str]]) -> None:
    """Raises UserError at the first field of `wanted` that is not good: (whether it is, what it must be)."""
    for field, (good, what) in wanted.items():
        if not good:
            raise UserError(f"{field} is {getattr(config, field)!r}; it must be {what}")
