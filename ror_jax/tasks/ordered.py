"""Classes in an order: age groups, ages in years, and the question whether a face is older than a group."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from ror_jax import parallel
from ror_jax.errors import UserError, unknown
from ror_jax.tasks import metrics
from ror_jax.tasks.classification import Classification
from ror_jax.tasks.losses import OBJECTIVES, Objective, mean, mode, nearest_class


@dataclasses.dataclass(frozen=True)
class Ordered(Classification):
    """Classes of which some are nearer to each other than others.

    Attributes:
      objective: the loss, one of `losses.OBJECTIVES`; predictions are read as it says.
      sigma: width in classes of "label_distribution", and of no other; None is `default_sigma`.
    """

    objective: str = "cross_entropy"
    sigma: float | None = None

    default_sigma: ClassVar[float] = 0.5
    top_5_from: ClassVar[float] = math.inf  # how near an answer is says more

    def __post_init__(self):
        super().__post_init__()
        if self.objective not in OBJECTIVES:
            raise unknown("objective", self.objective, OBJECTIVES)
        if not OBJECTIVES[self.objective].takes_sigma:
            if self.sigma is not None:
                raise UserError(f"sigma is {self.sigma}, but objective {self.objective!r} has no width; leave it out")
        elif self.sigma is None:
            object.__setattr__(self, "sigma", self.default_sigma)
        elif not 0 < self.sigma < math.inf:
            raise UserError(f"sigma is {self.sigma}; it must be positive")

    def predict(self, estimates: dict, task_state: dict) -> dict:
        """Also `position` [B] float32, where among the classes the objective sees the image, and `expectation` [B]."""
        probabilities = estimates[self.target]
        position = self._objective.decode(probabilities).astype(jnp.float32)
        ordered = {"position": position, "expectation": mean(probabilities)}
        return {self.target: super().predict(estimates, task_state)[self.target] | ordered}

    @property
    def _objective(self) -> Objective:
        objective = super()._objective
        if not objective.takes_sigma:
            return objective
        return dataclasses.replace(objective, per_image=functools.partial(objective.per_image, sigma=self.sigma))


@dataclasses.dataclass(frozen=True)
class AgeGroup(Ordered):
    """Ordered age groups; `exact` accuracy and `one_off`, where a neighbouring group counts too."""

    target: ClassVar[str] = "age_group"
    primary: ClassVar[str] = "exact"
    plotted: ClassVar[tuple[str, ...]] = ("exact", "one_off", "cross_entropy")

    def summarize(self, sums: dict) -> dict:
        one_off = metrics.one_off_accuracy(np.asarray(sums["confusion"]))
        summary = super().summarize(sums)
        return {"exact": summary.pop("accuracy"), "one_off": one_off} | summary

    def line(self, results: dict) -> str:
        return f"{super().line(results)}, 1-off {100 * results['one_off']:.2f} %"


@dataclasses.dataclass(frozen=True)
class AgeYears(Ordered):
    """Age in years: a class for each of 0, 1, 2 ... (Deep-RoR, section III.E: 101), an age being that of the nearest.

    The batch has ages in float32, which need not be whole. Errors are measured against them, and losses of positions
    take them as they are.
    """

    target: ClassVar[str] = "age"
    primary: ClassVar[str] = "mae"
    plotted: ClassVar[tuple[str, ...]] = ("mae", "cross_entropy")
    default_sigma: ClassVar[float] = 2.0

    def labels(self, batch: dict):
        ages = batch[self.target]
        return jnp.where(ages >= 0, nearest_class(ages, len(self.names)), -1)

    def metrics(self, estimates: dict, batch: dict, task_state: dict) -> dict:
        """Also `years`, see `metrics.errors`, of the objective's own reading of the probabilities (where that is the
        expectation, it is not rounded); and the sums of the absolute errors of two others: `mae_argmax` of the
        likeliest year, `mae_expectation` of the expectation (DEX: Rothe et al., IJCV 2018).
        """
        _, ages, mask = self._truth(batch)
        probabilities = estimates[self.target]
        sums = {"years": metrics.errors(self._objective.decode(probabilities), ages, mask)}
        for name, decode in {"mae_argmax": mode, "mae_expectation": mean}.items():
            sums[name] = parallel.total((jnp.abs(decode(probabilities) - ages) * mask).sum())
        return super().metrics(estimates, batch, task_state) | sums

    def constant(self, labels: Callable) -> dict:
        """How frequent each year is."""
        ages = labels([self.target])[self.target]
        counts = np.bincount(nearest_class(ages[ages >= 0], len(self.names)), minlength=len(self.names))
        return {self.target: counts[None] / counts.sum()}

    def summarize(self, sums: dict) -> dict:
        summary = super().summarize(sums)
        others = {name: float(sums[name]) / max(summary["images"], 1) for name in ("mae_argmax", "mae_expectation")}
        return metrics.summarize_errors(sums["years"]) | others | summary

    def score(self, results: dict) -> float:
        return -results["mae"]

    def line(self, results: dict) -> str:
        errors = f"MAE {results['mae']:.2f} years (expectation {results['mae_expectation']:.2f})"
        return f"{errors}, within 5 years {100 * results['within_5']:.2f} %, exact {100 * results['accuracy']:.2f} %"

    def _positions(self, batch):
        return batch[self.target]


@dataclasses.dataclass(frozen=True)
class OlderThan(Classification):
    """Is the face older than age group k? One of the questions whose accuracies make the aging curve (Deep-RoR, eq. 2).

    Attributes:
      names: of the age groups; then those of the two answers.
      group: k, counted from 1; the oldest group is no question.
    """

    group: int | None = None

    target: ClassVar[str] = "age_group"

    def __post_init__(self):
        if self.group not in range(1, len(self.names)):
            raise UserError(f"group is {self.group}; it must be 1 ... {len(self.names) - 1}: older than which one?")
        first, last = self.names[0], self.names[self.group - 1]
        object.__setattr__(self, "names", (first if self.group == 1 else f"{first} ... {last}", "older"))
        super().__post_init__()

    def labels(self, batch: dict):
        groups = batch[self.target]  # counted from 0
        return jnp.where(groups >= 0, (groups >= self.group).astype(jnp.int32), -1)
