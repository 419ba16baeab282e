"""EfficientNet and ConvNeXt from outside: chance, running statistics, loops, sizes of images, low precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ror_jax.errors import UserError
from ror_jax.models import create_model, model_config
from ror_jax.models.blocks import DropPathKeys
from ror_jax.models.convnext import ConvNextBlock, ConvNextConfig
from ror_jax.models.efficientnet import EfficientNetConfig, MBConv, Shape

TINY = ["tiny_efficientnet", "tiny_convnext"]
IMAGES = np.random.default_rng(1).uniform(-2, 2, (4, 32, 32, 3)).astype(np.float32)


@pytest.mark.parametrize("how", [{"unroll": True}, {"remat": True}])
@pytest.mark.parametrize("name", TINY)
def test_how_blocks_are_run_changes_no_result(name, how, one_step):
    """One by one or in a loop, with much kept for the backward pass or little: outputs, gradients, statistics agree."""
    results = (one_step(name, IMAGES, survival=0.5, **overrides) for overrides in ({}, how))
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3), *results)


@pytest.mark.parametrize(
    ("name", "shallow", "deep"),
    [("tiny_efficientnet", (1, 3, 3), (1, 30, 40)), ("tiny_convnext", (2, 2), (20, 30))],
)
def test_depth_does_not_change_the_size_of_the_program(name, shallow, deep, equations):
    def size(blocks):
        model = nnx.eval_shape(lambda: create_model(name, 3, rngs=nnx.Rngs(0), blocks_per_group=blocks))
        graph, state = nnx.split(model)

        def forward(state, key):
            return nnx.merge(graph, state)(jnp.asarray(IMAGES), train=True, rngs=nnx.Rngs(key))["label"]

        return sum(1 for _ in equations(jax.make_jaxpr(forward)(state, jax.random.key(0)).jaxpr))

    assert size(shallow) == size(deep)


def test_survival_falls_as_published():
    """EfficientNet: drop connect 0.2 i / blocks, i from 0. ConvNeXt: drop path from 0 to its rate, both included."""
    survivals = model_config("efficientnet_b0").survivals()
    np.testing.assert_allclose(survivals[[0, 1, 15]], [1, 1 - 0.2 / 16, 1 - 0.2 * 15 / 16])
    for name, last in (("convnext_tiny", 0.9), ("convnext_small", 0.6), ("convnext_base", 0.5)):
        survivals = model_config(name).survivals()
        np.testing.assert_allclose(survivals[[0, 1, -1]], [1, 1 - (1 - last) / (len(survivals) - 1), last], rtol=1e-6)


@pytest.mark.parametrize("family", ["efficientnet", "convnext"])
def test_each_image_has_a_coin_of_its_own(family):
    """Two thousand equal images: a share p keeps what the block adds, divided by p; in evaluation all of it stays."""
    survival, count = 0.4, 2000
    x = np.broadcast_to(np.random.default_rng(0).standard_normal((1, 4, 4, 8), np.float32), (count, 4, 4, 8))

    def outputs(survival, train):
        if family == "efficientnet":
            block = MBConv(EfficientNetConfig(survival=survival), Shape(8, 8, 3, 1, 2))
            convs = (block.expand.conv, block.depthwise.conv, block.project.conv)
        else:
            block = ConvNextBlock(ConvNextConfig((1,), (8,), survival=survival), 8)
            convs, block.layer_scale[...] = (block.depthwise, block.expand, block.project), jnp.ones(8)
        for seed, conv in enumerate(convs):
            conv.kernel[...] = jax.random.normal(jax.random.key(seed), conv.kernel.shape) / 4
        return block(jnp.asarray(x), DropPathKeys(survival, jax.random.key(9)), train)

    drawn, kept, evaluated = jax.jit(lambda: (outputs(survival, True), outputs(1.0, True), outputs(survival, False)))()
    added = np.asarray(drawn - x)
    survived = np.abs(added).max((1, 2, 3)) > 0
    assert abs(survived.mean() - survival) < 5 * np.sqrt(survival * (1 - survival) / count)
    assert np.abs(kept - x).max() > 0.1
    np.testing.assert_allclose(added, np.where(survived[:, None, None, None], (kept - x) / survival, 0), atol=1e-4)
    assert (np.abs(evaluated - x).max((1, 2, 3)) > 0).all()
    if family == "convnext":  # in which training and evaluation differ in nothing else
        np.testing.assert_allclose(evaluated, kept, atol=1e-5)


def test_dropout_on_the_features(random_network):
    """In training a share of EfficientNet's features is zero, the others are divided by what is left."""
    rate = 0.3
    graph, params, statistics = random_network("tiny_efficientnet", dropout=rate, survival=1.0, head_width=512)
    norm = params["backbone"]["head"]["norm"]
    norm["scale"], norm["bias"] = norm["scale"] * 0, norm["bias"] * 0 + 1

    def features(**arguments):
        return nnx.merge(graph, params, statistics)(IMAGES, **arguments)["features"]

    evaluated, trained = jax.jit(lambda: (features(), features(train=True, rngs=nnx.Rngs(0))))()
    silu = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(evaluated, silu, rtol=1e-5)
    np.testing.assert_allclose(trained, np.where(trained == 0, 0, silu / (1 - rate)), rtol=1e-5)
    assert abs((trained == 0).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / trained.size)


def test_running_statistics_move_by_a_hundredth(random_network):
    graph, params, statistics = random_network("tiny_efficientnet", survival=1.0, dropout=0.0)

    @jax.jit
    def step():
        backbone = nnx.merge(graph, params, statistics).backbone
        x = backbone.stem.conv(IMAGES)
        backbone(IMAGES, train=True)
        norm = backbone.stem.norm
        return x, norm.mean[...], norm.var[...]

    x, mean, var = step()
    old = statistics["backbone"]["stem"]["norm"]
    np.testing.assert_allclose(mean, 0.99 * old["mean"] + 0.01 * x.mean((0, 1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(var, 0.99 * old["var"] + 0.01 * x.var((0, 1, 2), ddof=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", TINY)
def test_bfloat16(name, random_network):
    """Outputs and gradients are finite and not far from those of float32; nothing that is kept is of low precision."""

    def step(dtype):
        graph, params, statistics = random_network(name, survival=1.0, dtype=dtype)

        def loss(params):
            model = nnx.merge(graph, params, statistics)
            outputs = model(IMAGES, train=True, rngs=nnx.Rngs(0))["label"]
            return outputs.sum(), (outputs, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))

        return jax.jit(jax.grad(loss, has_aux=True))(params)

    half, full = step(jnp.bfloat16), step(jnp.float32)
    assert all(leaf.dtype == jnp.float32 and np.isfinite(leaf).all() for leaf in jax.tree.leaves(half))
    outputs = [np.asarray(result[1][0]) for result in (half, full)]
    assert 0 < np.abs(outputs[0] - outputs[1]).max() < 0.1 * np.abs(outputs[1]).max()


def test_first_weights():
    """He's variance by the number of outputs that a number goes to, in depthwise kernels the area; ConvNeXt: 0.02."""
    block = create_model("tiny_efficientnet", 3, rngs=nnx.Rngs(0)).backbone.stacks[1].blocks
    kernels = {
        (3 * 3) ** -0.5: block.depthwise.conv.kernel,
        32**-0.5: block.expand.conv.kernel,
        8**-0.5: block.project.conv.kernel,
    }
    backbone = create_model("tiny_convnext", 3, rngs=nnx.Rngs(0)).backbone
    block = backbone.stacks[1].blocks
    expected = [(np.sqrt(2) * std, kernel) for std, kernel in kernels.items()]
    expected += [(0.02, layer.kernel) for layer in (block.depthwise, block.expand, block.project, backbone.convs[1])]
    for std, kernel in expected:
        assert abs(kernel[...].std() / std - 1) < 5 / np.sqrt(kernel.size)
    np.testing.assert_allclose(block.layer_scale[...], 1e-6)


@pytest.mark.parametrize("name", ["efficientnet_b0", "convnext_tiny"])
def test_images_of_any_size(name):
    """Oblong ones, and no multiples of 32."""
    model = nnx.eval_shape(lambda: create_model(name, 3, rngs=nnx.Rngs(0)))
    outputs = nnx.eval_shape(lambda model: model(jnp.zeros((2, 33, 71, 3))), model)
    assert outputs["label"].shape == (2, 3) and outputs["features"].dtype == jnp.float32


def test_images_that_are_too_small():
    """Of which nothing would be left."""
    model = nnx.eval_shape(lambda: create_model("convnext_tiny", 3, rngs=nnx.Rngs(0)))
    with pytest.raises(UserError, match="images are 40x31 pixels; this ConvNeXt needs 32 or more a side"):
        nnx.eval_shape(lambda model: model(jnp.zeros((2, 40, 31, 3))), model)


@pytest.mark.parametrize("name", TINY)
def test_training_without_random_numbers_says_so(name):
    model = nnx.eval_shape(lambda: create_model(name, 3, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="`rngs`"):
        nnx.eval_shape(lambda model: model(jnp.asarray(IMAGES), train=True), model)
