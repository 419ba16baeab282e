"""Networks made from networks: fresh prediction layers, RoR from ResNet."""

import jax
import numpy as np
import pytest
from flax import nnx

from ror_jax.errors import UserError
from ror_jax.models import create_model
from ror_jax.models.surgery import get_blocks, replace_heads, ror_from_resnet
from ror_jax.outputs import Head, Pool

SMALL = dict(blocks_per_group=(4, 4), widths=(4, 6))
HEADS = {"age": Head(3, shared_column=True), "gender": 2}  # one with a single kernel column
IMAGES = np.random.default_rng(1).uniform(-2, 2, (4, 8, 8, 3)).astype(np.float32)
RESNETS = {
    "post-activation": ("cifar_resnet8", SMALL),
    "post-activation, type A": ("cifar_resnet8_a", SMALL),
    "pre-activation": ("cifar_preresnet8", SMALL),
    "pre-activation, BN after projections": ("cifar_preresnet8", SMALL | dict(shortcut_norm=True)),
}


def assert_equal(one, other):
    """The same tree with the same numbers to the last bit."""
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(("head", "columns"), [(Head(8), 8), (Head(8, shared_column=True), 1)])
def test_replace_heads_keeps_backbone_and_trunks(random_network, head, columns):
    """The new network has the old backbone's and trunk's arrays and normalisation, and a fresh layer of that size."""
    mean, std = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)
    old = nnx.merge(*random_network("tiny_ror", HEADS, mean=mean, std=std, mlp_widths=(7,)))
    new = replace_heads(old, {"group": head}, rngs=nnx.Rngs(0))
    for part in ("backbone", "trunks"):
        assert_equal(*(nnx.to_pure_dict(nnx.state(getattr(network, part))) for network in (new, old)))
    assert (new.mean, new.std) == (mean, std)
    assert set(new.heads) == {"group"}
    kernel = new.heads["group"].kernel[...]
    assert kernel.shape == (7, columns)
    assert kernel.all()
    bias = new.heads["group"].bias[...]
    assert bias.shape == (8,) and not bias.any()
    assert (kernel != replace_heads(old, {"group": head}, rngs=nnx.Rngs(1)).heads["group"].kernel[...]).all()


def test_replace_heads_needs_the_trunks_that_they_read():
    """A trunk that an old head reads is there for a new one; others would have no weights."""
    trunks = {"early": Pool("group1")}
    old = nnx.eval_shape(lambda: create_model("tiny_ror", {"a": Head(2, "early")}, rngs=nnx.Rngs(0), trunks=trunks))
    new = nnx.eval_shape(lambda old: replace_heads(old, {"b": Head(3, "early")}, rngs=nnx.Rngs(0)), old)
    assert new.head_specs == {"b": Head(3, "early")} and new.heads["b"].kernel.shape == (8, 3)
    assert new.trunk_specs == {"early": Pool("group1"), "features": Pool()}
    with pytest.raises(UserError, match=r"head 'b': unknown trunk 'erly'.*'early'"):
        replace_heads(old, {"b": Head(3, "erly")}, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("resnet", "levels"), [("post-activation", 2), ("post-activation", 3), ("pre-activation", 3), ("pre-activation", 4)]
)
def test_zero_shortcuts_change_nothing(resnet, levels, random_network):
    """A RoR whose new shortcuts are zero gives the ResNet's outputs, in evaluation and in training."""
    name, overrides = RESNETS[resnet]
    graph, params, statistics = random_network(name, HEADS, mean=(0.1,) * 3, **overrides)

    @jax.jit
    def outputs(params, statistics):
        resnet = nnx.merge(graph, params, statistics)
        ror = ror_from_resnet(resnet, levels, new_shortcut_init="zero", rngs=nnx.Rngs(0))
        assert ror.backbone.config.levels == levels
        return [[model(IMAGES), model(IMAGES, train=True)] for model in (resnet, ror)]

    resnet, ror = outputs(params, statistics)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6), resnet, ror)


@pytest.mark.parametrize(("resnet", "levels"), list(zip(RESNETS, (4, 3, 2, 3), strict=True)))
def test_he_shortcuts_are_all_that_is_new(resnet, levels, random_network):
    """Every old parameter and statistic stays, to the last bit; new is one drawn projection for each span."""
    name, overrides = RESNETS[resnet]
    graph, params, statistics = random_network(name, HEADS, **overrides)

    def parts(model):
        kept = (model.backbone.stem, model.backbone.norm, model.trunks, model.heads)
        old = [nnx.to_pure_dict(nnx.state(part)) for part in kept]
        return old + get_blocks(model.backbone), nnx.to_pure_dict(nnx.state(model))

    @jax.jit
    def states(params, statistics):
        resnet = nnx.merge(graph, params, statistics)
        return parts(resnet), parts(ror_from_resnet(resnet, levels, rngs=nnx.Rngs(0)))

    (old, old_state), (kept, new_state) = states(params, statistics)
    assert_equal(old, kept)
    # Channels in and out of the whole, then of the two groups, then of their halves.
    spans = [[(4, 6)], [(4, 4), (4, 6)], [(4, 4), (4, 4), (4, 6), (6, 6)]][: levels - 1]
    norm = 0 if resnet == "pre-activation" else 4  # scale, bias, mean and variance
    new = sum(width * (in_width + norm) for level in spans for in_width, width in level)
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(state)) for state in (old_state, new_state)]
    assert sizes[1] - sizes[0] == new
    for path, leaf in jax.tree.leaves_with_path(new_state):
        if path[-1].key == "kernel":
            assert leaf.all(), jax.tree_util.keystr(path)


@pytest.mark.parametrize("name", ["ror3_20", "vgg16"])
def test_only_a_resnet_becomes_a_ror(name):
    """What has shortcut levels already, or none at all, is refused."""
    model = nnx.eval_shape(lambda: create_model(name, 3, rngs=nnx.Rngs(0)))
    with pytest.raises(UserError, match="resnet"):
        ror_from_resnet(model, 3, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("arguments", "field"), [(dict(levels=9), "levels"), (dict(new_shortcut_init="zeros"), "new_shortcut_init")]
)
def test_a_ror_that_cannot_be_is_refused(arguments, field):
    """More levels than the blocks allow, or an unknown initialisation: the message names the argument."""
    model = nnx.eval_shape(lambda: create_model("cifar_resnet20", 3, rngs=nnx.Rngs(0)))
    with pytest.raises(UserError, match=field):
        ror_from_resnet(model, **arguments, rngs=nnx.Rngs(0))
