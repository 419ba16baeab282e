"""Tasks: metrics from sums that neither padding nor the split into batches can change."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ror_jax.errors import UserError
from ror_jax.outputs import Head
from ror_jax.tasks import create_task

NAMES = {"age_group": tuple("abcd"), "gender": ("female", "male"), "label": tuple("xyz")}


def batch_of(labels, mask=None):
    labels = jnp.array(labels)
    return {"age_group": labels, "mask": jnp.ones(len(labels)) if mask is None else jnp.array(mask, float)}


def sums_of(task, logits, batch):
    return task.metrics(task.estimates({task.target: jnp.array(logits)}), batch, {})


def test_metrics_do_not_depend_on_batches_or_padding():
    """Random predictions: one batch, or three with padding and missing labels in between, give the same summary."""
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 4, 20), rng.normal(size=(20, 4)).astype(np.float32)
    task = create_task("age_group", NAMES, weights=(1, 2, 3, 4))
    whole = sums_of(task, logits, batch_of(labels))

    def padded(part):
        rows, truth = (
            np.concatenate([logits[part], rng.normal(size=(3, 4))]),
            np.concatenate([labels[part], [0, -1, 2]]),
        )
        mask = [1.0] * len(labels[part]) + [0, 1, 0]  # padding, an image without the label, padding
        return sums_of(task, rows, batch_of(truth, mask))

    parts = [padded(part) for part in (slice(0, 7), slice(7, 8), slice(8, 20))]
    summed = jax.tree.map(lambda *leaves: sum(leaves), *parts)
    expected, results = task.summarize(whole), task.summarize(summed)
    assert results.pop("cross_entropy") == pytest.approx(expected.pop("cross_entropy"), rel=1e-5)
    assert results == expected


def test_predictions():
    """The class and probabilities that sum to one."""
    task = create_task("age_group", NAMES)
    logits = 5.0 * jax.nn.one_hot(jnp.array([2, 0]), 4)
    predictions = task.predict(task.estimates({"age_group": logits}), {})["age_group"]
    assert predictions["class"].tolist() == [2, 0]
    np.testing.assert_allclose(predictions["probabilities"].sum(1), 1, rtol=1e-6)


def test_gender_and_classification_have_accuracy():
    task = create_task("gender", NAMES)
    logits, batch = [[1.0, 0], [0, 1], [0, 1]], {"gender": jnp.array([0, 1, 0]), "mask": jnp.ones(3)}
    results = task.summarize(sums_of(task, logits, batch))
    assert task.score(results) == results["accuracy"] == pytest.approx(2 / 3)
    assert create_task("classification", NAMES).outputs == {"label": Head(3)}


def test_the_cross_entropy_is_that_of_the_probabilities():
    """Whatever the weights: the mean of ln 4 and ln 4/3. For a true class of probability 0 it is 126 ln 2."""
    task = create_task("gender", NAMES, weights=(2, 5))
    batch = {"gender": jnp.array([0, 1]), "mask": jnp.ones(2)}
    results = task.summarize(sums_of(task, [[0.0, math.log(3)]] * 2, batch))
    assert results["cross_entropy"] == pytest.approx((math.log(4) + math.log(4 / 3)) / 2, rel=1e-6)
    results = task.summarize(sums_of(task, [[-1000.0, 0.0]] * 2, batch))
    assert results["cross_entropy"] == pytest.approx(126 * math.log(2) / 2, rel=1e-6)


def test_top_5_of_many_classes():
    """Twenty falling logits: classes 0 to 4 are the five likeliest. Padding and unknown labels do not count."""
    task = create_task("classification", {"label": tuple(map(str, range(20)))})
    logits = jnp.tile(-jnp.arange(20.0), (6, 1))
    batch = {"label": jnp.array([0, 4, 5, 19, 1, -1]), "mask": jnp.array([1.0, 1, 1, 1, 0, 1])}
    results = task.summarize(sums_of(task, logits, batch))
    assert (results["accuracy"], results["top_5"]) == (1 / 4, 2 / 4)
    assert task.line(results) == "accuracy 25.00 %, top-5 50.00 %"
    assert "top_5" not in sums_of(create_task("classification", NAMES), logits[:, :3], batch)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("age_grup", {}, "unknown task 'age_grup'; did you mean 'age_group'"),
        ("age_group", {"weight": "LW3"}, "unknown option of task 'age_group': 'weight'; did you mean 'weights'"),
        ("age_group", {"normalize_by": "sum"}, "must be 'batch' or 'weights'"),
        ("age_group", {"weights": "LW3"}, "8 class weights were given"),
        ("gender", {"objective": "coral"}, "unknown option of task 'gender': 'objective'"),
    ],
)
def test_bad_tasks(name, options, message):
    with pytest.raises(UserError, match=message):
        create_task(name, NAMES, **options)


def test_data_without_the_label():
    with pytest.raises(UserError, match="task 'gender' needs the label 'gender', but the data has label"):
        create_task("gender", {"label": ("x", "y")})
