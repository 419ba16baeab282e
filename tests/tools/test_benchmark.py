"""That the benchmarks measure what they say, on sizes too small for the numbers to mean anything."""

import importlib.util
import json
import os
import sys

import numpy as np
import pytest

from tools.benchmark import measuring
from tools.benchmark.__main__ import main
from tools.benchmark.comparisons import AGAINST_TORCH, BENCHMARKS, multiply_adds
from tools.benchmark.measuring import INSTALL_TORCH, INSTALL_TORCHVISION, Ours, Row, Workload, by_turns

SMALL = Workload("cifar_resnet8", 2, 8)


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    monkeypatch.setattr(measuring, "TURN", 1e-9)
    monkeypatch.setattr(measuring, "SETTLE", 0.0)
    monkeypatch.setattr(measuring, "threads", lambda: 1)  # PyTorch's wait for each other, long on a busy machine


@pytest.fixture(scope="module")
def ours():
    return Ours(SMALL)


def test_list_names_every_benchmark(capsys):
    """`--list` has a line for each and measures nothing."""
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(BENCHMARKS)
    assert all(len(line.split()) > 3 for line in lines)


def test_unknown_names_are_refused(capsys):
    """The nearest name that exists is proposed."""
    with pytest.raises(SystemExit):
        main(["rooor"])
    assert "did you mean 'ror'" in capsys.readouterr().err


def test_a_tiny_run_prints_a_table_and_writes_json(capsys, tmp_path):
    """Rows, positive times, their goals, and what the numbers depend on."""
    pytest.importorskip("torch", reason="the comparison needs PyTorch")
    arguments = ["host", "inference_torch", "--tiny", "--rounds=2", f"--json={tmp_path / 'b.json'}"]
    assert main(arguments) == 0
    out, report = capsys.readouterr().out, json.loads((tmp_path / "b.json").read_text())
    assert "TINY" in out and "first to third quartile" in out and "WRONG" not in out
    host, _, *rows = report["rows"]
    assert host["benchmark"] == "host" and min(host["ours"]) > 0 and host["goal"] == ["<=", 1.0]
    assert [row["benchmark"] for row in rows] == ["inference_torch"] * 4
    for row in rows:
        assert len(row["ours"]) == len(row["theirs"]) == 2 and min(row["ours"] + row["theirs"]) > 0
        assert row["what"] in out and row["met"] == (row["judged"] >= 1 if row["goal"] else None)
    for pair in (rows[:2], rows[2:]):  # the goal is for the faster one
        assert [row["what"].rpartition(", ")[2] for row in pair] == ["ONNX Runtime", "XLA"]
        faster, slower = sorted(pair, key=lambda row: -np.median(row["ours"]))
        assert faster["goal"] == [">=", 1.0] and slower["goal"] is None
    circumstances = ("machine", "versions", "precision", "threads", "date", "load")
    assert report["tiny"] and all(report[key] in out for key in circumstances)


def test_a_busy_machine_is_told(monkeypatch, capsys):
    """Numbers that mean nothing are not printed as if they did."""
    for load, told in ((0.1, False), (1.0, True)):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        monkeypatch.setitem(BENCHMARKS, "ror", lambda options: [])
        main(["ror"])
        assert ("BUSY" in capsys.readouterr().out) == told


def test_wrong_outputs_make_the_exit_status_1(monkeypatch, capsys):
    """They are marked in the table, and told below it."""
    row = Row("x", "s", ("<=", 1.0), (1.0,), (2.0,), wrong="the outputs differ")
    monkeypatch.setitem(BENCHMARKS, "ror", lambda options: [row])
    assert main(["ror"]) == 1
    out = capsys.readouterr().out
    assert "WRONG" in out and "ror: the outputs differ" in out


def test_rows_are_judged_by_the_median_of_the_ratios():
    """By the ratio where there is another, by ours where there is not."""
    row = Row("x", "s", ("<=", 1.0), (1.0, 2.0, 9.0), (2.0, 2.0, 3.0))
    assert row.met() and row.cells() == ["2 s", "2 s", "1.000", "<= 1", "yes", "0.75 ... 2"]
    no_goal = Row("x", "s", None, (1.0,), (2.0,))
    assert no_goal.met() is None and no_goal.cells() == ["1 s", "2 s", "0.500", "-", "-", "-"]
    alone = Row("x", "ms", (">=", 3.0), (1.0, 2.0, 9.0))
    assert not alone.met() and alone.cells() == ["2 ms", "-", "-", ">= 3 ms", "no", "1.5 ... 5.5"]


def test_runs_take_turns():
    """A, B, A, B after two calls each to warm up."""
    calls = []
    times = by_turns([lambda count: calls.append("A"), lambda count: calls.append("B")], rounds=3)
    assert "".join(calls) == "AABB" + "ABABAB"
    assert times.shape == (3, 2) and (times > 0).all()


def test_multiply_adds_are_those_of_the_layers(ours):
    """Stem, three groups of one block, two projections and the classifier, counted by hand; 8, 4 and 2 pixels."""
    blocks = 64 * 9 * 2 * 16 * 16 + 16 * 9 * (16 * 32 + 32 * 32) + 4 * 9 * (32 * 64 + 64 * 64)
    by_hand = 64 * 9 * 3 * 16 + blocks + 16 * 16 * 32 + 4 * 32 * 64 + 64 * 10
    assert multiply_adds(ours) == 2 * by_hand


def test_pytorch_gets_the_same_network(ours):
    """Same weights, same outputs; a weight that is off is told."""
    pytest.importorskip("torch", reason="the comparison needs PyTorch")
    ours.make_irregular()
    theirs = measuring.counterpart(ours, SMALL)
    assert measuring.difference(ours, theirs) == ""
    theirs.network.stem.weight.data[0] *= 1.5
    assert "the outputs differ by" in measuring.difference(ours, theirs)


def test_both_train_the_same_network(ours):
    """Three steps have the same losses and move a weight by the same; ours gives the memory of its state away."""
    pytest.importorskip("torch", reason="the comparison needs PyTorch")
    theirs, kernel = measuring.counterpart(ours, SMALL), ours.state.params["backbone"]["stem"]["kernel"]
    before = np.array(kernel)
    for _ in range(3):
        assert theirs.train(1) == pytest.approx(ours.train(1), rel=1e-4)
    assert kernel.is_deleted() and int(ours.state.step) == 3
    moved = np.asarray(ours.state.params["backbone"]["stem"]["kernel"]) - before
    expected = theirs.network.stem.weight.permute(2, 3, 1, 0).numpy(force=True) - before
    np.testing.assert_allclose(moved, expected, atol=0.01 * np.abs(expected).max())


def test_without_pytorch_a_line_says_how_to_get_it(monkeypatch, capsys):
    """One line for all comparisons, and nothing else fails."""
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["--against=torch", "--tiny"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "skipped" in line]
    assert INSTALL_TORCH in line and all(name in line for name in AGAINST_TORCH)


def test_photographs_are_read_from_files_to_ages(capsys, tmp_path):
    """Faces are found in what is drawn, and time is taken of all and each part; two engines are compared."""
    assert main(["predict", "--tiny", "--rounds=1", f"--json={tmp_path / 'b.json'}"]) == 0
    assert "WRONG" not in capsys.readouterr().out
    whole, decoding, finding, network = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert min(row["ours"][0] for row in (whole, decoding, finding, network)) > 0
    assert finding["goal"] is None
    assert network["theirs"][0] > 0 and network["met"] == (network["judged"] <= 1)


def test_reading_images_is_compared_without_torchvisions_compiled_part(capsys):
    """Small files and large ones, whichever PyTorch torchvision was made for."""
    if not all(importlib.util.find_spec(name) for name in ("torch", "torchvision")):
        pytest.skip("the comparison needs PyTorch and torchvision")
    assert main(["input_torch", "--tiny", "--rounds=1"]) == 0
    out = capsys.readouterr().out
    assert "48 px -> 32 px" in out and "144 px -> 32 px" in out and "WRONG" not in out and "skipped" not in out


def test_without_torchvision_a_line_says_how_to_get_it(monkeypatch, capsys):
    pytest.importorskip("torch", reason="the comparison needs PyTorch")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert main(["input_torch", "--tiny"]) == 0
    assert f"skipped input_torch: torchvision is not installed: {INSTALL_TORCHVISION}" in capsys.readouterr().out
