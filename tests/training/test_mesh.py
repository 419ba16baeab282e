"""Any mesh, any number of processes: the same run."""

import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import tiny
from processes import ROOT, Process, environment
from safetensors.numpy import load_file

from ror_jax.runs.workdir import locked

EPOCHS = 8
TINY = [
    "--config=configs/quickstart.py",
    *tiny.TINY,
    "--config.model.blocks_per_group=(2,2)",
    "--config.model.survival=0.5",
    "--config.optimizer.learning_rate=0.003",
    f"--config.epochs={EPOCHS}",
    "--config.log_every=1",
]


def test_on_eight_devices():
    """JAX has one number of devices a process, so these tests have a process of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/training/on_eight_devices.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        env=environment(8),
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def start(cache):
    """A function that starts the program with some arguments as so many processes, each with so many devices.

    They are told of each other, or find what SLURM would tell them. `last` is an argument of the last one alone.
    """
    started = []

    def start(processes: int, devices: int, *arguments: str, slurm: bool = False, last: str = "") -> list[Process]:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        several = [f"--coordinator={address}", f"--num_processes={processes}"] if processes > 1 and not slurm else []
        job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": str(processes)}
        for number in range(processes):
            which = [*several, f"--process_id={number}"] if several else []
            task = job | {"SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)} if slurm else {}
            own = [last] if last and number == processes - 1 else []
            settings = [*TINY, f"--config.cache_dir={cache}", *arguments, *own]
            started.append(Process("ror_jax.main", *settings, *which, devices=devices, variables=task))
        return started[-processes:]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def stop(processes: list[Process], epoch: int) -> None:
    """SIGTERM to the last process alone, when that epoch has ended; all must save at the same step, and leave."""
    for line in processes[0].stdout:
        if line.startswith(f"epoch {epoch}/"):
            break
    processes[-1].send_signal(signal.SIGTERM)
    words, errors = zip(*(process.communicate(timeout=120) for process in processes), strict=True)
    assert [process.returncode for process in processes] == [128 + signal.SIGTERM] * len(processes), errors
    assert ["Stopped by SIGTERM and saved at step" in said for said in words] == [True, False][: len(processes)]


def test_a_run_goes_from_two_processes_to_one_device_to_eight_devices(start, tmp_path):
    """Stopped and taken on elsewhere, twice, it ends as one that stayed on eight devices: the same coins, the same
    images; of several processes one writes."""
    (whole,) = start(1, 8, f"--workdir={tmp_path / 'whole'}")
    folder = f"--workdir={tmp_path / 'moved'}"
    stop(start(2, 4, folder), 1)
    stop(start(1, 1, folder), 3)
    (last,) = start(1, 8, folder)
    for process in (whole, last):
        words, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert "Resuming from step" in words
    weights = [load_file(tmp_path / name / "weights.safetensors") for name in ("moved", "whole")]
    for name, tensor in weights[1].items():
        np.testing.assert_allclose(weights[0][name], tensor, rtol=2e-3, atol=1e-4, err_msg=name)
    rows = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("moved", "whole")
    ]
    assert [(row["split"], row["step"]) for row in rows[0]] == [(row["split"], row["step"]) for row in rows[1]]
    for one, other in zip(*rows, strict=True):
        for key in {"loss", "cross_entropy", "images"} & one.keys():
            assert one[key] == pytest.approx(other[key], rel=1e-3)
    truth = [(tmp_path / name / "predictions.csv").read_text().splitlines() for name in ("moved", "whole")]
    assert [row.split(",")[:6] for row in truth[0]] == [row.split(",")[:6] for row in truth[1]]


def test_what_stops_one_process_stops_all(start, tmp_path):
    """The first of two finds the folder taken; both end at once, and both say why."""
    with locked(tmp_path):
        processes = start(2, 1, f"--workdir={tmp_path}", slurm=True)
        errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1]
    said = f"process {os.getpid()} on {socket.gethostname()} "
    assert f"error: {said}" in errors[0] and f"error: process 0: {said}" in errors[1]


def test_processes_with_different_settings_are_refused(start, tmp_path):
    processes = start(2, 1, f"--workdir={tmp_path / 'run'}", last="--config.optimizer.learning_rate=0.1")
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "error: process 1 has not the settings of process 0: start all with the same" in errors
    assert not (tmp_path / "run").exists()


def test_who_says_half_of_where_the_others_are_is_told(start):
    (process,) = start(1, 1, "--coordinator=localhost:1")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.startswith("error: --num_processes, --process_id: give all of --coordinator, ")
