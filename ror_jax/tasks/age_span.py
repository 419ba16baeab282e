"""Age as a distribution, learned from spans of years as they are."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline.age_groups import GROUPINGS, OLDEST, OPEN_END, Grouping, nearest_age_group
from ror_jax import parallel
from ror_jax.errors import UserError, unknown
from ror_jax.outputs import Head
from ror_jax.tasks import metrics
from ror_jax.tasks.answers import Answer, Class, Number
from ror_jax.tasks.answers.intervals import ONE_IN, coverage
from ror_jax.tasks.losses import mean, mode, weighted_mean
from ror_jax.tasks.ordered import year_ranges
from ror_jax.tasks.task import Arrays, Label, Task

YEARS = OLDEST + 1  # completed years 0 ... 100
UNIT = 10.0  # years. In this unit, what outputs say of a location and a scale is of the size of 1
NARROWEST = 0.1  # years. No scale is smaller, so that its inverse stays a number
ROUNDING = 1e-3  # years, more than float32 makes of an age
EXACT = "highest"  # precision of products: the default of GPUs and TPUs would let probabilities sum to more than 1


@dataclasses.dataclass(frozen=True)
class AgeSpan(Task):
    """Age as a distribution over years, by interval-censored maximum likelihood.

    Of each face a span of years [low, high) is known, in which the true age lies: one year of an exact age, a group, or
    one that is open, as "70 and more". The loss is -log P(span), P being the distribution that the network gives: the
    likelihood of interval-censored data (Turnbull, "The empirical distribution function with arbitrarily grouped,
    censored and truncated data", 1976). The errors alone, which need one number, are those against the middle of the
    span.

    Attributes:
      names: none, as spans are no classes.
      distribution: "years", a smoothed softmax over 101 years; or "logistic", with a location and a scale.
      smoothing: standard deviation of each component in years, see `smoothed_years`; of "years" alone. None: 2.
      groups: age groups to answer with: "adience", "fairface", or their names, such as ("0-17", "18-64", "65-"). A year
        between two groups is of the nearest. The truth is the group of the whole span, and unknown if there is none.
    """

    names: tuple[str, ...] = ()
    _: dataclasses.KW_ONLY
    distribution: str = "years"
    smoothing: float | None = None
    groups: Any = "fairface"

    labels: ClassVar[dict[str, Label]] = {"age_span": Label((2,), np.float32)}
    primary: ClassVar[str] = "nll"
    plotted: ClassVar[tuple[str, ...]] = ("nll", "mae", "exact")
    loss_name: ClassVar[str] = "-log P(span of years)"

    def __post_init__(self):
        if self.distribution not in DISTRIBUTIONS:
            raise unknown("distribution", self.distribution, DISTRIBUTIONS)
        if self.smoothing is not None:
            if self.distribution != "years":
                raise UserError(
                    f"smoothing is {self.smoothing}, but distribution {self.distribution!r} has none; leave it out"
                )
            if not 0 < self.smoothing < math.inf:
                raise UserError(f"smoothing is {self.smoothing}; it must be more than 0 years")
        self._grouping  # noqa: B018, what is wrong is told at once

    @property
    def heads(self) -> dict[str, Head]:
        return {"age_span": Head(self._distribution.outputs)}

    def loss(self, outputs: Arrays, batch: Arrays, state: Any, step: jax.Array) -> tuple[jax.Array, dict]:
        spans, mask = self._spans(batch)
        losses = -self._distribution.log_probability(outputs["age_span"], spans)
        value = weighted_mean(losses, jnp.zeros(len(spans), jnp.int32), (1.0,), mask)
        return value, {"age_span": value}

    def decode(self, outputs: Arrays, mirrored: tuple[bool, ...]) -> jax.Array:
        """The probabilities of the completed years 0 ... 100, mean over the views: float32 [B, 101]."""
        return self._distribution.years(outputs["age_span"]).mean(1)

    def measure(self, estimates: jax.Array, batch: Arrays, state: Any) -> dict:
        """Sums over one batch: `nll` of the spans in nats, no probability being taken for less than the smallest normal
        number; `errors` against their middles; `coverage` and `width` of the intervals; `confusion` [K, K] of the
        groups."""
        spans, mask = self._spans(batch)
        inside = jnp.maximum((estimates * overlap(spans)).sum(1), jnp.finfo(jnp.float32).tiny)
        intervals = _intervals(estimates)
        open_ends = jnp.where(spans == jnp.array([jnp.nan, OPEN_END]), jnp.inf, spans)
        values = {
            "nll": -jnp.log(inside),
            "coverage": coverage(open_ends, intervals),
            "width": intervals[:, 1] - intervals[:, 0],
        }
        groups = self._true_groups(batch)
        shape = (len(self._grouping.names),) * 2
        return {
            "errors": metrics.errors(mean(estimates), spans.mean(1) - 0.5, mask),
            "confusion": metrics.confusion(
                mode(self._group_probabilities(estimates)), groups, mask * (groups >= 0), shape
            ),
            **parallel.total({name: (each * mask).sum() for name, each in values.items()}),
        }

    def summarize(self, sums: Mapping) -> dict[str, Any]:
        """`nll` in nats; errors in years, see `metrics.summarize_errors`; `coverage`, the mean share of the span in the
        interval from the 5 % to the 95 % quantile, see `intervals.coverage`, and the mean `width` of that in years; of
        the faces whose span lies in one group, if there are any, `exact`, `one_off` and `recall`."""
        images = int(sums["errors"]["count"])
        means = {name: float(sums[name]) / max(images, 1) for name in ("nll", "coverage", "width")}
        counts, groups = np.asarray(sums["confusion"]), {}
        if counts.any():
            recall = dict(zip(self._grouping.names, metrics.recall(counts), strict=True))
            groups = {"exact": metrics.accuracy(counts), "one_off": metrics.one_off_accuracy(counts), "recall": recall}
        return means | metrics.summarize_errors(sums["errors"]) | groups | {"images": images}

    def line(self, results: Mapping[str, Any]) -> str:
        groups = ""
        if "exact" in results:
            groups = f", group exact {100 * results['exact']:.1f} %, 1-off {100 * results['one_off']:.1f} %"
        return (
            f"MAE {results['mae']:.2f} years{groups}, its own 90 % interval covers {100 * results['coverage']:.1f} %,"
            f" {results['width']:.0f} years wide, NLL {results['nll']:.3f}"
        )

    def answers(self, estimates: jax.Array, state: Any) -> dict[str, Answer]:
        """The expected age in completed years, with an interval of its own for each face, and the likeliest group."""
        groups = self._group_probabilities(estimates)
        interval = (_intervals(estimates) - 0.5).clip(0, OLDEST)  # as completed years: 35.5 is the middle of [35, 36)
        return {
            "age": Number(mean(estimates), interval=interval, unit="years", title="age"),
            "age_group": Class(
                mode(groups), groups.max(1), groups, names=self._grouping.names, ordered=True, unit="years"
            ),
        }

    def truth(self, batch: Arrays) -> dict:
        """The first and the last completed year, and the group."""
        spans = batch["age_span"]
        known = self.labels["age_span"].known(spans)
        return {"age": jnp.where(known, _first_and_last(spans), -1), "age_group": self._true_groups(batch)}

    def first_biases(self, labels: Callable[[list[str]], Arrays]) -> dict:
        """The distribution of all training images: from 0, thousands of small steps lead to people's ages."""
        return {"age_span": self._distribution.biases(self.constant_baseline(labels)[0])}

    def constant_baseline(self, labels: Callable[[list[str]], Arrays]) -> np.ndarray:
        """How frequent each year is, the years of a span being as likely as each other."""
        spans = labels(["age_span"])["age_span"]
        spans, counts = np.unique(spans[spans[:, 0] >= 0], axis=0, return_counts=True)
        shares = np.asarray(overlap(spans)) / np.ptp(spans, axis=1)[:, None]
        return (counts @ shares / counts.sum())[None]

    @property
    def _distribution(self) -> "Distribution":
        if self.smoothing is None:
            return DISTRIBUTIONS[self.distribution]
        return smoothed_years(self.smoothing)

    @property
    def _grouping(self) -> Grouping:
        groups = self.groups
        if isinstance(groups, str):
            if groups in GROUPINGS:
                return GROUPINGS[groups]
            if "," not in groups:
                raise unknown("groups", groups, GROUPINGS)
            groups = groups.split(",")
        names = tuple(map(str, groups)) if isinstance(groups, Iterable) else (str(groups),)
        ranges = year_ranges(names)
        years = [year for first, last in ranges for year in (first, last + 1)]  # with ends that groups do not share
        if len(names) < 2 or not ranges or years != sorted(years) or any(first > last for first, last in ranges):
            raise UserError(f"groups are {names!r}; they must be two or more, in order, such as '0-17', '18-64', '65-'")
        return Grouping(names, ranges)

    def _group_probabilities(self, estimates: jax.Array) -> jax.Array:
        """The probabilities of the groups, [B, K]."""
        groups = nearest_age_group(np.arange(YEARS), self._grouping)
        return jnp.matmul(estimates, jax.nn.one_hot(groups, len(self._grouping.names)), precision=EXACT)

    def _true_groups(self, batch: Arrays) -> jax.Array:
        """The group in which the first and the last year lie, int32 [B]; -1 where they do not, or nothing is known."""
        years = jnp.floor(_first_and_last(batch["age_span"]) + ROUNDING)  # 69.7 is an age of 69 completed years
        first, last = nearest_age_group(years, self._grouping).T
        return jnp.where(first == last, first, -1)

    def _spans(self, batch: Arrays) -> tuple[jax.Array, jax.Array]:
        """Spans, that of all ages where they do not count, and the mask of those that do: [B, 2] and [B]."""
        spans = batch["age_span"]
        mask = batch["mask"] * (spans[:, 0] >= 0)
        return jnp.where(mask[:, None] > 0, spans, jnp.array([0.0, OPEN_END])), mask


def _first_and_last(spans: jax.Array) -> jax.Array:
    """The first and the last completed year of spans, [..., 2]; below 0 where they are unknown."""
    return spans - jnp.array([0.0, 1.0])


def _intervals(probabilities: jax.Array) -> jax.Array:
    """The 5 % and the 95 % quantile of the true age, [B, 2], from the probabilities of the years [B, 101].

    Within a year all ages are equally likely.
    """
    reached = jnp.pad(jnp.cumsum(probabilities, 1), ((0, 0), (1, 0)))
    wanted = jnp.array([1, ONE_IN - 1]) / ONE_IN
    return jax.vmap(jnp.interp, (None, 0, None))(wanted, reached, jnp.arange(YEARS + 1.0))


def overlap(spans: Any) -> jax.Array:
    """The part of each year 0 ... 100 that lies in spans [..., 2]: [..., 101]."""
    first = jnp.arange(YEARS)
    low, high = spans[..., :1], spans[..., 1:]
    return jnp.clip(jnp.minimum(high, first + 1) - jnp.maximum(low, first), 0, 1)


# --- Distributions ----------------------------------------------------------------------------------------------------


class Distribution(NamedTuple):
    """A family of distributions of age.

    Attributes:
      outputs: of the network, how many there are: M.
      log_probability: outputs [..., M], spans [..., 2] -> the logarithm of the probability of the span, [...].
      years: outputs [..., M] -> the probabilities of the completed years 0 ... 100, [..., 101]. The last one holds all
        that is older, the first one all that is younger.
      biases: the shares of the years [101] -> the outputs [M] of a distribution like that.
    """

    outputs: int
    log_probability: Callable
    years: Callable
    biases: Callable


def logistic_log_probability(outputs, spans):
    """log(sigmoid(b) - sigmoid(a)), a and b being the ends of a span as (end - location) / scale.

    It is log sigmoid(b) + log sigmoid(-a) + log(1 - exp(a - b)), which is exact in the tails too, with finite
    gradients. An end that is open leaves one term.
    """
    location, scale = _location_and_scale(outputs)
    low, high = spans[..., 0], spans[..., 1]
    below, above = low <= 0, high >= OPEN_END  # which ends are open
    reached = jnp.where(above, 0, jax.nn.log_sigmoid((high - location) / scale))
    started = jnp.where(below, 0, jax.nn.log_sigmoid((location - low) / scale))
    between = jnp.where(below | above, 0, jnp.log(-jnp.expm1((low - high) / scale)))
    return reached + started + between


def _location_and_scale(outputs):
    """In years, from outputs in units of ten of them: any location, and a scale above `NARROWEST`.

    A softplus makes outputs below 0 a logarithm of the scale, yet great ones do not overflow.
    """
    return UNIT * outputs[..., 0], NARROWEST + UNIT * jax.nn.softplus(outputs[..., 1])


def _logistic_years(outputs):
    years = jnp.arange(YEARS)
    return jnp.exp(logistic_log_probability(outputs[..., None, :], jnp.stack([years, years + 1], -1)))


def _logistic_biases(shares: np.ndarray) -> np.ndarray:
    """Returns the outputs of the distribution with the mean and the deviation, scale * pi / sqrt(3), of `shares`."""
    ages = np.arange(YEARS) + 0.5
    location = shares @ ages
    scale = max(math.sqrt(shares @ np.square(ages - location) * 3) / math.pi, 1.0)
    return np.array([location / UNIT, math.log(math.expm1((scale - NARROWEST) / UNIT))], np.float32)


def smoothed_years(smoothing: float) -> Distribution:
    """A softmax over the completed years, smoothed: a mixture of 101 normal distributions of fixed place and width.

    It is a mixture density network (Bishop, 1994) of which only the weights are learned. Component j gives year k the
    probability proportional to exp(-(k - j)^2 / (2 smoothing^2)); within a year all ages are equally likely.
    """
    distances = np.subtract.outer(np.arange(YEARS), np.arange(YEARS)) / smoothing
    components = np.exp(-np.square(distances) / 2)
    components = (components / components.sum(1, keepdims=True)).astype(np.float32)

    def log_probability(outputs, spans):
        of_component = jnp.matmul(overlap(spans), components.T, precision=EXACT)
        return jax.nn.logsumexp(outputs, -1, b=of_component) - jax.nn.logsumexp(outputs, -1)

    def biases(shares: np.ndarray) -> np.ndarray:
        return np.log(shares + 1 / YEARS**2).astype(np.float32)  # as if of 1 face in 101 nothing were known

    def years(outputs):
        return jnp.matmul(jax.nn.softmax(outputs), components, precision=EXACT)

    return Distribution(YEARS, log_probability, years, biases)


DISTRIBUTIONS = {
    "logistic": Distribution(2, logistic_log_probability, _logistic_years, _logistic_biases),
    "years": smoothed_years(2.0),
}
