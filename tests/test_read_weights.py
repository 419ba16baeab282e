"""Files of weights from elsewhere: what is read from them, and what is refused."""

import sys
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from ror_jax.convert import main, read_weights
from ror_jax.errors import UserError
from ror_jax.models import create_model
from ror_jax.models.pretrained import to_state_dict
from ror_jax.models.weights import load_weights

TORCH = "PyTorch's files need PyTorch"


@pytest.fixture(scope="module")
def state():
    """Of a small ResNet, with torchvision's names."""
    return to_state_dict(create_model("tiny_resnet", 6, rngs=nnx.Rngs(3)))


@pytest.fixture(scope="module")
def file(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("download") / "tiny.safetensors"
    save_file(state, path)
    return path


@pytest.mark.parametrize(
    ("wrap", "prefix", "name"),
    [
        (None, "", "w.pth"),
        ("state_dict", "module.", "w.pth.tar"),
        ("model", "model.", "pytorch_model.bin"),
        ("model_state_dict", "_orig_mod.", "w.pt"),
        ("net", "module._orig_mod.model.", "w.pth"),
    ],
)
def test_wrapped_and_prefixed_files_of_torch(wrap, prefix, name, state, tmp_path):
    """Checkpoints of DataParallel, of trainers, of compiled modules, and all of them: the same tensors."""
    torch = pytest.importorskip("torch", reason=TORCH)
    tensors = {prefix + name: torch.tensor(array) for name, array in state.items()}
    tensors[f"{prefix}bn1.num_batches_tracked"] = torch.tensor(3)
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({wrap: tensors, "epoch": 9, "optimizer": optimizer} if wrap else tensors, tmp_path / name)
    read = read_weights(tmp_path / name)
    assert read.keys() == state.keys() | {"bn1.num_batches_tracked"}
    assert all(np.array_equal(read[name], state[name]) for name in state)


def test_one_of_several_networks_is_chosen_by_key(state, tmp_path):
    torch = pytest.importorskip("torch", reason=TORCH)
    path = tmp_path / "w.pth"
    raw = {name: torch.tensor(array) for name, array in state.items()}
    mean = {name: tensor + 1 for name, tensor in raw.items()}
    torch.save({"model": raw, "model_ema": {"module": mean}}, path)
    with pytest.raises(UserError, match=r"holds several networks; choose one with key .*: model, model_ema\.module$"):
        read_weights(path)
    with pytest.raises(UserError, match=r"unknown key 'model_ema'; did you mean .*'model_ema\.module'"):
        read_weights(path, "model_ema")
    np.testing.assert_array_equal(read_weights(path, "model_ema.module")["fc.bias"], state["fc.bias"] + 1)
    arguments = ["--model=tiny_resnet", f"--output={tmp_path / 'out'}", f"--weights={path}", "--key=model"]
    main(arguments)
    tensors, card = load_weights(tmp_path / "out")
    np.testing.assert_array_equal(tensors["params.heads.label.bias"], state["fc.bias"])
    assert card["source"]["key"] == "model"


def test_half_precision_files_of_torch(tmp_path):
    """numpy has no bfloat16; such weights arrive as float32."""
    torch = pytest.importorskip("torch", reason=TORCH)
    torch.save({"a": torch.tensor([1.5, -2.0], dtype=torch.bfloat16)}, tmp_path / "w.pt")
    read = read_weights(tmp_path / "w.pt")["a"]
    assert read.dtype == np.float32 and read.tolist() == [1.5, -2.0]


class Evil:
    """Unpickling this makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_would_run_code_is_refused(legacy, tmp_path):
    """One line says so, and nothing was run."""
    torch = pytest.importorskip("torch", reason=TORCH)
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    torch.save({"w": torch.zeros(1), "x": Evil(trace)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"was refused.*could run code"):
        read_weights(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # the file is what the test says it is
    assert trace.exists()


def test_files_that_would_fill_the_memory_are_refused(tmp_path):
    """A view of one number as ten thousand million; an archive that unpacks to more than it is."""
    torch = pytest.importorskip("torch", reason=TORCH)
    torch.save({"w": torch.as_strided(torch.ones(1), (100_000, 100_000), (0, 0))}, tmp_path / "view.pth")
    with pytest.raises(UserError, match=r"view\.pth: 'w' is no plain tensor, or not wholly in the file"):
        read_weights(tmp_path / "view.pth")
    torch.save({"w": torch.zeros(10_000)}, tmp_path / "plain.pth")
    assert read_weights(tmp_path / "plain.pth")["w"].shape == (10_000,)
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(tmp_path / "packed.pth", "w", 8) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(UserError, match=r"packed\.pth was refused: it is damaged, compressed, or"):
        read_weights(tmp_path / "packed.pth")


def test_torch_is_not_needed_until_it_is(monkeypatch, file, tmp_path):
    """Without PyTorch, safetensors are read and a .pth says what is missing."""
    monkeypatch.setitem(sys.modules, "torch", None)
    assert read_weights(file)
    (tmp_path / "w.pth").write_bytes(b"")
    with pytest.raises(UserError, match=r"pip install torch, or convert the file to \.safetensors"):
        read_weights(tmp_path / "w.pth")


def test_other_files_are_refused(tmp_path):
    """Each mistake has its own words."""
    rubbish = tmp_path / "w.safetensors"
    rubbish.write_bytes(b"rubbish")
    save_file({"fc.bias": np.zeros(1), "module.fc.bias": np.zeros(1)}, tmp_path / "two.safetensors")
    for path, message in [
        (rubbish, "no sound safetensors file"),
        (tmp_path / "two.safetensors", "holds several networks"),
        (tmp_path / "none.pth", "there is no file"),
        (tmp_path / "w.onnx", r"are \.pth, \.pt, \.pth\.tar, \.bin or \.safetensors"),
    ]:
        with pytest.raises(UserError, match=message):
            read_weights(path)


@pytest.mark.parametrize("content", [3, {}, {"epoch": 3}, {"state_dict": {"a": 1}}])
def test_files_of_torch_without_a_state_dict_are_refused(content, tmp_path):
    torch = pytest.importorskip("torch", reason=TORCH)
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match="holds no state dict"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([1, np.nan], np.float32), "are not finite, or negative variances, in bn.running_var"),
        (np.array([1, np.nan], jnp.bfloat16), "are not finite, or negative variances, in bn.running_var"),
        (np.array([1e300]), "are not finite, or negative variances, in bn.running_var"),
        (np.array([-1e-9, 1], np.float32), "are not finite, or negative variances, in bn.running_var"),
        (np.array([1, 2], np.int8), r"no floats of 16 bits or more: 'bn\.running_var' \((I8|int8)\)"),
        (np.array([True]), r"no floats of 16 bits or more: 'bn\.running_var' \((BOOL|bool)\)"),
        (np.array([1, 2], jnp.float8_e4m3fn), r"no floats of 16 bits or more: 'bn\.running_var' \((F8|float8)_"),
    ],
)
@pytest.mark.parametrize("file", ["w.safetensors", "w.pth"])
def test_numbers_that_are_no_weights_are_refused(array, message, file, tmp_path):
    """Whatever the file, and however it stores them."""
    torch = pytest.importorskip("torch", reason=TORCH)
    tensor = torch.tensor(array.astype(np.float64)).to(getattr(torch, array.dtype.name))
    state = {"bn.weight": torch.ones(1), "bn.running_var": tensor, "bn.num_batches_tracked": torch.tensor(1)}
    if file == "w.pth":
        torch.save(state, tmp_path / file)
    else:
        pytest.importorskip("safetensors.torch").save_file(state, tmp_path / file)
    with pytest.raises(UserError, match=rf"{file}.* {message}") as error:
        read_weights(tmp_path / file)
    assert "\n" not in str(error.value)
