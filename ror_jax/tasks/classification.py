"""One class out of several."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from ror_jax.errors import UserError
from ror_jax.outputs import Head
from ror_jax.tasks import metrics
from ror_jax.tasks.losses import OBJECTIVES, Objective, class_weights, nearest_class, weighted_mean


@dataclasses.dataclass(frozen=True)
class Classification:
    """What is learnt from a label out of K: loss, metrics and predictions. The trainer knows a task by these alone.

    Attributes:
      names: the K classes.
      weights: of the classes in the loss: a name (LW0 ... LW3), K numbers, or None for all ones.
      normalize_by: "batch" or "weights", see `weighted_mean`.
      target: the key of the classes' label in a batch and of the output in a model.
      beside: the keys of other labels that are learnt with it.
      primary: the main one of the results; plotted: those that are drawn over the epochs.
      objective: the name of the loss, see `losses.OBJECTIVES`.
      needs_validation: whether `after_validation` must be called.
      top_5_from: the number of classes from which on top-5 accuracy says something.
    """

    names: tuple[str, ...]
    weights: Any = None
    normalize_by: str = "batch"

    target: ClassVar[str] = "label"
    beside: ClassVar[tuple[str, ...]] = ()
    primary: ClassVar[str] = "accuracy"
    plotted: ClassVar[tuple[str, ...]] = ("accuracy", "cross_entropy")
    objective: ClassVar[str] = "cross_entropy"
    top_5_from: ClassVar[float] = 20
    needs_validation: ClassVar[bool] = False

    def __post_init__(self):
        object.__setattr__(self, "weights", class_weights(self.weights, len(self.names)))
        if self.normalize_by not in ("batch", "weights"):
            raise UserError(f"normalize_by is {self.normalize_by!r}; it must be 'batch' or 'weights'")

    @classmethod
    def targets(cls) -> tuple[str, ...]:
        """The keys of all labels that are learnt. An image that has none of them does not count."""
        return (cls.target, *cls.beside)

    @property
    def outputs(self) -> dict[str, Head]:
        """The outputs that a model must have, by name."""
        return {self.target: self._objective.head(len(self.names))}

    def initial_state(self) -> dict:
        """What the loss learns from validation; a part of the train state. Nothing here."""
        return {}

    def after_validation(self, task_state: dict, results: dict) -> dict:
        """The task state that follows from validation results."""
        return task_state

    def first_biases(self, labels: Callable) -> dict:
        """What the biases of prediction layers begin with, by name of the output; the others begin with 0.

        `labels(keys)` gives those of all training images: arrays [N] by key.
        """
        return {}

    def constant(self, labels: Callable) -> dict | None:
        """The estimates for one image, [1, ...], of who knows these labels, as above, and sees no image.

        None where `majority_rate` says what that is worth.
        """

    def labels(self, batch: dict):
        """The true class of each image, int32 [B]; -1 where it is not known."""
        return batch[self.target]

    def loss(self, outputs: dict, batch: dict, step, task_state: dict):
        """(scalar, parts by name) for one batch. An image without the label does not count."""
        labels, positions, mask = self._truth(batch)
        losses = self._objective.per_image(outputs[self.target], labels, positions)
        terms = self._objective.terms(labels, len(self.names))
        value = weighted_mean(losses, labels, self.weights, mask, terms, normalize_by=self.normalize_by)
        return value, {self.objective: value}

    def estimates(self, outputs: dict) -> dict:
        """The probabilities of the classes, float32 [..., K] by name of the target. They may be averaged over views."""
        return {self.target: self._objective.probabilities(outputs[self.target])}

    def metrics(self, estimates: dict, batch: dict, task_state: dict) -> dict:
        """Sums over one batch: `confusion` [K, K]; `cross_entropy` of the probabilities, not weighted, in nats; and, of
        many classes, `top_5`, the images whose class is among the five likeliest."""
        labels, _, mask = self._truth(batch)
        probabilities = estimates[self.target]
        sums = {
            "confusion": metrics.confusion(
                self._classes(probabilities, task_state), labels, mask, (len(self.names),) * 2
            ),
            "cross_entropy": metrics.cross_entropy(probabilities, labels, mask),
        }
        if len(self.names) >= self.top_5_from:
            sums["top_5"] = metrics.top_k_correct(probabilities, labels, mask, 5)
        return sums

    def summarize(self, sums: dict) -> dict:
        """Numbers a person reads, from the sums over a whole split (as numpy arrays)."""
        counts = np.asarray(sums["confusion"])
        number = int(counts.sum())
        return {
            "accuracy": metrics.accuracy(counts),
            **({"top_5": int(sums["top_5"]) / max(number, 1)} if "top_5" in sums else {}),
            "cross_entropy": float(sums["cross_entropy"]) / max(number, 1),
            "recall": dict(zip(self.names, metrics.recall(counts), strict=True)),
            "majority_rate": metrics.majority_rate(counts),
            "images": number,
            "confusion": counts.tolist(),
        }

    def score(self, results: dict) -> float:
        """What epochs are compared by; higher is better."""
        return results[self.primary]

    def line(self, results: dict) -> str:
        """The main numbers of `summarize`, in a few words."""
        top_5 = f", top-5 {100 * results['top_5']:.2f} %" if "top_5" in results else ""
        return f"{self.primary} {100 * results[self.primary]:.2f} %{top_5}"

    def predict(self, estimates: dict, task_state: dict) -> dict:
        """`class` [B] int32 and `probabilities` [B, K] by the name of the target."""
        probabilities = estimates[self.target]
        return {self.target: {"class": self._classes(probabilities, task_state), "probabilities": probabilities}}

    @property
    def _objective(self) -> Objective:
        return OBJECTIVES[self.objective]

    def _classes(self, probabilities, task_state):
        return nearest_class(self._objective.decode(probabilities), len(self.names))

    def _positions(self, batch):
        """Where each image lies among the classes, see `losses`."""
        return self.labels(batch).astype(jnp.float32)

    def _truth(self, batch):
        """Labels and positions, 0 where they do not count, and the mask of those that do, each [B]."""
        labels = self.labels(batch)
        mask = batch["mask"] * (labels >= 0)
        return jnp.where(mask > 0, labels, 0), jnp.where(mask > 0, self._positions(batch), 0), mask


@dataclasses.dataclass(frozen=True)
class Gender(Classification):
    """Female or male, as the data sets label them."""

    target: ClassVar[str] = "gender"
