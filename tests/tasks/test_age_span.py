"""Age as a distribution that is learned from spans: probabilities by hand and by scipy, recovery of what is true."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import logsumexp
from scipy.stats import logistic, norm

from ror_jax.errors import UserError
from ror_jax.tasks import create_task
from ror_jax.tasks.age_span import DISTRIBUTIONS, smoothed_years

LABELS = {"age_span": (), "gender": ("female", "male")}
LOGISTIC, SMOOTHED = DISTRIBUTIONS["logistic"], DISTRIBUTIONS["years"]
DECADES = [(0, 3), (3, 10), *((low, low + 10) for low in range(10, 70, 10)), (70, 101)]


def task_of(distribution="logistic", **options):
    return create_task("age_span", LABELS, distribution=distribution, **options)


def batch_of(*spans, mask=None):
    mask = jnp.ones(len(spans)) if mask is None else jnp.array(mask, float)
    return {"age_span": jnp.array(spans, jnp.float32), "mask": mask}


def logistic_outputs(location, scale):
    """The outputs for a location and a scale in years."""
    location, scale = np.broadcast_arrays(np.asarray(location, float), np.asarray(scale, float))
    return jnp.array(np.stack([location / 10, np.log(np.expm1((scale - 0.1) / 10))], -1), jnp.float32)


def certain(*ages):
    """Estimates of which each is certain of a completed year."""
    return jnp.eye(101)[jnp.array(ages)]


def results_of(task, estimates, batch):
    return task.summarize(jax.device_get(jax.jit(task.measure)(estimates, batch, {})))


# --- Probabilities ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("location", [-30.0, 0.3, 28.0, 71.5, 250.0])
@pytest.mark.parametrize("scale", [0.11, 2.0, 50.0])
@pytest.mark.parametrize("span", [(0, 3), (25, 33), (35, 36), (99.5, 100), (70, 101), (0, 101)])
def test_the_logistic_distribution_is_that_of_scipy(location, scale, span):
    """In float32 as in float64, far out in the tails too: there log P is of the size of -2,000."""
    low = -np.inf if span[0] == 0 else span[0]
    high = np.inf if span[1] == 101 else span[1]
    a, b = (low - location) / scale, (high - location) / scale
    # By the tail in which there is less: there scipy keeps its digits.
    ends = (logistic.logcdf(a), logistic.logcdf(b)) if a + b < 0 else (logistic.logsf(b), logistic.logsf(a))
    wanted = ends[1] + np.log1p(-np.exp(ends[0] - ends[1]))
    found = LOGISTIC.log_probability(logistic_outputs(location, scale), jnp.array(span, jnp.float32))
    assert found == pytest.approx(wanted, rel=2e-3 if scale < 1 else 1e-4, abs=1e-5)


def test_probabilities_by_hand():
    """Location 30, scale 10: P(T < 40) = 1 / (1 + 1 / e), P(20 <= T < 40) = (e - 1) / (e + 1)."""
    outputs, e = logistic_outputs(30, 10), np.e
    spans = jnp.array([[0, 40], [20, 40], [40, 101]], jnp.float32)
    found = jnp.exp(LOGISTIC.log_probability(outputs, spans))
    np.testing.assert_allclose(found, [e / (e + 1), (e - 1) / (e + 1), 1 / (e + 1)], rtol=1e-5)

    unsmoothed = smoothed_years(0.01)  # the softmax itself
    logits = jnp.log(jnp.arange(1.0, 102.0))  # year k has (k + 1) / (1 + ... + 101)
    spans = jnp.array([[0, 2], [2.5, 4], [99, 101], [0, 101]])
    found = jnp.exp(unsmoothed.log_probability(logits, spans)) * (101 * 102 / 2)
    np.testing.assert_allclose(found, [1 + 2, 3 / 2 + 4, 100 + 101, 101 * 102 / 2], rtol=1e-5)


def test_the_smoothed_softmax_is_a_mixture_of_normal_distributions():
    """All weight on one year far from the ends: a normal density of width 2. Any weights: in float32 as in float64."""
    np.testing.assert_allclose(SMOOTHED.years(100.0 * jnp.eye(101)[50]), norm.pdf(np.arange(101), 50, 2), atol=1e-6)
    logits = np.random.default_rng(0).normal(size=(5, 101)) * 30
    wanted = np.log((np.exp(logits - logsumexp(logits, 1, keepdims=True)) @ _components())[:, 25:33].sum(1))
    span = jnp.array([25.0, 33.0])
    np.testing.assert_allclose(SMOOTHED.log_probability(jnp.array(logits, jnp.float32), span), wanted, rtol=1e-4)


def _components():
    weights = norm.pdf(np.subtract.outer(np.arange(101), np.arange(101)), scale=2)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_groups_that_cover_all_ages_have_all_probability(name):
    distribution = DISTRIBUTIONS[name]
    outputs = 3 * jax.random.normal(jax.random.key(0), (20, 1, distribution.outputs))
    total = jnp.exp(distribution.log_probability(outputs, jnp.array(DECADES, jnp.float32))).sum(1)
    np.testing.assert_allclose(total, 1, atol=1e-5)
    probabilities = distribution.years(outputs[:, 0])
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    spans = jnp.array([(25.0, 33.0)] * 20)
    inside = jnp.exp(distribution.log_probability(outputs[:, 0], spans))
    np.testing.assert_allclose(probabilities[:, 25:33].sum(1), inside, atol=1e-6)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_gradients_are_finite(name):
    """At outputs that no network should give, spans of a year and open ones, and where nothing is known."""
    task, outputs = task_of(name), DISTRIBUTIONS[name].outputs
    batch = batch_of((35, 36), (0, 1), (0, 3), (100, 101), (70, 101), (0, 101), (-1, -1), (35, 36))
    loss_and_gradient = jax.jit(jax.value_and_grad(lambda outputs: task.loss(outputs, batch, {}, 0)[0]))
    for size in (0.0, 1e2, 1e4):
        for sign in (1.0, -1.0):
            given = {"age_span": jnp.tile(jnp.array([size, sign * size, -size]), 34)[:outputs] * jnp.ones((8, 1))}
            value, gradient = loss_and_gradient(given)
            assert jnp.isfinite(value) and value >= 0 and jnp.isfinite(gradient["age_span"]).all()


# --- Learning ---------------------------------------------------------------------------------------------------------


def test_location_and_scale_are_recovered_from_spans():
    """Ages of a logistic distribution about 34 years of scale 7, known as decades alone, or as years, or either."""
    ages = logistic.rvs(34, 7, 20000, random_state=0).clip(0, 100.9)
    decade = np.array(DECADES)[np.digitize(ages, [low for low, _ in DECADES]) - 1]
    year = np.stack([np.floor(ages), np.floor(ages) + 1], 1)
    for spans in (decade, year, np.where(np.arange(20000)[:, None] % 2, decade, year)):
        outputs = fitted("logistic", spans)
        location, scale = 10 * outputs[0], 0.1 + 10 * np.log1p(np.exp(outputs[1]))
        assert location == pytest.approx(34, abs=0.3) and scale == pytest.approx(7, abs=0.2)


def test_shares_are_recovered_from_overlapping_spans():
    """Two faces each are [5, 31) and [29, 70), one each is 10, 30 and 50. The likelihood, without smoothing, is largest
    where 10 and 50 have the share a each and 30 has 1 - 2a: 4 / (1 - a) = 2 / a - 2 / (1 - 2a), 7a^2 - 6a + 1 = 0."""
    spans = np.repeat([(5, 31), (29, 70), (10, 11), (30, 31), (50, 51)], (2, 2, 1, 1, 1), axis=0)
    shares = smoothed_years(0.05).years(jnp.array(fitted("years", spans, smoothing=0.05)))[jnp.array([10, 30, 50])]
    share = (6 - np.sqrt(8)) / 14
    np.testing.assert_allclose(shares, [share, 1 - 2 * share, share], atol=0.015)


def fitted(name, spans, **options):
    """The maximum-likelihood outputs, the same for all faces, from those with which training begins at an age of 60."""
    task = task_of(name, **options)
    spans, counts = np.unique(np.asarray(spans, np.float32), axis=0, return_counts=True)
    start = task.first_biases(lambda keys: {"age_span": np.array([(40, 81)], np.float32)})
    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, 500))

    @jax.jit
    def fit(outputs):
        def loss(outputs):
            log_probability = task._distribution.log_probability(outputs, jnp.array(spans))
            return -(log_probability * counts).sum() / counts.sum()

        def step(_, carry):
            outputs, state = carry
            updates, state = optimizer.update(jax.grad(loss)(outputs), state)
            return optax.apply_updates(outputs, updates), state

        return jax.lax.fori_loop(0, 500, step, (outputs, optimizer.init(outputs)))[0]

    return np.asarray(fit(jnp.array(start["age_span"])), float)


def test_training_begins_with_the_ages_of_the_training_images():
    """A quarter is [20, 24), the rest [30, 31), one is unknown: mean 28.375; as if one face in 101 were unknown."""
    spans = np.array([(20, 24), (30, 31), (30, 31), (30, 31), (-1, -1)], np.float32)
    labels = lambda keys: {"age_span": spans}  # noqa: E731
    baseline = task_of().constant_baseline(labels)
    assert baseline.shape == (1, 101)
    np.testing.assert_allclose(baseline[0, [20, 21, 22, 23, 30, 31]], [1 / 16] * 4 + [3 / 4, 0])
    location, scale = task_of().first_biases(labels)["age_span"]
    variance = np.average(np.square(np.array([20.5, 21.5, 22.5, 23.5, 30.5]) - 28.375), weights=[1, 1, 1, 1, 12])
    assert 10 * location == pytest.approx(28.375)
    assert 0.1 + 10 * np.log1p(np.exp(scale)) == pytest.approx(np.sqrt(3 * variance) / np.pi)
    logits = task_of("years").first_biases(labels)["age_span"]
    np.testing.assert_allclose(jax.nn.softmax(logits), (baseline[0] + 1 / 101**2) * 101 / 102, rtol=1e-4)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_what_is_unknown_does_not_count(name):
    """Nor does padding, in the loss and in the results."""
    task = task_of(name)
    outputs = jax.random.normal(jax.random.key(1), (5, DISTRIBUTIONS[name].outputs))
    some = batch_of((20, 30), (-1, -1), (35, 36), (-1, -1), (40, 50), mask=[1, 1, 1, 1, 0])
    both = batch_of((20, 30), (35, 36))
    kept = outputs[jnp.array([0, 2])]
    loss = jax.jit(task.loss)
    value, parts = loss({"age_span": outputs}, some, {}, 0)
    assert value == parts["age_span"] == pytest.approx(float(loss({"age_span": kept}, both, {}, 0)[0]))
    decode = jax.jit(lambda outputs: task.decode({"age_span": outputs[:, None]}, (False,)))
    results = results_of(task, decode(outputs), some)
    wanted = results_of(task, decode(kept), both)
    assert results.pop("recall") == wanted.pop("recall")
    assert results == pytest.approx(wanted) and results["images"] == 2
    assert results["nll"] == pytest.approx(float(value), rel=1e-4)


# --- Results and answers ----------------------------------------------------------------------------------------------


def test_results_by_hand():
    """Certain of 25, 45, 72 and 3: of them 25-32's middle is 28.5, 40-49's 44.5, of 70 and more 85; 5 is 2 wrong."""
    batch = batch_of((25, 33), (40, 50), (70, 101), (5, 6))
    results = results_of(task_of(), certain(25, 45, 72, 3), batch)
    assert results["mae"] == pytest.approx((3.5 + 0.5 + 13 + 2) / 4)
    assert results["rmse"] == pytest.approx(np.sqrt((3.5**2 + 0.5**2 + 13**2 + 2**2) / 4))
    # [25, 33) lies in no decade; of the others 40-49, 70- and 3-9 are found.
    assert (results["exact"], results["one_off"], results["images"]) == (1, 1, 4)
    assert results["recall"]["40-49"] == 1 and results["recall"]["20-29"] is None
    assert results["width"] == pytest.approx(0.9)
    # 0.9 of the 8 years and of the 10; all of what is open; none of the year 5, as the interval lies in the year 3.
    assert results["coverage"] == pytest.approx((0.9 / 8 + 0.9 / 10 + 1 + 0) / 4, rel=1e-4)
    assert "interval covers 30.1 %, 1 years wide, NLL" in task_of().line(results)


def test_ages_with_fractions_belong_to_their_completed_years():
    """69.7 years are in the group 60-69, which touches the next one. And nobody is younger than 0: of [0, 3), the
    interval inside of the year 2 holds 0.9 years."""
    results = results_of(task_of(), certain(65, 1, 2), batch_of((69.7, 70.7), (2.7, 3.7), (0, 3)))
    assert results["exact"] == 1
    assert results["coverage"] == pytest.approx(0.3 / 3, abs=1e-4)


def test_groups_by_name():
    """Of [25, 33) and [50, 60): in one of two groups each; [15, 25) is in neither. A year between groups is of the
    nearest."""
    task = task_of(groups=("0-17", "20-39", "60-"))
    batch = batch_of((25, 33), (50, 60), (15, 25), (18, 19), (19, 20))
    assert task.truth(batch)["age_group"].tolist() == [1, 2, -1, 0, 1]
    results = results_of(task, certain(18, 20, 20, 1, 19), batch)
    assert (results["exact"], results["one_off"]) == (2 / 4, 1)
    none = results_of(task, certain(20), batch_of((15, 25)))
    assert "exact" not in none and "group" not in task.line(none)
    answer = task.answers(certain(18, 70), {})["age_group"]
    assert answer.names == ("0-17", "20-39", "60-") and answer.chosen.tolist() == [0, 2]


def test_the_groups_of_adience():
    task = task_of(groups="adience")
    spans = [(0, 3), (4, 7), (8, 14), (15, 21), (25, 33), (38, 44), (48, 54), (60, 101), (22, 23), (20, 30)]
    assert task.truth(batch_of(*spans))["age_group"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 3, -1]


def test_answers():
    """Location 30, scale 2: quantiles 30 -+ 2 log 19, less the half year by which people are older than they say."""
    outputs = {"age_span": logistic_outputs([[30.0]], [[2.0]])}
    task = task_of()
    found = task.answers(task.decode(outputs, (False,)), {})
    age, group = found["age"], found["age_group"]
    assert age.values[0] == pytest.approx(29.5, abs=1e-3) and not age.derived and not group.derived
    np.testing.assert_allclose(age.interval[0], [29.5 - 2 * np.log(19), 29.5 + 2 * np.log(19)], atol=0.03)
    assert group.probabilities[0, 3] == pytest.approx(0.5 - logistic.cdf(20, 30, 2), abs=1e-4)
    assert task.truth(batch_of((20, 30), (35, 36), (-1, -1)))["age"].tolist() == [[20, 29], [35, 35], [-1, -1]]


def test_two_views_are_averaged_as_distributions():
    outputs = {"age_span": logistic_outputs([[30.0, 50.0]], [[2.0, 2.0]])}
    estimate = task_of().decode(outputs, (False, True))
    assert estimate[0, 20:40].sum() == pytest.approx(0.5, abs=0.01) == estimate[0, 40:60].sum()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distribution": "logstic"}, "unknown distribution 'logstic'; did you mean 'logistic'"),
        ({"distribution": "logistic", "smoothing": 2.0}, "smoothing is 2.0, but distribution 'logistic' has none"),
        ({"distribution": "years", "smoothing": 0.0}, "smoothing is 0.0; it must be more than 0"),
        ({"groups": "adiense"}, "unknown groups 'adiense'; did you mean 'adience'"),
        ({"groups": ("0-17", "old")}, "groups are .*'old'"),
        ({"groups": ("18-64", "0-17")}, "two or more, in order"),
        ({"groups": ("0-100",)}, "two or more, in order"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(UserError, match=message):
        create_task("age_span", LABELS, **options)


def test_with_gender_and_learned_variances():
    task = create_task("age_span+gender", LABELS, weighting="uncertainty")
    assert not task.parts["age_span"].loss_may_be_negative
    batch = batch_of((20, 30), (-1, -1)) | {"gender": jnp.array([0, 1])}
    outputs = {name: jnp.zeros((2, head.size)) for name, head in task.heads.items()}
    value, parts = task.loss(outputs, batch, task.initial_state(), 0)
    assert value == pytest.approx(float(parts["age_span"] + parts["gender"]))
