"""Exported models, from Python."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import ror_jax
from input_pipeline import detection
from input_pipeline.age_groups import AGE_GROUPS
from input_pipeline.alignment import align
from input_pipeline.pipeline import record_image
from input_pipeline.transforms import Crop
from ror_jax.errors import UserError
from ror_jax.files import read_json
from ror_jax.report.predictions import read_predictions
from ror_jax.runs.experiment import open_task
from ror_jax.tasks import create_task
from ror_jax.tasks.answers import Number, readings


def crops(pixels):
    return [Crop(face, np.eye(2, 3)) for face in pixels]


def test_photographs_are_read_from_paths_images_and_arrays(model_folder, photographs):
    model = ror_jax.load(model_folder("age_gender"))
    two = photographs / "sub" / "two.jpg"
    pixels = Image.open(two).convert("RGB")
    first, *same = model.predict([two, str(two), pixels, np.asarray(pixels), two.read_bytes()])
    assert len(first["faces"]) == 2 and first["photograph"] == str(two) and same[1]["photograph"] == "image 2"
    assert all(other["faces"] == first["faces"] for other in same)
    assert first["faces"][0]["box"][0] < 256 < first["faces"][1]["box"][0]
    for face in first["faces"]:
        low, high = face["age_interval"]
        assert 0 <= low <= face["age"] <= high <= 100
        assert face["gender"] in ("female", "male") and face["age_group"] in AGE_GROUPS
        assert sum(face["gender_probabilities"].values()) == pytest.approx(1, abs=1e-3)
    (alone,) = model.predict(two)
    assert alone == first
    assert model.predict([]) == []


def test_a_cropped_face_is_read_as_in_the_test_of_the_run(model_folder, run, tmp_path, tiny_config):
    """The reading of a test image, given as a file, is what the run's own test answered."""
    folder = run("age_group")
    dataset, _ = open_task(tiny_config(task__name="age_group", dataset__resolution=64, dataset__people=60))
    images = [np.asarray(record_image(dataset.test[number])) for number in range(len(dataset.test))]
    for engine in ("onnxruntime", "xla"):
        found = ror_jax.load(model_folder("age_group"), engine=engine).predict(images, faces="cropped")
        answer = read_predictions([folder], read_json(folder / "summary.json")["answers"]).answers["age_group"]
        assert [photograph["faces"][0]["age_group"] for photograph in found] == [
            AGE_GROUPS[number] for number in answer.chosen
        ]
        sure = [photograph["faces"][0]["age_group_probability"] for photograph in found]
        np.testing.assert_allclose(sure, answer.confidence, atol=2e-4)


@pytest.mark.parametrize("engine", ["onnxruntime", "xla"])
def test_answers_depend_neither_on_the_batch_size_nor_on_a_mirror_with_two_views(engine, model_folder):
    model = ror_jax.load(model_folder("age_gender"), engine=engine)
    faces = list(np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), np.uint8))
    whole = model.predict(faces, faces="cropped", views="flip")
    one = model.predict([face[:, ::-1].copy() for face in faces], faces="cropped", views="flip", batch_size=1)
    few = model.predict(faces, faces="cropped", views="flip", batch_size=3)
    ages = [[photograph["faces"][0]["age"] for photograph in found] for found in (whole, one, few)]
    np.testing.assert_allclose(ages[0], ages[1], atol=0.1)
    np.testing.assert_allclose(ages[0], ages[2], atol=0.1)
    single = [photograph["faces"][0]["age"] for photograph in model.predict(faces, faces="cropped")]
    assert max(abs(np.subtract(single, ages[0]))) > 0


def test_a_program_compiled_once_serves_like_numbers_of_faces(model_folder):
    model = ror_jax.load(model_folder("age_group"), engine="xla")
    faces = crops(np.zeros((8, 16, 16, 3), np.uint8))
    for count in (5, 6):
        model.read(faces[:count])
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
    try:
        for count in (7, 8):
            assert len(model.read(faces[:count])) == count
    finally:
        jax.monitoring.clear_event_listeners()
    assert not [event for event in compiled if "compile" in event]


LABELS = {"age": tuple(map(str, range(101))), "age_group": AGE_GROUPS, "gender": ("female", "male")}


def test_ages_by_year_are_summed_over_the_groups():
    task = create_task("age_years", LABELS)
    probabilities = np.zeros((1, 101))
    probabilities[0, [26, 30, 40]] = 0.5, 0.3, 0.2
    answers = jax.device_get(task.answers(probabilities, {}))
    answers["age"] = answers["age"].with_interval({"below": 5, "above": 75.5})
    (face,) = readings(answers, 1)
    assert face == {
        **{"age": 30.0, "age_interval": [25.0, 100.0], "age_group": "25-32", "age_group_probability": 0.8},
        "age_group_probabilities": {**dict.fromkeys(AGE_GROUPS, 0.0), "25-32": 0.8, "38-43": 0.2},
        "words": "age 30 (25 to 100)",
    }


def test_an_age_group_has_an_interval_of_groups():
    task = create_task("age_group", LABELS)
    answers = jax.device_get(task.answers(np.eye(8)[[0, 4, 7]], {}))
    faces = readings({"age_group": answers["age_group"].with_interval({"below": 1, "above": 2})}, 3)
    assert [face["age_group_interval"] for face in faces] == [[0, 13], [15, 53], [48, 100]]
    assert "age" not in faces[0] and faces[1]["words"] == "age 25-32, 100 % (15 to 53)"
    assert "age_group_interval" not in readings(answers, 1)[0]


def test_any_other_label_is_read_too():
    task = create_task("older_than", LABELS, group=4)
    answers = jax.device_get(task.answers(np.array([[0.25, 0.75]]), {}))
    (face,) = readings(answers, 1)
    assert answers["age_group"].calibrate(np.zeros(99, int)) is None
    assert face == {
        "age_group": "older",
        "age_group_probability": 0.75,
        "age_group_probabilities": {"0-2 ... 15-20": 0.25, "older": 0.75},
        "words": "older, 75 %",
    }


def test_the_interval_leaves_a_twentieth_of_the_test_faces_out_on_either_side():
    ages = np.linspace(20, 80, 99)
    errors = np.random.default_rng(0).permutation(np.arange(99) - 40.0)  # the truth: -40 ... 58 years beside the answer
    interval = Number(np.append(ages - errors, 300)).calibrate(np.append(ages, -1))
    # of 99 errors the fifth from either end, as (99 + 1) / 20 = 5
    assert {key: interval[key] for key in ("below", "above", "faces")} == {"below": 36, "above": 54, "faces": 99}
    assert interval["inside"] == pytest.approx(91 / 99)
    assert Number(ages[:9]).calibrate(ages[:9]) is None


def test_a_distribution_gives_each_face_its_own_interval(model_folder, run, tiny_config):
    """What is told of a test image is its own interval of the run's test, corrected as the card says."""
    task = "age_span+gender"
    summary = read_json(run(task) / "summary.json")
    predictions = read_predictions([run(task)], summary["answers"])
    age, scores = predictions.answers["age"], predictions.scores()
    for metric in ("coverage", "mae"):
        assert scores[f"age_{metric}"].mean() == pytest.approx(summary["test"][f"age_span_{metric}"], abs=1e-3)
    card = read_json(model_folder(task) / "model.json")
    interval = card["intervals"]["age"]
    assert interval["own"] and interval["faces"] == 24 and 0.9 <= interval["inside"] <= 1
    assert (
        "is the network's own for each face, its lower end moved by" in (model_folder(task) / "README.md").read_text()
    )
    dataset, _ = open_task(tiny_config(task__name=task, dataset__resolution=64, dataset__people=60))
    images = [np.asarray(record_image(dataset.tests["test"][number])) for number in range(24)]
    faces = [found["faces"][0] for found in ror_jax.load(model_folder(task)).predict(images, faces="cropped")]
    np.testing.assert_allclose([face["age"] for face in faces], age.values, atol=0.06)
    wanted = age.with_interval(interval).interval
    np.testing.assert_allclose([face["age_interval"] for face in faces], wanted, atol=0.06)
    assert np.ptp(age.interval[:, 1] - age.interval[:, 0]) > 0.1
    assert sum(faces[0]["age_group_probabilities"].values()) == pytest.approx(1, abs=1e-3)


def test_the_threshold_of_the_card_decides(model_folder, edited):
    faces = crops(np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8))
    usual = ror_jax.load(model_folder("age_gender")).read(faces)
    middle = np.median([face["gender_probabilities"]["male"] for face in usual])
    found = ror_jax.load(edited(model_folder("age_gender"), task_state={"gender.threshold": float(middle)})).read(faces)
    assert [face["gender"] for face in found].count("male") == 4
    assert [face["gender"] == "male" for face in found] == [
        face["gender_probabilities"]["male"] > middle for face in found
    ]


def test_a_face_is_cut_as_the_card_says(model_folder, edited, photographs, monkeypatch):
    """The landmarks come to lie where that detector saw them in training images; a border of these is there, too."""
    folder = model_folder("age_group")
    card = json.loads((folder / "model.json").read_text())["preprocessing"]
    five = [[0.4, 0.4], [0.6, 0.4], [0.5, 0.5], [0.45, 0.6], [0.55, 0.6]]
    lower = [[x, y + 0.2] for x, y in five]
    card |= {"size": 64, "resize": 64, "visible": [0.5, 1], "landmarks": {"yunet": five, "mine": lower}}
    monkeypatch.setattr(detection, "_DETECTORS", dict.fromkeys(("yunet", "mine", "other"), detection.YuNet))
    model = ror_jax.load(edited(folder, preprocessing=card))
    image = Image.open(photographs / "one.png")
    (face,) = detection.YuNet()(image)
    for detector, wanted in (("yunet", five), ("mine", lower), ("other", five), (detection.YuNet(), five)):
        _, ((crop, matrix),) = model.finder(detector=detector)(image, "one")
        whole, wanted_matrix = align(image, face.landmarks, np.array(wanted), 64, card["fill"])
        np.testing.assert_array_equal(matrix, wanted_matrix)
        np.testing.assert_array_equal(crop[:, 16:48], whole[:, 16:48])
        assert (crop[:, :16] == np.round(card["fill"])).all() and (crop[:, 48:] == np.round(card["fill"])).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"format": 4, "versions": {"ror_jax": "9.1"}},
            r"has format 4 \(of ror_jax 9\.1\), but this program reads format 3",
        ),
        (
            {
                "format": 1,
                "heads": {"age_group": 8},
                "interval": None,
                "answers": "gone",
                "versions": {"ror_jax": "0.1.0"},
            },
            r"has format 1 \(of ror_jax 0\.1\.0\), but this program reads format 3; install that version, or export",
        ),
        ({"format": "gone"}, r"is a folder of weights, .* python -m ror_jax\.export --workdir="),
        ({"task": {"name": "age_groop"}}, r"unknown task 'age_groop'; did you mean 'age_group'.* --import FILE"),
        ({"labels": {}}, r"model\.json is damaged: task 'age_group' needs the label 'age_group'"),
        ({"task": {}}, r"model\.json is damaged: model, task, heads, labels or name are missing"),
        ({"task": {"name": "age_group", "sgima": 1}}, r"model\.json is damaged: unknown option .*'sgima'"),
        ({"model": "ror3_9"}, r"unknown model 'ror3_9'; did you mean 'ror3_8'.* --import FILE"),
        ({"heads": {}}, r"model\.json is damaged: 'age_group'"),
        ({"heads": {"age_group": {"size": 7, "hidden": []}}}, r"model\.json is damaged"),
        ({"preprocessing": {}}, r"model\.json is damaged"),
        ({"intervals": {"age_group": {"below": 1}}}, r"model\.json is damaged: 'above'"),
        ({"views": "ten_crop"}, r"model\.json is damaged: unknown views 'ten_crop'"),
        ({"name": "gone"}, r"model\.json is damaged: model, task, heads, labels or name are missing"),
        ({"format": None, "versions": []}, r"has format None \(of ror_jax another version\)"),
        ({"model": "ror34"}, "the weights are of another model"),
        ({"sha256": "0"}, r"weights\.safetensors is damaged, or of another model; copy or export it again"),
    ],
)
def test_what_is_no_model(changes, words, model_folder, edited):
    with pytest.raises(UserError, match=words) as told:
        ror_jax.load(edited(model_folder("age_group"), **changes))
    assert "\n" not in str(told.value)


def test_a_model_of_a_program_that_knew_two_landmarks(model_folder, edited):
    folder = model_folder("age_group")
    card = json.loads((folder / "model.json").read_text())["preprocessing"]
    card["landmarks"] = {"cascade": [[0.3, 0.4], [0.7, 0.4]]}
    with pytest.raises(UserError, match="landmarks must be five points of a detector; export the model again"):
        ror_jax.load(edited(folder, preprocessing=card))


@pytest.mark.parametrize("state", [None, {"gender.threshold": "x"}, {"gender.threshold": [0.5]}])
def test_a_state_that_is_none_of_the_task(state, model_folder, edited):
    with pytest.raises(UserError, match=r"model\.json is damaged"):
        ror_jax.load(edited(model_folder("age_gender"), task_state=state))


def test_where_there_is_no_model(tmp_path, model_folder):
    with pytest.raises(UserError, match=r"no model in .*: model\.json is missing; python -m ror_jax\.export makes"):
        ror_jax.load(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(UserError, match=r"model\.json is damaged"):
        ror_jax.load(tmp_path)
    folder = model_folder("age_group")
    with pytest.raises(UserError, match="unknown engine 'torch'"):
        ror_jax.load(folder, engine="torch")
    for options in ({"faces": "croped"}, {"views": "ten_crop"}):
        with pytest.raises(UserError, match="unknown"):
            ror_jax.load(folder).predict([np.zeros((9, 9, 3), np.uint8)], **{"faces": "cropped"} | options)
    assert json.loads((folder / "model.json").read_text())["format"] == 3


def test_networks_that_onnx_does_not_know_run_in_xla(model_folder, monkeypatch):
    monkeypatch.setattr("ror_jax.predict.model.has_onnx", lambda network: False)
    assert ror_jax.load(model_folder("age_group")).engine == "xla"


def test_onnx_runtime_needs_no_temporary_folder(model_folder, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    model = ror_jax.load(model_folder("age_group"), engine="onnxruntime")
    assert len(model.read(crops(np.zeros((1, 16, 16, 3), np.uint8)))) == 1


def test_prediction_needs_nothing_that_unix_alone_has(model_folder, photographs):
    program = """
import sys, jax, onnx, tqdm
sys.modules |= dict.fromkeys(("fcntl", "termios", "pwd", "grp", "resource"))
import ror_jax, ror_jax.predict.__main__, ror_jax.serve.app
print(len(ror_jax.load(sys.argv[1]).predict(sys.argv[2])[0]["faces"]))
"""
    command = [sys.executable, "-c", program, model_folder("age_group"), photographs / "one.png"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr
