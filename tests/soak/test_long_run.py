"""A long run takes no more memory, files and threads at its end than at its beginning."""

import os
import pathlib

import pytest
from processes import Process

from soak.test_kill import RUN

EPOCHS, STEPS = 100, 100  # epochs, each tested and saved, and steps in one
SETTLED = 20  # epochs after which nothing should grow any more
ROOM = {"memory": 16 * 2**20, "files": 0, "threads": 2}  # allocators keep what they had, pools start threads late


def taken(pid: int) -> dict[str, int]:
    """Bytes of memory, open files and threads of a process."""
    folder = pathlib.Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    return {
        "memory": 1024 * int(status["VmRSS"].split()[0]),
        "files": len(os.listdir(folder / "fd")),
        "threads": int(status["Threads"]),
    }


@pytest.mark.soak
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads /proc of Linux")
@pytest.mark.parametrize("settings", [(), ("--config.data_on_device=True",)], ids=["host", "device"])
def test_ten_thousand_steps(tmp_path, settings):
    """Measured at the end of each epoch: the largest of the last ones against the largest of the first ones."""
    folders = (f"--workdir={tmp_path / 'run'}", f"--config.cache_dir={tmp_path / 'cache'}")
    length = ("--config.dataset.people=627", f"--config.epochs={EPOCHS}", "--config.checkpoint_minutes=60")
    seen = []
    process = Process("ror_jax.main", *RUN, *length, *folders, *settings)
    for line in process.stdout:
        if line.startswith("Training "):
            assert f"for {EPOCHS * STEPS} steps" in line
        if line.startswith("epoch ") and "train" in line:
            seen.append(taken(process.pid))
    process.communicate()
    assert process.returncode == 0 and len(seen) == EPOCHS
    for what in seen[0]:
        early, late = (max(each[what] for each in part) for part in (seen[SETTLED : 2 * SETTLED], seen[-SETTLED:]))
        print(f"{what}: {early:,} at most in epochs {SETTLED} to {2 * SETTLED}, {late:,} in the last {SETTLED}")
        assert late <= early + ROOM[what]
