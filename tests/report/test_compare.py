"""Two runs on the same images: hand-worked differences, and refusals."""

import json
import re

import pytest

from ror_jax.report.__main__ import main

ROW = "deep_ror:preror58_sd,age"


GENDERS = [("0", 3, 0, 0, 0, 0.5), ("1", 3, 0, 0, 1, 0.5)]


def answers(guesses, people=None):
    """Images of group 3 with these answers, of so many people in turn; by default all are different."""
    return [(str(number % (people or len(guesses))), 3, 0, 3, guess, 0.5) for number, guess in enumerate(guesses)]


@pytest.fixture
def compare(tmp_path, capsys):
    def run(*more):
        main(["--compare", str(tmp_path / "a"), str(tmp_path / "b"), *more])
        return capsys.readouterr().out

    return run


def test_a_difference_that_all_subjects_share(tmp_path, compare, leave_fold):
    """B finds each image that A takes for the group next to it: +100 points exact whoever is drawn, 1-off the same."""
    leave_fold(tmp_path / "a", ROW, answers([4] * 30))
    leave_fold(tmp_path / "b", ROW, answers([3] * 30), task__weights="LW3")
    text = compare()
    assert "On fold 0: 30 test images of 30 subjects." in text
    line = "exact: A 0.00 %, B 100.00 %; B - A = +100.00 points, interval +100.00 to +100.00, which does not contain 0"
    assert line in text
    assert "1-off: A 100.00 %, B 100.00 %; B - A = +0.00 points, interval +0.00 to +0.00, which contains 0" in text
    assert "- task.weights: None in A, LW3 in B" in text
    assert "Beware" not in text
    assert not list(tmp_path.glob("*.md"))


def test_folds_are_paired_and_chance_is_told(tmp_path, compare, leave_fold):
    """Fold 0: A finds 1 of 2, B 2; fold 1 the other way round; fold 2 is in A alone. 25 people have one image each."""
    for fold, a, b in ((0, [3, 4], [3, 3]), (1, [3, 3], [3, 4])):
        leave_fold(tmp_path / f"a/fold_{fold}", ROW, answers(a), fold=fold)
        leave_fold(tmp_path / f"b/fold_{fold}", ROW, answers(b), fold=fold, seed=1, model__survival=None, epochs=5)
    leave_fold(tmp_path / "a/fold_2", ROW, answers([3]), fold=2)
    leave_fold(tmp_path / "a/fold_0_gender", "deep_ror:preror58_sd,gender", [("", 3, 0, 0, 0, 0.5)])  # a stage of it
    text = compare("--output", str(tmp_path / "out"))
    assert "On folds 0, 1: 4 test images of 2 subjects." in text
    assert "exact: A 75.00 %, B 75.00 %; B - A = +0.00 points" in text and "which contains 0" in text
    for warning in ("fold 2 is in one of the two only", "seeds differ", "in several things", "Fewer than 20 subjects"):
        assert warning in text
    assert (tmp_path / "out" / "comparison.md").read_text() in text
    assert "which contains 0" in (tmp_path / "out" / "comparison.html").read_text()


def test_images_of_one_person_count_as_one(tmp_path, compare, leave_fold):
    """A better answer to all 40 images of one of two people: she is drawn twice, once or not at all."""
    leave_fold(tmp_path / "a", ROW, answers([4, 3] * 20, people=2))
    leave_fold(tmp_path / "b", ROW, answers([3, 3] * 20, people=2))
    assert "B - A = +50.00 points, interval +0.00 to +100.00, which contains 0" in compare()


@pytest.mark.parametrize(
    ("b", "message"),
    [
        ({"answers": [("0", 3, 0, 3, 3, 0.5)]}, "not the same test images: 2 in .*a, 1 in .*b"),
        ({"answers": answers([3, 3])[::-1]}, "in the same order: identity of image 1 is 0 in .*a and 1 in .*b"),
        ({"fold": 1}, "a has fold 0, .*b fold 1: test both on the same fold"),
        (
            {"row": "deep_ror:preror58_sd,gender", "answers": GENDERS},
            "nothing to compare: .*a answers with age_group, .*b answers with gender",
        ),
        (
            {"answers": GENDERS, "classes": ["young", "old"]},
            "nothing to compare: the names of age_group: 0, 1, .*a and young, old in .*b",
        ),
    ],
)
def test_what_cannot_be_compared(tmp_path, compare, leave_fold, b, message):
    leave_fold(tmp_path / "a", ROW, answers([3, 3]))
    b = {"row": ROW, "answers": answers([3, 3])} | b
    leave_fold(tmp_path / "b", b.pop("row"), b.pop("answers"), **b)
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        compare()


def test_a_folder_without_tested_runs(tmp_path, compare):
    with pytest.raises(SystemExit, match=r"error: .*a is no folder of a run.* no predictions\.csv there"):
        compare()


def test_a_run_of_the_program_before_0_2(tmp_path, compare, leave_fold, leave_old):
    leave_fold(tmp_path / "a", ROW, answers([3, 3]))
    leave_old(tmp_path / "b", ROW)
    with pytest.raises(SystemExit) as stopped:
        compare()
    path = tmp_path / "b" / "config.json"
    assert re.fullmatch(
        rf"error: {path} was written by ror-jax before 0\.2; .*install that version", stopped.value.code
    )
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({"format": 2} | settings))  # as if its settings alone were new
    with pytest.raises(SystemExit) as stopped:
        compare()
    assert re.fullmatch(
        r"error: .*b/predictions\.csv: no answers are described .*; test the run again", stopped.value.code
    )


def test_comparing_and_reporting_exclude_each_other(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--compare", "a", "b", "--runs=c"])
    assert "not allowed with" in capsys.readouterr().err
