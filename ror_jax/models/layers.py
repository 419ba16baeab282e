"""Convolution, normalisations, linear layer: what the networks are made of, and how parameters are drawn.

Beside `__call__`, each module has `to_onnx(graph, x)`, which writes as ONNX what it computes in evaluation: `graph` is
an `export.Graph`, `x` the name of a value, and the name of the result is returned. Images are [B, C, H, W] there.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from ror_jax import parallel
from ror_jax.models.convolution import convolve

# What a block keeps for the backward pass. All else there is cheap, and computed again.
KEPT = ("convolution", "linear", "statistics")


def he_std(shape: tuple[int, ...]) -> float:
    """Standard deviation of He et al. ("Delving Deep into Rectifiers", MSR), fan-out, for a kernel [h, w, C, K]."""
    return math.sqrt(2 / (shape[0] * shape[1] * shape[3]))


def drawn(shape: tuple[int, ...], std: float, dtype) -> nnx.Param:
    """A parameter that `initialize` will draw from a normal distribution; zero until then."""
    return nnx.Param(jnp.zeros(shape, dtype), init_std=std)


def initialize(module: nnx.Module, rngs: nnx.Rngs) -> None:
    """Draws every parameter of `module` that was declared with `drawn`.

    All of them come from one call of the generator: XLA compiles that in a second, where a generator for each shape
    takes ten for a network of 58 layers. The price is one float32 vector as long as all of them together.
    """
    _, state, _ = nnx.split(module, lambda path, value: hasattr(value, "init_std"), ...)
    variables = jax.tree.leaves(state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
    sizes = [variable[...].size for variable in variables]
    normal = jax.random.normal(rngs.params(), (sum(sizes),))
    for variable, numbers in zip(variables, lax.split(normal, sizes), strict=True):
        variable[...] = (numbers * variable.init_std).reshape(variable.shape).astype(variable.dtype)
    nnx.update(module, state)


class Conv(nnx.Module):
    """Square convolution, [B, H, W, C] to [B, H', W', K], zero-padded by half its size unless told otherwise.

    `depthwise`: each channel has a kernel of its own, and K is C.
    """

    def __init__(self, in_width, width, size, stride=1, *, depthwise=False, padding=None, bias=False, std=None, config):
        std = he_std((size, size, in_width, 1 if depthwise else width)) if std is None else std
        self.stride, self.groups = stride, in_width if depthwise else 1
        self.padding = size // 2 if padding is None else padding
        self.dtype = config.dtype
        self.kernel = drawn((size, size, 1 if depthwise else in_width, width), std, config.param_dtype)
        self.bias = nnx.Param(jnp.zeros(width, config.param_dtype)) if bias else None

    def __call__(self, x):
        kernel = self.kernel[...].astype(self.dtype)
        y = checkpoint_name(convolve(x.astype(self.dtype), kernel, self.stride, self.padding), "convolution")
        return y if self.bias is None else y + self.bias[...].astype(self.dtype)

    def to_onnx(self, graph, x):
        kernel = np.asarray(self.kernel[...], np.float32).transpose(3, 2, 0, 1)
        arrays = [kernel] if self.bias is None else [kernel, self.bias]
        options = {"strides": [self.stride] * 2, "pads": [self.padding] * 4, "group": self.groups}
        return graph.node("Conv", x, *arrays, **options)


class Linear(nnx.Module):
    """[..., C] to [..., K]; drawn with the variance of Torch's default, 1 / (3 C), unless told otherwise.

    `shared_column`: one column of weights for all K outputs, each with a bias of its own.
    """

    def __init__(self, in_width, width, *, shared_column=False, std=None, config):
        self.dtype = config.dtype
        std = math.sqrt(1 / (3 * in_width)) if std is None else std
        self.kernel = drawn((in_width, 1 if shared_column else width), std, config.param_dtype)
        self.bias = nnx.Param(jnp.zeros(width, config.param_dtype))

    def __call__(self, x):
        y = checkpoint_name(x.astype(self.dtype) @ self.kernel[...].astype(self.dtype), "linear")
        return y + self.bias[...].astype(self.dtype)

    def to_onnx(self, graph, x, output: str | None = None):
        # ONNX Runtime makes one node of these, which could not give many outputs from one column of weights.
        return graph.node("Add", graph.node("MatMul", x, self.kernel), self.bias, output=output)


def dropout(x, rate: float, key):
    """x [B, ...] with each number dropped with the probability `rate`, the others scaled by 1 / (1 - rate)."""
    if rate == 0:
        return x
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(parallel.row_keys(key, len(x)))
    return jnp.where(keep, x / (1 - rate), 0).astype(x.dtype)


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last, with Torch's conventions.

    Statistics are taken in float32 over the global batch; the running variance is the unbiased one, and both move by
    1 - `momentum` a step, a tenth by default, so that Torch's weights and training runs carry over. In training it has
    no forward-mode derivative, and the running statistics have none at all.
    """

    epsilon = 1e-5

    def __init__(self, width, *, scale=1.0, momentum=0.9, config):
        self.momentum = momentum
        self.scale = nnx.Param(jnp.full(width, scale, config.param_dtype))
        self.bias = nnx.Param(jnp.zeros(width, config.param_dtype))
        self.mean = nnx.BatchStat(jnp.zeros(width, jnp.float32))
        self.var = nnx.BatchStat(jnp.ones(width, jnp.float32))

    def __call__(self, x, train: bool):
        scale, bias = self.scale[...], self.bias[...]
        if not train:
            inverse = lax.rsqrt(self.var[...] + self.epsilon)
            return _scale_and_shift(x, self.mean[...], inverse * scale, bias)
        y, mean, var = _normalize(x, scale, bias, self.epsilon)
        count = parallel.rows(x.size // x.shape[-1])
        unbiased = var * (count / max(count - 1, 1))
        self.mean[...] = self.momentum * self.mean[...] + (1 - self.momentum) * mean
        self.var[...] = self.momentum * self.var[...] + (1 - self.momentum) * unbiased
        return y

    def to_onnx(self, graph, x):
        arrays = (self.scale, self.bias, self.mean, self.var)
        return graph.node("BatchNormalization", x, *arrays, epsilon=self.epsilon)


def _scale_and_shift(x, mean, scale, bias):
    return ((x.astype(jnp.float32) - mean) * scale + bias).astype(x.dtype)


# The gradient by hand reads x and the cotangent twice and keeps nothing but x and some vectors. Derived by JAX it makes
# four sums instead of two, and keeps a second array as large as x.
@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalize(x, scale, bias, epsilon):
    """x normalised over all axes but the last; its mean and variance, which take no part in the derivative."""
    return _normalize_forward(x, scale, bias, epsilon)[0]


def _normalize_forward(x, scale, bias, epsilon):
    wide, axes = x.astype(jnp.float32), tuple(range(x.ndim - 1))
    count = parallel.rows(x.size // x.shape[-1])
    mean, square = (sums / count for sums in parallel.total((wide.sum(axes), (wide * wide).sum(axes))))
    var = jnp.maximum(square - mean * mean, 0.0)
    mean, var = checkpoint_name((mean, var), "statistics")
    inverse = lax.rsqrt(var + epsilon)
    return (_scale_and_shift(x, mean, inverse * scale, bias), mean, var), (x, scale, mean, inverse)


def _normalize_backward(epsilon, operands, cotangents):
    x, scale, mean, inverse = operands
    axes, count = tuple(range(x.ndim - 1)), parallel.rows(x.size // x.shape[-1])
    cotangent = cotangents[0].astype(jnp.float32)
    normalized = (x.astype(jnp.float32) - mean) * inverse
    to_bias, to_scale = cotangent.sum(axes), (cotangent * normalized).sum(axes)  # of the rows here, as all gradients
    of_bias, of_scale = (sums / count for sums in parallel.total((to_bias, to_scale)))
    to_x = (cotangent - of_bias - normalized * of_scale) * (inverse * scale)
    return to_x.astype(x.dtype), to_scale.astype(scale.dtype), to_bias.astype(scale.dtype)


_normalize.defvjp(_normalize_forward, _normalize_backward)


class LayerNorm(nnx.Module):
    """Layer normalisation over the last axis, with statistics in float32."""

    epsilon = 1e-6

    def __init__(self, width, *, config):
        self.scale = nnx.Param(jnp.ones(width, config.param_dtype))
        self.bias = nnx.Param(jnp.zeros(width, config.param_dtype))

    def __call__(self, x):
        wide = x.astype(jnp.float32)
        centred = wide - wide.mean(-1, keepdims=True)
        inverse = lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + self.epsilon)
        return (centred * inverse * self.scale[...] + self.bias[...]).astype(x.dtype)

    def to_onnx(self, graph, x):
        """x is [..., C], as in `__call__`."""
        return graph.node("LayerNormalization", x, self.scale, self.bias, epsilon=self.epsilon)
