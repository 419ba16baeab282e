"""What a network computes behind its backbone, as data: trunks make features of maps, heads make outputs of features.

A task declares the outputs that it needs with these classes; `ror_jax.models` builds them; `model.json` stores them.
"""

import dataclasses
from collections.abc import Mapping

from ror_jax.errors import check_fields

ACTIVATIONS = ("relu", "gelu")
POOLINGS = ("mean", "max")


@dataclasses.dataclass(frozen=True)
class Hidden:
    """A hidden layer: linear, batch normalisation if `norm`, activation, dropout; [B, F] to [B, width].

    Attributes:
      width: number of units.
      norm: batch normalisation before the activation.
      activation: one of `ACTIVATIONS`; "gelu" is the exact one.
      dropout: rate, in training.
    """

    width: int
    norm: bool = False
    activation: str = "relu"
    dropout: float = 0.0

    def __post_init__(self):
        wanted = {
            "width": (isinstance(self.width, int) and self.width > 0, "a positive whole number"),
            "activation": (self.activation in ACTIVATIONS, f"one of {', '.join(ACTIVATIONS)}"),
            "dropout": (0 <= self.dropout < 1, "in [0, 1)"),
        }
        check_fields(self, wanted)


@dataclasses.dataclass(frozen=True)
class Pool:
    """Pools one feature map over a pyramid of grids: [B, h, w, C] to [B, C * sum(n * n for n in levels)].

    Levels (1,) are global pooling. Levels (1, 2, 3) are the spatial pyramid of DMM-CNN (He et al., "Spatial pyramid
    pooling in deep convolutional networks", 2014). Cell i of n covers the rows floor(i h / n) ... ceil((i + 1) h / n).

    Attributes:
      reads: name of the map.
      levels: the grids, n x n cells each.
      kind: "mean" or "max".
      norm: layer normalisation of the pooled features.
      dropout: rate on the pooled features, in training.
      hidden: layers on the features.
    """

    reads: str = "last"
    levels: tuple[int, ...] = (1,)
    kind: str = "mean"
    norm: bool = False
    dropout: float = 0.0
    hidden: tuple[Hidden, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "levels", tuple(self.levels))
        wanted = {
            "levels": (
                self.levels and all(isinstance(n, int) and n > 0 for n in self.levels),
                "positive whole numbers",
            ),
            "kind": (self.kind in POOLINGS, f"one of {', '.join(POOLINGS)}"),
            "dropout": (0 <= self.dropout < 1, "in [0, 1)"),
        }
        check_fields(self, wanted)


@dataclasses.dataclass(frozen=True)
class Flatten:
    """All numbers of one feature map of fixed size in a row: [B, h, w, C] to [B, h w C].

    Attributes:
      reads: name of the map; the backbone must know its height and width.
      hidden: layers on them.
    """

    reads: str = "last"
    hidden: tuple[Hidden, ...] = ()


@dataclasses.dataclass(frozen=True)
class Fuse:
    """Several feature maps pooled to one grid, concatenated, mixed by a 1x1 convolution with ReLU, and flattened.

    Attributes:
      reads: names of the maps.
      side: cells of the grid along height and width; cells as in `Pool`.
      width: channels of the convolution.
      kind: how the maps are pooled, "mean" or "max".
      hidden: layers on the side * side * width features.
    """

    reads: tuple[str, ...]
    side: int
    width: int
    kind: str = "max"
    hidden: tuple[Hidden, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "reads", tuple(self.reads))
        wanted = {
            "reads": (len(self.reads) > 0, "the name of a map or more"),
            "side": (isinstance(self.side, int) and self.side > 0, "a positive whole number"),
            "width": (isinstance(self.width, int) and self.width > 0, "a positive whole number"),
            "kind": (self.kind in POOLINGS, f"one of {', '.join(POOLINGS)}"),
        }
        check_fields(self, wanted)


Trunk = Pool | Flatten | Fuse
TRUNKS = {"pool": Pool, "flatten": Flatten, "fuse": Fuse}


@dataclasses.dataclass(frozen=True)
class Head:
    """An output [B, size]: a linear layer on the features of a trunk.

    Attributes:
      size: number of outputs per image.
      trunk: name of the trunk that it reads. None: the numbers are learned constants, the same for all images.
      shared_column: one column of weights for all numbers, each with a bias of its own (CORAL: Cao et al., "Rank
        consistent ordinal regression", 2020).
      hidden: layers between trunk and output.
    """

    size: int
    trunk: str | None = "features"
    shared_column: bool = False
    hidden: tuple[Hidden, ...] = ()

    def __post_init__(self):
        check_fields(self, {"size": (isinstance(self.size, int) and self.size > 0, "a positive whole number")})


def to_json(specs: Mapping[str, Head | Trunk]) -> dict[str, dict]:
    """Heads or trunks by name as dicts of numbers and text, for `model.json`."""
    kinds = {kind: name for name, kind in TRUNKS.items()}
    return {
        name: ({"trunk_kind": kinds[type(spec)]} if type(spec) in kinds else {}) | dataclasses.asdict(spec)
        for name, spec in specs.items()
    }


def from_json(specs: Mapping[str, Mapping]) -> dict[str, Head | Trunk]:
    """The inverse of `to_json`; raises ValueError (UserError), TypeError or KeyError for what it has not written."""
    made = {}
    for name, fields in specs.items():
        fields = dict(fields)
        kind = TRUNKS[fields.pop("trunk_kind")] if "trunk_kind" in fields else Head
        hidden = tuple(Hidden(**layer) for layer in fields.pop("hidden"))
        made[name] = kind(**fields, hidden=hidden)
    return made
