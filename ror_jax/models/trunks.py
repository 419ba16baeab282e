"""Trunks: feature maps to features, built from their descriptions in `ror_jax.outputs`."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ror_jax.errors import UserError, unknown
from ror_jax.models.backbone import Map
from ror_jax.models.layers import BatchNorm, Conv, LayerNorm, Linear, dropout
from ror_jax.outputs import Flatten, Fuse, Hidden, Pool, Trunk


def pool(x, side: int, kind: str):
    """Pools x [B, h, w, C] to side x side cells, "mean" or "max": float32 [B, side, side, C]. See `outputs.Pool`."""
    reduce = {"mean": jnp.mean, "max": jnp.max}[kind]
    x = x.astype(jnp.float32)
    if side == 1:
        return reduce(x, axis=(1, 2), keepdims=True)
    for axis in (1, 2):
        cells = [jax.lax.slice_in_dim(x, *cell, axis=axis) for cell in _cells(x.shape[axis], side)]
        x = jnp.concatenate([reduce(cell, axis=axis, keepdims=True) for cell in cells], axis)
    return x


def _pool_to_onnx(graph, x: str, side: int, kind: str, size: tuple[int, int]) -> str:
    """[B, C, h, w] of this size to [B, C, side, side]; the size may be anything if `side` is 1."""
    if side == 1:
        return graph.node({"mean": "GlobalAveragePool", "max": "GlobalMaxPool"}[kind], x)
    reduce = {"mean": "ReduceMean", "max": "ReduceMax"}[kind]
    for axis, length in zip((2, 3), size, strict=True):
        cells = [graph.node("Slice", x, *np.int64([[a], [b], [axis]])) for a, b in _cells(length, side)]
        x = graph.node("Concat", *(graph.node(reduce, cell, axes=[axis], keepdims=1) for cell in cells), axis=axis)
    return x


def _cells(length: int, count: int) -> list[tuple[int, int]]:
    """Where each of `count` cells begins and ends."""
    return [(index * length // count, -(-(index + 1) * length // count)) for index in range(count)]


def _flatten_to_onnx(graph, x: str, side: int | None) -> str:
    """[B, C, h, w] to [B, h w C], in the order of [B, h, w, C]; `side` is h and w."""
    return graph.node("Flatten", x if side == 1 else graph.channels_last(x))


class HiddenLayer(nnx.Module):
    """The layer that `spec` describes: [B, F] to [B, spec.width], in the dtype of the configuration."""

    def __init__(self, in_width: int, spec: Hidden, *, config):
        self.spec = spec
        self.linear = Linear(in_width, spec.width, config=config)
        self.norm = BatchNorm(spec.width, config=config) if spec.norm else None

    def __call__(self, x, *, train: bool, rngs: nnx.Rngs | None):
        x = self.linear(x)
        if self.norm is not None:
            x = self.norm(x, train)
        x = nnx.relu(x) if self.spec.activation == "relu" else nnx.gelu(x, approximate=False)
        return _drop(x, self.spec.dropout, train, rngs)

    def to_onnx(self, graph, x):
        x = self.linear.to_onnx(graph, x)
        if self.norm is not None:
            x = self.norm.to_onnx(graph, x)
        return graph.relu(x) if self.spec.activation == "relu" else graph.gelu(x)


def hidden_layers(in_width: int, specs: tuple[Hidden, ...], *, config) -> tuple[nnx.List, int]:
    """Makes a chain of layers from their descriptions; returns it and the width of its output."""
    widths = [in_width, *(spec.width for spec in specs)]
    return nnx.List([HiddenLayer(*layer, config=config) for layer in zip(widths, specs, strict=False)]), widths[-1]


def _drop(x, rate: float, train: bool, rngs: nnx.Rngs | None):
    if not train or rate == 0:
        return x
    if rngs is None:
        raise ValueError("training with dropout needs `rngs`")
    return dropout(x, rate, rngs.dropout())


class _Features(nnx.Module):
    """What all trunks have in common: hidden layers on the [B, in_width] that `read` makes of the maps.

    Attributes:
      spec: the description.
      width: number of features.
    """

    def __init__(self, spec: Trunk, in_width: int, *, config):
        self.spec = spec
        self.hidden, self.width = hidden_layers(in_width, spec.hidden, config=config)

    def __call__(self, maps: Mapping[str, jax.Array], *, train: bool = False, rngs: nnx.Rngs | None = None):
        """Maps [B, h, w, C] by name to features, float32 [B, width]. Dropout draws from the stream `dropout`."""
        x = self.read(maps, train, rngs)
        for layer in self.hidden:
            x = layer(x, train=train, rngs=rngs)
        return x.astype(jnp.float32)

    def to_onnx(self, graph, maps: Mapping[str, str], sizes: Mapping[str, tuple[int, int]] | None) -> str:
        """`sizes`: height and width of each map. They may be None unless the trunk `needs_sizes`."""
        x = self.read_to_onnx(graph, maps, sizes)
        for layer in self.hidden:
            x = layer.to_onnx(graph, x)
        return x


class PoolTrunk(_Features):
    """See `outputs.Pool`."""

    def __init__(self, spec: Pool, maps: Mapping[str, Map], *, config):
        width = maps[spec.reads].width * sum(level * level for level in spec.levels)
        super().__init__(spec, width, config=config)
        self.norm = LayerNorm(width, config=config) if spec.norm else None

    @property
    def needs_sizes(self) -> bool:
        return set(self.spec.levels) != {1}

    def read(self, maps, train, rngs):
        x = maps[self.spec.reads]
        levels = [pool(x, level, self.spec.kind).reshape(x.shape[0], -1) for level in self.spec.levels]
        x = jnp.concatenate(levels, 1)
        return _drop(x if self.norm is None else self.norm(x), self.spec.dropout, train, rngs)

    def read_to_onnx(self, graph, maps, sizes):
        x, size = maps[self.spec.reads], sizes and sizes[self.spec.reads]
        pooled = {level: _pool_to_onnx(graph, x, level, self.spec.kind, size) for level in self.spec.levels}
        levels = [_flatten_to_onnx(graph, pooled[level], level) for level in self.spec.levels]
        x = graph.node("Concat", *levels, axis=1)
        return x if self.norm is None else self.norm.to_onnx(graph, x)


class FlattenTrunk(_Features):
    """See `outputs.Flatten`."""

    needs_sizes = False

    def __init__(self, spec: Flatten, maps: Mapping[str, Map], *, config):
        width, _, side = maps[spec.reads]
        if side is None:
            raise UserError(
                f"its map {spec.reads!r} is as large as the images make it, and Flatten needs one size: use Pool or"
                " Fuse, or a model whose image_size is a setting"
            )
        super().__init__(spec, width * side * side, config=config)
        self.side = side

    def read(self, maps, train, rngs):
        x = maps[self.spec.reads]
        return x.reshape(x.shape[0], -1)

    def read_to_onnx(self, graph, maps, sizes):
        return _flatten_to_onnx(graph, maps[self.spec.reads], self.side)


class FuseTrunk(_Features):
    """See `outputs.Fuse`."""

    def __init__(self, spec: Fuse, maps: Mapping[str, Map], *, config):
        super().__init__(spec, spec.side * spec.side * spec.width, config=config)
        self.conv = Conv(sum(maps[name].width for name in spec.reads), spec.width, 1, bias=True, config=config)

    @property
    def needs_sizes(self) -> bool:
        return self.spec.side > 1

    def read(self, maps, train, rngs):
        spec = self.spec
        x = jnp.concatenate([pool(maps[name], spec.side, spec.kind) for name in spec.reads], -1)
        return nnx.relu(self.conv(x)).reshape(x.shape[0], -1)

    def read_to_onnx(self, graph, maps, sizes):
        spec = self.spec
        pooled = [_pool_to_onnx(graph, maps[name], spec.side, spec.kind, sizes and sizes[name]) for name in spec.reads]
        x = graph.node("Concat", *pooled, axis=1)
        return _flatten_to_onnx(graph, graph.relu(self.conv.to_onnx(graph, x)), spec.side)


def build_trunk(spec: Trunk, maps: Mapping[str, Map], *, config) -> PoolTrunk | FlattenTrunk | FuseTrunk:
    """Makes a trunk on these maps of a backbone with this configuration.

    Raises:
      UserError: it reads a map that the backbone does not have (the nearest names are told), or flattens one whose size
        is not known.
    """
    for name in spec.reads if isinstance(spec, Fuse) else (spec.reads,):
        if name not in maps:
            raise unknown("map", name, maps)
    return {Pool: PoolTrunk, Flatten: FlattenTrunk, Fuse: FuseTrunk}[type(spec)](spec, maps, config=config)
