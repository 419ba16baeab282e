"""Files: written to the end or not at all, by whatever library, and read with an error in one line."""

import resource

import numpy as np
import pytest

from ror_jax.files import NotWrittenError, replace_json, replace_text
from ror_jax.models.weights import save_weights
from ror_jax.report.figures import draw

CARD = {"model": "ror3_8", "overrides": {}, "heads": {}, "trunks": {}, "mean": [0.0] * 3, "std": [1.0] * 3}
MATRIX = {"counts": np.eye(2), "names": ("a", "b")}
WRITERS = {
    "some.txt": lambda folder: replace_text(folder / "some.txt", "x" * 3000),
    "some.json": lambda folder: replace_json(folder / "some.json", {"x": "x" * 3000}),
    "weights.safetensors": lambda folder: save_weights(folder, {"x": np.zeros(1000)}, {}, CARD),
    "some.png": lambda folder: draw("confusion", "title", folder / "some.png", MATRIX),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_cannot_be_written_stays_what_it_was(tmp_path, name):
    """With no room for it, and with a folder in its place: one line; with room it is there, and nothing else."""
    (tmp_path / name).write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(NotWrittenError, match=rf"{name} cannot be written: .*File too large") as told:
            WRITERS[name](tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(told.value)
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "old"
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(NotWrittenError, match=rf"{name} cannot be written: Is a directory"):
        WRITERS[name](tmp_path)
    (tmp_path / name).rmdir()
    WRITERS[name](tmp_path)
    assert (tmp_path / name).stat().st_size > 1000 and not list(tmp_path.glob("unfinished*"))
