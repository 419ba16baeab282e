"""One network made from another: fresh heads, a RoR from a ResNet."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from ror_jax.errors import UserError
from ror_jax.models.blocks import BlockStack
from ror_jax.models.layers import initialize
from ror_jax.models.network import Network
from ror_jax.models.residual import ResidualNetwork
from ror_jax.outputs import Head


def replace_heads(model: Network, heads: Mapping[str, Head], *, rngs: nnx.Rngs) -> Network:
    """Puts fresh heads on the backbone and the trunks of `model`.

    Backbone and trunks are shared, not copied: training one network changes the other. Of the trunks, "features" is
    kept, and those that the new heads read.

    This is how each stage of Deep-RoR goes on from the one before it: gender to age (section III.B), ImageNet to
    IMDB-WIKI-101 to Adience (sections III.D and III.E).

    Raises:
      UserError: a head reads a trunk that `model` does not have.
    """
    network = Network(model.backbone, heads, trunks=model.trunks, mean=model.mean, std=model.std)
    initialize(network.heads, rngs)
    return network


def ror_from_resnet(resnet: Network, levels: int = 3, *, new_shortcut_init: str = "he", rngs: nnx.Rngs) -> Network:
    """A RoR that keeps every weight and statistic of a one-level network and adds the shortcuts above its blocks.

    Deep-RoR, section III.D. With `new_shortcut_init="zero"` the outputs are those of `resnet`; with "he" (the paper's)
    only the new parameters differ.

    Raises:
      UserError: `resnet` is not of the residual family or has more than one level already, or there are too few blocks
        for so many levels.
    """
    source = resnet.backbone
    if not isinstance(source, ResidualNetwork) or source.config.levels != 1:
        raise UserError("a RoR is built from a residual network with one shortcut level, such as 'resnet34'")
    config = dataclasses.replace(source.config, levels=levels, new_shortcut_init=new_shortcut_init)
    backbone = config.build()
    initialize(backbone, rngs)
    set_blocks(backbone, get_blocks(source))
    for name in ("stem", "norm"):
        nnx.update(getattr(backbone, name), nnx.state(getattr(source, name)))
    network = Network(backbone, {}, mean=resnet.mean, std=resnet.std)
    network.trunks, network.heads = nnx.clone((resnet.trunks, resnet.heads))
    return network


def get_blocks(backbone: nnx.Module) -> list[dict]:
    """The states of all blocks from input to output, as plain dicts of arrays without a leading axis."""
    blocks = []
    for stack in _stacks(backbone):
        state = nnx.to_pure_dict(nnx.state(stack.blocks))
        blocks += [jax.tree.map(lambda leaf: leaf[index], state) for index in range(stack.length)]  # noqa: B023
    return blocks


def set_blocks(backbone: nnx.Module, blocks: list[dict]) -> None:
    """The inverse of `get_blocks`; the number of levels may differ from that of the network they came from."""
    remaining = iter(blocks)
    for stack in _stacks(backbone):
        states = [next(remaining) for _ in range(stack.length)]
        nnx.update(stack.blocks, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))


def _stacks(backbone: nnx.Module) -> list[BlockStack]:
    return [module for _, module in nnx.iter_modules(backbone) if isinstance(module, BlockStack)]
