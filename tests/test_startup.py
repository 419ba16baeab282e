"""What the machine lacks: a home folder, a GPU, a place for temporary files."""

import os
import subprocess
import sys

import pytest

from ror_jax.errors import UserError
from ror_jax.startup import expanded, use_devices


@pytest.mark.parametrize(
    "command",
    [
        ("ror_jax.predict", "--model=/nowhere", __file__),
        ("ror_jax.serve", "--model=/nowhere", "--port=0"),
        ("ror_jax.main", "--config=configs/quickstart.py"),
    ],
)
def test_a_gpu_that_is_not_there_is_told_in_a_line(command):
    environment = os.environ | {"JAX_PLATFORMS": "cuda", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-m", *command], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: JAX finds no device with JAX_PLATFORMS=cuda: ")


def test_a_user_without_a_home_folder_is_told(monkeypatch):
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as for a user without HOME, name and entry
    with pytest.raises(UserError, match=r"cache_dir is ~/x, but this user has no home folder; set HOME, or cache_dir"):
        expanded("~/x", "cache_dir")
    assert str(expanded("/x", "cache_dir")) == "/x"
    use_devices("~/x")  # programs are kept nowhere then; nothing else needs that folder to read faces
