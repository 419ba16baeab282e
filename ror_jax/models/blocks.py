"""What networks of equal blocks have in common: loops over them, and dropping them at random."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from ror_jax import parallel
from ror_jax.models.layers import KEPT


class DropPathKeys(NamedTuple):
    """Survival probabilities [L] of L blocks, and what decides: random keys [L] in training, else None."""

    survival: Any
    key: Any

    @classmethod
    def create(cls, survivals: np.ndarray, random: bool, rngs: nnx.Rngs | None) -> "DropPathKeys":
        """For blocks with these survival probabilities; with keys from the stream `drop_path` if anything is `random`.

        Raises:
          ValueError: something is, and there are no `rngs`.
        """
        if random and rngs is None:
            raise ValueError("training with stochastic depth or dropout needs `rngs`")
        return cls(jnp.asarray(survivals), jax.random.split(rngs.drop_path(), len(survivals)) if random else None)

    def split(self, lengths: Iterable[int]) -> "Iterator[DropPathKeys]":
        """Splits into consecutive slices of the given lengths."""
        start = 0
        for length in lengths:
            yield jax.tree.map(lambda leaf: leaf[start : start + length], self)  # noqa: B023
            start += length


def drop_path(x, survival, key, *, rescaled: bool = True):
    """Keeps each image of x [B, ...] with the probability `survival`, and sets the others to zero.

    Survivors are divided by `survival` if `rescaled`.
    """
    coins = jax.vmap(jax.random.bernoulli, (0, None))(parallel.row_keys(key, len(x)), survival)
    coins = (coins / (survival if rescaled else 1.0)).astype(x.dtype)
    return x * coins.reshape(-1, *[1] * (x.ndim - 1))


class BlockStack(nnx.Module):
    """Runs equal blocks of one group one after the other: one module whose arrays have a leading axis [L].

    Args:
      make: makes one; it is called with an image [B, H, W, C], its `DropPathKeys` and `train`.
      group: name of the group that the blocks belong to; the output is written into the `maps` of a call by that name.
      config: `remat`: keep only the input of every block for the backward pass; `unroll`: no loop.
    """

    def __init__(self, make: Callable[[], nnx.Module], length: int, group: str, config):
        self.length, self.group, self.unroll = length, group, config.unroll
        self.keep = () if config.remat else KEPT
        self.blocks = nnx.vmap(make, axis_size=length)()

    def __call__(self, x, keys: DropPathKeys, train: bool, maps: dict):
        graph, state = nnx.split(self.blocks)

        def step(x, inputs):
            state, keys = inputs
            block = nnx.merge(graph, state)
            x = block(x, keys, train)
            return x, nnx.state(block, nnx.BatchStat) if train else None

        if train:
            policy = jax.checkpoint_policies.save_only_these_names(*self.keep)
            step = jax.checkpoint(step, prevent_cse=self.length == 1 or self.unroll, policy=policy)
        if self.length > 1:
            x, statistics = lax.scan(step, x, (state, keys), unroll=self.unroll)
        else:  # a block that changes the shape cannot be a loop's body
            x, statistics = step(x, jax.tree.map(lambda leaf: leaf[0], (state, keys)))
            statistics = jax.tree.map(lambda leaf: leaf[None], statistics)
        if train:
            nnx.update(self.blocks, statistics)
        maps[self.group] = x
        return x

    def to_onnx(self, graph, x, keys: DropPathKeys, maps: dict):
        """Writes the blocks one after the other."""
        definition, state = nnx.split(self.blocks)
        state = jax.device_get(state)
        for index, survival in enumerate(keys.survival):
            block = nnx.merge(definition, jax.tree.map(lambda leaf: leaf[index], state))  # noqa: B023
            x = block.to_onnx(graph, x, survival)
        maps[self.group] = x
        return x


def block_stacks(block: type[nnx.Module], config, shapes: Iterable) -> nnx.List:
    """Makes blocks of these shapes, `block(config, shape)`: a `BlockStack` for equal ones that follow one another.

    A shape has the name of its `group`: a stack ends where a group ends.
    """
    return nnx.List(
        [
            BlockStack(partial(block, config, shape), len(list(equal)), shape.group, config)
            for shape, equal in itertools.groupby(shapes)
        ]
    )
