"""How the losses of a `MultiTask` become one loss."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ror_jax import parallel
from ror_jax.errors import UserError
from ror_jax.outputs import Head


@dataclasses.dataclass(frozen=True)
class Weighting:
    """Constant weights: the loss is the weighted sum of the parts' losses.

    Other weightings derive from this class; `register` makes them known. One that learns from validation keeps its
    weights in the state and sets `needs_losses`.

    Attributes:
      weights: of the parts, by name; of those that are not named 1.
      needs_losses: whether `update` needs the parts' mean losses over the validation split.
      loss_may_be_negative: see `Task`.
    """

    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)

    needs_losses = False
    loss_may_be_negative = False

    def __post_init__(self):
        for part, weight in self.weights.items():
            if not 0 <= weight < math.inf:
                raise UserError(f"the weight of {part} is {weight}; it must be 0 or more")
        if self.weights and not any(self.weights.values()):
            raise UserError(f"the weights of {', '.join(self.weights)} are 0; one must be more, or nothing is learned")

    def heads(self, parts: Mapping[str, Any]) -> dict[str, Head]:
        """The outputs that the weighting needs itself."""
        return {}

    def initial_state(self, parts: Mapping[str, Any]) -> Any:
        """What the weighting learns from validation: a pytree of arrays."""
        return {}

    def combine(self, losses: dict, parts: Mapping[str, Any], outputs: Mapping, known: dict, state: Any) -> jax.Array:
        """The loss, a scalar.

        Args:
          losses: of the parts, multiplied by `weights`; scalars by name.
          parts: the tasks by name.
          outputs: of the network, [B, size] by name.
          known: by part, which images of the batch have a label of it, float32 [B].
          state: of the weighting.
        """
        return sum(losses.values())

    def update(self, state: Any, losses: dict[str, float], epoch: float) -> Any:
        """The state that follows from the parts' mean losses over the validation split after `epoch` epochs.

        They are in the order of the parts, not multiplied by `weights`, and without parts that have no label there.
        """
        return state


@dataclasses.dataclass(frozen=True)
class Uncertainty(Weighting):
    """Learned variances: the loss L of each part becomes L / (c s) + log(s) / 2.

    s is learned, and c is 2 for a squared or absolute error and 1 for a cross-entropy (Kendall, Gal, Cipolla,
    "Multi-task learning using uncertainty", CVPR 2018, equation 10). The network has the output "log_variances", the
    logarithms of all s, which are the same for all images.
    """

    loss_may_be_negative = True

    def heads(self, parts: Mapping[str, Any]) -> dict[str, Head]:
        return {"log_variances": Head(len(parts), trunk=None)}

    def combine(self, losses: dict, parts: Mapping[str, Any], outputs: Mapping, known: dict, state: Any) -> jax.Array:
        logs, total = outputs["log_variances"], 0.0
        for number, (name, part) in enumerate(parts.items()):
            # A part of which the batch has no label says nothing of its variance.
            count = jnp.maximum(parallel.total(known[name].sum()), 1)
            spread = (logs[:, number] * known[name]).sum() / count
            total += jnp.exp(-logs[0, number]) * losses[name] / part.variance_factor + spread / 2
        return total


WEIGHTINGS: dict[str, type[Weighting]] = {"fixed": Weighting, "uncertainty": Uncertainty}


def register(name: str, weighting: type[Weighting]) -> None:
    """Adds a weighting that `config.task.weighting` can then name; raises UserError if the name is taken."""
    if name in WEIGHTINGS:
        raise UserError(f"there is a weighting {name!r} already; choose another name")
    WEIGHTINGS[name] = weighting
