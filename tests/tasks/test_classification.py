"""Tasks: metrics from sums that neither padding nor the split into batches can change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ror_jax.errors import UserError
from ror_jax.tasks import create_task

NAMES = {"age_group": tuple("abcd"), "gender": ("female", "male"), "label": tuple("xyz")}


def batch_of(labels, mask=None):
    labels = jnp.array(labels)
    return {"age_group": labels, "mask": jnp.ones(len(labels)) if mask is None else jnp.array(mask, float)}


def outputs_for(predictions, classes=4):
    return {"age_group": 5.0 * jax.nn.one_hot(jnp.array(predictions), classes)}


def test_age_group_metrics():
    """Six images: three exact, one off by one, two off by more; the confusion matrix has a row for each true class."""
    task = create_task("age_group", NAMES)
    results = task.summarize(task.metrics(outputs_for([0, 1, 3, 2, 3, 0]), batch_of([0, 1, 3, 1, 0, 3])))
    assert results["exact"] == 3 / 6
    assert results["one_off"] == 4 / 6
    assert results["confusion"] == [[1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1]]
    assert results["recall"] == {"a": 0.5, "b": 0.5, "c": None, "d": 0.5}
    assert results["majority_rate"] == pytest.approx(2 / 6)
    assert results["images"] == 6


def test_metrics_do_not_depend_on_batches_or_padding():
    """Random predictions: one batch, or three with padding and missing labels in between, give the same summary."""
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 4, 20), rng.normal(size=(20, 4)).astype(np.float32)
    task = create_task("age_group", NAMES, weights=(1, 2, 3, 4))
    whole = task.metrics({"age_group": jnp.array(logits)}, batch_of(labels))

    def padded(part):
        rows, truth = (
            np.concatenate([logits[part], rng.normal(size=(3, 4))]),
            np.concatenate([labels[part], [0, -1, 2]]),
        )
        mask = [1.0] * len(labels[part]) + [0, 1, 0]  # padding, an image without the label, padding
        return task.metrics({"age_group": jnp.array(rows)}, batch_of(truth, mask))

    parts = [padded(part) for part in (slice(0, 7), slice(7, 8), slice(8, 20))]
    summed = jax.tree.map(lambda *leaves: sum(leaves), *parts)
    expected, results = task.summarize(whole), task.summarize(summed)
    assert results.pop("cross_entropy") == pytest.approx(expected.pop("cross_entropy"), rel=1e-5)
    assert results == expected


def test_predictions():
    """The class and probabilities that sum to one."""
    predictions = create_task("age_group", NAMES).predict(outputs_for([2, 0]))["age_group"]
    assert predictions["class"].tolist() == [2, 0]
    np.testing.assert_allclose(predictions["probabilities"].sum(1), 1, rtol=1e-6)


def test_gender_and_classification_have_accuracy():
    task = create_task("gender", NAMES)
    outputs, batch = {"gender": jnp.array([[1.0, 0], [0, 1], [0, 1]])}, {"gender": jnp.array([0, 1, 0])}
    assert task.summarize(task.metrics(outputs, batch | {"mask": jnp.ones(3)}))["accuracy"] == pytest.approx(2 / 3)
    assert create_task("classification", NAMES).outputs == {"label": 3}


def test_views_are_averaged_as_probabilities():
    """Two views of one image that say (0.8, 0.2) and (0.4, 0.6): together (0.6, 0.4)."""
    task = create_task("gender", NAMES)
    logits = jnp.log(jnp.array([[[0.8, 0.2], [0.4, 0.6]]])) + jnp.array([[[3.0], [-5.0]]])  # offsets mean nothing
    predictions = task.predict(task.average_views({"gender": logits, "features": jnp.zeros((1, 2, 7))}))
    np.testing.assert_allclose(predictions["gender"]["probabilities"], [[0.6, 0.4]], rtol=1e-6)


def test_top_5_of_many_classes():
    """Twenty falling logits: classes 0 to 4 are the five likeliest. Padding and unknown labels do not count."""
    task = create_task("classification", {"label": tuple(map(str, range(20)))})
    logits = jnp.tile(-jnp.arange(20.0), (6, 1))
    batch = {"label": jnp.array([0, 4, 5, 19, 1, -1]), "mask": jnp.array([1.0, 1, 1, 1, 0, 1])}
    results = task.summarize(task.metrics({"label": logits}, batch))
    assert (results["accuracy"], results["top_5"]) == (1 / 4, 2 / 4)
    assert task.line(results) == "accuracy 25.00 %, top-5 50.00 %"
    assert "top_5" not in create_task("classification", NAMES).metrics({"label": logits[:, :3]}, batch)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("age_grup", {}, "unknown task 'age_grup'; did you mean 'age_group'"),
        ("age_group", {"weight": "LW3"}, "unknown option of task 'age_group': 'weight'; did you mean 'weights'"),
        ("age_group", {"normalize_by": "sum"}, "must be 'batch' or 'weights'"),
        ("age_group", {"weights": "LW3"}, "8 class weights were given"),
    ],
)
def test_bad_tasks(name, options, message):
    with pytest.raises(UserError, match=message):
        create_task(name, NAMES, **options)


def test_data_without_the_label():
    with pytest.raises(UserError, match="task 'gender' needs the label 'gender', but the data has label"):
        create_task("gender", {"label": ("x", "y")})
