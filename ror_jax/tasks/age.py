"""Age in years: as one of 101 classes, or as one number."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from input_pipeline.age_groups import AGE_GROUPS, nearest_age_group
from ror_jax import parallel
from ror_jax.errors import UserError
from ror_jax.outputs import Head
from ror_jax.tasks import metrics
from ror_jax.tasks.answers import Answer, Class, Number
from ror_jax.tasks.losses import mean, mode, nearest_class, weighted_mean
from ror_jax.tasks.ordered import Ordered
from ror_jax.tasks.task import Arrays, Label, Task

OLDEST = 100.0  # years; answers lie in 0 ... 100
AGE = Label(dtype=np.float32)  # in years, not necessarily whole ones


@dataclasses.dataclass(frozen=True)
class AgeYears(Ordered):
    """Age as a class for each of 0, 1, 2 ... years (Deep-RoR, section III.E: 101), an age being that of the nearest.

    Errors are measured against the ages as they are, and losses of positions take them so.
    """

    target: ClassVar[str] = "age"
    primary: ClassVar[str] = "mae"
    plotted: ClassVar[tuple[str, ...]] = ("mae", "cross_entropy")
    default_sigma: ClassVar[float] = 2.0

    @property
    def labels(self) -> dict[str, Label]:
        return {self.target: AGE}

    def measure(self, estimates: jax.Array, batch: Arrays, state: Any) -> dict:
        """Also `years`, see `metrics.errors`, of the objective's own reading of the probabilities (where that is the
        expectation, it is not rounded); and the sums of the absolute errors of two others: `mae_argmax` of the
        most probable year, `mae_expectation` of the expectation (DEX: Rothe et al., IJCV 2018)."""
        _, ages, mask = self._truth(batch)
        sums = {"years": metrics.errors(self._objective.decode(estimates), ages, mask)}
        for name, decode in {"mae_argmax": mode, "mae_expectation": mean}.items():
            sums[name] = parallel.total((jnp.abs(decode(estimates) - ages) * mask).sum())
        return super().measure(estimates, batch, state) | sums

    def summarize(self, sums: Mapping) -> dict[str, Any]:
        summary = super().summarize(sums)
        others = {name: float(sums[name]) / max(summary["images"], 1) for name in ("mae_argmax", "mae_expectation")}
        return metrics.summarize_errors(sums["years"]) | others | summary

    def line(self, results: Mapping[str, Any]) -> str:
        errors = f"MAE {results['mae']:.2f} years (expectation {results['mae_expectation']:.2f})"
        return f"{errors}, within 5 years {100 * results['within_5']:.2f} %, exact {100 * results['accuracy']:.2f} %"

    def answers(self, estimates: jax.Array, state: Any) -> dict[str, Answer]:
        """The age, and the age group with its probability."""
        of_year = jax.nn.one_hot(nearest_age_group(np.arange(len(self.names))), len(AGE_GROUPS))
        groups = estimates @ of_year
        number = Number(
            self._objective.decode(estimates).astype(jnp.float32), mean(estimates), unit="years", title="age"
        )
        return {self.target: number, "age_group": age_group(groups.argmax(1), groups)}

    def truth(self, batch: Arrays) -> dict:
        return {self.target: batch[self.target]}

    def constant_baseline(self, labels: Callable[[list[str]], Arrays]) -> np.ndarray:
        """How frequent each year is."""
        ages = labels([self.target])[self.target]
        counts = np.bincount(nearest_class(ages[ages >= 0], len(self.names)), minlength=len(self.names))
        return counts[None] / counts.sum()

    def _classes(self, batch: Arrays) -> jax.Array:
        ages = batch[self.target]
        return jnp.where(ages >= 0, nearest_class(ages, len(self.names)), -1)

    def _positions(self, batch: Arrays) -> jax.Array:
        return batch[self.target]


@dataclasses.dataclass(frozen=True)
class AgeRegression(Task):
    """Age as one number, in years as the network gives it.

    The loss is SmoothL1((age - true age) / scale). Ages are scaled there and nowhere else, so that no answer comes out
    on another scale (D. Patel, "Multi-Task Deep Learning for Age and Gender Prediction", sections 8 and 14).

    Attributes:
      names: of the years of the data; not used.
      scale: years. An error of more than this counts linearly. The article gives none: with ten years, this loss and
        that of gender are of about the same size.
    """

    names: tuple[str, ...] = ()
    _: dataclasses.KW_ONLY
    scale: float = 10.0

    labels: ClassVar[dict[str, Label]] = {"age": AGE}
    heads: ClassVar[dict[str, Head]] = {"age": Head(1)}
    primary: ClassVar[str] = "mae"
    plotted: ClassVar[tuple[str, ...]] = ("mae", "rmse")
    loss_name: ClassVar[str] = "SmoothL1"
    variance_factor: ClassVar[float] = 2.0

    def __post_init__(self):
        if not 0 < self.scale < math.inf:
            raise UserError(f"scale is {self.scale}; it must be more than 0 years")

    def loss(self, outputs: Arrays, batch: Arrays, state: Any, step: jax.Array) -> tuple[jax.Array, dict]:
        ages, mask = self._ages(batch)
        errors = optax.huber_loss(outputs["age"][:, 0] / self.scale, ages / self.scale)
        value = weighted_mean(errors, jnp.zeros(len(ages), jnp.int32), (1.0,), mask)
        return value, {"age": value}

    def decode(self, outputs: Arrays, mirrored: tuple[bool, ...]) -> jax.Array:
        """Years, mean over the views: float32 [B]."""
        return outputs["age"][..., 0].mean(1)

    def measure(self, estimates: jax.Array, batch: Arrays, state: Any) -> dict:
        """See `metrics.errors`, of ages cut to 0 ... 100 years."""
        return metrics.errors(_cut(estimates), *self._ages(batch))

    def summarize(self, sums: Mapping) -> dict[str, Any]:
        return metrics.summarize_errors(sums) | {"images": int(sums["count"])}

    def line(self, results: Mapping[str, Any]) -> str:
        return f"RMSE {results['rmse']:.2f}, MAE {results['mae']:.2f} years"

    def answers(self, estimates: jax.Array, state: Any) -> dict[str, Answer]:
        years = _cut(estimates)
        return {"age": Number(years, unit="years", title="age"), "age_group": age_group(nearest_age_group(years))}

    def truth(self, batch: Arrays) -> dict:
        return {"age": batch["age"]}

    def first_biases(self, labels: Callable[[list[str]], Arrays]) -> dict:
        """The mean age: from 0, with AdamW's small steps, the output takes thousands of them to reach people's ages."""
        return {"age": self.constant_baseline(labels)}

    def constant_baseline(self, labels: Callable[[list[str]], Arrays]) -> np.ndarray:
        """The mean age."""
        ages = labels(["age"])["age"]
        return ages[ages >= 0].mean(keepdims=True)

    def _ages(self, batch: Arrays) -> tuple[jax.Array, jax.Array]:
        """Ages, 0 where they do not count, and the mask of those that do, [B] each."""
        ages = batch["age"]
        mask = batch["mask"] * (ages >= 0)
        return jnp.where(mask > 0, ages, 0).astype(jnp.float32), mask


def age_group(chosen: jax.Array, probabilities: jax.Array | None = None) -> Class:
    """The age group that follows from an age."""
    confidence = None if probabilities is None else probabilities.max(1)
    return Class(chosen, confidence, probabilities, names=AGE_GROUPS, ordered=True, unit="years", derived=True)


def _cut(ages: jax.Array) -> jax.Array:
    return jnp.clip(ages, 0.0, OLDEST)
