"""Ordered classes: age groups, and the question whether a face is older than a group."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ror_jax.errors import UserError
from ror_jax.tasks import metrics
from ror_jax.tasks.answers import Answer
from ror_jax.tasks.classification import Classification
from ror_jax.tasks.losses import OBJECTIVES, Objective, mean
from ror_jax.tasks.task import Arrays, Label


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ordered(Classification):
    """Ordered classes.

    Attributes:
      objective: name of the loss, one of `losses.OBJECTIVES`; answers are read from the outputs as it says.
      sigma: width in classes of the objective "label_distribution", and of no other; None: the task's `default_sigma`.
    """

    objective: str = "cross_entropy"
    sigma: float | None = None

    default_sigma: ClassVar[float] = 0.5
    top_5_from: ClassVar[float] = math.inf  # how near an answer is says more

    def __post_init__(self):
        super().__post_init__()
        if not OBJECTIVES[self.objective].takes_sigma:
            if self.sigma is not None:
                raise UserError(f"sigma is {self.sigma}, but objective {self.objective!r} has no width; leave it out")
        elif self.sigma is None:
            object.__setattr__(self, "sigma", self.default_sigma)
        elif not 0 < self.sigma < math.inf:
            raise UserError(f"sigma is {self.sigma}; it must be positive")

    @property
    def _objective(self) -> Objective:
        objective = super()._objective
        if not objective.takes_sigma:
            return objective
        return dataclasses.replace(objective, per_image=functools.partial(objective.per_image, sigma=self.sigma))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgeGroup(Ordered):
    """Ordered age groups; results are `exact` accuracy and `one_off`, where a neighbouring group counts too."""

    target: ClassVar[str] = "age_group"
    primary: ClassVar[str] = "exact"
    plotted: ClassVar[tuple[str, ...]] = ("exact", "one_off", "cross_entropy")

    def summarize(self, sums: Mapping) -> dict[str, Any]:
        one_off = metrics.one_off_accuracy(np.asarray(sums["confusion"]))
        summary = super().summarize(sums)
        return {"exact": summary.pop("accuracy"), "one_off": one_off} | summary

    def line(self, results: Mapping[str, Any]) -> str:
        return f"{super().line(results)}, 1-off {100 * results['one_off']:.2f} %"

    def answers(self, estimates: jax.Array, state: Any) -> dict[str, Answer]:
        """Also where among the groups the objective sees the face, and the expectation."""
        position = self._objective.decode(estimates).astype(jnp.float32)
        more = {"position": position, "expected": mean(estimates), "ordered": True, "title": "age"}
        return {self.target: self._answer(estimates, state, spans=year_ranges(self.names), unit="years", **more)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class OlderThan(Classification):
    """Whether a face is older than age group k: the questions whose accuracies make the aging curve (Deep-RoR, eq. 2).

    Attributes:
      names: of the age groups; then those of the two answers.
      group: k, counted from 1; there is no question of the last group.
    """

    group: int | None = None
    groups: tuple[str, ...] = dataclasses.field(default=(), init=False)

    target: ClassVar[str] = "age_group"

    def __post_init__(self):
        if self.group not in range(1, len(self.names)):
            raise UserError(f"group is {self.group}; it must be 1 ... {len(self.names) - 1}: older than which one?")
        first, last = self.names[0], self.names[self.group - 1]
        object.__setattr__(self, "groups", self.names)
        object.__setattr__(self, "names", (first if self.group == 1 else f"{first} ... {last}", "older"))
        super().__post_init__()

    @property
    def labels(self) -> dict[str, Label]:
        return {self.target: Label(names=self.groups)}

    def _classes(self, batch: Arrays) -> jax.Array:
        groups = batch[self.target]  # counted from 0
        return jnp.where(groups >= 0, (groups >= self.group).astype(jnp.int32), -1)


def year_ranges(names: tuple[str, ...]) -> tuple[tuple[float, float], ...]:
    """The years that age groups cover, from names such as "4-6" and "60-"; none where a name says nothing of years."""
    ends = [name.split("-") for name in names]
    if not all(len(pair) == 2 and pair[0].isdecimal() and (pair[1] or "100").isdecimal() for pair in ends):
        return ()
    return tuple((float(low), float(high or 100)) for low, high in ends)
