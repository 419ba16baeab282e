"""One class out of several."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ror_jax.errors import UserError, unknown
from ror_jax.outputs import Head
from ror_jax.tasks import metrics
from ror_jax.tasks.answers import Answer, Class
from ror_jax.tasks.losses import OBJECTIVES, Objective, class_weights, nearest_class, weighted_mean
from ror_jax.tasks.task import Arrays, Label, Task


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """The class of an image, out of K.

    Attributes:
      names: of the K classes.
      weights: of the classes in the loss: a name ("LW0" ... "LW3"), K numbers, or None for all ones.
      normalize_by: what the sum over the batch is divided by: "batch", the number of images, or "weights", the sum of
        their weights; see `losses.weighted_mean`.
      target: key of the label, and name of head and answer.
      objective: name of the loss, see `losses.OBJECTIVES`.
      top_5_from: number of classes from which on top-5 accuracy is measured.
    """

    names: tuple[str, ...]
    _: dataclasses.KW_ONLY
    weights: Any = None
    normalize_by: str = "batch"

    target: ClassVar[str] = "label"
    primary: ClassVar[str] = "accuracy"
    plotted: ClassVar[tuple[str, ...]] = ("accuracy", "cross_entropy")
    objective: ClassVar[str] = "cross_entropy"
    top_5_from: ClassVar[float] = 20

    def __post_init__(self):
        if self.objective not in OBJECTIVES:
            raise unknown("objective", self.objective, OBJECTIVES)
        object.__setattr__(self, "weights", class_weights(self.weights, len(self.names)))
        if self.normalize_by not in ("batch", "weights"):
            raise UserError(f"normalize_by is {self.normalize_by!r}; it must be 'batch' or 'weights'")

    @property
    def labels(self) -> dict[str, Label]:
        return {self.target: Label(names=self.names)}

    @property
    def heads(self) -> dict[str, Head]:
        return {self.target: self._objective.head(len(self.names))}

    @property
    def loss_name(self) -> str:
        return self.objective

    def loss(self, outputs: Arrays, batch: Arrays, state: Any, step: jax.Array) -> tuple[jax.Array, dict]:
        labels, positions, mask = self._truth(batch)
        losses = self._objective.per_image(outputs[self.target], labels, positions)
        terms = self._objective.terms(labels, len(self.names))
        value = weighted_mean(losses, labels, self.weights, mask, terms, normalize_by=self.normalize_by)
        return value, {self.objective: value}

    def decode(self, outputs: Arrays, mirrored: tuple[bool, ...]) -> jax.Array:
        """The probabilities of the classes, mean over the views: float32 [B, K]."""
        return self._objective.probabilities(outputs[self.target]).mean(1)

    def measure(self, estimates: jax.Array, batch: Arrays, state: Any) -> dict:
        """Sums over one batch: `confusion` [K, K]; `cross_entropy` of the probabilities, not weighted, in nats; and, of
        many classes, `top_5`, the images whose class is among the five most probable."""
        labels, _, mask = self._truth(batch)
        sums = {
            "confusion": metrics.confusion(self._chosen(estimates, state), labels, mask, (len(self.names),) * 2),
            "cross_entropy": metrics.cross_entropy(estimates, labels, mask),
        }
        if len(self.names) >= self.top_5_from:
            sums["top_5"] = metrics.top_k_correct(estimates, labels, mask, 5)
        return sums

    def summarize(self, sums: Mapping) -> dict[str, Any]:
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

    def line(self, results: Mapping[str, Any]) -> str:
        top_5 = f", top-5 {100 * results['top_5']:.2f} %" if "top_5" in results else ""
        return f"{super().line(results)}{top_5}"

    def answers(self, estimates: jax.Array, state: Any) -> dict[str, Answer]:
        return {self.target: self._answer(estimates, state)}

    def truth(self, batch: Arrays) -> dict:
        return {self.target: self._classes(batch)}

    @property
    def _objective(self) -> Objective:
        return OBJECTIVES[self.objective]

    def _answer(self, probabilities: jax.Array, state: Any, **more: Any) -> Class:
        chosen = self._chosen(probabilities, state)
        confidence = jnp.take_along_axis(probabilities, chosen[:, None], 1)[:, 0]
        return Class(chosen, confidence, probabilities, names=self.names, **more)

    def _chosen(self, probabilities: jax.Array, state: Any) -> jax.Array:
        """The class that is answered, int32 [B]."""
        return nearest_class(self._objective.decode(probabilities), len(self.names))

    def _classes(self, batch: Arrays) -> jax.Array:
        """The true class of each image, int32 [B]; -1 where it is not known."""
        return batch[self.target]

    def _positions(self, batch: Arrays) -> jax.Array:
        """Where each image lies among the classes, float32 [B], see `losses`."""
        return self._classes(batch).astype(jnp.float32)

    def _truth(self, batch: Arrays) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Classes and positions, 0 where they do not count, and the mask of those that do, [B] each."""
        classes = self._classes(batch)
        mask = batch["mask"] * (classes >= 0)
        return jnp.where(mask > 0, classes, 0), jnp.where(mask > 0, self._positions(batch), 0), mask
