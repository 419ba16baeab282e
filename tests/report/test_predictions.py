"""What is told of single images."""

import numpy as np

from ror_jax.report.predictions import Predictions
from ror_jax.tasks.answers import Class, Flags, Number, Points, Vector


def test_words_tell_the_truth_where_it_is_another():
    """An age that is two years off is no mistake, but its truth is told; an unknown one is asked for by "?"."""
    genders = Class(np.array([1, 1, 0, 1]), np.array([0.6, 0.7, 0.8, 0.9]), names=("female", "male"))
    ages = Number(np.array([42.0, 42, 60, 3]), title="age")
    truth = {"age": np.array([44.0, 42.3, 41, -1]), "gender": np.array([1, 1, 0, 0])}
    predictions = Predictions({"age": ages, "gender": genders}, truth, {"number": np.arange(4)})
    assert predictions.mistakes().tolist() == [False, False, True, True]
    assert [predictions.words(row) for row in range(4)] == [
        "age 42\nmale, 60 %\nis 44; male",
        "age 42\nmale, 70 %",
        "age 60\nfemale, 80 %\nis 41; female",
        "age 3\nmale, 90 %\nis ?; female",
    ]


def test_points_have_no_words_and_vectors_no_truth():
    flags = Flags(np.array([[1, 0]]), np.array([[0.9, 0.2]]), names=("Bald", "Big_Nose"))
    places = np.array([[[0.4, 0.5], [0.6, 0.5]]])
    answers = {"attributes": flags, "landmarks": Points(places), "identity": Vector(np.ones((1, 4)))}
    truth = {"attributes": np.array([[0, 0]]), "landmarks": places + 0.1}
    predictions = Predictions(answers, truth, {"number": np.arange(1)})
    assert predictions.words(0) == "bald" and predictions.mistakes().tolist() == [True]
    assert list(predictions.scores()) == ["attributes_mean_accuracy", "landmarks_nme"]
    alone = Predictions({"identity": answers["identity"]}, {}, predictions.facts)
    assert alone.words(0) == "" and alone.mistakes().tolist() == [False] and alone.scores() == {}
