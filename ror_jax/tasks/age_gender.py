"""Age in years and gender at once, from one network.

The article is D. Patel, "Multi-Task Deep Learning for Age and Gender Prediction: From Baseline to 0.82 Kaggle Score".
An image that has one of the two labels counts for that one.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import optax

from ror_jax.errors import UserError
from ror_jax.outputs import Head
from ror_jax.tasks import metrics
from ror_jax.tasks.classification import Classification
from ror_jax.tasks.losses import weighted_mean

OLDEST = 100.0  # years; what is predicted lies in 0 ... 100
BINS = 200  # of the probability, in which a threshold is looked for
BALANCES = ("fixed", "uncertainty")


@dataclasses.dataclass(frozen=True)
class AgeGender(Classification):
    """The age as one number, in years as the network gives it, and gender as one logit, of "male" (section 6).

    The loss is age_weight * SmoothL1((age - true age) / age_scale) + gender_weight * BCE(gender) (section 8). Ages are
    scaled there and nowhere else, so that a prediction cannot come out on another scale (section 14).

    Attributes:
      names: of the genders.
      weights: of the genders in the loss; the second one is the article's `pos_weight`.
      age_weight, gender_weight: of the two losses.
      age_scale: years. An error of more than this counts linearly. The article gives none: with ten years, both losses
        are of about the same size.
      balance: "fixed", the weights as they are; or "uncertainty", each loss L beside them divided by a variance that is
        learnt (Kendall, Gal, Cipolla, CVPR 2018, equation 10): L_age / (2 s_1) + log(s_1) / 2 + L_gender / s_2
        + log(s_2) / 2. The network then has a third output, the two logarithms, the same for all images.
      threshold: the probability of "male" above which that is the answer; or "validation", for the one with the best F1
        on the images for validation, found anew after each epoch and kept with the checkpoint.
    """

    weights: Any = (1.0, 1.1)
    age_weight: float = 1.0
    gender_weight: float = 1.0
    age_scale: float = 10.0
    balance: str = "fixed"
    threshold: float | str = 0.5

    target: ClassVar[str] = "gender"
    beside: ClassVar[tuple[str, ...]] = ("age",)
    plotted: ClassVar[tuple[str, ...]] = ("harmonic", "rmse", "macro_f1")
    objective: ClassVar[str] = "ladder"  # of two classes: one logit and its binary cross-entropy

    def __post_init__(self):
        super().__post_init__()
        for name in ("age_weight", "gender_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.age_weight == self.gender_weight == 0:
            raise UserError("age_weight and gender_weight are 0; one of them must be more, or nothing is learnt")
        if not 0 < self.age_scale < math.inf:
            raise UserError(f"age_scale is {self.age_scale}; it must be more than 0 years")
        if self.balance not in BALANCES:
            raise UserError(f"balance is {self.balance!r}; it must be one of {', '.join(BALANCES)}")
        tuned = self.threshold == "validation"
        if not tuned and not (isinstance(self.threshold, int | float) and 0 < self.threshold < 1):
            raise UserError(f"threshold is {self.threshold!r}; it must be a number between 0 and 1, or 'validation'")

    @property
    def needs_validation(self) -> bool:
        return self.threshold == "validation"

    @property
    def outputs(self) -> dict[str, Head]:
        learnt = {"log_variances": Head(2, trunk=None)} if self.balance == "uncertainty" else {}
        return {"age": Head(1)} | super().outputs | learnt

    def initial_state(self) -> dict:
        """`threshold`, float32."""
        return {"threshold": jnp.float32(0.5 if self.needs_validation else self.threshold)}

    def after_validation(self, task_state: dict, results: dict) -> dict:
        return {"threshold": results["best_threshold"]} if self.needs_validation else task_state

    def loss(self, outputs: dict, batch: dict, step, task_state: dict):
        ages, mask = self._ages(batch)
        errors = optax.huber_loss(outputs["age"][:, 0] / self.age_scale, ages / self.age_scale)
        age = weighted_mean(errors, self._everyone(ages), (1.0,), mask)
        gender, _ = super().loss(outputs, batch, step, task_state)
        age, gender = self.age_weight * age, self.gender_weight * gender
        value = age + gender
        if self.balance == "uncertainty":
            logs = outputs["log_variances"]
            known = mask, self._truth(batch)[2]
            spread = [weighted_mean(log, self._everyone(log), (1.0,), m) for log, m in zip(logs.T, known, strict=True)]
            value = jnp.exp(-logs[0, 0]) * age / 2 + jnp.exp(-logs[0, 1]) * gender + sum(spread) / 2
        return value, {"age": age, "gender": gender}

    def estimates(self, outputs: dict) -> dict:
        """Also `age` [...], years. Over views both are averaged (section 13)."""
        return super().estimates(outputs) | {"age": outputs["age"][..., 0]}

    def first_biases(self, labels: Callable) -> dict:
        """The mean age: from 0, with AdamW's small steps, it takes thousands of these to arrive among people's ages."""
        ages = labels(["age"])["age"]
        return {"age": ages[ages >= 0].mean(keepdims=True)}

    def constant(self, labels: Callable) -> dict:
        """The mean age and the more frequent gender."""
        genders = labels([self.target])[self.target]
        most = np.bincount(genders[genders >= 0], minlength=2).argmax()
        return self.first_biases(labels) | {self.target: np.eye(2)[[most]]}

    def metrics(self, estimates: dict, batch: dict, task_state: dict) -> dict:
        """Those of a classification, of gender; and `years`, see `metrics.errors`, of ages cut to 0 ... 100 years."""
        ages, mask = self._ages(batch)
        sums = {"years": metrics.errors(_cut(estimates["age"]), ages, mask)}
        if self.needs_validation:
            labels, _, known = self._truth(batch)
            bins = jnp.clip(jnp.ceil(estimates[self.target][:, 1] * BINS).astype(jnp.int32) - 1, 0, BINS - 1)
            sums["histogram"] = metrics.confusion(bins, labels, known, (2, BINS))
        return super().metrics(estimates, batch, task_state) | sums

    def summarize(self, sums: dict) -> dict:
        """Also the errors of age, `macro_f1` of gender and `harmonic`, section 10's score of both; `ages` and `images`
        are how many had an age and a gender; see `best_threshold` for what is found of one."""
        summary, counts = super().summarize(sums), np.asarray(sums["confusion"])
        years, f1 = metrics.summarize_errors(sums["years"]), metrics.macro_f1(counts)
        found = {"harmonic": metrics.harmonic(years["rmse"], f1), **years, "macro_f1": f1}
        if "histogram" in sums:
            found |= best_threshold(np.asarray(sums["histogram"]))
        return found | summary | {"ages": int(sums["years"]["count"])}

    def score(self, results: dict) -> float:
        """The harmonic score; of images for validation, with the threshold that they lead to."""
        return metrics.harmonic(results["rmse"], results.get("best_macro_f1", results["macro_f1"]))

    def line(self, results: dict) -> str:
        errors = f"RMSE {results['rmse']:.2f}, MAE {results['mae']:.2f} years"
        return f"harmonic score {results['harmonic']:.4f}, {errors}, gender F1 {results['macro_f1']:.4f}"

    def predict(self, estimates: dict, task_state: dict) -> dict:
        """Also `age`: `years` [B], 0 ... 100."""
        return super().predict(estimates, task_state) | {"age": {"years": _cut(estimates["age"])}}

    def _classes(self, probabilities, task_state):
        return (probabilities[..., 1] > task_state["threshold"]).astype(jnp.int32)

    def _ages(self, batch):
        """Ages, 0 where they do not count, and the mask of those that do, each [B]."""
        ages = batch["age"]
        mask = batch["mask"] * (ages >= 0)
        return jnp.where(mask > 0, ages, 0).astype(jnp.float32), mask

    def _everyone(self, values):
        """The class of images that all weigh the same."""
        return jnp.zeros(len(values), jnp.int32)


def best_threshold(histogram: np.ndarray) -> dict:
    """Of the borders between the bins of P(male), counted [2, BINS] for women and men, the one with the best macro F1.

    Returns:
      `best_threshold`, of equals the one nearest to 1/2, and `best_macro_f1`.
    """
    below = histogram.cumsum(1)[:, :-1]  # answered with "female" by each threshold
    above = histogram.sum(1, keepdims=True) - below
    scores = [metrics.macro_f1(np.stack(answers, 1)) for answers in zip(below.T, above.T, strict=True)]
    borders = np.arange(1, BINS) / BINS
    best = np.flatnonzero(np.isclose(scores, max(scores), rtol=1e-9))
    nearest = best[np.abs(borders[best] - 0.5).argmin()]
    return {"best_threshold": float(borders[nearest]), "best_macro_f1": scores[nearest]}


def _cut(ages):
    return jnp.clip(ages, 0.0, OLDEST)
