"""Answers by kind: what files, words, scores, tables and pictures make of them, on numbers worked out by hand."""

import dataclasses
import json

import numpy as np
import pytest

from ror_jax.report.figures import draw
from ror_jax.tasks.answers import Class, Flags, Number, Points, Vector, cells, read_answer, readings

GROUPS = ("0-2", "4-6", "60-")
SPANS = ((0.0, 2.0), (4.0, 6.0), (60.0, 100.0))
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5], [0.1, 0.8, 0.1]])
ANSWERS = {
    "age_group": Class(
        np.array([0, 2, 1]), PROBABILITIES.max(1), PROBABILITIES, names=GROUPS, ordered=True, spans=SPANS, unit="years",
        title="age",
    ),
    "age": Number(np.array([30.0, 41.5, 99.0]), unit="years", title="age"),
    "attributes": Flags(
        np.array([[1, 0], [1, 1], [0, 0]]), np.array([[0.9, 0.2], [0.6, 0.8], [0.4, 0.1]]), names=("Bald", "Big_Nose")
    ),
    "landmarks": Points(np.array([[[0.25, 0.5], [0.75, 0.5], [0.5, 0.8]]] * 3), normalizer=(0, 1)),
    "descriptor": Vector(np.arange(6.0).reshape(3, 2)),
}  # fmt: skip
TRUTH = {
    "age_group": np.array([0, 1, -1]),
    "age": np.array([33.0, 30.0, -1.0]),
    "attributes": np.array([[1, 1], [0, 1], [-1, -1]]),
    "landmarks": np.array(
        [[[0.25, 0.5], [0.75, 0.5], [0.5, 0.9]], [[0.25, 0.5], [0.75, 0.5], [np.nan] * 2], [[np.nan] * 2] * 3]
    ),
}


def mean(values, chosen, factor=100.0):
    return f"{factor * np.mean(values[chosen]):.1f}", str(chosen.sum())


@pytest.mark.parametrize("name", ANSWERS)
def test_what_a_file_holds_is_read_back(name):
    """Columns as text, and the description through JSON, give the answer, its truth and its scores again."""
    answer, truth = ANSWERS[name].compact(), TRUTH.get(name)
    text = {
        column: np.array([str(value) for value in values]) for column, values in answer.columns(name, truth).items()
    }
    again, true = read_answer(name, json.loads(json.dumps(answer.describe())), text)
    for field in dataclasses.fields(answer):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(answer, field.name))
    if truth is None:
        assert true is None and answer.scores(np.empty(3)) == {}
        return
    np.testing.assert_array_equal(true, truth)
    for metric, values in answer.scores(truth).items():
        np.testing.assert_array_equal(again.scores(true)[metric], values)


@pytest.mark.parametrize(
    ("name", "scores", "mistakes"),
    [
        ("age_group", {"exact": [1, 0, np.nan], "one_off": [1, 1, np.nan]}, [False, True, False]),
        ("age", {"mae": [3, 11.5, np.nan], "within_5": [1, 0, np.nan]}, [False, True, False]),
        ("attributes", {"mean_accuracy": [0.5, 0.5, np.nan]}, [True, True, False]),
        # One of three points is 0.1 off, the eyes are 0.5 apart; of the second face that point is unknown.
        ("landmarks", {"nme": [0.1 / 0.5 / 3, 0, np.nan]}, [False, False, False]),
    ],
)
def test_scores(name, scores, mistakes):
    """The main one comes first; what is unknown has none and is no mistake."""
    found = ANSWERS[name].scores(TRUTH[name])
    assert list(found) == list(scores)
    for metric, values in scores.items():
        np.testing.assert_allclose(found[metric], values, rtol=1e-6)
    assert ANSWERS[name].mistakes(TRUTH[name]).tolist() == mistakes


def test_classes_without_an_order_have_accuracy():
    answer = Class(np.array([0, 1]), names=("female", "male"))
    assert list(answer.scores(np.array([0, 0]))) == ["accuracy"]


def test_readings():
    """What JSON says of two faces, and the words for both answers; a derived answer is in no words."""
    found = readings({"age": ANSWERS["age"], "age_group": dataclasses.replace(ANSWERS["age_group"], derived=True)}, 2)
    assert found[1] == {
        "age": 41.5,
        "age_group": "60-",
        "age_group_probability": 0.5,
        "age_group_probabilities": {"0-2": 0.25, "4-6": 0.25, "60-": 0.5},
        "words": "age 42",
    }
    assert readings(ANSWERS, 1)[0]["words"] == "age 0-2, 70 %; age 30; bald"
    assert json.loads(json.dumps(readings(ANSWERS, 3))) == readings(ANSWERS, 3)


def test_cells_of_results():
    """Every cell is a number or text; there are the same columns for each face."""
    forms = {name: answer.describe() for name, answer in ANSWERS.items()}
    first, second = (cells(forms, reading) for reading in readings(ANSWERS, 2))
    assert first == {
        **{"age_group": "0-2", "age_group_probability": 0.7, "age": 30.0},
        **{"attributes_Bald": 0.9, "attributes_Big_Nose": 0.2},
        **{"landmarks_0_x": 0.25, "landmarks_0_y": 0.5, "landmarks_1_x": 0.75, "landmarks_1_y": 0.5},
        **{"landmarks_2_x": 0.5, "landmarks_2_y": 0.8, "descriptor_0": 0.0, "descriptor_1": 1.0},
    }
    assert second.keys() == first.keys()


def test_intervals_of_numbers():
    """Of 39 errors -19 ... 19, two are left out on either side; answers near the end are cut there."""
    errors = np.arange(-19.0, 20.0)
    tried = Number(np.full(39, 50.0))
    calibration = tried.calibrate(50 + errors)
    assert calibration == {"below": 18.0, "above": 18.0, "faces": 39, "inside": 37 / 39, "own": False}
    answer = ANSWERS["age"].with_interval(calibration)
    assert answer.interval.tolist() == [[12, 48], [23.5, 59.5], [81, 100]]
    assert answer.words(0) == "age 30 (12 to 48)"
    assert cells({"age": answer.describe()}, readings({"age": answer}, 1)[0]) == {
        "age": 30.0,
        "age_low": 12.0,
        "age_high": 48.0,
    }
    assert tried.calibrate(np.full(39, -1.0)) is None


def test_intervals_of_classes_are_spans():
    """One class up and none down, as years: of the last class there is none above."""
    answer = ANSWERS["age_group"].with_interval({"below": 0.0, "above": 1.0})
    assert answer.interval.tolist() == [[0, 6], [60, 100], [4, 100]]
    assert Class(np.array([0]), names=("a", "b")).calibrate(np.zeros(30, int)) is None


def test_what_is_told_of_a_distribution_is_its_mean():
    answer = Number(np.array([20.0]), np.array([23.0]), title="age")
    assert answer.reading("age", 0) == {"age": 23.0}
    assert {name: values.tolist() for name, values in answer.scores(np.array([25.0])).items()} == {
        "mae": [5],
        "within_5": [1],
        "mae_expectation": [2],
    }


def test_points_in_a_photograph():
    """A crop of 5 x 5 pixels of the photograph at (100, 50): its middle is at (102.5, 52.5)."""
    answer = Points(np.array([[[0.5, 0.5], [0.0, 1.0]]]))
    placed = answer.to_photograph(np.array([[[5.0, 0, 100], [0, 5.0, 50]]]))
    assert placed.reading("points", 0) == {"points": [[102.5, 52.5], [100.0, 55.0]]}


def test_the_table_of_flags():
    """Bald: one hit, one false alarm. Big nose: one hit, one miss; accuracy, balanced accuracy, F1, share, number."""
    (table,) = ANSWERS["attributes"].tables(TRUTH["attributes"], mean)
    assert table.rows == [
        ["Bald", "50.0", "50.0", "66.7", "50.0", "2"],
        ["Big_Nose", "50.0", "", "66.7", "100.0", "2"],
    ]


def test_the_tables_of_the_others():
    (recall,) = ANSWERS["age_group"].tables(TRUTH["age_group"], mean)
    assert recall.rows == [["0-2", "100.0", "1"], ["4-6", "0.0", "1"]]
    (decades,) = ANSWERS["age"].tables(TRUTH["age"], mean)
    assert decades.rows == [["30-39", "7.2", "8.4", "+4.2", "2"]]
    (points,) = ANSWERS["landmarks"].tables(TRUTH["landmarks"], mean)
    # Errors of 1/15 and 0: the area under the curve up to 0.1 is the mean of 1/3 and 1.
    assert points.rows == [["all points", "3.3", "0.0", "66.7", "2"]]


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("age_group", ["confusion", "reliability"]),
        ("age", ["scatter"]),
        ("attributes", ["shares"]),
        ("landmarks", ["cumulative"]),
        ("descriptor", []),
    ],
)
def test_figures_are_drawn(name, kinds, tmp_path):
    figures = list(ANSWERS[name].figures(TRUTH.get(name)))
    assert [figure.kind for figure in figures] == kinds
    for figure in figures:
        draw(figure.kind, "a title", path := tmp_path / f"{figure.kind}.png", figure.data)
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_confusion_matrix_counts_what_is_known():
    figure, _ = ANSWERS["age_group"].figures(TRUTH["age_group"])
    assert figure.data["counts"].tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("age_group", {"age_group_predicted": np.array(["0", "7", "1"])}),
        ("age_group", {"age_group_true": np.array(["0", "x", "1"])}),
        ("attributes", {"attributes_Bald_true": None}),
    ],
)
def test_damaged_columns(name, change):
    columns = ANSWERS[name].columns(name, TRUTH[name]) | change
    columns = {column: values.astype(str) for column, values in columns.items() if values is not None}
    with pytest.raises((KeyError, ValueError)):
        read_answer(name, ANSWERS[name].describe(), columns)
