"""Losses for classes, and how the outputs that they train are read.

A loss is a function of `outputs` [B, M], of the true classes `labels` [B] (int32, 0 ... K - 1) and of `positions` [B]
(float32). It gives [B], one number for each image, in nats where it is a cross-entropy. Class c lies at c; an image's
position is its label, or an age in years between two of them. `OBJECTIVES` names the losses, with all in which they
differ; `weighted_mean` makes the loss of a batch, in one way for all.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ror_jax import parallel
from ror_jax.errors import UserError
from ror_jax.outputs import Head

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
    try:
        weights = tuple(float(weight) for weight in weights)
    except (TypeError, ValueError):
        raise UserError(f"class weights {weights!r} are no numbers, one a class, nor the name of some") from None
    if len(weights) != num_classes:
        raise UserError(f"{len(weights)} class weights were given, {weights}, but there are {num_classes} classes")
    if min(weights) < 0 or max(weights) == 0:
        raise UserError(f"class weights {weights} must be at least 0, and one of them more")
    return weights


def weighted_mean(losses, labels, weights, mask, terms=1, *, normalize_by: str = "batch"):
    """The loss of a batch, each image weighted by its true class (Deep-RoR, section III.C); a scalar.

    Where the batch is divided over devices it is the share of the images that lie here; the loss is their sum.

    Args:
      losses: [B], of the images. labels: [B] int. weights: [K]. mask: [B], 1 where the image counts.
      terms: [B] or a number, of how many terms the loss of each image is the sum.
      normalize_by: "batch" divides the sum by the number of terms that count, "weights" by the sum of their weights.
    """
    weight = jnp.asarray(weights)[labels] * mask
    total = (weight if normalize_by == "weights" else mask) * terms
    return (weight * losses).sum() / jnp.maximum(parallel.total(total.sum()), 1e-9)


# --- Probabilities of the K classes, [..., K], from outputs [..., M] --------------------------------------------------


def from_questions(outputs):
    """From answers to the K - 1 questions "older than class k?", P(y > k) = sigmoid(output k).

    They should fall with k. Where they do not, they are sorted: as many questions as before are answered with yes, and
    so many classes lie below the median.
    """
    falling = jnp.sort(outputs, axis=-1, descending=True)
    certain = jnp.full_like(outputs[..., :1], jnp.inf)
    reached = jnp.concatenate([certain, falling], axis=-1)
    passed = jnp.concatenate([falling, -certain], axis=-1)
    # This is sigmoid(reached) - sigmoid(passed) without the loss of digits where both are nearly one.
    return -jax.nn.sigmoid(reached) * jax.nn.sigmoid(-passed) * jnp.expm1(passed - reached)


def from_conditional_questions(outputs):
    """From answers to "older than class k, if older than class k - 1?": P(y > k) is the product of those up to k."""
    certain = jnp.zeros_like(outputs[..., :1])
    reached = jnp.concatenate([certain, jnp.cumsum(jax.nn.log_sigmoid(outputs), axis=-1)], axis=-1)
    stopped = jnp.concatenate([jax.nn.log_sigmoid(-outputs), certain], axis=-1)
    return jnp.exp(reached + stopped)


# --- The position, [...], that probabilities [..., K] stand for -------------------------------------------------------


def mode(probabilities):
    """The likeliest class."""
    return probabilities.argmax(-1)


def median(probabilities):
    """The number of questions "older than class k?" whose answer is yes, P(y > k) > 1/2."""
    at_least = jnp.cumsum(probabilities[..., ::-1], axis=-1)[..., ::-1]
    return (at_least[..., 1:] > 0.5).sum(-1)


def mean(probabilities):
    """The expectation of the position; it need not be a class."""
    return (probabilities * jnp.arange(probabilities.shape[-1])).sum(-1)


def nearest_class(positions, num_classes: int):
    """The class nearest to a position, int32; the higher one where two are."""
    return jnp.clip(jnp.floor(positions + 0.5).astype(jnp.int32), 0, num_classes - 1)


# --- Losses of one image ----------------------------------------------------------------------------------------------


def cross_entropy(outputs, labels, positions):
    """-log p_y, p being the softmax (Deep-RoR, section III.C)."""
    return -jnp.take_along_axis(jax.nn.log_softmax(outputs), labels[:, None], axis=1)[:, 0]


def ladder(outputs, labels, positions):
    """Mean over the questions "older than class k?" (Deep-RoR, eq. 2) of their binary cross-entropies, trained jointly.

    Niu et al., "Ordinal regression with multiple output CNN for age estimation", CVPR 2016, section 3: its sum over
    the questions with equal importances that sum to one. A question's softmax of two outputs is a sigmoid of one here.
    """
    return _answers(outputs, labels).mean(-1)


def coral(outputs, labels, positions):
    """Sum of the binary cross-entropies of the same questions, which share all weights but the bias.

    Cao, Mirjalili, Raschka, "Rank consistent ordinal regression for neural networks with application to age
    estimation", 2020, section 3, with all questions equally important.
    """
    return _answers(outputs, labels).sum(-1)


def corn(outputs, labels, positions):
    """Sum of the binary cross-entropies of the questions that the image is asked: those for which y > k - 1.

    Shi, Cao, Raschka, "Deep neural networks for rank-consistent ordinal regression based on conditional
    probabilities", 2021, section 3. It divides by the number of questions asked in the batch: see `questions_asked`.
    """
    asked = jnp.arange(outputs.shape[-1]) <= labels[:, None]
    return (_answers(outputs, labels) * asked).sum(-1)


def questions_asked(labels, num_classes: int):
    """Terms in the loss of an image in `corn`: all questions up to the first whose answer is no."""
    return jnp.minimum(labels + 1, num_classes - 1)


def squared_emd(outputs, labels, positions):
    """Sum over the classes of (CDF of the softmax - CDF of the truth)^2, squared earth mover's distance.

    Hou, Yu, Samaras, "Squared earth mover's distance-based loss for training deep neural networks", 2016, for ordered
    classes at equal distances; alone, without the constant factor of the distance.
    """
    truth = jnp.arange(outputs.shape[-1]) >= labels[:, None]
    return jnp.square(jnp.cumsum(jax.nn.softmax(outputs), axis=-1) - truth).sum(-1)


def expectation(outputs, labels, positions):
    """|E - position|, E being the expectation of the position under the softmax.

    Gao et al., "Age estimation using expectation of label distribution learning" (DLDL-v2), IJCAI 2018: its second
    term, without the label distribution.
    """
    return jnp.abs(mean(jax.nn.softmax(outputs)) - positions)


def label_distribution(outputs, labels, positions, sigma: float):
    """KL divergence of the softmax from a Gaussian about the position, of width `sigma`, normalised over the classes.

    Gao et al., "Deep label distribution learning with label ambiguity" (DLDL), IEEE TIP 2017. It trains with the
    cross-entropy of the two, which has the same gradient; this one is 0 where they are equal.
    """
    distances = (jnp.arange(outputs.shape[-1]) - positions[:, None]) / sigma
    target = jax.nn.log_softmax(-jnp.square(distances) / 2)
    return (jnp.exp(target) * (target - jax.nn.log_softmax(outputs))).sum(-1)


def mean_variance(outputs, labels, positions):
    """Cross-entropy + 0.2 (E - position)^2 / 2 + 0.05 V, E and V being mean and variance of the position.

    Pan et al., "Mean-variance loss for deep age estimation from a face", CVPR 2018, with its weights of the terms.
    """
    probabilities = jax.nn.softmax(outputs)
    center = mean(probabilities)
    spread = jnp.square(jnp.arange(outputs.shape[-1]) - center[:, None])
    variance = (probabilities * spread).sum(-1)
    return cross_entropy(outputs, labels, positions) + 0.2 * jnp.square(center - positions) / 2 + 0.05 * variance


def _answers(outputs, labels):
    """Binary cross-entropies [B, K - 1] of all questions "older than class k?"."""
    older = labels[:, None] > jnp.arange(outputs.shape[-1])
    return -jax.nn.log_sigmoid(jnp.where(older, outputs, -outputs))


@dataclasses.dataclass(frozen=True)
class Objective:
    """A loss, and all that follows from it.

    Attributes:
      per_image: the loss of each image, as above; with a further argument `sigma` where `takes_sigma`.
      head: number of classes K -> the output of the network.
      probabilities: outputs [..., M] -> probabilities of the classes [..., K].
      decode: these, perhaps averaged over views, -> position [...].
      terms: (labels [B], K) -> of how many terms the loss of each image is the sum.
    """

    per_image: Callable
    head: Callable[[int], Head] = Head
    probabilities: Callable = jax.nn.softmax
    decode: Callable = mode
    terms: Callable = lambda labels, classes: 1
    takes_sigma: bool = False


OBJECTIVES = {
    "cross_entropy": Objective(cross_entropy),
    # Rothe, Timofte, Van Gool, "Deep expectation of real and apparent age from a single image" (DEX), IJCV 2018.
    "dex": Objective(cross_entropy, decode=mean),
    "ladder": Objective(ladder, lambda k: Head(k - 1), from_questions, median),
    "coral": Objective(coral, lambda k: Head(k - 1, shared_column=True), from_questions, median),
    "corn": Objective(corn, lambda k: Head(k - 1), from_conditional_questions, median, questions_asked),
    "squared_emd": Objective(squared_emd),
    "expectation": Objective(expectation, decode=mean),
    "label_distribution": Objective(label_distribution, takes_sigma=True),
    "mean_variance": Objective(mean_variance, decode=mean),
}
