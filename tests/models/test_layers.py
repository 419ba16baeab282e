"""Convolution and its gradients, batch normalisation, how parameters are drawn."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from ror_jax.models import create_model
from ror_jax.models.convolution import convolve
from ror_jax.models.layers import BatchNorm, LayerNorm, Linear, initialize

CONFIG = types.SimpleNamespace(dtype=jnp.float32, param_dtype=jnp.float32)


def plain(x, kernel, stride, padding):
    layout, groups = ("NHWC", "HWIO", "NHWC"), x.shape[3] // kernel.shape[2]
    pads = [(padding, padding)] * 2
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), pads, dimension_numbers=layout, feature_group_count=groups
    )


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def assert_near(ours, theirs):
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("size", "depthwise"), [(1, False), (3, False), (5, False), (7, False), (3, True), (5, True)])
def test_convolution_and_its_gradients(size, depthwise):
    """Strides, paddings, odd and even images: values and gradients are those of XLA's own convolution."""
    kernel = normal(size, size, 1 if depthwise else 3, 4)
    shapes = [(8, 9), (9, 10), (11, 8)]
    cases = [
        (normal(2, *shape, 4 if depthwise else 3), stride, padding)
        for stride, shape in zip((1, 2, 3), shapes, strict=True)
        for padding in {0, size // 2}
    ]

    def values_and_gradients(convolution):
        results = []
        for x, stride, padding in cases:
            y, pull_back = jax.vjp(lambda x, kernel: convolution(x, kernel, stride, padding), x, kernel)  # noqa: B023
            results.append((y, pull_back(jnp.asarray(normal(*y.shape, seed=1)))))
        return results

    ours, theirs = jax.jit(lambda: (values_and_gradients(convolve), values_and_gradients(plain)))()
    assert_near(ours, theirs)


@pytest.mark.parametrize("batch_size", [32, 48, 64])
def test_gradient_of_a_kernel_in_parts(batch_size):
    """Batches that are summed in two parts, in one, and in four."""
    x, kernel, cotangent = normal(batch_size, 5, 6, 3), normal(3, 3, 3, 4), normal(batch_size, 5, 6, 4, seed=1)

    def gradient(convolution):
        return jax.vjp(lambda kernel: convolution(x, kernel, 1, 1), kernel)[1](cotangent)

    assert_near(*jax.jit(lambda: (gradient(convolve), gradient(plain)))())


def test_depthwise_convolution_in_bfloat16():
    """The numbers are added up in float32: values and gradients are the exact ones, rounded once."""
    x, kernel = (jnp.asarray(array, jnp.bfloat16) for array in (normal(2, 9, 20, 8), normal(7, 7, 1, 8)))
    cotangent = jnp.asarray(normal(2, 9, 20, 8, seed=1), jnp.bfloat16)

    def values_and_gradients(convolution, *operands):
        y, pull_back = jax.vjp(lambda x, kernel: convolution(x, kernel, 1, 3), *operands[:2])
        return y, *pull_back(operands[2])

    wide = [array.astype(jnp.float32) for array in (x, kernel, cotangent)]
    ours, exact = jax.jit(
        lambda: (values_and_gradients(convolve, x, kernel, cotangent), values_and_gradients(plain, *wide))
    )()
    for one, other in zip(ours, exact, strict=True):
        assert one.dtype == jnp.bfloat16
        np.testing.assert_allclose(one.astype(jnp.float32), other, rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize(("stride", "inputs"), [(1, 3), (2, 3), (1, 1), (2, 1)])
def test_gradients_inside_loops_and_branches(stride, inputs):
    """The gradients stay right where a network uses them: in a `scan`, and in a branch of a `cond`."""
    channels = 4 if inputs == 1 else inputs  # with one input for each output the convolution is depthwise
    xs, kernel, go = normal(3, 2, 7, 8, channels), normal(3, 3, inputs, 4), np.array([True, False, True])

    def gradients(convolution):
        def loss(xs, kernel):
            def branch(x, go):
                return lax.cond(go, lambda: (convolution(x, kernel, stride, 1) ** 2).sum(), lambda: x.sum())

            return lax.scan(lambda total, inputs: (total + branch(*inputs), None), 0.0, (xs, go))[0]

        return jax.grad(loss, argnums=(0, 1))(xs, kernel)

    ours, theirs = jax.jit(lambda xs, kernel: (gradients(convolve), gradients(plain)))(xs, kernel)
    assert_near(ours, theirs)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="only XLA's CPU backend is slow at these")
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_are_plain_convolutions_on_cpu(stride, equations):
    """No convolution of the gradients is dilated or reads another layout: inside loops XLA runs those far slower."""

    def loss(x, kernel):
        return convolve(x, kernel, stride, 1).sum()

    gradients = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(normal(2, 8, 8, 3), normal(3, 3, 3, 4))
    convolutions = [one.params for one in equations(gradients.jaxpr) if one.primitive.name == "conv_general_dilated"]
    assert convolutions
    for params in convolutions:
        assert params["lhs_dilation"] == params["rhs_dilation"] == (1, 1)
        assert params["dimension_numbers"] == lax.conv_dimension_numbers((1,) * 4, (1,) * 4, ("NHWC", "HWIO", "NHWC"))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="only XLA's CPU backend is slow at these")
def test_depthwise_convolutions_are_sums_on_cpu(equations):
    """There is no convolution left, forwards and backwards: XLA's are many times slower."""

    def loss(x, kernel):
        return convolve(x, kernel, 1, 1).sum()

    program = jax.make_jaxpr(jax.value_and_grad(loss, argnums=(0, 1)))(normal(2, 8, 8, 3), normal(3, 3, 1, 3))
    assert all(one.primitive.name != "conv_general_dilated" for one in equations(program.jaxpr))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_layer_norm(dtype):
    """Each pixel by itself, in float32 inside; equal numbers become the bias."""
    norm = LayerNorm(16, config=CONFIG)
    norm.scale[...], norm.bias[...] = np.exp(normal(16)), normal(16, seed=1)
    x = jnp.asarray(3 + normal(2, 3, 3, 16), dtype).at[0, 0, 0].set(5)
    exact = np.asarray(x, np.float64)
    exact = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-6)
    exact = exact * np.asarray(norm.scale[...]) + np.asarray(norm.bias[...])
    y = norm(x)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.astype(jnp.float32), exact, rtol=1e-4 if dtype == jnp.float32 else 2**-8, atol=1e-4)


def test_batch_norm_is_accurate_far_from_zero():
    """A mean of ten standard deviations, more than a network's own layers show, costs a ten-thousandth at most."""
    x = 10 + normal(16, 8, 8, 4)
    exact = x.astype(np.float64)
    exact = (exact - exact.mean((0, 1, 2))) / exact.std((0, 1, 2))
    y = jax.jit(lambda x: BatchNorm(4, config=CONFIG)(x, True))(x)
    assert np.abs(y - exact).max() < 1e-4


def test_batch_norm_of_equal_numbers_is_zero():
    """Without variance there is nothing to divide by: the outputs and the gradients are finite, and zero."""
    y, gradient = jax.jit(jax.value_and_grad(lambda x: BatchNorm(4, config=CONFIG)(x, True).sum()))(
        jnp.full((2, 3, 3, 4), 7.0)
    )
    np.testing.assert_allclose(y, 0, atol=1e-3)
    np.testing.assert_allclose(gradient, 0, atol=1e-3)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradient_of_batch_norm(dtype):
    """The gradient written by hand is the one that JAX derives from the definition."""
    x, cotangent = jnp.asarray(3 + normal(4, 5, 6, 3), dtype), jnp.asarray(normal(4, 5, 6, 3, seed=1), dtype)
    scale, bias = np.exp(normal(3, seed=2)), normal(3, seed=3)

    def ours(x, scale, bias):
        norm = BatchNorm(3, config=CONFIG)
        norm.scale[...], norm.bias[...] = scale, bias
        return norm(x, train=True)

    def definition(x, scale, bias):
        x = x.astype(jnp.float32)
        normalized = (x - x.mean((0, 1, 2))) / jnp.sqrt(x.var((0, 1, 2)) + BatchNorm.epsilon)
        return (normalized * scale + bias).astype(dtype)

    def values_and_gradients(function):
        y, pull_back = jax.vjp(function, x, scale, bias)
        return [leaf.astype(jnp.float32) for leaf in (y, *pull_back(cotangent))]

    tolerance = 1e-4 if dtype == jnp.float32 else 2e-2
    for one, other in zip(
        *jax.jit(lambda: (values_and_gradients(ours), values_and_gradients(definition)))(), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def make_parameters():
    def make(seed, **overrides):
        settings = dict(blocks_per_group=(3, 3), widths=(32, 64), levels=3) | overrides
        model = create_model("cifar_resnet8", 5, rngs=nnx.Rngs(seed), **settings)
        state = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
        return {jax.tree_util.keystr(path): leaf for path, leaf in state}

    return make


@pytest.fixture(scope="module")
def parameters(make_parameters):
    """A network's parameters by path, and the same with the next seed."""
    return jax.device_get(jax.jit(lambda: (make_parameters(0), make_parameters(1)))())


def test_kernels_are_he_normal_with_fan_out(parameters):
    """Every convolution has mean 0 and variance 2 / (h w K); block by block where blocks are stacked."""
    kernels = [leaf for path, leaf in parameters[0].items() if "kernel" in path and "heads" not in path]
    assert len(kernels) > 10
    for kernel in kernels:
        *_, height, _, _, width = kernel.shape
        for block in kernel.reshape(-1, *kernel.shape[-4:]):
            std, error = np.sqrt(2 / (height * height * width)), 5 / np.sqrt(block.size)
            assert abs(block.mean()) < error * std
            assert abs(block.std() / std - 1) < error


def test_prediction_layer_is_drawn_as_in_torch(parameters):
    """Variance 1 / (3 C), zero bias."""
    kernel = parameters[0]["['heads']['label']['kernel']"]
    assert abs(kernel.std() * np.sqrt(3 * 64) - 1) < 5 / np.sqrt(kernel.size)
    assert not parameters[0]["['heads']['label']['bias']"].any()


def test_no_two_kernels_are_alike(parameters):
    """Each kernel, each block of a stack and each seed gets numbers of its own; BN starts as the identity."""
    firsts = []
    for leaves in parameters:
        for path, leaf in leaves.items():
            if "kernel" in path:
                assert (leaf != 0).all(), path
                firsts += [block.ravel()[:9] / block.std() for block in np.reshape(leaf, (-1, *leaf.shape[-4:]))]
            else:
                assert (leaf == (1 if "scale" in path else 0)).all(), path
    firsts = np.stack([first for first in firsts if len(first) == 9])
    correlation = np.abs(firsts[:, None] - firsts[None]).max(-1) + np.eye(len(firsts))
    assert correlation.min() > 0.1


def test_the_seed_decides_under_jit_and_without(parameters, make_parameters):
    """The same seed gives the same numbers, compiled or not, but for the last bit."""
    for path, leaf in make_parameters(0).items():
        np.testing.assert_allclose(leaf, parameters[0][path], rtol=1e-6, err_msg=path)


@pytest.mark.parametrize("order", ["post", "pre"])
def test_zero_shortcuts_start_at_zero(order, make_parameters):
    """Zero: the scale of the BN after a new shortcut, or its kernel where no BN follows. Nothing else."""
    preactivation = order == "pre"
    parameters = jax.device_get(
        jax.jit(lambda: make_parameters(0, new_shortcut_init="zero", preactivation=preactivation))()
    )
    zero = {path for path, leaf in parameters.items() if not leaf.any() and "bias" not in path}
    last = "['conv']['kernel']" if preactivation else "['norm']['scale']"
    new = {path for path in parameters if f"['shortcut']{last}" in path and "['blocks']['shortcut']" not in path}
    final = {path for path in new if "['blocks']['shortcut']" in path.split("['children']")[-1]}
    assert zero == new - final
    assert len(zero) == 3


def test_initialize_leaves_other_modules_alone():
    """Only parameters of the module it is given are drawn, so that a fresh layer can sit on a trained network."""
    pair = nnx.List([Linear(3, 4, config=CONFIG), Linear(3, 4, config=CONFIG)])
    initialize(pair[1], nnx.Rngs(0))
    assert not pair[0].kernel[...].any()
    assert pair[1].kernel[...].all()
