"""`python -m ror_jax.predict`, as a person would type it."""

import csv
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ror_jax.predict.__main__ import find_photographs, main
from ror_jax.predict.faces import FaceFinder
from ror_jax.predict.results import open_results


@pytest.fixture
def predict(model_folder, capsys, tmp_path):
    """Runs the command in this process: arguments -> (exit status or what `sys.exit` was told, output)."""

    def run(*arguments, model=None):
        model = model or model_folder("age_gender")
        handler = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as stopped:
            main([f"--model={model}", f"--cache_dir={tmp_path / 'cache'}", *map(str, arguments)])
        assert signal.getsignal(signal.SIGTERM) == handler
        return stopped.value.code, capsys.readouterr()

    return run


def test_every_face_is_told(predict, photographs):
    status, said = predict(photographs / "one.png", photographs / "sub" / "two.jpg")
    assert status == 0
    first, face, second, *two, summary = said.out.splitlines()
    assert (first, second) == (str(photographs / "one.png"), str(photographs / "sub" / "two.jpg"))
    for line, number in zip([face, *two], (1, 1, 2), strict=True):
        assert line.startswith(f"    {number}  age ") and "male, " in line and "   at " in line and ", score " in line
    assert summary == "Faces: 3; photographs: 2."


def test_a_table_and_pictures_of_a_folder(predict, photographs, tmp_path):
    results, seen = tmp_path / "r.csv", tmp_path / "seen"
    status, said = predict(photographs, f"--output={results}", f"--annotated={seen}", "--batch_size=2")
    assert status == 3  # one has no face
    assert said.out == (
        "Faces: 3; photographs: 3, 1 of them unreadable or without a face."
        f" Wrote {results}. Drew what was read in {seen}.\n"
    )
    rows = list(csv.DictReader(results.open()))
    found = [(row["photograph"].removeprefix(f"{photographs}/"), row["face"], row["problem"]) for row in rows]
    assert found == [
        ("none.jpg", "", "no face was found"),
        ("one.png", "1", ""),
        ("sub/two.jpg", "1", ""),
        ("sub/two.jpg", "2", ""),
    ]
    assert list(rows[0]) == [
        *("photograph", "face", "left", "top", "width", "height", "score", "age", "age_low", "age_high", "age_group"),
        *("gender", "gender_probability", "problem"),
    ]
    for row in rows[1:]:
        assert 0 <= float(row["age_low"]) <= float(row["age"]) <= float(row["age_high"]) <= 100
        assert float(row["width"]) > 50 and row["gender"] in ("female", "male")
        assert 0 <= float(row["gender_probability"]) <= 1 and 0.7 <= float(row["score"]) <= 1
    name = photographs.name
    drawn = {path.relative_to(seen).as_posix() for path in seen.rglob("*.*")}
    assert drawn == {f"{name}/one.png.jpg", f"{name}/sub/two.jpg"}
    for path, original in ((seen / name / "one.png.jpg", "one.png"), (seen / name / "sub/two.jpg", "sub/two.jpg")):
        with Image.open(path) as image, Image.open(photographs / original) as before:
            assert image.size == before.size
            red, green, blue = np.moveaxis(np.asarray(image), 2, 0)
            assert ((red > 200) & (green > 170) & (blue < 120)).sum() > 1000  # the boxes and the signs


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_the_same_as_json(kind, predict, photographs, tmp_path):
    results = tmp_path / f"r.{kind}"
    status, _ = predict(photographs, f"--output={results}")
    text = results.read_text()
    found = json.loads(text) if kind == "json" else [json.loads(line) for line in text.splitlines()]
    assert status == 3 and [len(photograph["faces"]) for photograph in found] == [0, 1, 2]
    face = found[1]["faces"][0]
    assert list(face) == [
        *("box", "score", "age", "age_interval", "age_group"),
        *("gender", "gender_probability", "gender_probabilities", "words"),
    ]
    assert face["words"].startswith("age ") and face["words"].endswith(" %")
    assert found[0] == {
        "photograph": str(photographs / "none.jpg"),
        "width": 800,
        "height": 400,
        "faces": [],
        "problem": "no face was found",
    }


def test_bad_files_are_rows_and_the_rest_goes_on(predict, photographs, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(100))
    (tmp_path / "empty.jpg").touch()
    files = (tmp_path / "clip.mp4", tmp_path / "empty.jpg", photographs / "one.png")
    status, said = predict(*files)
    lines = said.out.splitlines()
    assert status == 3 and lines[0].startswith(f"{tmp_path / 'clip.mp4'}: the image cannot be decoded (it is no image")
    assert lines[1] == f"{tmp_path / 'empty.jpg'}: the file is empty"
    assert lines[-1] == "Faces: 1; photographs: 3, 2 of them unreadable or without a face."


def test_linked_folders_are_looked_in_once(photographs, tmp_path):
    """By the name of the link; one that leads back to a folder above it is no endless way."""
    folder = tmp_path / "album"
    folder.mkdir()
    (folder / "a link").symlink_to(photographs)
    (folder / "again").symlink_to(photographs)
    (folder / "round").symlink_to(folder)
    found = [str(path.relative_to(folder)) for path in find_photographs([folder])]
    assert sorted(name.partition("/")[2] for name in found) == ["none.jpg", "one.png", "sub/two.jpg"]
    assert len({name.partition("/")[0] for name in found}) == 1


def test_cropped_faces_are_not_looked_for(predict, photographs):
    status, said = predict(photographs / "none.jpg", "--faces=cropped", "--views=flip")
    assert status == 0 and "   at 0, 0, 800, 400\n" in said.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{empty}"], "error: there are no photographs in {empty}"),
        (["{other}"], "error: there are no photographs in {other}, but other files: 2 .mp4, 1 no ending"),
        (["{empty}/x.jpg"], "error: there is no {empty}/x.jpg"),
        (
            ["{photos}", "--output=r.txt"],
            "error: --output is r.txt; it must be a file whose name ends in .csv, .json, .jsonl",
        ),
        (["{photos}", "--output={empty}/no/r.csv"], "error: {empty}/no/r.csv cannot be written: No such file or"),
        (["{photos}", "--annotated={photos}"], "error: --annotated is {photos}, which holds {photos}/none.jpg itself;"),
        (
            ["{photos}/sub/two.jpg", "{copy}/two.jpg", "--annotated=x"],
            "error: --annotated: several copies would be called two.jpg;",
        ),
        (["{photos}", "--batch_size=0"], "error: --batch_size is 0; it must be 1 or more"),
        (["{photos}", "--detector=yunnet"], "error: unknown detector 'yunnet'; did you mean 'yunet'?"),
        (["{photos}", "--min_score=70"], "error: min_score is 70.0; YuNet's scores are probabilities"),
        (["{photos}", "--min_size=-1"], "error: min_size is -1.0; it must be a number of pixels, 0 or more"),
        (["{photos}", "--largest=0"], "error: largest is 0; it must be a number of faces, 1 or more"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(arguments, words, predict, photographs, tmp_path):
    places = {name: tmp_path / name for name in ("empty", "other", "copy")}
    for place in places.values():
        place.mkdir()
    (places["copy"] / "two.jpg").write_bytes((photographs / "sub" / "two.jpg").read_bytes())
    for name in ("a.mp4", "b.MP4", "README"):
        (places["other"] / name).touch()
    places["photos"] = photographs
    status, _ = predict(*(argument.format(**places) for argument in arguments))
    assert status.startswith(words.format(**places)) and "\n" not in status


def test_a_folder_without_a_model(predict, photographs, tmp_path):
    status, _ = predict(photographs, model=tmp_path)
    assert status.startswith(f"error: no model in {tmp_path}: model.json is missing; python -m ror_jax.export")


@pytest.mark.parametrize(("number", "status"), [(None, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("name", ["r.json", "r.jsonl", "r.csv"])
def test_what_was_read_before_a_stop_is_kept(name, number, status, predict, photographs, tmp_path, monkeypatch):
    told = []

    def stop(*_):
        told.append(1)
        if len(told) == 2:
            raise KeyboardInterrupt(*([number] if number else []))
        return True

    monkeypatch.setattr("ror_jax.predict.__main__.drawn", stop)
    results = tmp_path / name
    code, said = predict(photographs, f"--output={results}", f"--annotated={tmp_path / 'seen'}")
    assert code == status and "photographs: 3 of 3" in said.out
    if name == "r.json":
        assert [len(photograph["faces"]) for photograph in json.loads(results.read_text())] == [0, 1, 2]
    assert len(results.read_text().splitlines()) >= 3


@pytest.mark.parametrize("name", ["r.json", "r.jsonl", "r.csv"])
def test_what_was_read_before_an_error_is_kept(name, predict, photographs, tmp_path, monkeypatch):
    """The photographs before it are in the file, and it is told; where it is of one photograph, the others go on."""
    results = tmp_path / name
    wanted = {"r.json": lambda: json.loads(results.read_text()), "r.csv": lambda: [*csv.DictReader(results.open())]}
    wanted["r.jsonl"] = lambda: [json.loads(line) for line in results.read_text().splitlines()]

    def fail(*_):
        raise AssertionError("nobody foresaw it")

    monkeypatch.setattr("ror_jax.predict.model.Model.read", fail)
    with pytest.raises(AssertionError, match="nobody foresaw it"):
        predict(photographs, f"--output={results}")
    (only,) = wanted[name]()
    assert (only["photograph"], only["problem"]) == (str(photographs / "none.jpg"), "no face was found")

    monkeypatch.undo()
    monkeypatch.setattr(FaceFinder, "_faces", fail)
    status, _ = predict(photographs, f"--output={results}")
    assert status == 3 and {row["problem"].partition(": ")[2] for row in wanted[name]()} == {
        "AssertionError: nobody foresaw it"
    }


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_what_was_read_before_the_disk_was_full_is_kept(tmp_path):
    path = tmp_path / "r.csv"
    with open_results(path) as file:
        file.write("first\n")
        with open("/dev/full", "w") as full:
            os.dup2(full.fileno(), file.fileno())
        with pytest.raises(OSError, match="No space left"):
            file.write("second\n")
    assert path.read_text() == "first\n"


def test_a_stop_before_anything_was_read_leaves_older_results(predict, photographs, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("ror_jax.predict.__main__.read_photographs", stop)
    (tmp_path / "r.jsonl").write_text("from yesterday")
    assert predict(photographs, f"--output={tmp_path / 'r.jsonl'}")[0] == 130
    assert (tmp_path / "r.jsonl").read_text() == "from yesterday"


def test_a_copy_that_cannot_be_written_is_told_and_the_rest_goes_on(predict, photographs, tmp_path):
    (tmp_path / "seen" / photographs.name / "one.png.jpg").mkdir(parents=True)
    results = tmp_path / "r.csv"
    status, said = predict(photographs, f"--output={results}", f"--annotated={tmp_path / 'seen'}")
    assert status == 3 and f"not drawn: {tmp_path / 'seen'}" in said.err
    assert len(list(csv.DictReader(results.open()))) == 4
    assert (tmp_path / "seen" / photographs.name / "sub" / "two.jpg").exists()


def test_a_name_cannot_control_the_terminal(predict, tmp_path):
    (tmp_path / "a\x1b[31m\n.jpg").touch()
    status, said = predict(tmp_path)
    assert status == 3 and said.out.splitlines()[0] == f"{tmp_path}/a\\x1b[31m\\n.jpg: the file is empty"


def test_the_command_itself(model_folder, photographs, tmp_path):
    """A program of its own compiles and finds what it compiled the next time."""
    command = [sys.executable, "-m", "ror_jax.predict", f"--model={model_folder('age_gender')}", "--engine=xla"]
    command += [f"--cache_dir={tmp_path / 'cache'}", str(photographs / "one.png")]
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    compiled = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.endswith("Faces: 1; photographs: 1.\n"), done
        compiled.append({path.name for path in (tmp_path / "cache" / "xla").glob("*-cache")})
    assert compiled[0] and compiled[0] == compiled[1]
