"""A run that is killed again and again ends as one that nothing disturbed."""

import json
import pathlib
import random
import signal
import time

import numpy as np
import pytest
import tiny
from orbax.checkpoint import v1 as orbax
from processes import Process

RUN = [
    "--config=configs/quickstart.py",
    *(*tiny.TINY, "--config.model.blocks_per_group=(1,1)"),
    *("--config.log_every=3", "--config.checkpoint_minutes=0.0001", "--config.dataset.validation=0.2"),
]
SAVING = "*.orbax-checkpoint-tmp*"


def start(workdir: pathlib.Path, epochs: int) -> Process:
    folders = (f"--workdir={workdir}", f"--config.cache_dir={workdir.parent}/cache")
    return Process("ror_jax.main", *RUN, f"--config.epochs={epochs}", *folders)


def finish(process: Process) -> None:
    said = process.communicate()
    assert process.returncode == 0, said


def kill(process: Process, workdir: pathlib.Path, rng: random.Random) -> bool:
    """Kills a process some time after it has begun to save; half of the time while it saves again.

    Returns:
      Whether a save was under way.
    """
    checkpoints = workdir / "checkpoints"
    before = set(checkpoints.glob("*"))
    while process.returncode is None and set(checkpoints.glob("*")) <= before:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.5))
    if rng.random() < 0.5:
        while process.returncode is None and not any(checkpoints.glob(SAVING)):
            pass
    process.kill()
    said = process.communicate()
    assert process.returncode == -signal.SIGKILL, f"it ended before it was killed: {said}"
    return any(checkpoints.glob(SAVING))


def left(workdir: pathlib.Path) -> dict:
    """What a run has left, but for times; which checkpoints beside the last one is a matter of time, too."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    last = max(int(path.name) for path in (workdir / "checkpoints").iterdir())
    return {
        "weights": (workdir / "weights.safetensors").read_bytes(),
        "rows": [{key: row[key] for key in row if key not in ("images_per_second", "input_wait")} for row in rows],
        "last": last,
        "summary": json.loads((workdir / "summary.json").read_text()),
        "predictions": (workdir / "predictions.csv").read_text(),
        "record": orbax.metadata(workdir / "checkpoints" / str(last)).custom_metadata,
    }


@pytest.mark.parametrize(
    ("kills", "epochs"), [(2, 10), pytest.param(20, 60, marks=pytest.mark.soak)], ids=["2 kills", "20 kills"]
)
def test_a_killed_run_ends_as_if_nothing_had_happened(tmp_path, kills, epochs):
    finish(start(tmp_path / "undisturbed", epochs))
    rng, workdir = random.Random(kills), tmp_path / "killed"
    saving = sum(kill(start(workdir, epochs), workdir, rng) for _ in range(kills))
    finish(start(workdir, epochs))
    print(f"{kills} kills, {saving} of them while a checkpoint was being saved")
    expected, found = left(tmp_path / "undisturbed"), left(workdir)
    for name in expected:
        np.testing.assert_equal(found[name], expected[name], err_msg=name)
