"""Attributes and landmarks of six faces, by hand: their tables and pictures on a page, on a model card, compared."""

import re

import numpy as np
import pytest

from ror_jax.report.__main__ import main
from ror_jax.report.folds import fold_sections
from ror_jax.report.model_card import write_model_card
from ror_jax.report.page import Picture, Table, to_markdown
from ror_jax.report.runs import find_runs
from ror_jax.tasks.answers import Flags, Points

ROW = "deep_ror:preror58_sd,age"
SMILING, YOUNG = ([1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 1]), ([0, 0, -1, 0, -1, -1], [0, 0, 1, 0, 1, 1])
GLASSES = ([-1] * 6, [0, 1] * 3)
SHIFTS = [0.002, 0.01, 0.04] * 2  # of all points to the right; the eyes are 0.2 apart: errors of 1, 5 and 20 %
EYES = [[0.4, 0.5], [0.6, 0.5]]
CARD = {
    "name": "own",
    "model": "ror3_8",
    "heads": {"attributes": {}, "landmarks": {}},
    "versions": {"ror_jax": "0"},
    "licence": "none",
    "attribution": "",
    "init_from": None,
    "preprocessing": {"size": 16, "landmarks": {}},
    "views": "single",
    "intervals": {},
}


@pytest.fixture
def leave(leave_fold):
    """Leaves a run whose points are shifted so far; each of three women and three men is on one image."""
    names = ("Smiling", "Young", "Wearing_Glasses")
    flags = Flags(None, None, names=names).describe()
    points = Points(None, names=("left_eye", "right_eye", "nose")).describe()
    columns = [f"attributes_{name}_{what}" for name in names for what in ("true", "predicted", "probability")]
    columns += [f"landmarks_{k}_{axis}_{what}" for k in range(3) for axis in "xy" for what in ("true", "predicted")]

    def write(folder, smiling=SMILING[1], shifts=SHIFTS, nose=0.7, **more):
        rows = []
        for face in range(6):
            row = [f"person {face}", 3, face % 2]
            for true, chosen in (SMILING[0], smiling), YOUNG, GLASSES:
                row += [true[face], chosen[face], 0.25 + 0.5 * chosen[face]]
            for number, (x, y) in enumerate([*EYES, [0.5, nose]]):
                unknown = number == 2 and face == 0
                row += ["nan" if unknown else x, x + shifts[face], "nan" if unknown else y, y]
            rows.append(row)
        results = {"attributes_mean_accuracy": 0.75, "landmarks_nme": 0.26 / 3}
        told = {"answers": {"attributes": flags, "landmarks": points}, "columns": columns, "results": results}
        leave_fold(folder, ROW, rows, **told, row=None, name="own", task__name="attributes+landmarks", **more)

    return write


def rows_of(text):
    """The cells of the lines of tables, by their first cell; of equal ones all."""
    found = {}
    for line in text.splitlines():
        if line.startswith("|"):
            first, *rest = (cell.strip() for cell in line[1:-1].split("|"))
            found.setdefault(first, []).append(rest)
    return found


def check_results(text):
    """What a page must say of the six faces.

    Smiling: 3 found, 1 missed, 1 alarm, 1 passed. Young: three faces are known not to be. Of glasses nothing is known.
    """
    assert "|  | images | attributes: mean accuracy | landmarks: normalised mean error |" in text
    found = rows_of(text)
    assert found["fold 0"] == [["6", "75.00", "8.67"]]
    (smiling,), (young,) = found["Smiling"], found["Young"]
    assert re.fullmatch(r"66\.7 \(.* to 100\.0\) †", smiling[0]) and smiling[1:] == ["62.5", "75.0", "66.7", "6 / 6"]
    assert young == ["100.0 †", "", "", "0.0", "3 / 3"]
    assert "Wearing_Glasses" not in found and "Wearing Glasses" not in found
    (points,) = found["all points"]
    assert re.fullmatch(r"8\.7 \(.*\) †", points[0]) and re.fullmatch(r"33\.3 \(.*\) †", points[1])
    assert points[2:] == ["46.7", "6 / 6"]
    assert "**Attributes.** mean accuracy (%) of the 6 images" in text
    assert "**Landmarks.** normalised mean error (%) of the 6 images" in text
    flags, points = found["15-20"]
    assert [cell.split()[0] for cell in flags] == ["100.0", "3", "50.0", "3"]  # 1, 1, 1 of the women and 1, 1/2, 0
    assert [cell.split()[0] for cell in points] == ["8.7", "3", "8.7", "3"]


def test_tables_and_pictures_of_a_configuration(leave, tmp_path):
    leave(tmp_path / "run")
    runs, _ = find_runs(tmp_path)
    (opening, section), problems = fold_sections(runs, [], tmp_path, "page")
    assert not problems and section.title == "own (attributes+landmarks)"
    check_results(to_markdown([opening, section], tmp_path))
    pictures = [part.path.name for part in section.parts if isinstance(part, Picture)]
    assert pictures == ["page_1_attributes_shares.png", "page_1_landmarks_cumulative.png"]
    assert all((tmp_path / name).stat().st_size > 5000 for name in pictures)
    assert all(
        len(row) == len(table.columns) for table in section.parts if isinstance(table, Table) for row in table.rows
    )


def test_the_model_card(leave, tmp_path):
    leave(tmp_path / "run", summary={"selected": "last epoch"})
    (tmp_path / "out").mkdir()
    robustness = {"unchanged": {"landmarks_nme": np.array([0.05])}, "turned": {"landmarks_nme": np.array([0.1])}}
    write_model_card(tmp_path / "run", tmp_path / "out", CARD, "drawn faces: 6 rows read", robustness, "1 image")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "Reads attributes and landmarks from faces." in text
    assert "**Whom it reads worst** is not known: no two groups have 50 test images each to compare." in text
    assert "- landmarks: normalised mean error (%): 10.00 instead of 5.00 with the most harmful change, turned." in text
    assert "| turned | 10.0 † |" in text
    check_results(text)
    for name in ("results_attributes_shares.png", "results_landmarks_cumulative.png"):
        assert f"]({name})" in text and (tmp_path / "out" / name).stat().st_size > 5000


def test_two_networks_are_compared(leave, tmp_path, capsys):
    """B finds the fourth smile, so that this face has both of two, and is half as far from all points."""
    leave(tmp_path / "a")
    leave(tmp_path / "b", smiling=[1, 1, 1, 1, 0, 1], shifts=np.divide(SHIFTS, 2))
    main(["--compare", str(tmp_path / "a"), str(tmp_path / "b")])
    text = capsys.readouterr().out
    assert "attributes: mean accuracy: A 75.00 %, B 83.33 %; B - A = +8.33 points, interval +0.00 to" in text
    assert "landmarks: normalised mean error: A 8.67 %, B 4.33 %; B - A = -4.33 points" in text


def test_other_true_points_are_other_images(leave, tmp_path):
    """Of the first face the nose is not known."""
    leave(tmp_path / "a")
    leave(tmp_path / "b", nose=0.71)
    with pytest.raises(SystemExit, match="not the same test images in the same order: the true landmarks of image 2"):
        main(["--compare", str(tmp_path / "a"), str(tmp_path / "b")])
