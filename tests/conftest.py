import os
from pathlib import Path

import pytest

from ror_jax.config import default_config

SHARED = Path(os.environ.get("ROR_JAX_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared():
    """A function that returns the path of a file or folder that is no part of this repository, or skips the test."""

    def find(name):
        if not (SHARED / name).exists():
            pytest.skip(f"there is no {SHARED / name}; ROR_JAX_SHARED may name another folder than ../shared")
        return SHARED / name

    return find


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory):
    """A function that makes the settings of a run of a few seconds on a few drawn faces; settings by dotted name."""
    cache = str(tmp_path_factory.mktemp("cache"))

    def make(**changes):
        config = default_config()
        config.name, config.cache_dir = "tiny", cache
        config.dataset.name, config.dataset.people, config.dataset.pictures_per_person = "rendered_faces", 30, 2
        config.dataset.resolution = config.image_size = config.resize = 16
        config.model.name, config.model.blocks_per_group, config.model.widths = "ror3_8", (2, 2), (4, 8)
        config.task.name = "age_group"
        config.batch_size = config.test_batch_size = 8
        config.epochs, config.optimizer.decay_epochs = 2, (1,)
        for name, value in changes.items():
            *path, last = name.split("__")
            target = config
            for part in path:
                target = target[part]
            target[last] = value
        return config

    return make
