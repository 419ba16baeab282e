"""Metrics as sums and counts, so that neither padding nor sharding can bias them.

A confusion matrix of counts is the sum from which all else follows: `confusion` is computed on the device, batch by
batch, and added up; the other functions read the total, a numpy array [K, K] with a row for each true class. Where a
batch is divided over devices, sums are those of the whole batch.
"""

import jax.numpy as jnp
import numpy as np

from ror_jax import parallel


def confusion(predictions, labels, mask, num_classes: int):
    """Counts [K, K] int32 (row: label, column: prediction) of the images whose mask is 1; all arguments are [B]."""
    # Matrices of a thousand classes are too large to be sent about; what they count is not.
    predictions, labels, mask = parallel.gathered((predictions, labels, mask))
    counts = jnp.zeros((num_classes, num_classes), jnp.int32)
    return counts.at[jnp.where(mask > 0, labels, 0), predictions].add((mask > 0).astype(jnp.int32))


def cross_entropy(probabilities, labels, mask):
    """Sum of -log p of the label in nats, no p being taken for less than the smallest normal number.

    It is NaN if any of the probabilities is, so that no other number has to be asked. `probabilities` are [B, K], the
    others [B].
    """
    of_label = _of_label(probabilities, labels, mask)[:, 0]
    losses = -jnp.log(jnp.maximum(of_label, jnp.finfo(of_label.dtype).tiny)) * mask
    return parallel.total(jnp.where(jnp.isnan(probabilities).any(1), jnp.nan, losses).sum())


def top_k_correct(probabilities, labels, mask, k: int):
    """Images whose class is among the k likeliest, int32: what top-k accuracy counts.

    `probabilities` are [B, K], the others [B]. A class that is as likely as the label's counts as less likely.
    """
    of_label = _of_label(probabilities, labels, mask)
    likelier = (~(probabilities <= of_label)).sum(1)  # so that what is not a number is never correct
    return parallel.total((likelier < k).astype(jnp.int32) @ (mask > 0).astype(jnp.int32))


def accuracy(counts: np.ndarray) -> float:
    """Share of images whose class was found: "exact" accuracy where the classes are age groups."""
    return _share(np.trace(counts), counts.sum())


def one_off_accuracy(counts: np.ndarray) -> float:
    """Share of images whose class or a neighbouring one was found (Deep-RoR, section IV.B)."""
    near = sum(np.trace(counts, offset) for offset in (-1, 0, 1))
    return _share(near, counts.sum())


def recall(counts: np.ndarray) -> list[float | None]:
    """Share found of each class; None for a class without images."""
    return [
        float(found / total) if total else None for found, total in zip(np.diag(counts), counts.sum(1), strict=True)
    ]


def majority_rate(counts: np.ndarray) -> float:
    """The accuracy of always answering the most frequent class."""
    return _share(counts.sum(1).max(), counts.sum())


def _of_label(probabilities, labels, mask):
    return jnp.take_along_axis(probabilities, jnp.where(mask > 0, labels, 0)[:, None], axis=1)


def _share(part, whole) -> float:
    return float(part / max(whole, 1))
