"""Files of weights: of PyTorch and safetensors."""

import functools
import io
import json
import pathlib
import pickle
import struct
import zipfile

import numpy as np
import safetensors.numpy
from flax import nnx

from fuzzing.damage import damaged, odd_file, one_of
from ror_jax.convert import convert, read_weights
from ror_jax.models import create_model
from ror_jax.models.pretrained import load_state_dict, to_state_dict


class Evil:
    """Unpickling this makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


@functools.cache
def network():
    model = create_model("tiny_resnet", 3, rngs=nnx.Rngs(0))
    return model, to_state_dict(model)


def read(rng, path):
    """Into the network; every now and then the whole way."""
    state = read_weights(path)
    assert all(isinstance(name, str) and isinstance(array, np.ndarray) for name, array in state.items())
    load_state_dict(network()[0], state)
    if rng.random() < 0.02:
        convert(path, "tiny_resnet", path.parent / "out")


def changed_state(rng):
    """The network's, with something in it that is not its own."""
    state = dict(network()[1])
    name = one_of(rng, [*state, "fc.weight", "fc.bias"])
    kind, array = rng.integers(8), state.get(name, np.ones(3, np.float32))
    if kind == 0:
        state.pop(name, None)
    elif kind == 1:
        state[name] = one_of(
            rng, (array[:0], array.ravel(), array[None], np.float32(3), np.zeros((10**9, 0), np.float32))
        )
    elif kind == 2:
        state[name] = one_of(rng, (array * np.nan, array.astype(np.int64), array.astype(np.float16), array > 0))
    elif kind == 3:
        name = one_of(
            rng, ("", "\n", "module.", "fc", "layer1.99999999999999999999.conv1.weight", "x" * 10_000, "é\x00")
        )
        state[name] = array
    elif kind == 4:
        state = {f"{one_of(rng, ('module.', 'model.', 'a.'))}{name}": array for name, array in state.items()}
    return state


def torch(rng, folder):
    import torch

    path, trace = folder / "w.pth", folder.parent / "trace"
    state = {name: torch.tensor(np.asarray(array)) for name, array in changed_state(rng).items()}
    name = one_of(rng, list(state) or ["fc.weight"])
    kind = rng.integers(12)
    if kind == 0:  # a number seen as ten thousand million
        state[name] = torch.as_strided(torch.ones(1), (100_000, 100_000), (0, 0))
    elif kind == 1:
        state[name] = one_of(
            rng,
            (
                torch.eye(3).to_sparse(),
                torch.ones(3, device="meta"),
                torch.ones(3) * 1j,
                torch.ones(3).to(torch.float8_e4m3fn),
                torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
                torch.nn.Parameter(torch.ones(3)),
                torch.ones(3).bool(),
                torch.ones(3).bfloat16(),
                torch.nested.nested_tensor([torch.ones(3)]),
            ),
        )
    elif kind == 2:
        state[one_of(rng, (3, None, ("a",), "x"))] = one_of(
            rng, (3, "text", [1], None, {"a": torch.ones(1)}, torch.ones(2))
        )
    elif kind == 3:
        state[name] = Evil(trace)
    wrapped = one_of(rng, (state,) * 4 + ({"state_dict": state}, {"model": {"state_dict": state}}, [state]))
    torch.save(wrapped, path, _use_new_zipfile_serialization=bool(rng.random() < 0.7))
    data = path.read_bytes()
    if kind == 4:
        data = repacked(bool(rng.random() < 0.5), trace)
    elif kind == 5:
        data = pickle.dumps(
            one_of(rng, (Evil(trace), {"a": Evil(trace)}, 3, [[]] * 100, b"x")), protocol=int(rng.integers(1, 6))
        )
    elif kind == 6:
        data = rng.bytes(rng.integers(3000))
    elif kind < 9:
        data = damaged(rng, data)
    path.write_bytes(data)
    if rng.random() < 0.03:
        odd_file(rng, path)
    try:
        read(rng, path)
    finally:
        assert not trace.exists()


@functools.cache
def repacked(bomb: bool, trace: pathlib.Path) -> bytes:
    """An archive of PyTorch's, compressed; its pickle is code, or a gigabyte of zeros."""
    import torch

    source, file = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.ones(3)}, source)
    with zipfile.ZipFile(source) as parts, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for name in parts.namelist():
            if not name.endswith("data.pkl"):
                target.writestr(name, parts.read(name))
            elif not bomb:
                target.writestr(name, pickle.dumps(Evil(trace), protocol=2), zipfile.ZIP_STORED)
            else:
                with target.open(name, "w") as record:
                    for _ in range(1024):
                        record.write(bytes(2**20))
    return file.getvalue()


def safetensors_files(rng, folder):
    path = folder / "w.safetensors"
    data = safetensors.numpy.save({name: np.array(array) for name, array in changed_state(rng).items()})
    kind = rng.integers(5)
    if kind < 2:
        data = damaged(rng, data)
    elif kind == 2:
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + size])
        entry = header[one_of(rng, list(header) or ["a"])] if header else {}
        change = (
            ("dtype", ("F64", "BF16", "F8_E4M3", "I64", "x", "BOOL")),
            ("shape", ([], [0], [2**40, 2**40], [-1], [10**12, 0], ["3"])),
            ("data_offsets", ([0, 2**60], [4, 0], [0, 0], [-1, 4], [1])),
        )
        field, values = one_of(rng, change)
        entry[field] = one_of(rng, values)
        text = json.dumps(header).encode()
        data = struct.pack("<Q", int(one_of(rng, (len(text), len(text), 2**63, 0)))) + text + data[8 + size :]
    path.write_bytes(data)
    if rng.random() < 0.03:
        odd_file(rng, path)
    read(rng, path)
