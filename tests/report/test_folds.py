"""Deep-RoR: five folds, groups of people, aging curves; published numbers from their file."""

import json
import re
import shutil

import pytest

from ror_jax.report.__main__ import main
from ror_jax.report.paper import cells, load_paper, published
from ror_jax.report.runs import ADIENCE, row_settings
from ror_jax.tasks.answers import Number

ROW = "deep_ror:preror58_sd,two_mechanisms"


def whole(fold, label="age_group"):
    rows = ADIENCE[label]
    return {"train": sum(rows) - rows[fold], "test": rows[fold]}


def answers(right, near=0, far=0):
    """So many images of group 0: found, taken for group 1, for group 7; each of another woman."""
    guesses = [0] * right + [1] * near + [7] * far
    return [(f"{number}", 0, 0, 0, guess, 0.9) for number, guess in enumerate(guesses)]


@pytest.fixture
def report(tmp_path, capsys):
    """A function that writes the report and returns its Markdown and what was printed."""

    def write():
        main(["--paper=deep_ror", f"--runs={tmp_path}", f"--output={tmp_path / 'out'}"])
        return (tmp_path / "out" / "deep_ror.md").read_text(), capsys.readouterr()

    return write


def table(text, title):
    """The rows of cells of the table below a heading, by their first cell; of equal ones the last."""
    section = re.search(rf"^## {re.escape(title)}.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[0]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in section.splitlines() if line.startswith("| ")]
    return {first: rest for first, *rest in rows}


def ours(text, title, label):
    """The cells of the row of ours below that label."""
    after = text.split(f"\n## {title}")[1].split(f"\n| {label} |")[1]
    return [cell.strip() for cell in after.split("\n")[1].strip("|").split("|")[1:]]


# --- The published numbers ------------------------------------------------------------------------------------------


def test_every_table_is_complete():
    paper = load_paper("deep_ror")
    numbers = ["III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI"]
    assert [table["number"] for table in paper["tables"]] == numbers
    assert [len(table["rows"]) for table in paper["tables"]] == [8, 4, 4, 11, 11, 6, 3, 15, 22]
    assert all(len(row) == 1 + len(table["columns"]) for table in paper["tables"] for row in table["rows"])
    assert [figure["number"] for figure in paper["figures"]] == [4, 6, 6, 7, 8]


@pytest.mark.parametrize("row", sorted({cell["run"] for _, cell in cells(load_paper("deep_ror")) if "run" in cell}))
def test_every_row_is_an_experiment_whose_task_has_the_metrics(row):
    settings = row_settings(row)
    assert settings["row"] == row
    metrics = {cell["metric"] for _, cell in cells(load_paper("deep_ror")) if cell.get("run") == row}
    known = {"age_group": {"exact", "one_off", "error"}, "classification": {"error", "top_5_error"}}
    assert metrics <= known.get(settings["task.name"], {"accuracy"})


def test_the_papers_text_has_the_numbers_of_each_table_in_this_order(shared):
    text = shared("papers/deep_ror_age_gender.txt").read_text()
    for table in load_paper("deep_ror")["tables"]:
        at = text.index(f"TABLE {table['number']}\n")
        for _, *row in table["rows"]:
            for cell in row:
                at = text.index(published(cell).replace(" ", ""), at, at + 2000)


# --- Ours beside them -----------------------------------------------------------------------------------------------


def test_five_folds_are_a_mean_and_a_deviation_and_missing_ones_are_said(tmp_path, report, leave_fold):
    """60, 70 and 80 % of ten images; then another seed of fold 0 with 40 %, which makes that fold 50 %."""
    for fold, right in ((0, 6), (1, 7), (2, 8)):
        leave_fold(tmp_path / f"cv/fold_{fold}", ROW, answers(right, 10 - right), fold=fold, images=whole(fold))
    two = "Pre-RoR-58+SD with two mechanisms"
    assert ours(report()[0], "Table XI:", two) == ["70.00 ± 10.00 (3 of 5 folds)", "100.00 ± 0.00 (3 of 5 folds)"]
    leave_fold(tmp_path / "seed1", ROW, answers(4, 5, 1), images=whole(0), seed=1)
    assert ours(report()[0], "Table XI:", two) == ["66.67 ± 15.28 (3 of 5 folds)", "98.33 ± 2.89 (3 of 5 folds)"]
    for fold in (3, 4):
        leave_fold(tmp_path / f"cv/fold_{fold}", ROW, answers(7, 3), fold=fold, images=whole(fold))
    text, printed = report()
    assert "folds" not in ours(text, "Table XI:", two)[0]
    assert "6 runs of the paper's rows" in printed.out and "6 of them with all the paper's settings" in printed.out


def test_tables_about_fold_0_take_no_other(tmp_path, report, leave_fold):
    row = "deep_ror:preresnet34,gender"
    leave_fold(tmp_path / "0", row, [("a", 0, 1, 1, 1, 0.9)] * 9 + [("a", 0, 1, 1, 0, 0.9)], images=whole(0, "gender"))
    leave_fold(tmp_path / "1", row, [("b", 0, 1, 1, 0, 0.9)] * 10, fold=1, images=whole(1, "gender"))
    text, _ = report()
    assert ours(text, "Table III:", "Pre-ResNets-34 (Type B)") == ["", "", "90.00"]
    assert ours(text, "Table X:", "Pre-ResNets-34") == ["45.00 ± 63.64 (2 of 5 folds)"]
    assert (
        "| [1] | deep_ror:preresnet34,gender | 0 | 0 | 164 |  |  | 90.00 | 13596 train, 4007 test | no | ../0 |" in text
    )


def test_what_is_not_the_papers_experiment_is_marked_and_explained(tmp_path, report, leave_fold):
    row = "deep_ror:cnn_4c2f,age"
    for fold in (0, 1):
        data = {"dataset__name": "rendered_faces", "dataset__limit": 500}
        leave_fold(tmp_path / f"toy/fold_{fold}", row, answers(5 + fold, 5 - fold), fold=fold, epochs=3, **data)
    leave_fold(tmp_path / "part", "deep_ror:vgg16,age", answers(5, 5), images=whole(0) | {"train": 7})
    leave_fold(
        tmp_path / "best", "deep_ror:ror34,age", answers(5, 5), images=whole(0), summary={"selected": "best epoch"}
    )
    text, printed = report()
    assert ours(text, "Table VI:", "4c2f-CNN") == [
        "55.00 ± 7.07 (2 of 5 folds) [3-4]",
        "100.00 ± 0.00 (2 of 5 folds) [3-4]",
    ]
    other = "dataset.limit 500 instead of None; dataset.name rendered_faces instead of adience; epochs 3 instead of 164"
    assert f"| 100 train, 10 test | {other} | ../toy/fold_0 |" in text
    assert ours(text, "Table VI:", "VGG-16")[0] == "50.00 (1 of 5 folds) [2]"
    assert "| 7 train images instead of 13108 | ../part |" in text
    assert "| best epoch instead of the last one | ../best |" in text
    assert "0 of them with all the paper's settings" in printed.out


def test_a_run_after_stages_is_told_by_what_the_first_of_them_began_with(tmp_path, report, leave_fold):
    """Its own `init_from` is the folder of the stage before it."""
    scratch, pretrained = {"overrides": {}, "init_from": None}, {"overrides": {}, "init_from": {"overrides": {}}}
    leave_fold(tmp_path / "a", ROW, answers(1), images=whole(0), init_from="runs/gender", start=scratch)
    leave_fold(tmp_path / "b", ROW, answers(1), images=whole(0), init_from="runs/gender", start=pretrained)
    row = "deep_ror:ror34_imdb_wiki,age"
    leave_fold(tmp_path / "c", row, answers(1), images=whole(0), init_from="runs/imdb", start=pretrained)
    leave_fold(tmp_path / "d", row, answers(1), images=whole(0), init_from="runs/imdb", start=scratch)
    exported = scratch | {"format": 2}
    leave_fold(tmp_path / "e", ROW, answers(1), images=whole(0), init_from="faces_small", start=exported)
    text, printed = report()
    assert "2 of them with all the paper's settings" in printed.out
    assert "| from pretrained weights | ../b |" in text and "| from pretrained weights | ../e |" in text
    assert "| from scratch | ../d |" in text


# --- What a configuration's folds say together ----------------------------------------------------------------------


def test_groups_of_people(tmp_path, report, leave_fold):
    """Two folds of an own configuration: recall, women and men, calibration from the images of both."""
    woman, man = ("w", 2, 0, 2, 2, 0.95), ("m", 2, 1, 2, 3, 0.95)
    child, unknown = ("", 0, 0, 0, 0, 0.55), ("u", 7, -1, 7, 5, 0.55)
    for fold, rows in ((0, [woman, man, child]), (1, [woman, child, unknown])):
        leave_fold(tmp_path / f"fold_{fold}", ROW, rows, fold=fold, row=None, name="mine", seed=3)
    text, printed = report()
    assert "0 runs of the paper's rows" in printed.out
    assert "adience, folds 0, 1, seed 3: 6 test images of 5 subjects." in text  # who has no name is one person each
    found = table(text, "mine (age group)")
    assert found["fold 0"] == ["3", "66.67", "100.00"]
    assert found["fold 1"] == ["3", "66.67", "66.67"]
    assert found["mean ± standard deviation (n - 1)"] == ["6", "66.67 ± 0.00", "83.33 ± 23.57"]
    assert found["2"] == ["66.7 (0.0 to 100.0) †", "3 / 2"]
    assert "1" not in found  # no image is of that class
    assert found["8-13"] == ["100.0 †", "2 / 1", "0.0 †", "1 / 1"]
    assert found["0-2"] == ["100.0 †", "2 / 2", "", "0"]
    assert found["all"][1] == "4 / 3" and "60-" not in found  # gender unknown
    # (|2 - 3 * 0.95| + |2 - 3 * 0.55|) / 6
    assert (
        "Expected calibration error: 20.00 %. The mean confidence is 75.00 %, 66.67 % of the answers are right." in text
    )
    for picture in ("confusion", "reliability"):
        assert f"](deep_ror_1_age_group_{picture}.png)" in text
        assert (tmp_path / "out" / f"deep_ror_1_age_group_{picture}.png").stat().st_size > 5000
    page = (tmp_path / "out" / "deep_ror.html").read_text()
    assert page.count("data:image/png;base64,") == 2 and "http" not in page


def test_pictures_of_a_run_are_on_the_page(tmp_path, report, leave_fold):
    leave_fold(tmp_path / "run", ROW, answers(2), images=whole(0))
    (tmp_path / "run" / "surest_mistakes.png").write_bytes(b"png")
    text, _ = report()
    assert "![The surest mistakes of fold 0](../run/surest_mistakes.png)" in text and "Typical hits" not in text


def test_more_than_twenty_subjects_are_not_few(tmp_path, report, leave_fold):
    leave_fold(tmp_path / "a", ROW, answers(18, 2), images=whole(0))
    leave_fold(tmp_path / "b", "deep_ror:preror58_sd,age", answers(17, 2), images=whole(0))
    text, _ = report()
    assert re.fullmatch(r"90\.0 \(\S+ to \S+\)", table(text, f"{ROW} (age group)")["0-2"][0])
    assert re.fullmatch(r"89\.5 \(\S+ to \S+\) †", table(text, "deep_ror:preror58_sd,age (age group)")["0-2"][0])


def test_ages_in_years(tmp_path, report, leave_fold):
    """Errors of 4.9 and 5.1 years, by the decade of the truth and by age group and gender; no table of 101 years."""
    rows = [("a", 3, 0, 18.4, 23.3, 21.5), ("b", 3, 0, 18.4, 23.5, 25), ("c", 4, 1, 25, 22, 24)]
    leave_fold(
        tmp_path / "run",
        ROW,
        rows,
        answers={"age": Number(None, unit="years", title="age").describe()},
        columns=("age_true", "age_predicted", "age_expected"),
        results={"mae": 13 / 3, "within_5": 2 / 3, "confusion": [[0] * 101] * 101},
        row=None,
        name="years",
        task__name="age_years",
    )
    text, _ = report()
    section = text.split("## years")[1]
    assert "Recall in percent" not in section and "Expected calibration error" not in section
    found = table(text, "years (age years)")
    assert found["fold 0"] == ["3", "4.33", "66.67"]
    assert found["10-19"] == ["5.0 (4.9 to 5.1) †", "5.0", "+5.0", "2 / 2"]
    assert found["20-29"] == ["3.0 †", "3.0", "-3.0", "1 / 1"]
    assert found["15-20"] == ["5.0 (4.9 to 5.1) †", "2 / 2", "", "0"]
    assert found["all"] == ["5.0 (4.9 to 5.1) †", "2 / 2", "3.0 †", "1 / 1"]
    assert "MAE (years) of the 3 images whose age group and gender are known:" in text
    assert "](deep_ror_1_age_scatter.png)" in text and (tmp_path / "out" / "deep_ror_1_age_scatter.png").exists()


def test_aging_curves_come_from_whoever_was_asked(tmp_path, report, leave_fold):
    """Of the paper's network the questions 1 and 2, of an own one question 2 on two folds."""
    right, wrong = ("a", 3, 0, 1, 1, 0.9), ("a", 3, 0, 1, 0, 0.9)
    for group, rows in ((1, [right]), (2, [right, wrong])):
        leave_fold(tmp_path / f"paper_{group}", f"deep_ror:cnn_4c2f,older_than_{group}", rows, images=whole(0))
    for fold, rows in ((0, [right] * 4), (1, [right, wrong])):
        small = {"row": None, "name": "own", "model__name": "small_preror"}
        leave_fold(tmp_path / f"own_{fold}", "deep_ror:cnn_4c2f,older_than_2", rows, fold=fold, **small)
    text, _ = report()
    found = table(text, "Aging curve")
    assert found["deep_ror:cnn_4c2f"] == ["100.00", "50.00", "", "", "", "", ""]
    assert found["own"][:3] == ["", "75.00", ""]
    assert (tmp_path / "out" / "deep_ror.png").stat().st_size > 10_000


# --- What can go wrong ----------------------------------------------------------------------------------------------


def test_damaged_predictions_are_left_out(tmp_path, report, leave_fold):
    leave_fold(tmp_path / "run", ROW, answers(2), images=whole(0))
    path = tmp_path / "run" / "predictions.csv"
    path.write_text(path.read_text() + "cut off\n")
    text, printed = report()
    assert ours(text, "Table XI:", "Pre-RoR-58+SD with two mechanisms")[0] == "100.00 (1 of 5 folds)"
    assert printed.err.startswith(
        f"left out the predictions of {tmp_path / 'run'} and its other folds: {path} is damaged"
    )
    assert f"## {ROW}" not in text


def test_runs_of_the_program_before_0_2_are_left_out(tmp_path, report, leave_fold, leave_old):
    """One line says so, and what to do; the other runs are on the page."""
    leave_fold(tmp_path / "new", ROW, answers(2), images=whole(0))
    leave_old(tmp_path / "old", ROW)
    text, printed = report()
    path = tmp_path / "old" / "config.json"
    words = rf"left out {path.parent}: {path} was written by ror-jax before 0\.2; .*install that version\n"
    assert re.fullmatch(words, printed.err)
    assert "1 runs of the paper's rows" in printed.out and "../new |" in text and "../old" not in text


def test_predictions_of_the_program_before_0_2_are_left_out(tmp_path, report, leave_fold, leave_old):
    """Where the answers of a run are not described, or are in other columns."""
    leave_old(tmp_path / "old", ROW)
    old = tmp_path / "old"
    leave_fold(tmp_path / "run", ROW, answers(2), images=whole(0))
    shutil.copy(old / "predictions.csv", tmp_path / "run")
    shutil.rmtree(old)
    _, printed = report()
    assert re.fullmatch(
        rf"left out the predictions of {tmp_path}/run .* damaged, or of another version; test the run again: .*\n",
        printed.err,
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    del summary["answers"], summary["tested"]
    (tmp_path / "run" / "summary.json").write_text(json.dumps(summary))
    _, printed = report()
    assert re.fullmatch(r"left out the predictions .*: no answers are described .*; test the run again\n", printed.err)


@pytest.mark.parametrize("row", ["../row:age", "/tmp/row:age"])
def test_a_row_names_a_file_of_configs_and_no_other(tmp_path, report, leave_fold, row):
    """What is named there is run as a program."""
    leave_fold(tmp_path / "run", ROW, answers(2), row=row)
    _, printed = report()
    (line,) = printed.err.splitlines()
    assert line.startswith(
        f"left out {tmp_path / 'run'}: its row {row!r} does not exist: it names no file of a folder of configs"
    )


def test_rows_of_another_paper_are_left_to_it(tmp_path, report, leave_fold):
    leave_fold(tmp_path / "run", ROW, answers(2), images=whole(0))
    main(["--paper=ror", f"--runs={tmp_path}"])
    assert ROW not in (tmp_path / "ror.md").read_text()
