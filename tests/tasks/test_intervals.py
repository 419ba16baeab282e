"""Intervals around numbers that are known as spans: what they hold, and the correction that makes them hold enough."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from ror_jax.tasks.answers import Number, cells, read_answer, readings
from ror_jax.tasks.answers.intervals import calibrate, coverage

INF = np.inf
AGES = Number(
    np.array([33.5, 60.0, 4.0]), interval=np.array([[20.0, 45.5], [30.0, 69.0], [1.0, 9.0]]), unit="years", title="age"
)
TRUTH = np.array([[30.0, 39.0], [70.0, 100.0], [-1.0, -1.0]])  # 30 to 39, 70 and more, unknown


@pytest.mark.parametrize("namespace", [np, jnp])
def test_coverage_by_hand(namespace):
    """Of spans around the interval from 20 to 30; those with an open end are held, or not, as a whole."""
    spans = {
        (22, 26): 1, (25, 35): 1 / 2, (10, 50): 1 / 4, (30, 40): 0, (25, 25): 1, (31, 31): 0, (19, 19): 0,
        (28, INF): 1, (31, INF): 0, (12, INF): 1, (-INF, 22): 1, (-INF, 19): 0, (-INF, INF): 1,
    }  # fmt: skip
    found = coverage(namespace.array(list(spans), float), namespace.array([(20.0, 30.0)] * len(spans)))
    np.testing.assert_allclose(found, list(spans.values()), atol=1e-6)


def test_the_correction_by_hand():
    """39 intervals from 40 to 60, 39 spans from 50 to 70: on either side 39 parts of 20 years may miss
    (39 + 1) / 20 - 1 = 1 in all. So an interval may begin, and must end, 20 / 39 years from the spans' ends."""
    found = calibrate(np.full((39, 2), (50, 70)), np.full((39, 2), (40, 60)))
    assert found == pytest.approx(
        {"below": -10 - 20 / 39, "above": 10 - 20 / 39, "faces": 39, "inside": 1 - 2 / 39}, rel=1e-9
    )
    # Of an open span some must be reached: 38 of 39 are at 45, one at 80 may be missed.
    spans = np.array([(45, INF)] * 38 + [(80, INF)])
    assert calibrate(spans, np.full((39, 2), (40, 44)))["above"] == 1
    assert calibrate(spans[:19], np.full((19, 2), (40, 44))) is None


@pytest.mark.parametrize("known_as", ["number", "years", "decades"])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_corrected_intervals_reach_their_coverage(known_as, factor):
    """Of faces as uncertain as 3 or 12 years, by intervals half or twice as wide as they should be; on average over
    draws of 200 faces, nine tenths of others are held, one in twenty missed on either side."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(200):
        spread = rng.choice([3.0, 12.0], 400)
        values = rng.uniform(25, 75, 400)
        ages = (values + spread * rng.normal(size=400)).clip(0, 100)
        width = {"number": 0, "years": 1, "decades": 10}[known_as]
        truth = ages if not width else np.floor(ages / width)[:, None] * width + np.array([0, width - 1])
        ends = values[:, None] + factor * 1.645 * spread[:, None] * np.array([-1, 1])
        tried, others = (Number(values[part], interval=ends[part]) for part in (slice(200), slice(200, 400)))
        corrected = others.with_interval(tried.calibrate(truth[:200]))
        held.append(corrected.scores(truth[200:])["coverage"].mean())
        assert factor == 2.0 or (corrected.interval[:, 0] <= others.interval[:, 0] + 1e-9).mean() > 0.9
    assert 0.895 < np.mean(held) < 0.92


def test_a_correction_keeps_each_face_its_own_width():
    """Two years down and one up; narrowed by ten, the interval of the last face still holds its answer."""
    wider = AGES.with_interval({"below": 2.0, "above": 1.0})
    assert wider.interval.tolist() == [[18, 46.5], [28, 70], [0, 10]]
    assert wider.words(1) == "age 60 (28 to 70)"
    narrower = AGES.with_interval({"below": -10.0, "above": -10.0})
    assert narrower.interval.tolist() == [[30, 35.5], [40, 60], [4, 4]]
    assert cells({"age": AGES.describe()}, readings({"age": wider}, 1)[0]) == {
        "age": 33.5,
        "age_low": 18.0,
        "age_high": 46.5,
    }


def test_scores_and_words_of_spans():
    """Errors are those against the middles, 34.5 and 85. The span of 30-39 is from 29.5 to 39.5, that of 70 and more
    begins at 69.5, above the interval, unless that is a year longer."""
    scores = AGES.scores(TRUTH)
    np.testing.assert_allclose(scores["mae"], [1, 25, np.nan])
    np.testing.assert_allclose(scores["coverage"], [1, 0, np.nan])
    longer = dataclasses.replace(AGES, interval=AGES.interval + np.array([15.5, 1]))
    np.testing.assert_allclose(longer.scores(TRUTH)["coverage"], [0.4, 1, np.nan])
    assert [AGES.value_words(value) for value in TRUTH] == ["30 to 39", "70 and more", "?"]
    assert AGES.value_words(np.array([35.0, 35.0])) == AGES.value_words(35.0) == "35"
    assert AGES.value_words(np.float32([63.4, 63.400002])) == "63"
    assert AGES.differs(TRUTH).tolist() == [False, True, False]
    far = dataclasses.replace(AGES, values=np.array([49.5, 58.0, 4.0]))  # 10.5 from 39, 12 from 70
    assert (AGES.mistakes(TRUTH).tolist(), far.mistakes(TRUTH).tolist()) == ([False] * 3, [True, True, False])


def test_columns_of_spans_are_read_back():
    text = {name: np.array([str(value) for value in column]) for name, column in AGES.columns("age", TRUTH).items()}
    assert set(text) == {f"age_{what}" for what in ("predicted", "true_first", "true_last", "low", "high")}
    again, truth = read_answer("age", json.loads(json.dumps(AGES.describe())), text)
    np.testing.assert_array_equal(truth, TRUTH)
    np.testing.assert_array_equal(again.interval, AGES.interval)


def test_the_table_tells_what_intervals_hold():
    mean = lambda values, chosen, factor=100.0: (f"{factor * np.mean(values[chosen]):.1f}", str(chosen.sum()))  # noqa: E731
    (table,) = AGES.tables(TRUTH, mean)
    assert table.columns[-2] == "inside the interval (%)"
    assert table.rows == [
        ["30 to 39", "1.0", "1.0", "-1.0", "100.0", "1"],
        ["70 and more", "25.0", "25.0", "-25.0", "0.0", "1"],
    ]
    (exact,) = AGES.tables(np.array([[35.0, 35.0], [80.0, 80.0], [-1, -1]]), mean)
    assert [row[0] for row in exact.rows] == ["30-39", "80-89"]
