"""The residual family from outside: loops, sizes of programs, groups, dropout, low precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ror_jax.models import create_model
from ror_jax.models.blocks import DropPathKeys
from ror_jax.models.residual import FinalResidual, ResidualConfig, Shape
from ror_jax.models.surgery import get_blocks

IMAGES = np.random.default_rng(1).uniform(-2, 2, (4, 8, 8, 3)).astype(np.float32)


def test_a_loop_over_blocks_is_the_blocks_one_by_one(random_network):
    """Outputs and statistics of blocks run in a loop are those of the same blocks called one after another."""
    graph, params, statistics = random_network("cifar_preresnet8", blocks_per_group=(4, 3), widths=(4, 6))

    def looped():
        model = nnx.merge(graph, params, statistics)
        return model(IMAGES, train=True)["features"], get_blocks(model.backbone)

    def one_by_one():
        backbone = nnx.merge(graph, params, statistics).backbone
        x, after = backbone.stem(IMAGES), []
        shapes = [Shape(4, 4, 1, 4)] * 4 + [Shape(4, 6, 2, 6)] + [Shape(6, 6, 1, 6)] * 2
        for shape, block in zip(shapes, get_blocks(backbone), strict=True):
            residual = FinalResidual(backbone.config, shape)
            nnx.update(residual, block)
            x = residual(x, DropPathKeys(1.0, None), train=True)
            after.append(nnx.to_pure_dict(nnx.state(residual)))
        return nnx.relu(backbone.norm(x, True)).mean((1, 2)), after

    loop, plain = jax.jit(lambda: (looped(), one_by_one()))()
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5), loop, plain)


@pytest.mark.parametrize("how", [{"unroll": True}, {"remat": True}, {"unroll": True, "remat": True}])
@pytest.mark.parametrize("name", ["ror3_20", "preror3_20"])
def test_how_blocks_are_run_changes_no_result(name, how, one_step):
    """One by one or in a loop, with much kept for the backward pass or little: outputs, gradients, statistics agree."""
    options = {"blocks_per_group": (3, 2), "widths": (4, 6), "survival": 0.7, "dropout": 0.3}
    results = (one_step(name, IMAGES, **options, **overrides) for overrides in ({}, how))
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4), *results)


@pytest.mark.parametrize("survival", [1.0, 0.5])
@pytest.mark.parametrize(("shallow", "deep"), [("ror3_20", "ror3_110"), ("preror4_32", "preror4_1202")])
def test_depth_does_not_change_the_size_of_the_program(shallow, deep, survival, equations):
    """A network of a thousand layers traces to as many equations as one of twenty."""

    def size(name):
        def forward(model, key):
            return model(jnp.zeros((2, 32, 32, 3)), train=True, rngs=nnx.Rngs(key))["label"]

        model = nnx.eval_shape(lambda: create_model(name, 10, rngs=nnx.Rngs(0), survival=survival))
        graph, state = nnx.split(model)
        program = jax.make_jaxpr(lambda state, key: forward(nnx.merge(graph, state), key))(state, jax.random.key(0))
        return sum(1 for _ in equations(program.jaxpr))

    assert size(shallow) == size(deep)


def test_groups_of_equal_width_stay_groups():
    """Each group has its middle shortcut, also where two groups have the same width."""

    def parameters(widths):
        model = nnx.eval_shape(
            lambda: create_model("ror3_8", 3, rngs=nnx.Rngs(0), blocks_per_group=(2, 2, 2), widths=widths)
        )
        return len(jax.tree.leaves(nnx.state(model, nnx.Param)))

    assert parameters((4, 8, 8)) == parameters((4, 8, 12))


@pytest.mark.parametrize("downsample", ["subsample", "average"])
@pytest.mark.parametrize("side", [8, 9, 11])
def test_shortcuts_of_type_a_fit_images_of_any_size(downsample, side):
    """Shortcuts and convolutions agree on the size of an odd image's half."""
    overrides = dict(blocks_per_group=(1, 1, 1), widths=(2, 4, 6), shortcut_types="AAA", levels=3)

    def forward():
        model = create_model("ror3_8", 3, rngs=nnx.Rngs(0), downsample=downsample, **overrides)
        return model(jnp.zeros((2, side, side, 3)))["label"]

    assert jax.eval_shape(forward).shape == (2, 3)


@pytest.mark.parametrize("preactivation", [False, True])
def test_dropout_in_a_block(preactivation):
    """In training a share of the numbers between the convolutions is zero, the others are divided by what is left."""
    rate = 0.3
    config = ResidualConfig((1,), (64,), preactivation=preactivation, dropout=rate)

    def outputs(train):
        # Every number that reaches the second convolution is 1, and leaves it as it came.
        block = FinalResidual(config, Shape(64, 64, 1, 64)).body
        between = block.norms[1 if preactivation else 0]
        between.scale[...], between.bias[...] = jnp.zeros(64), jnp.ones(64)
        block.convs[1].kernel[...] = jnp.zeros((3, 3, 64, 64)).at[1, 1].set(jnp.eye(64))
        return block(jnp.ones((2, 8, 8, 64)), jax.random.key(0), train)

    trained, evaluated = jax.jit(lambda: (outputs(True), outputs(False)))()
    np.testing.assert_allclose(evaluated, 1, rtol=1e-5)
    dropped = trained < 0.5
    assert abs(dropped.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / dropped.size)
    if preactivation:  # in a post-activation block another BN follows
        np.testing.assert_allclose(trained, np.where(dropped, 0, 1 / (1 - rate)), rtol=1e-5)
