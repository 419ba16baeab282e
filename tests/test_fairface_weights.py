"""FairFace's published network, as a file of that form with random numbers: what PyTorch and what we make of it."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import ror_jax
from input_pipeline.face_renderer import render_face, sample_person
from ror_jax.convert import main
from ror_jax.models import load_model
from ror_jax.models.export import open_onnx, to_onnx
from ror_jax.models.pretrained import blank_model, to_state_dict
from ror_jax.predict.__main__ import main as predict

AGES = ["0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70-"]


@pytest.fixture(scope="module")
def state():
    """Random numbers by torchvision's names; blocks add little each, so that rounding is not amplified."""
    rng, found = np.random.default_rng(0), {}
    for name, zeros in to_state_dict(blank_model("resnet34", {"label": 18})).items():
        if zeros.ndim > 1:
            array = rng.normal(0, np.sqrt(2 / np.prod(zeros.shape[1:])), zeros.shape)
        elif name.endswith(("weight", "running_var")):
            array = rng.uniform(0.5, 1.5, zeros.shape) * (0.2 if name.endswith("bn2.weight") else 1)
        else:
            array = rng.normal(0, 0.1, zeros.shape)
        found[name] = array.astype(np.float32)
    return found | {"bn1.num_batches_tracked": np.array(9)}


@pytest.fixture(scope="module")
def folder(state, tmp_path_factory):
    place = tmp_path_factory.mktemp("fairface")
    save_file(state, place / "res34.safetensors")
    main(["--weights", str(place / "res34.safetensors"), "--fairface", "--output", str(place / "model")])
    return place / "model"


@pytest.fixture(scope="module")
def face():
    rng = np.random.default_rng(7)  # who is found by the detector
    return render_face(sample_person(rng), 35, rng, 224)[0]


def their_outputs(state, pixels):
    """The 18 outputs of torchvision's ResNet-34 for an image [224, 224, 3] in 0...255, as predict.py asks for them."""
    torch = pytest.importorskip("torch", reason="the network to compare with is written in PyTorch")
    functional = torch.nn.functional
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}

    def conv(x, name, norm, stride=1):
        kernel = tensors[f"{name}.weight"]
        x = functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        names = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(x, *(tensors[f"{norm}.{each}"] for each in names))

    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    x = functional.max_pool2d(conv(x, "conv1", "bn1", 2).relu(), 3, 2, 1)
    for group, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            name, stride = f"layer{group}.{block}", 2 if group > 1 and block == 0 else 1
            y = conv(conv(x, f"{name}.conv1", f"{name}.bn1", stride).relu(), f"{name}.conv2", f"{name}.bn2")
            x = (y + (conv(x, f"{name}.downsample.0", f"{name}.downsample.1", 2) if stride == 2 else x)).relu()
    return functional.linear(x.mean((2, 3)), tensors["fc.weight"], tensors["fc.bias"])[0].numpy()


def softmax(logits):
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def test_it_computes_what_theirs_computes(state, folder, face):
    """The probabilities are those of outputs 9 to 17, and of 7, male, and 8, female; the logits agree to 1e-4."""
    theirs = their_outputs(state, np.asarray(face))
    to_onnx(load_model(folder), file := io.BytesIO())
    ours = open_onnx(file.getvalue())(np.asarray(face)[None])
    np.testing.assert_allclose(ours["age_group"][0], theirs[9:], atol=1e-4)
    np.testing.assert_allclose(ours["gender"][0], theirs[[8, 7]], atol=1e-4)
    (read,) = ror_jax.load(folder).predict(face, faces="cropped")[0]["faces"]
    assert list(read["age_group_probabilities"]) == AGES
    np.testing.assert_allclose(list(read["age_group_probabilities"].values()), softmax(theirs[9:]), atol=1e-4)
    female, male = softmax(theirs[[8, 7]])
    assert read["gender_probabilities"] == pytest.approx({"female": female, "male": male}, abs=1e-4)
    assert read["age_group"] == AGES[theirs[9:].argmax()] and read["gender"] == ("female" if female > male else "male")


def test_a_photograph_is_read(folder, face, tmp_path):
    """From the photograph to the answers: no interval, as nothing was calibrated, and no race."""
    photograph = Image.new("RGB", (800, 500), (90, 110, 120))
    photograph.paste(face, (300, 130))
    photograph.save(tmp_path / "photo.png")
    with pytest.raises(SystemExit) as exit:
        predict([f"--model={folder}", f"--output={tmp_path / 'r.json'}", f"{tmp_path}/photo.png"])
    assert exit.value.code == 0
    (read,) = json.loads((tmp_path / "r.json").read_text())[0]["faces"]
    assert read["age_group"] in AGES and read["gender"] in ("female", "male")
    answers = {"age_group", "gender"}
    answers |= {f"{name}_{more}" for name in answers for more in ("probability", "probabilities")}
    assert read.keys() == {"box", "score", "words"} | answers


def test_the_folder_says_whose_it_is_and_has_no_race(folder):
    sizes = {name: array.shape for name, array in load_file(folder / "weights.safetensors").items() if "heads" in name}
    assert sizes == {
        "params.heads.age_group.kernel": (512, 9),
        "params.heads.age_group.bias": (9,),
        "params.heads.gender.kernel": (512, 2),
        "params.heads.gender.bias": (2,),
    }
    card = json.loads((folder / "model.json").read_text())
    assert card["source"]["file"] == "res34.safetensors" and card["licence"] == "CC BY 4.0"
    assert "CC BY 4.0. Attribution: K. Kärkkäinen, J. Joo" in (folder / "README.md").read_text()


def test_faces_are_cut_as_theirs(folder):
    """dlib's chips of padding 0.25 have the middle between the corners of an eye at 0.318 and 0.669, 0.314 of the side
    (`get_face_chip_details`: 0.25 + 0.121 and 0.334, or 0.646 and 0.860, by 1.5; 0.25 + 0.221 by 1.5)."""
    places = json.loads((folder / "model.json").read_text())["preprocessing"]["landmarks"]["yunet"]
    np.testing.assert_allclose(places[:2], [(0.318, 0.314), (0.669, 0.314)], atol=0.02)
    middle = np.mean([place[0] for place in places])
    np.testing.assert_allclose(places[0][0] + places[1][0], 2 * middle, atol=1e-9)
    np.testing.assert_allclose(places[3][0] + places[4][0], 2 * middle, atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fc.weight": np.zeros((1000, 512), np.float32), "fc.bias": np.zeros(1000, np.float32)},
            "fc.weight is [1000, 512]",
        ),
        ({"fc.weight": None}, "there is no fc.weight"),
        ({"fc.bias": np.zeros(17, np.float32)}, "fc.bias is [17]; with 18 outputs it is [18]"),
    ],
)
def test_another_file_gets_one_line(changes, message, state, tmp_path):
    kept = {name: array for name, array in (state | changes).items() if array is not None}
    save_file(kept, tmp_path / "other.safetensors")
    with pytest.raises(SystemExit) as exit:
        main(["--weights", f"{tmp_path}/other.safetensors", "--fairface", "--output", f"{tmp_path}/out"])
    assert exit.value.code.startswith("error: ") and message in exit.value.code and "\n" not in exit.value.code
    assert not (tmp_path / "out").exists()


def test_nothing_else_is_overwritten(folder, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit, match=r"no exported model and not empty"):
        main(["--weights", f"{folder.parent}/res34.safetensors", "--fairface", "--output", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
