"""Age in years and gender at once, from one network.

The article is D. Patel, "Multi-Task Deep Learning for Age and Gender Prediction: From Baseline to 0.82 Kaggle Score".
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from ror_jax.errors import unknown
from ror_jax.tasks import metrics
from ror_jax.tasks.age import AgeRegression
from ror_jax.tasks.gender import Gender
from ror_jax.tasks.multitask import MultiTask
from ror_jax.tasks.weighting import WEIGHTINGS


@dataclasses.dataclass(frozen=True)
class AgeGender(MultiTask):
    """The parts `age` and `gender`, and the harmonic score of both, by which epochs are compared (section 10).

    Results keep the parts' own names; `ages` and `images` are how many images had an age and a gender.
    """

    primary: ClassVar[str] = "harmonic"
    plotted: ClassVar[tuple[str, ...]] = ("harmonic", "rmse", "macro_f1")

    def summarize(self, sums: Mapping) -> dict[str, Any]:
        age, gender = (self.parts[name].summarize(sums[name]) for name in ("age", "gender"))
        score = metrics.harmonic(age["rmse"], gender["macro_f1"])
        return {"harmonic": score} | age | gender | {"ages": age["images"]}

    def score(self, results: Mapping[str, Any]) -> float:
        """The harmonic score; of the validation split, with the threshold that it leads to."""
        return metrics.harmonic(results["rmse"], results.get("best_macro_f1", results["macro_f1"]))

    def line(self, results: Mapping[str, Any]) -> str:
        age = self.parts["age"].line(results)
        return f"harmonic score {results['harmonic']:.4f}, {age}, gender F1 {results['macro_f1']:.4f}"


def create_age_gender(
    ages: tuple[str, ...],
    genders: tuple[str, ...],
    *,
    weights: Any = (1.0, 1.1),
    normalize_by: str = "batch",
    age_weight: float = 1.0,
    gender_weight: float = 1.0,
    age_scale: float = 10.0,
    balance: str = "fixed",
    threshold: float | str = 0.5,
) -> AgeGender:
    """Returns the task whose loss is age_weight * SmoothL1(age) + gender_weight * BCE(gender) (sections 6 and 8).

    Args:
      ages: not used.
      genders: names of the genders.
      weights: of the genders in the loss; the second one is the article's `pos_weight`.
      normalize_by: what the loss of gender is divided by: "batch" or "weights", see `Classification`.
      age_weight: weight of the loss of age.
      gender_weight: weight of the loss of gender.
      age_scale: years. An error of more than this counts linearly.
      balance: how the two losses are weighed: "fixed", by their weights alone, or "uncertainty", see
        `weighting.Uncertainty`.
      threshold: the probability of "male" above which it is the answer; "validation": the one with the best macro F1
        on the validation split.

    Raises:
      UserError: an option that makes no sense.
    """
    if balance not in WEIGHTINGS:
        raise unknown("balance", balance, WEIGHTINGS)
    weighting = WEIGHTINGS[balance]({"age": age_weight, "gender": gender_weight})
    age = AgeRegression(scale=age_scale)
    gender = Gender(genders, weights=weights, normalize_by=normalize_by, threshold=threshold, logits=1)
    return AgeGender({"age": age, "gender": gender}, weighting)
