"""Drawn faces: reproducible, labelled correctly, and readable for age, gender and identity."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from input_pipeline.face_renderer import BEARDS, STYLES, render_face, sample_person


def pixels_of(person, age, seed, size=64):
    return np.asarray(render_face(person, age, np.random.default_rng(seed), size)[0], np.float32)


def thumbnail(image, box, width=16):
    """The face, cut out and normalised [width * width * 3], so that neither place nor light decides."""
    face = np.asarray(image.resize((width, width), Image.Resampling.BOX, box=tuple(box.tolist())), np.float32)
    return ((face - face.mean()) / face.std()).ravel()


def held_out_accuracy(features, labels, ridge=100.0):
    """Ridge regression onto one-hot labels, fitted to the first two thirds of the rows."""
    cut = len(labels) * 2 // 3
    centred = features - features[:cut].mean(axis=0)
    gram = centred @ centred[:cut].T
    targets = np.eye(labels.max() + 1)[labels[:cut]]
    scores = gram @ np.linalg.solve(gram[:cut] + ridge * np.eye(cut), targets - targets.mean(axis=0))
    return np.mean(scores[cut:].argmax(axis=1) == labels[cut:])


@pytest.fixture(scope="module")
def crowd():
    """Person, age, picture and truth of 360 strangers: 120 children, 120 adults, 120 old people."""
    rng = np.random.default_rng(0)
    ages = np.stack([rng.uniform(0, 8, 120), rng.uniform(22, 42, 120), rng.uniform(65, 95, 120)], axis=1).ravel()
    people = [sample_person(rng) for _ in ages]
    return [(person, age, *render_face(person, age, rng, 64)) for person, age in zip(people, ages, strict=True)]


def test_equal_arguments_give_equal_pixels_and_truth():
    person = sample_person(np.random.default_rng(1))
    assert person == sample_person(np.random.default_rng(1))
    first, first_truth = render_face(person, 33.5, np.random.default_rng(2), 80)
    second, second_truth = render_face(person, 33.5, np.random.default_rng(2), 80)
    assert first.tobytes() == second.tobytes()
    np.testing.assert_array_equal(first_truth.landmarks, second_truth.landmarks)
    assert first.tobytes() != render_face(person, 33.5, np.random.default_rng(3), 80)[0].tobytes()


@pytest.mark.parametrize("size", [16, 75, 128])
def test_size_and_mode(size):
    rng = np.random.default_rng(size)
    image, truth = render_face(sample_person(rng), 40, rng, size)
    assert image.mode == "RGB" and image.size == (size, size)
    assert truth.box.shape == (4,) and truth.box.dtype == np.float32
    assert truth.landmarks.shape == (5, 2) and truth.landmarks.dtype == np.float32


@pytest.mark.parametrize("age", [0, 0.5, 16, 120])
@pytest.mark.parametrize("style", STYLES)
def test_every_style_and_beard_at_the_ends_of_life(style, age):
    rng = np.random.default_rng(4)
    for beard in BEARDS:
        person = dataclasses.replace(sample_person(rng), hair_style=style, beard=beard, age_offset=-9.0, balding=1.0)
        render_face(person, age, rng, 32)


def test_truth_lies_where_it_should(crowd):
    for _, _, image, truth in crowd:
        x0, y0, x1, y1 = truth.box
        assert 0 <= x0 < x1 <= image.width and 0 <= y0 < y1 <= image.height
        assert np.all(truth.landmarks > (x0, y0)) and np.all(truth.landmarks < (x1, y1))
        left_eye, right_eye, nose, left_mouth, right_mouth = truth.landmarks
        assert left_eye[0] < right_eye[0] and left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < max(left_mouth[1], right_mouth[1])
        assert 0 <= truth.smile <= 1 and -25.001 <= truth.yaw <= 25.001
        if abs(truth.yaw) > 5:  # the nose points to where the face is turned
            assert np.sign((nose - (left_eye + right_eye) / 2) @ (right_eye - left_eye)) == np.sign(truth.yaw)


def test_eye_landmarks_are_on_the_dark_of_the_eyes(crowd):
    contrast = []
    for _, _, image, truth in crowd:
        grey = np.asarray(image.convert("L"), np.float32)
        left, right = truth.landmarks[:2]
        at_eyes = [grey[int(y), int(x)] for x, y in (left, right)]
        between = grey[tuple(((left + right) / 2).astype(int)[::-1])]
        contrast.append(np.mean(at_eyes) / between)
    assert np.mean(np.array(contrast) < 0.9) > 0.8


def test_truth_scales_with_the_size():
    person = sample_person(np.random.default_rng(5))
    small, large = (render_face(person, 20, np.random.default_rng(6), size)[1] for size in (48, 144))
    np.testing.assert_allclose(small.landmarks * 3, large.landmarks, rtol=1e-4)
    np.testing.assert_allclose(small.box * 3, large.box, rtol=1e-4)


def test_two_pictures_of_one_person_are_more_alike_than_of_two_persons():
    rng = np.random.default_rng(7)
    people = [sample_person(rng) for _ in range(40)]
    first, second = (
        np.stack([thumbnail(image, truth.box) for image, truth in (render_face(p, 30, rng, 64) for p in people)])
        for _ in range(2)
    )
    distances = np.linalg.norm(first[:, None] - second[None], axis=-1)  # [40, 40]
    closer = distances > np.diag(distances)[:, None]  # than the other picture of the same person
    assert closer.sum() / (40 * 39) > 0.8


def test_a_face_changes_more_the_more_years_pass():
    rng = np.random.default_rng(8)
    people = [sample_person(rng) for _ in range(30)]
    change = [
        np.mean([np.abs(pixels_of(p, 30, seed) - pixels_of(p, age, seed)).mean() for seed, p in enumerate(people)])
        for age in (30, 34, 45, 60, 85)
    ]
    assert change[0] == 0 and np.all(np.diff(change) > 0)


def test_age_is_readable(crowd):
    features = np.stack([thumbnail(image, truth.box) for _, _, image, truth in crowd])
    stages = np.array([0 if age < 15 else 1 if age < 50 else 2 for _, age, _, _ in crowd])
    assert held_out_accuracy(features, stages) > 0.85  # chance: 0.33


def test_gender_is_readable_from_grown_people_but_not_perfectly(crowd):
    grown = [(person, image, truth) for person, age, image, truth in crowd if age > 15]
    features = np.stack([thumbnail(image, truth.box) for _, image, truth in grown])
    accuracy = held_out_accuracy(features, np.array([person.gender for person, _, _ in grown]))
    assert 0.65 < accuracy < 0.99  # chance: 0.5


@pytest.mark.parametrize("age", [-0.1, 120.5, float("nan")])
def test_an_impossible_age_is_refused(age):
    with pytest.raises(ValueError, match="age_years must lie between 0 and 120"):
        render_face(sample_person(np.random.default_rng(0)), age, np.random.default_rng(0))


def test_too_small_a_picture_is_refused():
    with pytest.raises(ValueError, match="size must be at least 16 pixels, but is 15"):
        render_face(sample_person(np.random.default_rng(0)), 30, np.random.default_rng(0), 15)
