"""Female or male, as the data sets label them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ror_jax.errors import UserError
from ror_jax.tasks import metrics
from ror_jax.tasks.classification import Classification
from ror_jax.tasks.task import Arrays

BINS = 200  # of the probability, in which a threshold is looked for


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gender(Classification):
    """One of two classes.

    Attributes:
      threshold: the probability of the second class above which it is the answer; "validation": the one with the best
        macro F1 on the validation split, found anew each time that this is measured; None: the more probable class.
      logits: 2, of a softmax; or 1, of a sigmoid, with the same loss.
    """

    threshold: float | str | None = None
    logits: int = 2

    target: ClassVar[str] = "gender"

    def __post_init__(self):
        if self.logits not in (1, 2):
            raise UserError(f"logits is {self.logits}; it must be 1 or 2")
        super().__post_init__()
        number = isinstance(self.threshold, int | float) and 0 < self.threshold < 1
        if not number and self.threshold not in (None, "validation"):
            raise UserError(f"threshold is {self.threshold!r}; it must be a number between 0 and 1, or 'validation'")

    @property
    def objective(self) -> str:
        return "cross_entropy" if self.logits == 2 else "ladder"  # of two classes: one binary cross-entropy

    @property
    def loss_name(self) -> str:
        return "cross_entropy" if self.logits == 2 else "binary_cross_entropy"

    @property
    def needs_validation(self) -> bool:
        return self.threshold == "validation"

    def initial_state(self) -> dict:
        """`threshold`, float32, if there is one."""
        if self.threshold is None:
            return {}
        return {"threshold": jnp.float32(0.5 if self.needs_validation else self.threshold)}

    def measure(self, estimates: jax.Array, batch: Arrays, state: Any) -> dict:
        """Also, where a threshold is looked for, the `histogram` of the second class' probability, int32 [2, BINS]."""
        sums = super().measure(estimates, batch, state)
        if self.needs_validation:
            classes, _, known = self._truth(batch)
            bins = jnp.clip(jnp.ceil(estimates[:, 1] * BINS).astype(jnp.int32) - 1, 0, BINS - 1)
            sums["histogram"] = metrics.confusion(bins, classes, known, (2, BINS))
        return sums

    def summarize(self, sums: Mapping) -> dict[str, Any]:
        """Also `macro_f1`, and what `best_threshold` finds."""
        found = best_threshold(np.asarray(sums["histogram"])) if "histogram" in sums else {}
        return found | {"macro_f1": metrics.macro_f1(np.asarray(sums["confusion"]))} | super().summarize(sums)

    def update(self, state: Any, sums: Mapping, epoch: float) -> Any:
        if not self.needs_validation:
            return state
        return {"threshold": best_threshold(np.asarray(sums["histogram"]))["best_threshold"]}

    def check_validation(self, labels: Callable[[list[str]], Arrays]) -> None:
        classes = labels([self.target])[self.target]
        if absent := [name for number, name in enumerate(self.names) if not (classes == number).any()]:
            raise UserError(f"no image for validation is {' or '.join(absent)}: no threshold can be tuned on them")

    def constant_baseline(self, labels: Callable[[list[str]], Arrays]) -> np.ndarray:
        """Certainty of the more frequent class."""
        classes = labels([self.target])[self.target]
        return np.eye(2, dtype=np.float32)[[np.bincount(classes[classes >= 0], minlength=2).argmax()]]

    def _chosen(self, probabilities: jax.Array, state: Any) -> jax.Array:
        if self.threshold is None:
            return super()._chosen(probabilities, state)
        return (probabilities[:, 1] > state["threshold"]).astype(jnp.int32)


def best_threshold(histogram: np.ndarray) -> dict[str, float]:
    """Returns the border between bins of the second class' probability that has the best macro F1.

    Args:
      histogram: counts [2, BINS] of images by true class and probability.

    Returns:
      `best_threshold`, of equals the one nearest to 1/2, and `best_macro_f1`.
    """
    below = histogram.cumsum(1)[:, :-1]  # answered with the first class by each threshold
    above = histogram.sum(1, keepdims=True) - below
    scores = [metrics.macro_f1(np.stack(answers, 1)) for answers in zip(below.T, above.T, strict=True)]
    borders = np.arange(1, BINS) / BINS
    best = np.flatnonzero(np.isclose(scores, max(scores), rtol=1e-9))
    nearest = best[np.abs(borders[best] - 0.5).argmin()]
    return {"best_threshold": float(borders[nearest]), "best_macro_f1": scores[nearest]}
