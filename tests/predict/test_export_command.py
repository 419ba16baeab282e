"""`python -m ror_jax.export`: a run becomes a folder that stands alone."""

import dataclasses
import json
import re
import shutil

import jax
import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file, save_file

import ror_jax
from input_pipeline.age_groups import AGE_GROUPS
from input_pipeline.pipeline import record_image
from ror_jax.export import main
from ror_jax.models import load_model
from ror_jax.runs.experiment import open_task


@pytest.fixture
def export(run, tmp_path, capsys):
    """Runs the command in this process: arguments -> (what `sys.exit` was told, output)."""

    def call(*arguments, task="age_group"):
        words = [f"--workdir={run(task)}", f"--output={tmp_path / 'out'}", "--licence=ours alone", *arguments]
        try:
            main(words)
            status = 0
        except SystemExit as stopped:
            status = stopped.code
        return status, capsys.readouterr().out

    return call


def test_a_folder_that_stands_alone(export, run, tmp_path):
    status, said = export("--onnx", "--stablehlo")
    assert status == 0
    assert "model.onnx answers as the network does, to " in said and "model.stablehlo answers as" in said
    out, size = tmp_path / "out", 16
    images = np.random.default_rng(1).integers(0, 256, (3, size, size, 3), np.uint8)
    wanted = np.asarray(load_model(run("age_group"))(images)["age_group"])
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    program = jax.export.deserialize(bytearray((out / "model.stablehlo").read_bytes()))
    assert set(program.platforms) == {"cpu", "cuda", "tpu"}
    for count in (1, 3):
        (found,) = session.run(["age_group"], {"images": images[:count]})
        np.testing.assert_allclose(found, wanted[:count], atol=1e-4)
        np.testing.assert_allclose(program.call(images[:count])["age_group"], wanted[:count], atol=1e-4)
    card = json.loads((out / "model.json").read_text())
    assert card["licence"] == "ours alone" and card["versions"]["ror_jax"] == ror_jax.__version__
    assert card["intervals"]["age_group"]["faces"] == 24 and card["format"] == 3
    assert card["task"] == {"name": "age_group"} and card["heads"]["age_group"]["size"] == 8
    seen = card["preprocessing"]
    places = np.array(seen["landmarks"]["yunet"])  # of faces as the program draws them
    (left, top), _, nose, _, mouth = places
    assert seen["landmarks_from"]["yunet"] >= 20 and 0.3 < left < 0.45 and 0.3 < top < nose[1] < mouth[1] < 0.8
    np.testing.assert_allclose(places[[1, 0, 2, 4, 3]] * (-1, 1) + (1, 0), places, atol=1e-4)  # mirrored in training
    assert (seen["size"], seen["resize"], seen["fit"], seen["visible"]) == (16, 16, "crop", [1, 1])


def test_the_card_says_for_whom_it_works_and_nothing_of_folders(export, run, tmp_path):
    assert export(task="age_gender")[0] == 0
    text = (tmp_path / "out" / "README.md").read_text()
    titles = [line for line in text.splitlines() if line.startswith("#")]
    assert titles == [
        "# tiny_age_gender",
        "## What it must not be used for",
        "## Known failures",
        "## What it was trained on",
        "## How it sees a face",
        "## Robustness",
        "## Results on its test images",
    ]
    for words in (
        "rendered_faces: 120 rows read, 96 to train on, 24 to test on",
        "as told by who exported it: ours alone",
        "its eyes, nose and mouth lie where they lie in its training images (median of ",
        "MAE (years) of the 24 images whose age group and gender are known",
        "Means over 24 images of test, all changed in the same way.",
        "| 60- |",
        "95 % intervals",
        "they were set on these same 24 images of test",
        "The 90 % interval of the age goes from ",
        "](results_gender_confusion.png)",
    ):
        assert words in text, words
    assert str(tmp_path) not in text and str(run("age_gender")) not in text
    pictures = {path.name for path in (tmp_path / "out").glob("*.png")}
    stems = ("age_scatter", "gender_confusion", "gender_reliability")  # no faces of people
    assert pictures == {f"results_{stem}.png" for stem in stems}
    card = json.loads((tmp_path / "out" / "model.json").read_text())
    assert {name: form["kind"] for name, form in card["answers"].items()} == {"age": "number", "gender": "class"}
    assert card["intervals"].keys() == {"age"} and card["intervals"]["age"]["faces"] == 24


@pytest.fixture
def shifted(run, tmp_path):
    """A function that copies the run and adds a number to all logits, which changes no answer: its new folder."""

    def copy(shift):
        folder = shutil.copytree(run(), tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
        tensors = load_file(folder / "weights.safetensors")
        tensors["params.heads.age_group.bias"] += shift
        save_file(tensors, folder / "weights.safetensors")
        return folder

    return copy


def test_rounded_weights_are_tested_again(shifted, tiny_config, tmp_path, capsys):
    """Around 3,000 the numbers of float16 lie 2 apart: the biases round to one number, and answers change."""
    folder, out = shifted(3000), tmp_path / "out"
    main([f"--workdir={folder}", f"--output={out}", "--licence=x", "--attribution=name  us", "--dtype=float16"])
    said, text = capsys.readouterr().out, (out / "README.md").read_text()
    stored, before = load_file(out / "weights.safetensors"), load_file(folder / "weights.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {np.dtype(np.float16)}
    for name, tensor in before.items():
        np.testing.assert_array_equal(stored[name], tensor.astype(np.float16))
    dataset, _ = open_task(tiny_config(task__name="age_group", dataset__resolution=64, dataset__people=60))
    records = [dataset.test[number] for number in range(len(dataset.test))]
    images = [np.asarray(record_image(record)) for record in records]
    found = [photograph["faces"][0] for photograph in ror_jax.load(out).predict(images, faces="cropped")]
    right = [face["age_group"] == AGE_GROUPS[record["age_group"]] for face, record in zip(found, records, strict=True)]
    exact = json.loads((folder / "summary.json").read_text())["test"]["exact"]
    ((was, now),) = re.findall(r"\| test \| exact ([\d.]+) %[^|]*\| exact ([\d.]+) %", text)
    assert (float(was), float(now)) == pytest.approx((100 * exact, 100 * np.mean(right)), abs=0.01)
    (change,) = re.findall(
        r"Rounded to float16, the weights change an output by (\S+) of the largest one at most", text
    )
    bias = before["params.heads.age_group.bias"]
    moved = abs(bias - bias.astype(np.float16)).max() / 3000  # of the other weights it is less
    assert float(change) == pytest.approx(moved, rel=0.5) and f"by {change} of" in said
    assert "\n**Attribution**: name us\n" in text


def test_weights_that_are_too_large_for_a_dtype(shifted, tmp_path):
    with pytest.raises(SystemExit, match=r"--dtype=float16 cannot hold numbers in params\.heads\.age_group\.bias"):
        main([f"--workdir={shifted(1e5)}", f"--output={tmp_path / 'out'}", "--licence=x", "--dtype=float16"])
    assert not (tmp_path / "out").exists()


def test_a_template_of_the_data_is_that_of_the_model(export, tmp_path, monkeypatch):
    """Nothing is looked for in faces that were aligned. Of 21 pixels the network sees 16, from the third on."""
    template = np.array([[0.375, 0.25], [0.625, 0.25], [0.5, 0.5], [0.4, 0.75], [0.6, 0.75]])

    def aligned(config):
        config.resize = 21
        dataset, task = open_task(config)
        return dataclasses.replace(dataset, template=template), task

    monkeypatch.setattr("ror_jax.export.open_task", aligned)
    monkeypatch.setattr("ror_jax.export.create_detector", None)
    assert export()[0] == 0
    seen = json.loads((tmp_path / "out" / "model.json").read_text())["preprocessing"]
    wanted = (template * 21 - 2) / 16
    np.testing.assert_allclose(seen["landmarks"]["yunet"], wanted, atol=5e-5)
    assert seen["landmarks_from"] == {} and ror_jax.load(tmp_path / "out").card["preprocessing"] == seen
    words = "its eyes, nose and mouth lie where they were put in its training images: the eyes"
    assert words in (tmp_path / "out" / "README.md").read_text()


def test_a_program_that_differs_is_not_kept(export, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "ror_jax.export.open_onnx", lambda path: lambda images: {"age_group": np.zeros((len(images), 8))}
    )
    status, _ = export("--onnx")
    assert "model.onnx differs from the network by" in status
    assert not list((tmp_path / "out").glob("*.onnx"))


def test_nothing_is_left_of_another_model(export, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    assert "is no exported model and not empty" in export()[0]
    (tmp_path / "out" / "notes.txt").unlink()
    for name in ("model.json", "model.onnx"):
        (tmp_path / "out" / name).write_text('{"format": 1}')
    assert export()[0] == 0 and not (tmp_path / "out" / "model.onnx").exists()


def test_a_run_of_an_older_version(run, tmp_path):
    """Its settings had no format, and what it predicted was not described."""
    folder = shutil.copytree(run(), tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    for name, key, words in (
        ("summary.json", "answers", r"summary\.json has no answers; test the run again"),
        ("config.json", "format", r"config\.json was written by ror-jax before 0\.2; .* or install that version"),
    ):
        content = json.loads((folder / name).read_text())
        del content[key]
        (folder / name).write_text(json.dumps(content))
        with pytest.raises(SystemExit, match=words) as stopped:
            main([f"--workdir={folder}", f"--output={tmp_path / 'out'}", "--licence=x"])
        assert "\n" not in stopped.value.code and not (tmp_path / "out").exists()


def test_changed_images_are_refused(run, tmp_path):
    """As in training and evaluation: border, places of eyes and answers come from them."""
    folder = shutil.copytree(run(), tmp_path / "run")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"dataset.seed": 1}))
    with pytest.raises(
        SystemExit, match=r"the data are not those of the run in .*run: .* or say with --data_dir where"
    ):
        main([f"--workdir={folder}", f"--output={tmp_path / 'out'}", "--licence=x"])
    assert not (tmp_path / "out").exists()


def test_weights_that_cannot_be_read_are_told_before_anything_is_written(run, tmp_path):
    folder = shutil.copytree(run(), tmp_path / "run")
    (folder / "weights.safetensors").unlink()
    with pytest.raises(SystemExit, match=r"no weights in .*run/weights\.safetensors: No such file"):
        main([f"--workdir={folder}", f"--output={tmp_path / 'out'}", "--licence=x"])
    assert not (tmp_path / "out").exists()


def test_the_licence_is_asked_for(run, tmp_path, capsys):
    with pytest.raises(SystemExit, match="--licence is empty; say 'unknown' where it is"):
        main([f"--workdir={run()}", f"--output={tmp_path / 'out'}", "--licence= "])
    with pytest.raises(SystemExit) as stopped:
        main([f"--workdir={run()}", f"--output={tmp_path / 'out'}"])
    assert stopped.value.code == 2 and "the following arguments are required: --licence" in capsys.readouterr().err


def test_what_is_no_run_that_has_ended(run, tmp_path):
    for folder, output, words in (
        (tmp_path, tmp_path / "out", "holds no run that has ended: it has no summary.json"),
        (run(), run(), "which is no exported model and not empty; choose another folder"),
    ):
        with pytest.raises(SystemExit, match=words):
            main([f"--workdir={folder}", f"--output={output}", "--licence=x"])
