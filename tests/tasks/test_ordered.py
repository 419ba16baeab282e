"""Age groups, ages in years, and "older than group k?": results on hand-made outputs, options, a run of each kind."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ror_jax.errors import UserError
from ror_jax.models import load_model
from ror_jax.outputs import Head
from ror_jax.runs.run import train_and_test
from ror_jax.tasks import create_task
from ror_jax.training.logging import read_rows

NAMES = {"age_group": ("0-2", "4-6", "8-13", "15-20"), "age": tuple(map(str, range(11)))}


def batch_of(task, labels, mask=None):
    return {task.target: jnp.array(labels), "mask": jnp.ones(len(labels)) if mask is None else jnp.array(mask, float)}


def results_of(task, probabilities, *batch):
    sums = task.measure(jnp.array(probabilities), batch_of(task, *batch), {})
    return task.summarize(jax.device_get(sums))


def test_age_group_metrics():
    """Six images: three exact, one off by one, two off by more; the confusion matrix has a row for each true class."""
    results = results_of(create_task("age_group", NAMES), np.eye(4)[[0, 1, 3, 2, 3, 0]], [0, 1, 3, 1, 0, 3])
    assert results["exact"] == 3 / 6
    assert results["one_off"] == 4 / 6
    assert results["confusion"] == [[1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1]]
    assert results["recall"] == {"0-2": 0.5, "4-6": 0.5, "8-13": None, "15-20": 0.5}
    assert results["majority_rate"] == pytest.approx(2 / 6)
    assert results["images"] == 6


# True age; one year, its probability, and the other year.
AGES = [
    (5.0, 0, 1.0, 0),  # mode and expectation 0: both 5 years wrong, which is within 5
    (2.5, 3, 0.75, 1),  # mode 3, 0.5 wrong, but of the right year; expectation 2.5
    (3.0, 10, 0.75, 6),  # mode 10, 7 wrong; expectation 9, 6 wrong
    (9.5, 4, 0.5625, 8),  # mode 4, 5.5 wrong; expectation 5.75, 3.75 wrong
    (-1, 5, 1.0, 0),  # unknown
    (4.0, 9, 1.0, 0),  # padding
]


@pytest.mark.parametrize(("objective", "mae", "within_5"), [("corn", 4.5, 2 / 4), ("expectation", 3.6875, 3 / 4)])
@pytest.mark.parametrize("size", [6, 2])
def test_age_years_metrics(objective, mae, within_5, size):
    """In one batch and in three: errors of the objective's own rule, of the mode and of the expectation, in years."""
    task = create_task("age_years", NAMES, objective=objective)
    ages = np.array([age for age, *_ in AGES], np.float32)
    probabilities = np.array([p * np.eye(11)[one] + (1 - p) * np.eye(11)[other] for _, one, p, other in AGES])
    mask = np.array([1, 1, 1, 1, 1, 0])
    parts = [slice(start, start + size) for start in range(0, 6, size)]
    sums = [task.measure(jnp.array(probabilities[p]), batch_of(task, ages[p], mask[p]), {}) for p in parts]
    results = task.summarize(jax.device_get(jax.tree.map(lambda *leaves: sum(leaves), *sums)))
    assert results["images"] == 4
    assert (results["mae"], results["mae_argmax"], results["mae_expectation"]) == pytest.approx((mae, 4.5, 3.6875))
    assert task.score(results) == -results["mae"]
    assert (results["within_5"], results["accuracy"]) == (within_5, 1 / 4)
    assert results["recall"]["3"] == 1 / 2 and results["recall"]["4"] is None  # 2.5 and 3.0 are of year 3
    if objective == "corn":
        assert task.line(results) == "MAE 4.50 years (expectation 3.69), within 5 years 50.00 %, exact 25.00 %"


def test_many_ordered_classes_have_no_top_5():
    task = create_task("age_years", {"age": tuple(map(str, range(101)))})
    assert "top_5" not in task.measure(jnp.ones((1, 101)), batch_of(task, [3.0]), {})


def test_an_age_beyond_the_last_class_is_of_the_last():
    """Its error is measured from the age itself."""
    results = results_of(create_task("age_years", NAMES), np.eye(11)[[10]], [12.0])
    assert (results["accuracy"], results["mae"]) == (1, 2)


def test_older_than():
    """Older than the second group: groups 2 and 3 of 0 ... 3 are. One of four is wrong, two do not count."""
    task = create_task("older_than", NAMES, group=2)
    assert task.names == ("0-2 ... 4-6", "older") and task.heads == {"age_group": Head(2)}
    assert create_task("older_than", NAMES, group=1).names == ("0-2", "older")
    groups, answers, mask = [0, 1, 2, 3, -1, 3], [0, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]
    results = results_of(task, np.eye(2)[answers], groups, mask)
    assert (results["accuracy"], results["confusion"]) == (3 / 4, [[1, 1], [0, 2]])
    outputs = {"age_group": jnp.array([[0.0, 0.0], [0.0, 100.0]])}
    loss, _ = task.loss(outputs, batch_of(task, [1, 2]), {}, 0)
    assert float(loss) == pytest.approx(np.log(2) / 2)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("age_group", {"objective": "corl"}, "unknown objective 'corl'; did you mean 'coral' or 'corn'"),
        ("age_group", {"sigma": 1.0}, "sigma is 1.0, but objective 'cross_entropy' has no width"),
        ("age_years", {"objective": "label_distribution", "sigma": 0.0}, "sigma is 0.0; it must be positive"),
        ("age_years", {"objective": "label_distribution", "sigma": float("nan")}, "must be positive"),
        ("older_than", {}, "group is None; it must be 1 ... 3"),
        ("older_than", {"group": 0}, "group is 0; it must be 1 ... 3"),
        ("older_than", {"group": 4}, "group is 4; it must be 1 ... 3"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(UserError, match=message):
        create_task(name, NAMES, **options)


def test_the_width_of_a_label_distribution():
    """Half a group, two years, or as one likes."""
    widths = [create_task(name, NAMES, objective="label_distribution").sigma for name in ("age_group", "age_years")]
    assert widths == [0.5, 2.0]
    assert create_task("age_group", NAMES, objective="label_distribution", sigma=3).sigma == 3


def test_a_run_with_one_kernel_column(tiny_config, tmp_path, capsys):
    """CORAL is trained, saved, restored, tested on two views and summarised; `load_model` reads its weights."""
    train_and_test(tiny_config(task__objective="coral", epochs=1, views="flip"), tmp_path)
    results = json.loads((tmp_path / "summary.json").read_text())["test"]
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert rows[-1]["split"] == "test" and rows[-1]["one_off"] == results["one_off"]
    best = f"Best epoch: 1, exact {100 * results['exact']:.2f} %, 1-off {100 * results['one_off']:.2f} %."
    assert best in capsys.readouterr().out

    head = load_model(tmp_path).heads["age_group"]
    assert head.kernel.shape == (8, 1)
    assert len(set(head.bias[...].tolist())) == 7  # each has learned something else


def test_a_question_in_a_run(tiny_config, tmp_path, capsys):
    """Pictures and words name the two answers, though the data have eight groups."""
    train_and_test(tiny_config(task__name="older_than", task__group=4, epochs=0), tmp_path)
    words = capsys.readouterr().out
    assert "0-2 ... 15-20  recall" in words and "older  recall" in words


def test_years_in_a_run(tiny_config, tmp_path, capsys):
    """The best epoch is that of the smallest error; the expected age stands in the file of predictions."""
    train_and_test(tiny_config(task__name="age_years", task__objective="mean_variance"), tmp_path)
    errors = [row["mae"] for row in read_rows(tmp_path / "metrics.jsonl") if row["split"] == "test"]
    assert f"Best epoch: {1 + int(np.argmin(errors))}, MAE {min(errors):.2f} years" in capsys.readouterr().out
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    error = np.mean([abs(float(row["age_expected"]) - float(row["age"])) for row in rows])
    assert error == pytest.approx(errors[-1], abs=1e-3)
