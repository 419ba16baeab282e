"""One class out of several: the task from which age group and gender differ by a line each."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ror_jax.errors import UserError
from ror_jax.tasks import metrics
from ror_jax.tasks.losses import class_weights, weighted_cross_entropy

TOP_5_FROM = 20  # classes; of fewer, top-5 accuracy says little


@dataclasses.dataclass(frozen=True)
class Classification:
    """What is learnt from a label out of K: loss, metrics and predictions. The trainer knows a task by these alone.

    Attributes:
      names: the K classes.
      weights: of the classes in the loss: a name (LW0 ... LW3), K numbers, or None for all ones.
      normalize_by: "batch" or "weights", see `weighted_cross_entropy`.
      target: the key of the label in a batch and of the output in a model.
      primary: the metric by which checkpoints are compared (higher is better).
    """

    names: tuple[str, ...]
    weights: Any = None
    normalize_by: str = "batch"

    target: ClassVar[str] = "label"
    primary: ClassVar[str] = "accuracy"

    def __post_init__(self):
        object.__setattr__(self, "weights", class_weights(self.weights, len(self.names)))
        if self.normalize_by not in ("batch", "weights"):
            raise UserError(f"normalize_by is {self.normalize_by!r}; it must be 'batch' or 'weights'")

    @property
    def outputs(self) -> dict[str, int]:
        """The outputs that a model must have: size by name."""
        return {self.target: len(self.names)}

    def initial_state(self) -> dict:
        """What the loss learns from validation; a part of the train state. Nothing here."""
        return {}

    def after_validation(self, task_state: dict, results: dict) -> dict:
        """The task state that follows from validation results."""
        return task_state

    def loss(self, outputs: dict, batch: dict, step, task_state: dict):
        """(scalar, parts by name) for one batch. An image without the label (-1) does not count."""
        labels, mask = self._labels(batch)
        logits = outputs[self.target]
        value = weighted_cross_entropy(logits, labels, self.weights, mask, normalize_by=self.normalize_by)
        return value, {"cross_entropy": value}

    def average_views(self, outputs: dict) -> dict:
        """The output [B, K] whose softmax is the mean of the probabilities over the views, from outputs [B, V, K]."""
        log_probabilities = jax.nn.log_softmax(outputs[self.target])
        views = log_probabilities.shape[1]
        return {self.target: jax.nn.logsumexp(log_probabilities, axis=1) - math.log(views)}

    def metrics(self, outputs: dict, batch: dict) -> dict:
        """Sums over one batch: `confusion` [K, K]; `cross_entropy` over the images, not weighted, in nats; and, of many
        classes, `top_5`, the images whose class is among the five likeliest."""
        labels, mask = self._labels(batch)
        logits = outputs[self.target]
        ones = jnp.ones(len(self.names))
        mean = weighted_cross_entropy(logits, labels, ones, mask)
        counts = metrics.confusion(logits.argmax(-1), labels, mask, len(self.names))
        sums = {"confusion": counts, "cross_entropy": mean * mask.sum()}
        if len(self.names) >= TOP_5_FROM:
            sums["top_5"] = metrics.top_k_correct(logits, labels, mask, 5)
        return sums

    def summarize(self, sums: dict) -> dict:
        """Numbers a person reads, from the sums over a whole split (as numpy arrays)."""
        counts = np.asarray(sums["confusion"])
        number = int(counts.sum())
        return {
            self.primary: metrics.accuracy(counts),
            **({"top_5": int(sums["top_5"]) / max(number, 1)} if "top_5" in sums else {}),
            "cross_entropy": float(sums["cross_entropy"]) / max(number, 1),
            "recall": dict(zip(self.names, metrics.recall(counts), strict=True)),
            "majority_rate": metrics.majority_rate(counts),
            "images": number,
            "confusion": counts.tolist(),
        }

    def line(self, results: dict) -> str:
        """The main numbers of `summarize`, in a few words."""
        top_5 = f", top-5 {100 * results['top_5']:.2f} %" if "top_5" in results else ""
        return f"{self.primary} {100 * results[self.primary]:.2f} %{top_5}"

    def predict(self, outputs: dict) -> dict:
        """`class` [B] int and `probabilities` [B, K] by the name of the target."""
        probabilities = jax.nn.softmax(outputs[self.target])
        return {self.target: {"class": probabilities.argmax(-1), "probabilities": probabilities}}

    def _labels(self, batch):
        labels = batch[self.target]
        return labels, batch["mask"] * (labels >= 0)


@dataclasses.dataclass(frozen=True)
class Gender(Classification):
    """Female or male, as the data sets label them."""

    target: ClassVar[str] = "gender"


@dataclasses.dataclass(frozen=True)
class AgeGroup(Classification):
    """Ordered age groups; `exact` accuracy and `one_off`, where a neighbouring group counts too."""

    target: ClassVar[str] = "age_group"
    primary: ClassVar[str] = "exact"

    def summarize(self, sums: dict) -> dict:
        one_off = metrics.one_off_accuracy(np.asarray(sums["confusion"]))
        summary = super().summarize(sums)
        return {"exact": summary.pop("exact"), "one_off": one_off} | summary

    def line(self, results: dict) -> str:
        return f"{super().line(results)}, 1-off {100 * results['one_off']:.2f} %"
