"""Loss functions: pure functions on arrays."""

import jax
import jax.numpy as jnp

from ror_jax.errors import UserError

# Deep-RoR, Table I: how much each of Adience's eight age groups counts.
LOSS_WEIGHTS = {
    "LW0": (1, 1, 1, 1, 1, 1, 1, 1),
    "LW1": (1, 1, 1, 0.9, 0.8, 0.8, 0.9, 1),
    "LW2": (1, 1, 1, 1.1, 1.2, 1.2, 1.1, 1),
    "LW3": (1, 1, 1, 1.3, 1.5, 1.5, 1.3, 1),
}


def class_weights(weights, num_classes: int) -> tuple[float, ...]:
    """A weight for each class from a name of `LOSS_WEIGHTS` or from numbers; None is all ones.

    Raises:
      UserError: an unknown name, a wrong length, or weights that are negative or all zero.
    """
    if weights is None:
        return (1.0,) * num_classes
    if isinstance(weights, str):
        if weights not in LOSS_WEIGHTS:
            raise UserError(f"class weights {weights!r} do not exist; use one of {', '.join(LOSS_WEIGHTS)} or numbers")
        weights = LOSS_WEIGHTS[weights]
    weights = tuple(float(weight) for weight in weights)
    if len(weights) != num_classes:
        raise UserError(f"{len(weights)} class weights were given, {weights}, but there are {num_classes} classes")
    if min(weights) < 0 or max(weights) == 0:
        raise UserError(f"class weights {weights} must be at least 0, and one of them more")
    return weights


def weighted_cross_entropy(logits, labels, weights, mask, *, normalize_by: str = "batch"):
    """Weighted softmax cross-entropy (Deep-RoR, section III.C).

    Args:
      logits: [B, K]. labels: [B] int, ignored where masked. weights: [K]. mask: [B], 1 where the image counts.
      normalize_by: "batch" divides the sum by the number of images that count, "weights" by the sum of their weights.

    Returns:
      The loss (scalar), in nats.
    """
    labels = jnp.where(mask > 0, labels, 0)
    log_likelihood = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)[:, 0]
    weight = jnp.asarray(weights, logits.dtype)[labels] * mask
    total = weight if normalize_by == "weights" else mask
    return -(weight * log_likelihood).sum() / jnp.maximum(total.sum(), 1e-9)
