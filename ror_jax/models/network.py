"""A backbone with trunks and heads: what every model of this package is."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx

from ror_jax.errors import UserError, unknown
from ror_jax.models.backbone import Backbone
from ror_jax.models.layers import Linear
from ror_jax.models.trunks import build_trunk, hidden_layers
from ror_jax.outputs import Head, Trunk


class Prediction(Linear):
    """The head that `spec` describes: hidden layers, then a linear one; features [B, F] to [B, size], both float32."""

    def __init__(self, in_width: int, spec: Head, *, config):
        hidden, width = hidden_layers(in_width, spec.hidden, config=config)
        super().__init__(width, spec.size, shared_column=spec.shared_column, config=config)
        self.spec, self.hidden = spec, hidden

    def __call__(self, x, *, train: bool = False, rngs: nnx.Rngs | None = None):
        for layer in self.hidden:
            x = layer(x, train=train, rngs=rngs)
        return super().__call__(x)

    def to_onnx(self, graph, x, output: str):
        for layer in self.hidden:
            x = layer.to_onnx(graph, x)
        return super().to_onnx(graph, x, output)


class Constants(nnx.Module):
    """The head without a trunk: learned numbers, the same for all images, float32 [count, size]. They start at 0."""

    def __init__(self, spec: Head):
        self.spec, self.bias = spec, nnx.Param(jnp.zeros(spec.size, jnp.float32))

    def __call__(self, count: int):
        return jnp.broadcast_to(self.bias[...], (count, self.spec.size))


class Network(nnx.Module):
    """Raw pixels to features and outputs by name; `create_model` makes one. It normalises its own input.

    Args:
      heads: descriptions of the outputs by name.
      trunks: descriptions of trunks by name, or trunks that are built already, such as another network's. They are
        added to `{"features": backbone.config.trunk}`, or replace it. Only "features" and those that a head reads are
        built.
      mean, std: of the training pixels in 0...255, one number a channel.

    Attributes:
      backbone: see `models.backbone.Backbone`.
      trunks, heads: modules by name; each has the description that it was built from as `spec`.

    Raises:
      UserError: a head reads an unknown trunk, a trunk an unknown map, or two of them have one name.
    """

    def __init__(self, backbone: Backbone, heads: Mapping[str, Head], *, trunks: Mapping = {}, mean, std):
        trunks = {"features": backbone.config.trunk, **trunks}
        for name, head in heads.items():
            if name in trunks:
                raise UserError(f"an output cannot be called {name!r}: that is the name of a trunk")
            if head.trunk is not None and head.trunk not in trunks:
                raise UserError(f"head {name!r}: {unknown('trunk', head.trunk, trunks)}")
        self.backbone, self.mean, self.std = backbone, tuple(mean), tuple(std)
        read = {"features", *(head.trunk for head in heads.values())}
        self.trunks = nnx.Dict({name: self._trunk(name, trunks[name]) for name in sorted(read & trunks.keys())})
        # Heads are so small that float32 costs nothing.
        config = dataclasses.replace(backbone.config, dtype=jnp.float32)
        self.heads = nnx.Dict(
            {
                name: Prediction(self.trunks[head.trunk].width, head, config=config) if head.trunk else Constants(head)
                for name, head in heads.items()
            }
        )

    def _trunk(self, name: str, trunk):
        if isinstance(trunk, nnx.Module):
            return trunk
        try:
            return build_trunk(trunk, self.backbone.maps, config=self.backbone.config)
        except UserError as error:
            raise UserError(f"trunk {name!r}: {error}") from error

    @property
    def head_specs(self) -> dict[str, Head]:
        return {name: head.spec for name, head in self.heads.items()}

    @property
    def trunk_specs(self) -> dict[str, Trunk]:
        return {name: trunk.spec for name, trunk in self.trunks.items()}

    def __call__(self, images, *, train: bool = False, rngs: nnx.Rngs | None = None) -> dict:
        """Returns outputs [B, size] by name of the head and features [B, F] by name of the trunk, all in float32.

        `images` are [B, H, W, 3], uint8 or float, 0...255.

        `train` uses batch statistics (and updates the running ones in place), stochastic depth and dropout. These
        two draw from `rngs`: stochastic depth, and dropout within blocks, from its stream `drop_path`, other dropout
        from `dropout`, both from the default stream where these are not named.
        """
        mean, std = (jnp.asarray(numbers, jnp.float32) for numbers in (self.mean, self.std))
        normalized = ((images.astype(jnp.float32) - mean) / std).astype(self.backbone.config.dtype)
        maps = self.backbone(normalized, train=train, rngs=rngs)
        if missing := self.backbone.maps.keys() - maps.keys():
            names = f"{', '.join(sorted(missing))}, but returns only {', '.join(maps)}"
            raise UserError(f"{type(self.backbone).__name__} declares the maps {names}")
        features = {name: trunk(maps, train=train, rngs=rngs) for name, trunk in self.trunks.items()}
        outputs = {
            name: head(features[head.spec.trunk], train=train, rngs=rngs) if head.spec.trunk else head(images.shape[0])
            for name, head in self.heads.items()
        }
        return outputs | features

    def to_onnx(self, graph, images: str, sizes: Mapping[str, tuple[int, int]] | None) -> None:
        """Writes heads in evaluation mode, each under its own name; those without a trunk are left out.

        `images` are float32 [B, 3, H, W], 0...255; `sizes` are height and width of each map, or None, see `trunks`.
        """
        mean, std = (np.float32(numbers).reshape(3, 1, 1) for numbers in (self.mean, self.std))
        maps = self.backbone.to_onnx(graph, graph.node("Div", graph.node("Sub", images, mean), std))
        heads = {name: head for name, head in self.heads.items() if head.spec.trunk}
        read = {head.spec.trunk for head in heads.values()}
        features = {name: self.trunks[name].to_onnx(graph, maps, sizes) for name in sorted(read)}
        for name, head in heads.items():
            head.to_onnx(graph, features[head.spec.trunk], output=name)
