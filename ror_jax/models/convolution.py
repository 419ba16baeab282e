"""Convolution for each platform, and the compiler's options: all that is specific to XLA's CPU backend is here.

XLA's convolutions are fast on accelerators. On CPU they are so for some layouts only, and `convolve` is written around
that: the same numbers to rounding.
"""

import jax
import jax.numpy as jnp
from jax import lax


def convolve(x, kernel, stride: int, padding: int):
    """Convolution of x [B, H, W, C] with a square kernel [h, w, C, K], zero-padded on all sides.

    A kernel [h, w, 1, C] is depthwise: each channel has its own. On CPU there is no forward-mode derivative.
    """
    if jax.default_backend() != "cpu":
        return _convolve(x, kernel, stride, padding)
    if kernel.shape[2] < x.shape[3]:
        return _depthwise_cpu(x, kernel, stride, padding)
    if kernel.shape[0] == 1 and padding == 0:
        return jnp.einsum("bhwc,ck->bhwk", x[:, ::stride, ::stride], kernel[0, 0])
    return _convolve_cpu(x, kernel, stride, padding)


def _convolve(x, kernel, stride, padding):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[3] // kernel.shape[2],
    )


# XLA's CPU backend has a fast convolution for canonical layouts only. At the top level of a program it rewrites the
# gradients into that form; inside `scan` and `cond` it does not, and they run some thirty times slower. So both are
# written here as plain convolutions and matrix products: the same numbers to rounding, at full speed everywhere.
# A 1x1 convolution is a matrix product outright, two to five times faster than as a convolution.
_convolve_cpu = jax.custom_vjp(_convolve, nondiff_argnums=(2, 3))


def _forward(x, kernel, stride, padding):
    return _convolve(x, kernel, stride, padding), (x, kernel)


def _backward(stride, padding, operands, cotangent):
    x, kernel = operands
    return _image_gradient(x, kernel, cotangent, stride, padding), _kernel_gradient(
        x, kernel, cotangent, stride, padding
    )


def _image_gradient(x, kernel, cotangent, stride, padding):
    """The cotangent, spread out by the stride, under the flipped kernel."""
    spread = _spread(x, kernel, cotangent, stride, padding)
    return _convolve(spread, kernel[::-1, ::-1].swapaxes(2, 3), 1, 0)


def _spread(x, kernel, cotangent, stride, padding):
    """The cotangent with zeros between its numbers and around them, so that a flipped kernel maps it to `x`'s shape."""
    size = kernel.shape[0]
    gap, margin = stride - 1, size - 1 - padding
    # A window that does not divide the image leaves rows and columns at the far edge that it saw less of.
    rest = [x.shape[axis] + 2 * padding - size - stride * (cotangent.shape[axis] - 1) for axis in (1, 2)]
    edges = [(0, 0, 0), *((margin, margin + r, gap) for r in rest), (0, 0, 0)]
    return lax.pad(cotangent, jnp.zeros((), cotangent.dtype), edges)


def _kernel_gradient(x, kernel, cotangent, stride, padding):
    size = kernel.shape[0]
    if stride == 1:
        # Up to four parts run side by side, and are transposed nearer to the cache: a training step of cifar_resnet110
        # is 1.15 times faster. Simulated devices have divided the batch already.
        most = 4 if jax.local_device_count() == 1 else 1
        parts = next(parts for parts in (4, 2, 1) if parts <= most and (len(x) % (16 * parts) == 0 or parts == 1))
        images = x.reshape(-1, parts, *x.shape[1:]).transpose(1, 4, 2, 3, 0)  # [parts, C, H, W, B / parts]
        cotangents = cotangent.reshape(-1, parts, *cotangent.shape[1:]).transpose(1, 2, 3, 0, 4)
        products = [_convolve(*operands, 1, padding) for operands in zip(images, cotangents, strict=True)]
        total = sum(product.astype(jnp.float32) for product in products)
        return total.astype(x.dtype).transpose(1, 2, 0, 3)
    windows = _windows(x, size, stride, padding, cotangent.shape[1:3])
    elements = [[jnp.einsum("bhwc,bhwk->ck", window, cotangent) for window in row] for row in windows]
    return jnp.stack([jnp.stack(row) for row in elements])


def _windows(x, size, stride, padding, sides) -> list[list]:
    """The images that each element of a kernel sees: `size` rows of `size` arrays [B, *sides, C]."""
    padded = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = (slice(None, stride * (side - 1) + 1, stride) for side in sides)
    return [[padded[:, row:, column:][:, height, width] for column in range(size)] for row in range(size)]


_convolve_cpu.defvjp(_forward, _backward)


# XLA's CPU backend has no fast convolution for kernels [h, w, 1, C], but makes one loop of a sum over shifted images:
# fifteen to eighty times faster, forwards and for the gradient of the image. The gradient of the kernel is a few sums
# over everything else, which would be slow like this. So it goes row by row and keeps eight neighbouring columns apart;
# each step is a sum over shifted rows again: three to fifty times faster.
def _depthwise(x, kernel, stride, padding):
    size = kernel.shape[0]
    windows = _windows(x, size, stride, padding, [(side + 2 * padding - size) // stride + 1 for side in x.shape[1:3]])
    wide = kernel.astype(jnp.float32)
    places = [(row, column) for row in range(size) for column in range(size)]
    return sum(windows[row][column] * wide[row, column] for row, column in places).astype(x.dtype)


_depthwise_cpu = jax.custom_vjp(_depthwise, nondiff_argnums=(2, 3))


def _depthwise_forward(x, kernel, stride, padding):
    return _depthwise(x, kernel, stride, padding), (x, kernel)


def _depthwise_backward(stride, padding, operands, cotangent):
    x, kernel = operands
    spread = _spread(x, kernel, cotangent, stride, padding)
    return _depthwise(spread, kernel[::-1, ::-1], 1, 0), _depthwise_kernel_gradient(
        x, kernel, cotangent, stride, padding
    )


def _depthwise_kernel_gradient(x, kernel, cotangent, stride, padding):
    size, (count, height, width, channels) = kernel.shape[0], cotangent.shape
    apart = 8
    rest = -width % apart
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding + stride * rest), (0, 0)))
    cotangent = jnp.pad(cotangent, ((0, 0), (0, 0), (0, rest), (0, 0)))
    starts = range(0, width, apart)

    def add_row(index, total):
        image, row = index // height, index % height
        rows = lax.dynamic_slice(x, (image, stride * row, 0, 0), (1, size, *x.shape[2:]))[0].astype(jnp.float32)
        weights = cotangent[image, row].astype(jnp.float32)  # [W', C]

        def products(column, start):  # [size, apart, C]
            first = stride * start + column
            return rows[:, first : first + stride * apart : stride] * weights[start : start + apart]

        sums = [sum(products(column, start) for start in starts) for column in range(size)]
        return total + jnp.stack(sums, 1)

    total = jnp.zeros((size, size, apart, channels))
    return lax.fori_loop(0, count * height, add_row, total).sum(2)[:, :, None].astype(kernel.dtype)


_depthwise_cpu.defvjp(_depthwise_forward, _depthwise_backward)


def compiler_options(deterministic: bool = False) -> dict:
    """For `jax.jit` of a program with these layers.

    On CPU, XLA gives sums, matrix products and convolutions to YNNPACK, whose convolutions are slower than XLA's own:
    leaving it only the sums makes a training step of resnet34 1.4 times faster. What is left for LLVM are short loops,
    for which a low level of optimisation does, and compiles a sixth faster.

    On GPU, the same program with the same numbers may be rounded differently each time, unless `deterministic`: XLA
    then adds in a fixed order, and does not choose the algorithms of cuDNN and cuBLAS by the clock (openxla.org/xla/
    determinism). That has not been measured on a GPU. CPU and TPU are deterministic as they are.
    """
    platform = jax.default_backend()
    if platform == "gpu" and deterministic:
        return {"xla_gpu_deterministic_ops": True}
    if platform != "cpu":
        return {}
    return {
        "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
        "xla_backend_optimization_level": 1,
    }
