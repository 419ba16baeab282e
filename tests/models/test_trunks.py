"""Trunks on maps of numbers worked out by hand or by an independent implementation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ror_jax.models import model_config
from ror_jax.models.backbone import Map
from ror_jax.models.layers import initialize
from ror_jax.models.trunks import build_trunk
from ror_jax.outputs import Flatten, Fuse, Hidden, Pool

CONFIG = model_config("tiny_ror")


def build(spec, **maps):
    trunk = build_trunk(spec, {name: Map(*map_) for name, map_ in maps.items()}, config=CONFIG)
    initialize(trunk, nnx.Rngs(0))
    return trunk


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("kind", ["mean", "max"])
def test_a_pyramid_by_hand(kind):
    """Three rows of five columns: two cells share the middle row, and the middle column."""
    x = np.float32([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12, 13, 14, 15]])[None, :, :, None]
    x = np.concatenate([x, -x], -1)
    trunk = build(Pool("last", (1, 2), kind), last=(2, 1))
    assert trunk.width == 2 * 5
    # Of everything; then of rows 1-2 and 2-3, in columns 1-3 and 3-5.
    cells = {"mean": [8, 4.5, 6.5, 9.5, 11.5], "max": [15, 8, 10, 13, 15]}[kind]
    others = {"mean": [-8, -4.5, -6.5, -9.5, -11.5], "max": [-1, -1, -3, -6, -8]}[kind]
    np.testing.assert_allclose(trunk({"last": x}), [np.stack([cells, others], -1).ravel()], rtol=1e-6)


@pytest.mark.parametrize("kind", ["mean", "max"])
@pytest.mark.parametrize("size", [(7, 7), (6, 4), (1, 2)])
def test_pyramids_are_pytorchs_adaptive_pooling(kind, size):
    """Cells of uneven sizes, and more cells than rows."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[torch]'")
    x = numbers(2, *size, 3)
    pool = {"mean": torch.nn.functional.adaptive_avg_pool2d, "max": torch.nn.functional.adaptive_max_pool2d}[kind]
    levels = (1, 2, 3)
    theirs = [pool(torch.tensor(x).permute(0, 3, 1, 2), n).permute(0, 2, 3, 1).flatten(1).numpy() for n in levels]
    ours = jax.jit(lambda: build(Pool("last", levels, kind), last=(3, 1))({"last": x}))()
    assert ours.shape == (2, 3 * 14)
    np.testing.assert_allclose(ours, np.concatenate(theirs, 1), rtol=1e-5, atol=1e-6)


def test_the_pyramid_of_dmm_cnn():
    assert build(Pool("last", (1, 2, 3)), last=(2048, 32)).width == 28_672


def test_pooling_in_half_precision_adds_in_float32():
    x = jnp.asarray(numbers(2, 9, 9, 3), jnp.bfloat16)
    pooled = build(Pool(), last=(3, 1))({"last": x})
    assert pooled.dtype == jnp.float32
    np.testing.assert_allclose(pooled, np.asarray(x, np.float64).mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_pooled_features_are_normalised_before_hidden_layers():
    trunk = build(Pool(norm=True, hidden=(Hidden(4),)), last=(6, 1))
    x = numbers(2, 3, 3, 6)
    mean = x.mean((1, 2))
    normed = (mean - mean.mean(1, keepdims=True)) / np.sqrt(mean.var(1, keepdims=True) + 1e-6)
    expected = np.maximum(normed @ trunk.hidden[0].linear.kernel[...], 0)
    np.testing.assert_allclose(trunk({"last": x}), expected, rtol=1e-4, atol=1e-5)


def test_flatten_is_row_by_row_then_hidden():
    x = numbers(2, 3, 3, 4)
    assert build(Flatten("group2"), group2=(4, 8, 3))({"group2": x}).tolist() == x.reshape(2, 36).tolist()
    trunk = build(Flatten("group2", (Hidden(5),)), group2=(4, 8, 3))
    expected = np.maximum(x.reshape(2, 36) @ trunk.hidden[0].linear.kernel[...], 0)
    assert trunk.width == 5
    np.testing.assert_allclose(trunk({"group2": x}), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["mean", "max"])
def test_fuse_by_hand(kind):
    """Two maps of other sizes to 2 x 2 cells, one linear layer on the channels of each cell, ReLU, all in a row."""
    first, second = numbers(2, 4, 6, 3), numbers(2, 2, 2, 2)
    trunk = build(Fuse(("group1", "last"), side=2, width=5, kind=kind), last=(2, 4), group1=(3, 2))
    trunk.conv.bias[...] = jnp.asarray(numbers(5))
    cells = first.reshape(2, 2, 2, 2, 3, 3)
    pooled = cells.mean((2, 4)) if kind == "mean" else cells.max((2, 4))
    mixed = np.concatenate([pooled, second], -1) @ trunk.conv.kernel[...][0, 0] + trunk.conv.bias[...]
    assert trunk.width == 20
    found = trunk({"group1": first, "last": second, "group2": None})
    np.testing.assert_allclose(found, np.maximum(mixed, 0).reshape(2, 20), rtol=1e-4, atol=1e-5)


def test_hidden_layers_are_those_of_torch():
    """In training and in evaluation; the running statistics of batch norm move alike."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[torch]'")
    hidden = tuple(Hidden(width, norm=True, activation="gelu") for width in (7, 4))
    ours = build(Pool(hidden=hidden), last=(5, 1))
    layers = [torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.GELU()]
    layers += [torch.nn.Linear(7, 4), torch.nn.BatchNorm1d(4), torch.nn.GELU()]
    theirs = torch.nn.Sequential(*layers)
    for layer, linear, norm in zip(ours.hidden, layers[::3], layers[1::3], strict=True):
        layer.linear.kernel[...] = jnp.array(linear.weight.detach().numpy().T)
        layer.linear.bias[...] = jnp.array(linear.bias.detach().numpy())
        assert layer.norm.scale.shape == tuple(norm.weight.shape)
    x = numbers(16, 1, 1, 5)
    for train in (True, False):
        theirs.train(train)
        expected = theirs(torch.tensor(x[:, 0, 0])).detach()
        np.testing.assert_allclose(ours({"last": x}, train=train), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.hidden[1].norm.var[...], layers[4].running_var, rtol=1e-5)


@pytest.mark.parametrize("where", ["hidden", "pooled"])
def test_dropout(where):
    """A third of the numbers is dropped in training, the others grow by a half; in evaluation nothing is."""
    trunk = build(Pool(dropout=1 / 3), last=(300, 1))
    if where == "hidden":
        trunk = build(Pool(hidden=(Hidden(300, norm=True, activation="gelu", dropout=1 / 3),)), last=(300, 1))
        trunk.hidden[0].norm.bias[...] = jnp.full(300, 2.0)  # of equal inputs, all outputs are GELU(2)
    maps = {"last": jnp.ones((20, 2, 2, 300))}
    kept = 1.5 * (float(nnx.gelu(jnp.array(2.0), approximate=False)) if where == "hidden" else 1.0)
    found = np.asarray(trunk(maps, train=True, rngs=nnx.Rngs(0)))
    assert (found == 0).mean() == pytest.approx(1 / 3, abs=0.03)
    assert found[found != 0] == pytest.approx(kept, rel=1e-4)
    assert (np.asarray(trunk(maps)) != 0).all()
    with pytest.raises(ValueError, match="rngs"):
        trunk(maps, train=True)
