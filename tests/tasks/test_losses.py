"""Losses and class weights, against numbers worked out by hand."""

import math

import jax.numpy as jnp
import pytest

from ror_jax.errors import UserError
from ror_jax.tasks.losses import class_weights, weighted_cross_entropy

# Softmax of (0, ln 3) is (1/4, 3/4): the cross-entropies are ln 4 for class 0 and ln 4/3 for class 1.
LOGITS = jnp.array([[0.0, math.log(3)]] * 3)
LABELS = jnp.array([0, 1, 1])


@pytest.mark.parametrize(
    ("mask", "normalize_by", "expected"),
    [
        ((1, 1, 1), "batch", (2 * math.log(4) + 2 * 0.5 * math.log(4 / 3)) / 3),
        ((1, 1, 1), "weights", (2 * math.log(4) + 2 * 0.5 * math.log(4 / 3)) / 3),
        ((1, 1, 0), "batch", (2 * math.log(4) + 0.5 * math.log(4 / 3)) / 2),
        ((1, 1, 0), "weights", (2 * math.log(4) + 0.5 * math.log(4 / 3)) / 2.5),
    ],
)
def test_weighted_cross_entropy(mask, normalize_by, expected):
    """Class 0 weighs 2, class 1 weighs 1/2; the sum is divided by the images that count, or by their weights."""
    loss = weighted_cross_entropy(LOGITS, LABELS, (2, 0.5), jnp.array(mask, float), normalize_by=normalize_by)
    assert float(loss) == pytest.approx(expected)


def test_masked_labels_do_not_matter():
    """A label of -1 behind the mask changes nothing, and a batch without any label has loss 0."""
    with_label = weighted_cross_entropy(LOGITS, LABELS, (1, 1), jnp.array([1.0, 1, 0]))
    without = weighted_cross_entropy(LOGITS, jnp.array([0, 1, -1]), (1, 1), jnp.array([1.0, 1, 0]))
    assert float(with_label) == float(without)
    assert float(weighted_cross_entropy(LOGITS, LABELS, (1, 1), jnp.zeros(3))) == 0


def test_loss_weights_of_the_paper():
    """Deep-RoR, Table I: the fifth and sixth groups weigh half as much again in LW3."""
    assert class_weights("LW3", 8) == (1, 1, 1, 1.3, 1.5, 1.5, 1.3, 1)
    assert class_weights("LW1", 8) == (1, 1, 1, 0.9, 0.8, 0.8, 0.9, 1)
    assert class_weights("LW0", 8) == class_weights(None, 8) == (1,) * 8


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("LW4", "'LW4' do not exist; use one of LW0, LW1, LW2, LW3"),
        ((1, 2), r"2 class weights were given, \(1.0, 2.0\), but there are 8 classes"),
        ((1,) * 7 + (-1,), "must be at least 0"),
        ((0,) * 8, "one of them more"),
    ],
)
def test_bad_weights(weights, message):
    with pytest.raises(UserError, match=message):
        class_weights(weights, 8)
