"""Intervals and calibration, on numbers that can be worked out by hand."""

import numpy as np
import pytest

from ror_jax.report.analysis import calibration, mean_and_deviation, mean_over_subjects


def test_one_subject_has_no_interval():
    """However many images: whom else we could have drawn is not known."""
    mean = mean_over_subjects(np.array([1.0, 1, 0, 1]), np.full(4, 7))
    assert mean == (0.75, 0.75, 0.75, 4, 1)


def test_of_two_subjects_both_none_or_one_are_drawn():
    """Three right images of one person, a wrong one of another: a draw gives 1, 3/4 or 0, each often enough."""
    mean = mean_over_subjects(np.array([1.0, 1, 1, 0]), np.array([5, 5, 5, 2]))
    assert mean == (0.75, 0.0, 1.0, 4, 2)


def test_the_interval_is_as_wide_as_subjects_are_few():
    """Half of N people right: 1.96 sqrt(0.25 / N) to each side. Four equal images of N / 4 people: twice that."""
    hits = np.tile([1.0, 0.0], 200)
    alone = mean_over_subjects(hits, np.arange(400))
    assert (alone.high - alone.low) / 2 == pytest.approx(1.96 * np.sqrt(0.25 / 400), rel=0.1)
    people = mean_over_subjects(np.repeat(hits[:100], 4), np.repeat(np.arange(100), 4))
    assert (people.high - people.low) / 2 == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 400), rel=0.1)
    assert (people.images, people.subjects) == (400, 100)
    assert people == mean_over_subjects(np.repeat(hits[:100], 4), np.repeat(np.arange(100), 4))  # seeded


def test_calibration_by_hand():
    """(|1 - 0.95| + |1 - 1.7| + |0 - 0.3|) / 4: confidence and hits in (0.9, 1], (0.8, 0.9] and (0.2, 0.3]."""
    found = calibration(np.array([0.95, 0.85, 0.85, 0.3]), np.array([True, True, False, False]))
    assert found.images.tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 2, 1]
    assert found.accuracy[[2, 8, 9]].tolist() == [0, 0.5, 1]
    assert found.confidence[[2, 8, 9]] == pytest.approx([0.3, 0.85, 0.95])
    assert np.isnan(found.accuracy[0])
    assert found.error == pytest.approx((0.05 + 0.7 + 0.3) / 4)
    assert calibration(np.array([1.0, 0.0]), np.array([True, False])).error == 0


def test_deviation_is_that_of_a_sample():
    assert mean_and_deviation([1.0, 2.0, 3.0]) == "2.00 ± 1.00"
    assert mean_and_deviation([5.0]) == "5.00"
