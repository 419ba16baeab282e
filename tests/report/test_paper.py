"""The report: published numbers from their file, ours from what runs left, and what differed said."""

import json

import pytest

from configs import ror
from ror_jax.report.__main__ import main
from ror_jax.report.paper import load_paper
from ror_jax.report.runs import IMAGES, find_runs
from ror_jax.saved_settings import write_settings


def leave_run(folder, config, accuracy, *, epochs, finished=True, **images):
    """What a run leaves behind; the last epoch has that accuracy, each one before it a hundredth less."""
    folder.mkdir(parents=True)
    write_settings(folder / "config.json", config)
    rows = []
    for epoch in range(1, epochs + 1):
        step = 390 * epoch
        rows.append({"split": "train", "step": step, "epoch": epoch, "accuracy": 0.5, "images_per_second": 1000.0})
        test = {"accuracy": accuracy - (epochs - epoch) / 100}
        rows.append({"split": "test", "step": step, "epoch": epoch} | test)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if finished:
        images = IMAGES[config.dataset.name] | images
        summary = {"step": 390 * epochs, "epoch": epochs, "test": {"accuracy": accuracy}, "images": images}
        (folder / "summary.json").write_text(json.dumps(summary))


def changed(config, **settings):
    for name, value in settings.items():
        setattr(config, name, value)
    return config


def row_after(text, title, label):
    """Of the table of that title, the cells of the row of that label and of the row of ours below it."""
    lines = text.split(title)[1].split("\n")
    at = next(number for number, line in enumerate(lines) if line.startswith(f"| {label} |"))
    return [[cell.strip() for cell in line.strip("|").split("|")[1:]] for line in lines[at : at + 2]]


@pytest.fixture
def report(tmp_path, capsys):
    """A function that writes the report and returns its text and what was printed."""

    def write():
        main(["--paper=ror", f"--runs={tmp_path}", f"--output={tmp_path / 'out'}"])
        return (tmp_path / "out" / "ror.md").read_text(), capsys.readouterr()

    return write


def test_runs_with_the_papers_settings_are_averaged_over_their_seeds(tmp_path, report):
    """94 and 95 % correct: an error of 5.50 %, standard deviation sqrt(0.5) = 0.71."""
    leave_run(tmp_path / "a", ror.get_config("cifar10,resnet110"), 0.94, epochs=500)
    leave_run(tmp_path / "deep" / "b", changed(ror.get_config("cifar10,resnet110"), seed=1), 0.95, epochs=500)
    leave_run(tmp_path / "copy", changed(ror.get_config("cifar10,resnet110"), seed=1), 0.95, epochs=500)
    leave_run(tmp_path / "short", changed(ror.get_config("cifar10,resnet110"), epochs=5), 0.60, epochs=5)
    text, printed = report()
    published, ours = row_after(text, "## Table II:", "110 layers")
    assert published == ["5.43", "", "", "", "5.08", ""]
    assert ours == ["5.50 ± 0.71 (2)", "", "", "", "", ""]
    assert "4 runs of the paper's rows" in printed.out and "3 of them with all the paper's settings" in printed.out
    assert (tmp_path / "out" / "ror.png").stat().st_size > 10_000
    # Table X: 500 epochs of 390 steps of 128 images at 1000 images a second.
    _, hours = row_after(text, "## Table X:", "ResNet-110")
    assert hours == ["6.93 ± 0.00 (2)", ""]


def test_a_run_with_other_settings_or_an_unfinished_one_is_marked_and_explained(tmp_path, report):
    short = changed(ror.get_config("cifar100,ror3_110_sd"), epochs=4, batch_size=64)
    leave_run(tmp_path / "short", short, 0.40, epochs=4)
    leave_run(tmp_path / "stopped", ror.get_config("cifar100,ror3_164_sd"), 0.30, epochs=3, finished=False)
    leave_run(tmp_path / "toy", ror.get_config("svhn,wrn58_4"), 1.0, epochs=50, train=600)
    text, printed = report()
    assert "| 600 train images instead of 604388 | ../toy |" in text
    _, ours = row_after(text, "## Table III:", "110 layers")
    assert ours[-1] == "60.00 [1]"
    _, ours = row_after(text, "## Table III:", "164 layers")
    assert ours[-1] == "70.00 [2]"
    assert "batch_size 64 instead of 128; epochs 4 instead of 500 | ../short |" in text
    assert "stopped after 3 of 500 epochs | ../stopped |" in text
    assert "0 of them with all the paper's settings" in printed.out


def test_a_run_on_a_part_of_the_images_stands_for_a_row_only_if_there_is_no_other(tmp_path, report):
    leave_run(tmp_path / "smoke", ror.get_config("cifar10,ror3_110,smoke"), 0.40, epochs=4)
    _, ours = row_after(report()[0], "## Table II:", "110 layers")
    assert ours[4] == "60.00 [1]"
    _, ours = row_after(report()[0], "## Table X:", "RoR-3-110")
    assert ours[0] == ""  # hours of a few images say nothing
    leave_run(tmp_path / "whole", ror.get_config("cifar10,ror3_110"), 0.30, epochs=3, finished=False)
    _, ours = row_after(report()[0], "## Table II:", "110 layers")
    assert ours[4] == "70.00 [2]"


def test_imagenet_says_what_a_network_was_made_from(tmp_path, report):
    """A ResNet that was only tested; a RoR from its weights, He- and zero-initialised; one from scratch."""

    def leave(name, row, epochs, card=None, **settings):
        folder = tmp_path / name
        leave_run(folder, changed(ror.get_config(f"imagenet,{row}"), **settings), 0.75, epochs=epochs)
        start = {
            "init_from": {"overrides": card},
            "model": row,
            "overrides": {},
            "heads": {},
            "trunks": {},
            "mean": [0] * 3,
            "std": [1] * 3,
        }
        (folder / "model.json").write_text(json.dumps(start))

    leave("tested", "resnet34", 0, {})
    leave("he", "ror3_34", 10, {})
    leave("scratch", "ror3_18", 10, init_from=None)
    leave("zero", "ror3_101", 10, {"new_shortcut_init": "zero"})
    text, printed = report()
    assert row_after(text, "## Table XIII:", "ResNets-34 [38]")[1] == ["25.00", ""]
    assert row_after(text, "## Table XIII:", "RoR-3-34")[1] == ["25.00", ""]
    assert "2 of them with all the paper's settings" in printed.out
    assert "| from scratch | ../scratch |" in text
    assert "| new shortcuts zero instead of he | ../zero |" in text


def test_rows_outside_the_tables_and_damaged_runs(tmp_path, report):
    leave_run(tmp_path / "small", ror.get_config("cifar10,ror3_20"), 0.91, epochs=500)
    leave_run(tmp_path / "broken", ror.get_config("cifar10,ror3_32"), 0.91, epochs=500)
    (tmp_path / "broken" / "summary.json").write_text("{")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"format": 2, "name": "quickstart"}')  # no row of a paper
    leave_run(tmp_path / "renamed", changed(ror.get_config("cifar10,ror3_20"), row="cifar10:ror3_20"), 0.9, epochs=5)
    text, printed = report()
    assert "| ror:cifar10,ror3_20 | 9.00 |" in text
    assert "ror3_32" not in text
    summary = tmp_path / "broken" / "summary.json"
    assert printed.err.startswith(f"left out {tmp_path / 'broken'}: {summary} is damaged: ")
    missing = "its row 'cifar10:ror3_20' does not exist: there is no config file configs/cifar10.py; correct `row`"
    assert f"left out {tmp_path / 'renamed'}: {missing}" in printed.err
    assert "1 runs of the paper's rows" in printed.out


def test_rows_are_those_of_a_folder_of_configs(tmp_path, capsys):
    leave_run(tmp_path / "run", ror.get_config("cifar10,ror3_20"), 0.91, epochs=3)
    main(["--paper=ror", f"--runs={tmp_path}", f"--configs={tmp_path}"])
    assert f"there is no config file {tmp_path}/ror.py" in capsys.readouterr().err


def test_without_runs_the_published_numbers_stand_alone(tmp_path, report):
    with pytest.raises(SystemExit, match=f"error: {tmp_path} is empty; train something first"):
        report()
    (tmp_path / "notes.txt").write_text("nothing trained yet")
    text, printed = report()
    assert printed.out.startswith(f"0 runs of the paper's rows in {tmp_path}")
    assert "no runs of the paper's rows were found" in text and "| RoR-3-WRN58-4 | 3.77 | 19.73 |" in text
    assert not (tmp_path / "out" / "ror.png").exists()


def test_curves_are_those_of_the_log(tmp_path):
    leave_run(tmp_path / "a", ror.get_config("cifar10,ror3_20"), 0.91, epochs=3)
    (run,), problems = find_runs(tmp_path)
    assert not problems
    assert [(epoch, round(error, 6)) for epoch, error in run.curve("error")] == [(1, 11.0), (2, 10.0), (3, 9.0)]


def test_every_table_is_complete():
    """Tables I to XIII with as many cells as columns, Figures 5 to 14."""
    paper = load_paper("ror")
    assert [table["number"] for table in paper["tables"]] == [
        "I",
        "II",
        "III",
        "IV",
        "V",
        "VI",
        "VII",
        "VIII",
        *("IX", "X", "XI", "XII", "XIII"),
    ]
    assert all(len(row) == 1 + len(table["columns"]) for table in paper["tables"] for row in table["rows"])
    assert [figure["number"] for figure in paper["figures"]] == list(range(5, 15))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runs=nowhere"], "error: there is no folder nowhere"),
        (["--paper=rox", "--runs=."], "error: unknown paper 'rox'; did you mean 'ror'"),
    ],
)
def test_mistakes_get_one_line(arguments, message):
    with pytest.raises(SystemExit, match=message):
        main(arguments)
