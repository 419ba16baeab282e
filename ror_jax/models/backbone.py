"""The interface of a backbone, images to named feature maps.

A new one is a file with a `Config` and a `Backbone`, and a call of `models.register`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
from flax import nnx

from ror_jax.outputs import Trunk


class Map(NamedTuple):
    """A feature map [B, h, w, width]; `side` is h and w where the configuration fixes the size of images."""

    width: int
    stride: int
    side: int | None = None


def name_groups(groups: Sequence) -> dict[str, Any]:
    """Names what each group ends with: "group1", "group2" ..., and "last" for the last one."""
    return {f"group{index}": group for index, group in enumerate(groups, start=1)} | {"last": groups[-1]}


class Config(Protocol):
    """The frozen dataclass that describes a backbone; each field is an override of `create_model`.

    It checks its fields in `__post_init__` (see `errors.check_fields`). Where it has a field `image_size`, that is the
    side of all images, in pixels.

    Attributes:
      trunk: the trunk "features" of a network that asks for no other; a property or a class attribute.
      dtype: of the computation; param_dtype: of the parameters.
    """

    trunk: Trunk
    dtype: Any
    param_dtype: Any

    def build(self) -> "Backbone": ...


class Backbone(Protocol):
    """An `nnx.Module`.

    Attributes:
      config: what it was built from.
      maps: its feature maps by name, from input to output: "stem", where there is one, then "group1", "group2" ..., and
        "last", which default trunks read.
    """

    config: Config
    maps: Mapping[str, Map]

    def __call__(self, images: jax.Array, *, train: bool = False, rngs: nnx.Rngs | None = None) -> dict[str, jax.Array]:
        """Normalised images [B, H, W, 3] to maps [B, h, w, C], all in `config.dtype`.

        Each map is taken after its activation, where the network has one there. What nobody reads costs nothing in a
        compiled program.
        """

    def to_onnx(self, graph, images: str) -> dict[str, str]:
        """The same in evaluation mode for `models.export.Graph`: name of a value to names of values, [B, C, H, W].

        A backbone may lack this; it then cannot be exported to ONNX.
        """
