from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from PIL import Image

from input_pipeline import DataError, detection
from input_pipeline.detection import Face, YuNet, create_detector, main_face
from input_pipeline.face_renderer import render_face, sample_person

PEOPLE = (7, 19)


def photograph(*places):
    """Drawn faces at these places (left, top), and where their eyes are, [N, 2, 2], the left one first."""
    image, eyes = Image.new("RGB", (1200, 700), (90, 110, 120)), []
    for number, place in zip(PEOPLE, places, strict=False):
        rng = np.random.default_rng(number)
        face, truth = render_face(sample_person(rng), 35, rng, 256)
        image.paste(face, place)
        pair = np.array(truth.landmarks)[:2]
        eyes.append(pair[pair[:, 0].argsort()] + place)
    return image, np.array(eyes)


@pytest.fixture(scope="module")
def detect():
    return create_detector("yunet")


def test_faces_are_found_from_left_to_right(detect):
    image, eyes = photograph((800, 300), (100, 50))
    faces = detect(image)
    assert len(faces) == 2
    for face, (left, right) in zip(faces, eyes[::-1], strict=True):
        x, y, width, height = face.box
        assert x < left[0] < right[0] < x + width and y < left[1] < y + height
        distance = np.linalg.norm(right - left)
        assert np.linalg.norm(face.landmarks[:2] - [left, right], axis=1).max() < 0.15 * distance
        assert face.landmarks.shape == (5, 2)


def test_places_are_those_of_the_large_photograph(detect):
    image, _ = photograph((800, 300), (100, 50))
    small, large = detect(image), detect(image.resize([4 * side for side in image.size]))
    for face, same in zip(small, large, strict=True):
        np.testing.assert_allclose(same.box, np.multiply(face.box, 4), atol=0.05 * same.box[2])


def test_there_may_be_no_face(detect):
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    assert detect(Image.fromarray(noise)) == detect(Image.new("RGB", (3, 2))) == []


@pytest.mark.parametrize("size", [(2000, 1), (3000, 100), (800, 32), (31, 700), (1, 1)])
def test_a_flat_picture_has_no_senseless_faces(size, detect):
    """YuNet saw what lay in memory from the pictures before."""
    image, _ = photograph((800, 300), (100, 50))
    assert [detect(Image.new("RGB", size, "white")) for _ in range(4) if detect(image)] == [[]] * 4


@pytest.mark.parametrize("box", [(np.nan, 0, 9, 9), (0, 0, np.inf, 9), (-1e26, 0, 9, 9), (0, 0, 0, 9), (290, 0, 40, 9)])
def test_a_box_that_is_no_face_of_the_picture_is_dropped(box, monkeypatch):
    """Two faces are told by the library; the first makes no sense in 300 x 300 pixels."""
    boxes = np.array([box, (20, 30, 40, 50)])
    rows = np.hstack([boxes, np.tile(np.arange(20, 30.0), (2, 1)), [[0.9]] * 2])
    detect = create_detector("yunet")
    fake = SimpleNamespace(setInputSize=lambda size: None, detect=lambda image: (1, rows))
    monkeypatch.setattr(detect, "_network", lambda: fake)
    assert [face.box for face in detect(Image.new("RGB", (300, 300)))] == [(20, 30, 40, 50)]


def many(columns, rows, cell, side):
    """A picture of columns x rows cells of cell x cell pixels, in each a face of about 0.6 `side` pixels."""
    image = Image.new("RGB", (columns * cell, rows * cell), (90, 110, 120))
    rng = np.random.default_rng(PEOPLE[0])
    face = render_face(sample_person(rng), 35, rng, 256)[0].resize((side, side))
    for number in range(columns * rows):
        image.paste(face, (number % columns * cell + (cell - side) // 2, number // columns * cell + (cell - side) // 2))
    return image


@pytest.mark.parametrize(("columns", "rows", "cell"), [(5, 5, 1000), (40, 1, 225), (1, 1, 6900)])
def test_a_face_of_100_pixels_is_found_in_a_photograph_of_any_size(columns, rows, cell, detect):
    faces = detect(many(columns, rows, cell, 200))
    assert columns * rows <= len(faces) <= columns * rows + 1
    centres = {(int((x + w / 2) // cell), int((y + h / 2) // cell)) for x, y, w, h in (face.box for face in faces)}
    assert len(centres) == columns * rows and all(90 < face.box[2] < 150 for face in faces)


def test_a_face_that_fills_a_large_photograph_is_one(detect):
    (face,) = detect(many(1, 1, 6900, 5000))
    x, y, width, height = face.box
    assert width > 2000 and abs(x + width / 2 - 3450) < 500 and abs(y + height / 2 - 3450) < 500


def test_a_detector_serves_several_threads(detect):
    image, _ = photograph((800, 300), (100, 50))
    with ThreadPoolExecutor(4) as pool:
        boxes = [[face.box for face in faces] for faces in pool.map(detect, [image] * 8)]
    assert boxes == boxes[:1] * 8 and len(boxes[0]) == 2


def test_less_sure_faces_are_found_with_a_lower_score():
    """One that is turned by 60 degrees, with a score of 0.65."""
    image = photograph((400, 200))[0].rotate(60)
    assert [len(create_detector("yunet", score)(image)) for score in (None, 0.5, 0.68)] == [0, 1, 0]


@pytest.mark.parametrize("score", [-1, 0, 1, 70, float("nan")])
def test_a_score_that_is_no_probability(score):
    with pytest.raises(DataError, match=f"min_score is {score}; YuNet's scores are probabilities"):
        create_detector("yunet", score)


def test_a_detector_of_ones_own(monkeypatch):
    """It is found by its name, with its own default of the score, or with another."""
    monkeypatch.setattr(detection, "_DETECTORS", {**detection._DETECTORS})
    detection.register("mine", lambda min_score=0.5: lambda image: [Face((1, 2, 3, 4), min_score, np.zeros((5, 2)))])
    assert detection.list_detectors() == ("mine", "yunet")
    assert [create_detector("mine", score)(None)[0].score for score in (None, 0.9)] == [0.5, 0.9]
    with pytest.raises(DataError, match="there is a detector 'mine' already"):
        detection.register("mine", YuNet)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("yunnet", "unknown detector 'yunnet'; did you mean 'yunet'"),
        ("haar", "unknown detector 'haar'; known are yunet"),
    ],
)
def test_what_is_no_detector(name, words):
    with pytest.raises(DataError, match=words):
        create_detector(name)


def test_what_is_no_file_of_yunet():
    with pytest.raises(DataError, match=r"/nowhere/x\.onnx cannot be opened as a YuNet model"):
        YuNet(model_file="/nowhere/x.onnx")


def boxes(*places):
    """Faces of these widths at these centres."""
    return [Face((x - w / 2, y - w / 2, w, w), 0.9, np.zeros((5, 2))) for w, x, y in places]


@pytest.mark.parametrize(
    ("places", "main"),
    [
        ([(100, 500, 250)], 0),
        ([(100, 500, 250), (105, 150, 250)], 0),  # one in the middle, a slightly larger one beside it
        ([(100, 500, 250), (200, 250, 250)], 1),  # one behind somebody who stands beside the middle
        ([(20, 500, 250), (100, 950, 450)], 0),  # a corner: 0.1 of 100 pixels
    ],
)
def test_the_main_face_is_large_and_near_the_middle(places, main):
    faces = boxes(*places)
    assert main_face(faces, (1000, 500)) is faces[main]


def test_yunet_tells_boxes_landmarks_and_probabilities(tmp_path, monkeypatch):
    """A network with YuNet's outputs that answers the same to every image: a face in cell (1, 1) of those of 16 px."""
    answers = {}
    for stride in (8, 16, 32):
        cells = (64 // stride) ** 2
        kinds = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
        answers |= {f"{kind}_{stride}": np.zeros((1, cells, k), np.float32) for kind, k in kinds.items()}
    answers["cls_16"][0, 5] = answers["obj_16"][0, 5] = 0.81
    answers["bbox_16"][0, 5] = [
        0.25,
        0.5,
        np.log(2),
        np.log(1.5),
    ]  # centre in the cell, logarithms of the size in cells
    answers["kps_16"][0, 5] = np.arange(10) / 10
    make, tensor = onnx.helper.make_node, onnx.numpy_helper.from_array
    nodes = [make("ReduceMean", ["input"], ["mean"], axes=[1, 2, 3], keepdims=0), make("Mul", ["mean", "0"], ["none"])]
    nodes += [make("Add", [f"{name} as ever", "none"], [name]) for name in answers]
    constants = [tensor(np.zeros(1, np.float32), "0")]
    constants += [tensor(answer, f"{name} as ever") for name, answer in answers.items()]
    float32 = onnx.TensorProto.FLOAT
    outputs = [onnx.helper.make_tensor_value_info(name, float32, answer.shape) for name, answer in answers.items()]
    images = onnx.helper.make_tensor_value_info("input", float32, [1, 3, 64, 64])
    graph = onnx.helper.make_graph(nodes, "yunet", [images], outputs, constants)
    opset = [onnx.helper.make_opsetid("", 13)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "yunet.onnx")

    monkeypatch.setattr(YuNet, "SHORTEST", 64)  # of an image that is not enlarged
    (face,) = YuNet(model_file=tmp_path / "yunet.onnx")(Image.new("RGB", (64, 64)))
    assert face.box == pytest.approx((4, 12, 32, 24)) and face.score == pytest.approx(0.81)
    np.testing.assert_allclose(face.landmarks, 16 * (1 + np.arange(10).reshape(5, 2) / 10), rtol=1e-5)


def test_real_photographs(detect, shared):
    counts = {path.stem: len(detect(Image.open(path).convert("RGB"))) for path in shared("data/photos").glob("*.*g")}
    assert counts == {"astronaut": 1, "biden": 1, "obama": 1, "obama3": 1, "two_people": 2}
