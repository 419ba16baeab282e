"""Losses, probabilities, decoding rules and class weights, against numbers worked out by hand and other programs."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy

from ror_jax.errors import UserError
from ror_jax.tasks import create_task, losses
from ror_jax.tasks.losses import OBJECTIVES, class_weights

LN2, LN3 = math.log(2), math.log(3)
# Three images with the same outputs. Softmax: (1/4, 1/2, 1/4), so E = 1 and V = 1/2. Questions: yes with 3/4 and 1/2.
SOFTMAX, QUESTIONS = (0.0, LN2, 0.0), (LN3, 0.0)
LABELS = (0, 1, 2)
HALVES = 1 / math.sqrt(2 * LN2)  # a Gaussian of this width falls by half at a distance of 1, to a sixteenth at 2
YES, NO, EVEN = math.log(4 / 3), math.log(4), LN2  # what the answers to the two questions cost


def divergence(*target):
    """The KL divergence of the softmax from `target`."""
    return sum(t * math.log(t / p) for t, p in zip(target, (1 / 4, 1 / 2, 1 / 4), strict=True))


PER_IMAGE = {
    "cross_entropy": (SOFTMAX, (math.log(4), LN2, math.log(4))),
    "dex": (SOFTMAX, (math.log(4), LN2, math.log(4))),  # trained as cross_entropy
    "ladder": (QUESTIONS, ((NO + EVEN) / 2, (YES + EVEN) / 2, (YES + EVEN) / 2)),
    "coral": (QUESTIONS, (NO + EVEN, YES + EVEN, YES + EVEN)),
    "corn": (QUESTIONS, (NO, YES + EVEN, YES + EVEN)),  # the youngest is not asked whether it is older than class 1
    "squared_emd": (SOFTMAX, (10 / 16, 2 / 16, 10 / 16)),  # CDF (1/4, 3/4, 1) against (1, 1, 1), (0, 1, 1), (0, 0, 1)
    "expectation": (SOFTMAX, (1, 0, 1)),
    "label_distribution": (
        SOFTMAX,
        (divergence(16 / 25, 8 / 25, 1 / 25), 0, divergence(1 / 25, 8 / 25, 16 / 25)),
    ),
    "mean_variance": (SOFTMAX, (math.log(4) + 0.1 + 0.025, LN2 + 0.025, math.log(4) + 0.1 + 0.025)),
}


def task_of(objective, classes=3, task="age_group", **options):
    """The task for as many classes as wanted, "0", "1" ..."""
    if objective == "label_distribution":
        options.setdefault("sigma", HALVES)
    names = tuple(map(str, range(classes)))
    return create_task(task, {"age_group": names, "age": names}, objective=objective, **options)


def loss_of(task, outputs, labels, mask=None):
    batch = {task.target: jnp.array(labels), "mask": jnp.ones(len(labels)) if mask is None else jnp.array(mask, float)}
    return task.loss({task.target: jnp.array(outputs)}, batch, 0, {})[0]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_loss_of_an_image(objective):
    outputs, expected = PER_IMAGE[objective]
    computed = [loss_of(task_of(objective), [outputs], [label]) for label in LABELS]
    terms = (1, 2, 2) if objective == "corn" else (1, 1, 1)  # of one image, CORN takes the mean over its questions
    np.testing.assert_allclose(computed, np.divide(expected, terms), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("normalize_by", ["batch", "weights"])
@pytest.mark.parametrize("mask", [(1, 1, 1), (1, 0, 1)])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_loss_of_a_batch(objective, mask, normalize_by):
    """Classes weigh 2, 1/2 and 3. The sum is divided by the images or questions that count, or by their weights."""
    outputs, each = PER_IMAGE[objective]
    weights, terms = (2, 0.5, 3), (1, 2, 2) if objective == "corn" else (1, 1, 1)
    divisor = [m * n * (w if normalize_by == "weights" else 1) for m, n, w in zip(mask, terms, weights, strict=True)]
    expected = sum(m * w * loss for m, w, loss in zip(mask, weights, each, strict=True)) / sum(divisor)
    task = task_of(objective, weights=weights, normalize_by=normalize_by)
    assert float(loss_of(task, [outputs] * 3, LABELS, mask)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_images_without_a_label_do_not_count(objective):
    """A label of -1 is as good as a mask of 0, and a batch without any label has loss 0."""
    task, outputs = task_of(objective), [PER_IMAGE[objective][0]] * 3
    assert float(loss_of(task, outputs, (0, 1, -1))) == float(loss_of(task, outputs, (0, 1, 2), (1, 1, 0))) > 0
    assert float(loss_of(task, outputs, (-1, -1, -1))) == 0


@pytest.mark.parametrize(
    ("objective", "age", "expected"),
    [
        ("cross_entropy", 1.5, math.log(4)),  # the year nearest to the age is 2
        ("expectation", 1.75, 0.75),
        ("mean_variance", 1.75, math.log(4) + 0.2 * 0.75**2 / 2 + 0.025),
        ("label_distribution", 0.5, divergence(4 / 9, 4 / 9, 1 / 9)),  # squared distances 1/4, 1/4 and 9/4
    ],
)
def test_ages_between_two_years(objective, age, expected):
    """Losses of positions take the age as it is, the others its year."""
    loss = loss_of(task_of(objective, task="age_years"), [PER_IMAGE[objective][0]], [age])
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_coral_and_corn_are_those_of_their_authors():
    torch = pytest.importorskip("torch", reason="needs pip install -e '.[torch]'")
    theirs = pytest.importorskip("coral_pytorch.losses", reason="needs pip install -e '.[torch]'")
    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(0, 4, (64, 7)).astype(np.float32), rng.integers(0, 8, 64)
    levels = (labels[:, None] > np.arange(7)).astype(np.float32)
    expected = {
        "coral": theirs.coral_loss(torch.tensor(outputs), torch.tensor(levels)),
        "corn": theirs.corn_loss(torch.tensor(outputs), torch.tensor(labels), 8),
    }
    for objective, loss in expected.items():
        assert float(loss_of(task_of(objective, 8), outputs, labels)) == pytest.approx(float(loss), rel=1e-6)


@pytest.mark.parametrize("objective", ["squared_emd", "expectation", "label_distribution", "mean_variance"])
def test_losses_of_a_softmax_over_101_years(objective):
    """Against NumPy and SciPy in double precision."""
    rng, years = np.random.default_rng(0), np.arange(101)
    outputs, ages = rng.normal(0, 2, (32, 101)), rng.uniform(0, 100, 32)
    p, labels = scipy.special.softmax(outputs, axis=1), np.rint(ages).astype(int)
    gaussians = scipy.stats.norm.pdf(years, ages[:, None], 3.0)
    expected = {
        "squared_emd": np.square(p.cumsum(1) - np.eye(101)[labels].cumsum(1)).sum(1),
        "expectation": abs(p @ years - ages),
        "label_distribution": scipy.stats.entropy(gaussians, p, axis=1),
        "mean_variance": -np.log(p[np.arange(32), labels])
        + 0.1 * (p @ years - ages) ** 2
        + 0.05 * (p @ years**2 - (p @ years) ** 2),
    }[objective]
    options = {"sigma": 3.0} if objective == "label_distribution" else {}
    task = task_of(objective, 101, "age_years", **options)
    assert float(loss_of(task, outputs, ages)) == pytest.approx(expected.mean(), rel=1e-5)


@pytest.mark.parametrize(("task", "classes"), [("age_group", 8), ("age_years", 101)])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_are_finite_at_extreme_outputs(objective, task, classes):
    """Outputs of -100 and 100 in all mixtures, for the first class, the last one and one between them."""
    task = task_of(objective, classes, task)
    count = task.outputs[task.target].size
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (28, count))
    outputs = 100 * np.concatenate([np.ones((1, count)), -np.ones((1, count)), signs])
    labels = np.resize([0, classes - 1, classes // 2], len(outputs))
    loss, gradient = jax.value_and_grad(lambda outputs: loss_of(task, outputs, labels))(jnp.array(outputs))
    assert np.isfinite(loss) and np.isfinite(gradient).all() and np.any(gradient)


@pytest.mark.parametrize(
    ("objective", "outputs", "expected"),
    [
        ("cross_entropy", SOFTMAX, (1 / 4, 1 / 2, 1 / 4)),
        ("ladder", QUESTIONS, (1 / 4, 1 / 4, 1 / 2)),
        ("coral", QUESTIONS[::-1], (1 / 4, 1 / 4, 1 / 2)),  # sorted
        ("corn", QUESTIONS, (1 / 4, 3 / 8, 3 / 8)),
        ("corn", QUESTIONS[::-1], (1 / 2, 1 / 8, 3 / 8)),
        # Sure answers keep their digits on both sides.
        ("ladder", (30.0, 20.0), (math.exp(-30), math.exp(-20) - math.exp(-30), 1)),
        ("ladder", (-20.0, -30.0), (1, math.exp(-20) - math.exp(-30), math.exp(-30))),
        ("corn", (30.0, 20.0), (math.exp(-30), math.exp(-20), 1)),
    ],
)
def test_class_probabilities(objective, outputs, expected):
    probabilities = task_of(objective).estimates({"age_group": jnp.array([[outputs]])})["age_group"]
    assert probabilities.shape == (1, 1, 3) and probabilities.dtype == jnp.float32
    np.testing.assert_allclose(probabilities[0, 0], expected, rtol=1e-5)


def test_the_median_counts_the_questions_answered_yes():
    """Also where the answers contradict each other."""
    outputs = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    for objective in ("ladder", "coral"):
        task = task_of(objective, 8)
        predictions = task.predict(task.estimates({"age_group": outputs}), {})["age_group"]
        np.testing.assert_array_equal(predictions["class"], (outputs > 0).sum(1))


@pytest.mark.parametrize(
    ("rule", "expected"), [(losses.mode, (0, 2)), (losses.median, (1, 2)), (losses.mean, (1.5, 1.75))]
)
def test_decoding_rules(rule, expected):
    """The first three differ; the second expectation is 0.1 + 0.9 + 0.75."""
    probabilities = jnp.array([[0.4, 0.2, 0.0, 0.3, 0.1], [0.2, 0.1, 0.45, 0.25, 0.0]])
    np.testing.assert_allclose(rule(probabilities), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("objective", "expected"), [("squared_emd", 0), ("corn", 1), ("expectation", 2), ("mean_variance", 2), ("dex", 2)]
)
def test_each_objective_has_its_rule(objective, expected):
    """Of the same probabilities: mode 0, median 1, expectation 1.5, which is as near to 1 as to 2 and counts as 2."""
    predictions = task_of(objective, 5).predict({"age_group": jnp.array([[0.4, 0.2, 0.0, 0.3, 0.1]])}, {})["age_group"]
    assert predictions["class"].tolist() == [expected]
    np.testing.assert_allclose(predictions["expectation"], [1.5], rtol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_learns_an_order(objective):
    """A prediction layer alone, on numbers from 0 to 5 whose class is their whole part: the loss falls, 1-off is 1."""
    task = task_of(objective, 5)
    head = task.outputs["age_group"]
    columns, count = 1 if head.shared_column else head.size, head.size
    numbers = jnp.linspace(0.02, 4.98, 125)
    batch = {"age_group": numbers.astype(jnp.int32), "mask": jnp.ones(125)}
    optimizer = optax.adam(0.1)

    def outputs_of(params):
        return {"age_group": (numbers[:, None] - 2.5) @ params["kernel"] + params["bias"]}

    def step(carry, _):
        params, state = carry
        loss, gradients = jax.value_and_grad(lambda params: task.loss(outputs_of(params), batch, 0, {})[0])(params)
        updates, state = optimizer.update(gradients, state)
        return (optax.apply_updates(params, updates), state), loss

    params = {"kernel": jnp.zeros((1, columns)), "bias": jnp.zeros(count)}
    train = jax.jit(lambda carry: jax.lax.scan(step, carry, length=500))
    (params, _), history = train((params, optimizer.init(params)))
    results = task.summarize(jax.device_get(task.metrics(task.estimates(outputs_of(params)), batch, {})))
    assert history[-1] < 0.6 * history[0]
    assert results["one_off"] == 1 and results["exact"] > 0.8


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
