"""Age and gender at once: the article's numbers by hand, labels that are missing, thresholds."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ror_jax.errors import UserError
from ror_jax.outputs import Head
from ror_jax.tasks import create_task
from ror_jax.tasks.age_gender import best_threshold
from ror_jax.tasks.metrics import errors, harmonic, macro_f1, summarize_errors

LABELS = {"age": tuple(str(age) for age in range(101)), "gender": ("female", "male")}


def task_of(**options):
    return create_task("age_gender", LABELS, **options)


def batch_of(ages, genders, mask=None):
    return {
        "age": jnp.array(ages, jnp.float32),
        "gender": jnp.array(genders),
        "mask": jnp.ones(len(ages)) if mask is None else jnp.array(mask, float),
    }


def outputs_of(ages, logits, **more):
    return {"age": jnp.array(ages, jnp.float32)[:, None], "gender": jnp.array(logits, jnp.float32)[:, None]} | more


def results_of(task, outputs, batch):
    return task.summarize(jax.device_get(task.metrics(task.estimates(outputs), batch, task.initial_state())))


def test_the_loss_by_hand():
    """SmoothL1 of errors of 5 and 30 years in units of 10: 0.5 * 0.5^2 and 3 - 0.5; BCE of logit 0: log 2, or 1.1 log 2
    of a man."""
    batch = batch_of([30, 40], [0, 1])
    value, parts = task_of().loss(outputs_of([35, 70], [0, 0]), batch, 0, {})
    age, gender = (0.125 + 2.5) / 2, math.log(2) * (1 + 1.1) / 2
    assert parts == pytest.approx({"age": age, "gender": gender})
    assert value == pytest.approx(age + gender)
    value, _ = task_of(age_weight=2, gender_weight=0.5, age_scale=5).loss(outputs_of([35, 70], [0, 0]), batch, 0, {})
    assert value == pytest.approx(2 * (0.5 + 5.5) / 2 + gender / 2)


def test_the_loss_is_that_of_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    ages, genders = rng.uniform(0, 100, 12).astype(np.float32), rng.integers(0, 2, 12)
    outputs = outputs_of(rng.uniform(-20, 130, 12), rng.normal(size=12) * 3)
    theirs = [torch.tensor(np.array(outputs[name][:, 0])) for name in ("age", "gender")]
    age = torch.nn.SmoothL1Loss()(theirs[0] / 10, torch.tensor(ages) / 10)
    gender = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(1.1))(theirs[1], torch.tensor(genders).float())
    value, _ = task_of().loss(outputs, batch_of(ages, genders), 0, {})
    assert value == pytest.approx(float(age + gender), rel=1e-5)


def test_an_image_with_one_label_counts_for_that_one():
    """The others are as if they were not there, in the loss and in the results; nor does padding count."""
    some = batch_of([30, -1, 50, -1, 20], [0, 1, -1, -1, 1], mask=[1, 1, 1, 1, 0])
    outputs = outputs_of([33, 99, 40, 7, 90], [-1, -2, 5, 3, 9])
    _, parts = task_of().loss(outputs, some, 0, {})
    _, age = task_of().loss(outputs_of([33, 40], [0, 0]), batch_of([30, 50], [0, 0]), 0, {})
    _, gender = task_of().loss(outputs_of([0, 0], [-1, -2]), batch_of([0, 0], [0, 1]), 0, {})
    assert [*parts.values()] == pytest.approx([float(age["age"]), float(gender["gender"])])
    results = results_of(task_of(), outputs, some)
    assert (results["ages"], results["images"], results["mae"], results["accuracy"]) == (2, 2, 6.5, 0.5)
    assert task_of().loss(outputs, batch_of([-1] * 5, [-1] * 5), 0, {})[0] == 0


def test_uncertainty_weighting_by_hand():
    """Equation 10: L_age / (2 s_1) + log(s_1) / 2 + L_gender / s_2 + log(s_2) / 2, with variances 2 and 4."""
    task, batch = task_of(balance="uncertainty"), batch_of([30, -1, 40], [0, 1, -1])
    assert task.outputs == {"age": Head(1), "gender": Head(1), "log_variances": Head(2, trunk=None)}
    logs = jnp.broadcast_to(jnp.log(jnp.array([2.0, 4.0])), (3, 2))
    outputs = outputs_of([35, 70, 47], [1, 0, 2], log_variances=logs)
    value, parts = task.loss(outputs, batch, 0, {})
    expected = parts["age"] / 4 + math.log(2) / 2 + parts["gender"] / 4 + math.log(4) / 2
    assert value == pytest.approx(float(expected), rel=1e-6)
    # What is learnt is best where a variance is L_age, and 2 L_gender, for which the gradient vanishes.
    best = jnp.broadcast_to(jnp.log(jnp.array([parts["age"], 2 * parts["gender"]])), (3, 2))
    slope = jax.grad(lambda logs: task.loss(outputs | {"log_variances": logs}, batch, 0, {})[0])(best)
    assert slope.sum(0) == pytest.approx([0, 0], abs=1e-6)


def test_metrics_of_batches_are_those_of_all_images():
    """Section 10 on random answers, in three batches with padding, and by numpy from all of them at once."""
    rng = np.random.default_rng(0)
    ages, genders = rng.uniform(0, 100, 60), rng.integers(0, 2, 60)
    found, logits = np.clip(ages + rng.normal(size=60) * 8, 0, 100), rng.normal(size=60) + genders
    parts = [
        task_of().metrics(
            task_of().estimates(outputs_of([*found[part], 1], [*logits[part], 1])),
            batch_of([*ages[part], 60], [*genders[part], 0], [*np.ones(len(ages[part])), 0]),
            task_of().initial_state(),
        )
        for part in (slice(0, 7), slice(7, 30), slice(30, 60))
    ]
    results = task_of().summarize(jax.tree.map(lambda *sums: sum(sums), *parts))
    error = found - ages
    rmse = math.sqrt((error**2).mean())
    male, hits = logits > 0, (logits > 0) == genders
    f1 = np.mean([2 * (hits & (genders == k)).sum() / ((male == k).sum() + (genders == k).sum()) for k in (0, 1)])
    assert results["rmse"] == pytest.approx(rmse, rel=1e-5)
    assert results["mae"] == pytest.approx(abs(error).mean(), rel=1e-5)
    assert results["r2"] == pytest.approx(1 - (error**2).sum() / ((ages - ages.mean()) ** 2).sum(), rel=1e-5)
    for years in (3, 5, 10):
        assert results[f"within_{years}"] == pytest.approx((abs(error) <= years).mean())
    assert results["macro_f1"] == pytest.approx(f1)
    assert results["harmonic"] == pytest.approx(2 / (1 / (1 - rmse / 30) + 1 / f1), rel=1e-5)
    assert task_of().score(results) == results["harmonic"]


def test_the_published_scores_follow_from_their_parts():
    """ConvNeXt-Tiny: RMSE 8.12 and F1 0.940 make 0.82; section 11 prints 0.821, 0.802, 0.763."""
    for rmse, f1, printed in ((8.12, 0.940, 0.821), (8.64, 0.918, 0.802), (9.79, 0.879, 0.763)):
        assert harmonic(rmse, f1) == pytest.approx(printed, abs=0.0012)
    assert harmonic(31, 0.9) == harmonic(30, 0.9) == 0
    assert harmonic(0, 1) == 1


def test_degenerate_sums():
    assert macro_f1(np.array([[0, 0], [0, 3]])) == 1  # a class that is neither true nor predicted does not count
    assert macro_f1(np.zeros((2, 2))) == 0
    ages = jnp.full(5, 37.3)  # of which float32 makes sums that differ
    assert summarize_errors(jax.device_get(errors(ages + 1, ages, jnp.ones(5))))["r2"] == 0
    alike = summarize_errors(jax.device_get(errors(jnp.array([41.0, 39.0]), jnp.array([40.0, 40.0]), jnp.ones(2))))
    assert alike["r2"] == 0 and alike["rmse"] == 1


def test_ages_are_cut_and_views_averaged():
    """Two views of three images: the mean of the ages, then cut to 0 ... 100; the mean of the probabilities."""
    task = task_of()
    outputs = {"age": jnp.array([[[30.0], [40.0]], [[-9.0], [-5.0]], [[99.0], [121.0]]]),
               "gender": jnp.array([[[4.0], [-1.0]], [[-1.0], [-2.0]], [[0.1], [0.1]]])}  # fmt: skip
    estimates = jax.tree.map(lambda views: views.mean(1), task.estimates(outputs))
    found = task.predict(estimates, task.initial_state())
    assert found["age"]["years"].tolist() == [35, 0, 100]
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    assert found["gender"]["probabilities"][:, 1] == pytest.approx(
        [(sigmoid(4) + sigmoid(-1)) / 2, (sigmoid(-1) + sigmoid(-2)) / 2, sigmoid(0.1)]
    )
    assert found["gender"]["class"].tolist() == [1, 0, 1]


def test_the_threshold_is_found_on_validation():
    """Women at 0.1 and 0.62, men at 0.7 and 0.9: from 0.62 on any is perfect, and the nearest to 1/2 is taken."""
    task = task_of(threshold="validation")
    assert task.needs_validation and not task_of().needs_validation
    logit = lambda p: math.log(p / (1 - p))  # noqa: E731
    outputs = outputs_of([30] * 4, [logit(p) for p in (0.1, 0.6199, 0.7, 0.9)])
    batch = batch_of([30] * 4, [0, 0, 1, 1])
    results = results_of(task, outputs, batch)
    assert results["macro_f1"] < 1
    assert task.score(results) == harmonic(0, 1) == 1  # the epoch is judged by what its checkpoint will hold
    state = task.after_validation(task.initial_state(), results)
    assert float(state["threshold"]) == pytest.approx(0.62)
    again = task.summarize(jax.device_get(task.metrics(task.estimates(outputs), batch, state)))
    assert again["macro_f1"] == 1
    assert task.predict(task.estimates(outputs), state)["gender"]["class"].tolist() == [0, 0, 1, 1]
    assert task_of(threshold=0.3).initial_state()["threshold"] == pytest.approx(0.3)


def test_the_answer_of_who_sees_no_image():
    """The mean age and the more frequent gender of those that are known, whatever the threshold; each year's share."""
    known = {"age": np.array([20.0, 40.0, -1.0]), "gender": np.array([1, -1, 1])}
    labels = lambda keys: {key: known[key] for key in keys}  # noqa: E731
    task = task_of(threshold=0.9)
    found = task.predict(jax.tree.map(jnp.asarray, task.constant(labels)), task.initial_state())
    assert found["age"]["years"].tolist() == [30] and found["gender"]["class"].tolist() == [1]
    assert task.first_biases(labels) == {"age": [30]}
    shares = create_task("age_years", LABELS).constant(labels)["age"]
    assert shares[0, [20, 40]].tolist() == [0.5, 0.5] and shares.sum() == 1


def test_of_equal_thresholds_the_middle_one():
    histogram = np.zeros((2, 200), int)
    histogram[0, 20], histogram[1, 180] = 5, 5
    assert best_threshold(histogram) == {"best_threshold": 0.5, "best_macro_f1": 1.0}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"age_scale": 0}, "age_scale"),
        ({"age_weight": -1}, "age_weight"),
        ({"gender_weight": math.inf}, "gender_weight"),
        ({"age_weight": 0, "gender_weight": 0}, "nothing is learnt"),
        ({"balance": "learnt"}, "fixed, uncertainty"),
        ({"threshold": 1.5}, "validation"),
        ({"threshold": "best"}, "validation"),
        ({"weights": (1, 2, 3)}, "2 classes"),
    ],
)
def test_settings_that_make_no_sense(options, words):
    with pytest.raises(UserError, match=words):
        task_of(**options)


def test_data_without_one_of_the_labels():
    with pytest.raises(UserError, match="'age'"):
        create_task("age_gender", {"gender": ("female", "male")})
