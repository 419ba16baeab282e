"""A run's files with anything in them: read as they are or refused with a message; no traceback, not much memory."""

import contextlib
import json
import random
import resource

import numpy as np
import pytest

import ror_jax
from ror_jax.config import default_config
from ror_jax.errors import UserError
from ror_jax.export import export
from ror_jax.files import read_json
from ror_jax.models import load_model
from ror_jax.models.weights import load_weights
from ror_jax.report.predictions import read_predictions
from ror_jax.report.runs import find_runs
from ror_jax.runs.run import train_and_test
from ror_jax.runs.workdir import check_workdir
from ror_jax.training.logging import read_rows

ODD = [None, True, -1, 10**400, 1e308, float("nan"), "", "x" * 50, "\ud800", [], {}, [[]], {"a": {}}, 0, [1, 2], 2**63]


def predictions(run):
    """All that reports ask of the predictions of a run, as its summary describes them."""
    found = read_predictions([run], read_json(run / "summary.json").get("answers", {}))
    return found.subjects, found.scores(), found.mistakes(), [found.words(row) for row in range(len(found))]


READERS = {
    "config.json": [lambda run: check_workdir(run, default_config()), lambda run: find_runs(run.parent)],
    "summary.json": [predictions, lambda run: find_runs(run.parent)],
    "metrics.jsonl": [lambda run: read_rows(run / "metrics.jsonl"), lambda run: find_runs(run.parent)],
    "predictions.csv": [predictions],
    "weights.safetensors": [load_weights],
    "model.json": [load_model],
}


@pytest.fixture(scope="module")
def run(tiny_config, tmp_path_factory):
    """The folder of a run that was tested, without training."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    train_and_test(tiny_config(epochs=0, optimizer__decay_epochs=()), folder)
    rows = [{"split": "test", "step": 6 * epoch, "epoch": epoch, "exact": 0.5} for epoch in range(3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def changed(content, rng):
    """JSON with one value, at any depth, taken away or replaced by an odd one."""
    if not isinstance(content, dict | list) or not content or rng.random() < 0.1:
        return rng.choice(ODD)
    copy = content.copy()
    place = rng.choice([*copy] if isinstance(copy, dict) else range(len(copy)))
    if rng.random() < 0.1:
        del copy[place]
    else:
        copy[place] = changed(copy[place], rng)
    return copy


def damaged(name, content, rng):
    """A file's content after random damage of one of several kinds."""
    at = rng.randrange(len(content))
    match rng.randrange(7):
        case 0:
            return rng.randbytes(at % 200)
        case 1:
            return content[:at]
        case 2:
            return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
        case 3:
            return content[:at] + rng.randbytes(3) + content[at:]
        case 4:
            depth = rng.randrange(3000)
            return b"[" * depth + b"]" * depth if depth % 2 else b'{"a":' * depth + b"1" + b"}" * depth
    if name == "weights.safetensors":
        size = int.from_bytes(content[:8], "little")
        header = json.dumps(changed(json.loads(content[8 : 8 + size]), rng)).encode()
        return len(header).to_bytes(8, "little") + header + content[8 + size :]
    if name == "predictions.csv":
        cells = content.decode().split(",")
        cells[rng.randrange(len(cells))] = rng.choice(["", "x", "nan", "1e400", "-1", "9" * 400, '"', "\0", "\n"])
        return ",".join(cells).encode()
    lines = content.decode().splitlines() if name == "metrics.jsonl" else [content]
    line = rng.randrange(len(lines))
    lines[line] = json.dumps(changed(json.loads(lines[line]), rng))
    return ("\n".join(lines) + "\n").encode()


@pytest.mark.parametrize("cases", [100, pytest.param(1000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused(run, name, cases):
    path, rng, refused = run / name, random.Random(name), 0
    whole = path.read_bytes()
    try:
        for _ in range(cases):
            content = damaged(name, whole, rng)
            path.write_bytes(content)
            for read in READERS[name]:
                try:
                    read(run)
                except UserError as error:
                    refused += 1
                    assert str(path) in str(error) or str(run) in str(error)
                except Exception as error:
                    raise AssertionError(f"{name} with {content[:2000]}") from error
    finally:
        path.write_bytes(whole)
    assert refused > cases / 3


@pytest.mark.parametrize("cases", [50, pytest.param(500, marks=pytest.mark.soak)])
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_damaged_model_is_used_or_refused(run, tmp_path, cases):
    """An exported one, whose `model.json` says how to use it, too; its network may not become a huge one."""
    export(run, folder := tmp_path / "model", licence="drawn")
    path, rng, refused = folder / "model.json", random.Random(0), 0
    whole = path.read_bytes()
    for _ in range(cases):
        content = damaged(path.name, whole, rng)
        with contextlib.suppress(LookupError, RecursionError, TypeError, ValueError):
            if json.loads(content)["overrides"] != json.loads(whole)["overrides"]:
                continue
        path.write_bytes(content)
        try:
            model = ror_jax.load(folder, engine="xla")
            model.predict(np.zeros((16, 16, 3), np.uint8), faces="cropped")
        except UserError as error:
            refused += 1
            assert str(folder) in str(error) and "\n" not in str(error)
        except Exception as error:
            raise AssertionError(f"model.json with {content[:2000]}") from error
    assert cases / 3 < refused < cases


def test_weights_that_claim_terabytes_take_no_memory(run):
    path = run / "weights.safetensors"
    whole = path.read_bytes()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        for shape, end in (([2**40], 2**42), ([2**20, 2**20], 2**42), ([2**62], 2**63)):
            header = json.dumps({"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}).encode()
            path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(100))
            with pytest.raises(UserError, match="no weights in"):
                load_weights(run)
        path.write_bytes((2**62).to_bytes(8, "little") + header)
        with pytest.raises(UserError, match="no weights in"):
            load_weights(run)
    finally:
        path.write_bytes(whole)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
