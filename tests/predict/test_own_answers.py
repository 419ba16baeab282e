"""Models of a user's own task, with points and flags: in photographs, files and pictures; and of their own backbone."""

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from PIL import Image

import ror_jax
from input_pipeline import detection
from ror_jax import export, models, tasks
from ror_jax.errors import UserError
from ror_jax.extensions import add_import_option
from ror_jax.models import create_model, describe_network
from ror_jax.models.weights import save_weights
from ror_jax.predict import __main__ as predict
from ror_jax.predict.annotate import annotate
from ror_jax.predict.model import save_model_card
from ror_jax.serve import __main__ as serve

OWN = Path(__file__).with_name("own.py")
LANDMARKS = [(0.3, 0.4), (0.7, 0.45), (0.5, 0.6), (0.35, 0.7), (0.6, 0.75)]  # of the faces that `OWN` detects
MARKS = np.array([*LANDMARKS[:2], (0.25, 0.75)])  # what the networks answer of every face
FOUND = [[(240, 145), (232.5, 205), (187.5, 137.5)], [(527, 96), (563, 100.5), (522.5, 127.5)]]  # in photographs
SHIFT = (0.125, -0.0625)
LOGITS = (2.0, -1.0, 0.5)


@pytest.fixture(scope="module")
def own_model(tmp_path_factory):
    """A function that makes a model of a backbone with these settings; `OWN` is imported for these tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "_DETECTORS", {**detection._DETECTORS})
        patch.setattr(models, "_MODELS", {**models._MODELS})
        patch.setattr(tasks, "_TASKS", {**tasks._TASKS})
        patch.setattr(sys, "path", [*sys.path])
        add_import_option(parser := argparse.ArgumentParser())
        parser.parse_args([f"--import={OWN}"])
        heads = tasks.create_task("own_marks", {"marks": ()}).heads

        def make(backbone="own_mean", fit="crop", **overrides):
            folder = tmp_path_factory.mktemp("own")
            network = create_model(backbone, heads, rngs=nnx.Rngs(0), **overrides)
            for name, bias in {"points": (MARKS - SHIFT).ravel(), "flags": LOGITS, "shift": SHIFT}.items():
                head = network.heads[name]
                head.bias[...] = np.array(bias, np.float32)
                if name != "shift":
                    head.kernel[...] = np.zeros_like(head.kernel[...])
            card = describe_network(backbone, overrides, network) | {
                "name": "own",
                "task": {"name": "own_marks"},
                "task_state": {},
                "labels": {"marks": []},
                "preprocessing": {
                    **{"size": 16, "resize": 16, "fit": fit, "fill": [0, 0, 0], "visible": [1, 1]},
                    **{"landmarks": {"own_faces": LANDMARKS}, "landmarks_from": {"own_faces": 100}},
                },
                "views": "single",
                "answers": {},
                "intervals": {},
            }
            _, params, statistics = nnx.split(network, nnx.Param, nnx.BatchStat)
            save_weights(folder, nnx.to_pure_dict(params), nnx.to_pure_dict(statistics), card)
            save_model_card(folder, card)
            return folder

        yield make
        del sys.modules[OWN.stem]


@pytest.mark.parametrize(("backbone", "engine"), [("own_mean", "xla"), ("ror3_8", "onnxruntime"), ("ror3_8", "xla")])
def test_points_are_in_pixels_of_the_photograph(backbone, engine, own_model):
    """Of an image that is cropped already: 60 x 40 pixels become 24 x 16, of which 4 are cut off on the left.

    ONNX Runtime is not asked where it knows no such backbone; a head that is constant counts there, too.
    """
    small = {"blocks_per_group": (1, 1), "widths": (4, 8)} if backbone == "ror3_8" else {}
    folder = own_model(backbone, **small)
    model = ror_jax.load(folder, engine=None if backbone == "own_mean" else engine)
    assert model.engine == engine
    image = np.zeros((40, 60, 3), np.uint8)
    for views, marks in (("single", MARKS), ("flip", np.stack([(0.5, 0.5, 0.5), MARKS[:, 1]], 1))):
        ((face,),) = [found["faces"] for found in model.predict(image, faces="cropped", views=views)]
        np.testing.assert_allclose(face["marks"], (16 * marks + (4, 0)) / 0.4, atol=0.01)
    assert face["traits"] == ["Smiling", "Big_Nose"] and face["words"] == "smiling, big nose"
    shares = {"Smiling": 0.8808, "Bald": 0.2689, "Big_Nose": 0.6225}
    assert face["traits_probabilities"] == pytest.approx(shares, abs=1e-4)


def test_points_in_a_padded_photograph(own_model):
    """60 x 40 pixels become 16 x 11, 2 below the upper edge."""
    (found,) = ror_jax.load(own_model(fit="pad")).predict(np.zeros((40, 60, 3), np.uint8), faces="cropped")
    np.testing.assert_allclose(found["faces"][0]["marks"], (16 * MARKS - (0, 2)) / (16 / 60, 11 / 40), atol=0.01)


def test_points_of_faces_that_were_found(own_model, photographs):
    """Points that lie where the eyes are in the crops are the eyes that the detector saw."""
    path = photographs / "sub" / "two.jpg"
    (found,) = ror_jax.load(own_model()).predict(path, detector="own_faces")
    np.testing.assert_allclose([face["marks"] for face in found["faces"]], FOUND, atol=0.01)


def test_only_wanted_faces_are_read(own_model):
    """Of two of 150 and 90 pixels, with scores of 0.9 and 0.6."""
    model, image = ror_jax.load(own_model()), np.zeros((400, 800, 3), np.uint8)

    def found(**options):
        (photograph,) = model.predict(image, detector="own_faces", **options)
        return [face["box"][0] for face in photograph["faces"]], photograph["problem"]

    assert found() == found(min_size=90, min_score=0.6, largest=2) == ([150, 500], None)
    for options in ({"min_size": 90.5}, {"largest": 1}, {"min_score": 0.7}):
        assert found(**options) == ([150], None)
    assert found(min_size=151) == ([], "no face was found but 2 too small or too uncertain")
    assert found(min_score=0.95) == ([], "no face was found")
    sure = detection.create_detector("own_faces")
    (photograph,) = model.predict(image, detector=sure, min_score=0.95)
    assert photograph["problem"] == "no face was found but 2 too small or too uncertain"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_size": -1}, "min_size is -1; it must be a number of pixels, 0 or more"),
        ({"min_size": np.nan}, "min_size is nan; it must be a number of pixels"),
        ({"largest": 0}, "largest is 0; it must be a number of faces, 1 or more"),
        ({"min_score": np.inf}, "min_score is inf; it must be a number"),
    ],
)
def test_what_wants_no_faces(options, words, own_model):
    with pytest.raises(UserError, match=words):
        ror_jax.load(own_model()).predict([], **options)


def test_points_are_drawn_where_they_lie(own_model, photographs):
    image = Image.open(photographs / "sub" / "two.jpg")
    model = ror_jax.load(own_model())
    (found,) = model.predict(image)
    drawn = np.asarray(annotate(image, [face | {"words": ""} for face in found["faces"]], model.answers))
    marks = np.concatenate([face["marks"] for face in found["faces"]])
    assert all((drawn[int(y), int(x)] == (255, 209, 60)).all() for x, y in marks) and len(marks) == 6
    changed = (drawn != np.asarray(image)).any(2)
    for box in (face["box"] for face in found["faces"]):
        left, top, width, height = np.round(box).astype(int)
        inside = changed[top + 4 : top + height - 4, left + 4 : left + width - 4]
        assert 0 < inside.sum() < 200  # dots, and no sign without words


@pytest.fixture
def command(capsys, tmp_path):
    """Runs a program in this process: arguments -> (exit status or what `sys.exit` was told, stdout, stderr)."""

    def run(program, *arguments):
        with pytest.raises(SystemExit) as stopped:
            program.main([*map(str, arguments)])
        said = capsys.readouterr()
        return stopped.value.code, said.out, said.err

    return run


def test_points_and_flags_in_results(own_model, photographs, command, tmp_path):
    """The command imports the file, which was imported before, once."""
    results, options = tmp_path / "r.csv", [f"--import={OWN}", f"--model={own_model()}", f"--cache_dir={tmp_path}"]
    path = photographs / "sub" / "two.jpg"
    options.append("--detector=own_faces")
    assert command(predict, *options, path, f"--output={results}", f"--annotated={tmp_path / 'seen'}")[0] == 0
    rows = list(csv.DictReader(results.open()))
    assert list(rows[0]) == [
        *("photograph", "face", "left", "top", "width", "height", "score"),
        *("marks_0_x", "marks_0_y", "marks_1_x", "marks_1_y", "marks_2_x", "marks_2_y"),
        *("traits_Smiling", "traits_Bald", "traits_Big_Nose", "problem"),
    ]
    for row, wanted in zip(rows, FOUND, strict=True):
        marks = [[float(row[f"marks_{number}_{axis}"]) for axis in "xy"] for number in range(3)]
        np.testing.assert_allclose(marks, wanted, atol=0.01)
        assert float(row["traits_Smiling"]) == pytest.approx(0.8808, abs=1e-4)
    assert (tmp_path / "seen" / "two.jpg").exists()
    status, said, _ = command(predict, *options, photographs / "one.png", "--largest=1")
    _, line, _ = said.splitlines()
    assert status == 0 and line == "    1  smiling, big nose   at 150, 100, 150, 150, score 0.9"
    face = {"words": "", "box": [1, 2, 3, 4], "score": 5.5}
    said = predict.lines({"photograph": "x.png", "faces": [face], "problem": None})
    assert said == "x.png\n    1  a face   at 1, 2, 3, 4, score 5.5"


def test_a_backbone_that_is_no_onnx(own_model):
    with pytest.raises(UserError, match="Backbone cannot be exported to ONNX: it has no method to_onnx"):
        ror_jax.load(own_model(), engine="onnxruntime")


@pytest.mark.parametrize("program", [predict, export, serve])
@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("missing.py", None, "there is no such Python file"),
        ("notes.txt", "", "there is no such Python file"),
        ("own_folder.py", "a folder", "there is no such Python file"),
        ("own_syntax.py", "def", "SyntaxError: invalid syntax (own_syntax.py, line 1)"),
        ("own_error.py", "raise RuntimeError('oh no')", "RuntimeError: oh no"),
        ("own_name.py", "import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_a_file_that_cannot_be_imported(name, text, words, program, command, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    if text == "a folder":
        (tmp_path / name).mkdir()
    elif text is not None:
        (tmp_path / name).write_text(text)
    status, _, said = command(program, f"--import={tmp_path / name}")
    assert status == 2 and said.splitlines()[-1].endswith(f"error: --import={tmp_path / name}: {words}")


@pytest.mark.parametrize("changes", [{"model": "own_maen"}, {"task": {"name": "own_marsk"}}])
def test_what_is_not_registered_is_told_with_the_option(changes, own_model, edited):
    with pytest.raises(UserError, match=r"model\.json: unknown (model|task) 'own_ma.*--import FILE") as told:
        ror_jax.load(edited(own_model(), **changes))
    assert "\n" not in str(told.value) and "did you mean" in str(told.value)


def test_answers_are_described(own_model):
    model = ror_jax.load(own_model())
    assert {name: form["kind"] for name, form in model.answers.items()} == {"marks": "points", "traits": "flags"}
    assert json.loads(json.dumps(model.answers))["traits"]["names"] == ["Smiling", "Bald", "Big_Nose"]
