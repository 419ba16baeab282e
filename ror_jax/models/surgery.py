"""One network made from another: a fresh prediction layer, a RoR from a ResNet."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from ror_jax.errors import UserError
from ror_jax.models.blocks import Run
from ror_jax.models.layers import initialize
from ror_jax.models.network import Network
from ror_jax.models.residual import ResidualNetwork


def replace_head(model: Network, name: str, num_classes: int | tuple[int, int], *, rngs: nnx.Rngs) -> Network:
    """The same backbone under one fresh prediction layer `name` of size `num_classes`.

    The backbone is shared, not copied: training one network changes the other.

    This is how each stage of Deep-RoR goes on from the one before it: gender to age (section III.B), ImageNet to
    IMDB-WIKI-101 to Adience (sections III.D and III.E).
    """
    network = Network(model.backbone, {name: num_classes}, mean=model.mean, std=model.std)
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
    return _with_heads_of(resnet, backbone)


def get_blocks(backbone: nnx.Module) -> list[dict]:
    """The states of all blocks from input to output, as plain dicts of arrays without a leading axis."""
    blocks = []
    for run in _runs(backbone):
        state = nnx.to_pure_dict(nnx.state(run.residuals))
        blocks += [jax.tree.map(lambda leaf: leaf[index], state) for index in range(run.length)]  # noqa: B023
    return blocks


def set_blocks(backbone: nnx.Module, blocks: list[dict]) -> None:
    """The inverse of `get_blocks`; the number of levels may differ from that of the network they came from."""
    remaining = iter(blocks)
    for run in _runs(backbone):
        states = [next(remaining) for _ in range(run.length)]
        nnx.update(run.residuals, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))


def _runs(backbone: nnx.Module) -> list[Run]:
    return [module for _, module in nnx.iter_modules(backbone) if isinstance(module, Run)]


def _with_heads_of(model: Network, backbone: nnx.Module) -> Network:
    network = Network(backbone, {}, mean=model.mean, std=model.std)
    network.mlp, network.heads = nnx.clone((model.mlp, model.heads))
    return network
