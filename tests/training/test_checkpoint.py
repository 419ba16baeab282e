"""Checkpoints: what is damaged is found, whatever byte it is; the best is kept; the data are the same."""

import contextlib
import dataclasses
import random
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from processes import environment

from ror_jax.errors import UserError
from ror_jax.training.checkpoint import Checkpoints, has_checkpoint
from ror_jax.training.integrity import checksums
from ror_jax.training.state import TrainState


def state(step: int) -> TrainState:
    """Tensors of several types and sizes, other ones at each step."""
    numbers = np.random.default_rng(step).normal(size=(8, 5))
    params = {"kernel": jnp.asarray(numbers, jnp.float32), "half": jnp.asarray(numbers, jnp.bfloat16)}
    return TrainState(jnp.int32(step), params, {}, (jnp.float32(step),), {"seen": jnp.arange(step)}, {}, {})


@pytest.fixture
def folder(tmp_path):
    """Steps 1, of the highest score, 3 and 4; all others are deleted again."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", for_training=True)
    for step, score in ((1, 0.9), (2, 0.1), (3, None), (4, 0.8)):
        checkpoints.save(state(step), score)
    checkpoints.close()
    return tmp_path / "checkpoints"


def same(one: TrainState, other: TrainState) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def test_the_latest_and_the_best_are_kept(folder):
    """The last of equals is the best, also after a restart."""
    assert Checkpoints(folder).steps == [1, 3, 4] and Checkpoints(folder).best_step == 1
    again = Checkpoints(folder, for_training=True)
    again.restore(state(4))
    again.save(state(5), 0.9)
    assert again.best_step == 5 and again.steps == [4, 5]
    assert same(again.restore(state(5), "best"), state(5))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of Orbax, and no two runs the same
@pytest.mark.parametrize("flips", [25, pytest.param(250, marks=pytest.mark.soak)])
def test_every_damage_is_found(folder, flips):
    """Bytes that flip, files that are cut or missing: an error, or the very same state, record and best step."""
    rng, found = random.Random(0), {True: 0, False: 0}
    files = [path for path in (folder / "4").rglob("*") if path.is_file()]
    for file in files:
        content = file.read_bytes()
        places = rng.sample(range(len(content)), min(flips, len(content)))
        flipped = [content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :] for at in places]
        for damaged in (*flipped, content[: len(content) // 2], b"", None):
            file.unlink() if damaged is None else file.write_bytes(damaged)
            checkpoints = Checkpoints(folder)
            try:
                assert same(checkpoints.restore(state(4)), state(4))
                assert checkpoints.best_step == 1
                found[False] += 1
            except UserError as error:
                assert "checkpoints/4 is damaged" in str(error) and "\n" not in str(error)
                found[True] += 1
            file.write_bytes(content)
    print(f"{found[True]} damages told, {found[False]} with the very same state")
    assert found[True] > 100, found


def test_wrong_numbers_that_orbax_reads_are_found(folder, tmp_path):
    """The tensors of another run under the record of this one, and a checkpoint under the name of another step."""
    other = Checkpoints(tmp_path / "other", for_training=True)
    other.save(dataclasses.replace(state(4), params=jax.tree.map(lambda leaf: -leaf, state(4).params)))
    other.close()
    shutil.rmtree(folder / "4" / "state")
    shutil.copytree(tmp_path / "other" / "4" / "state", folder / "4" / "state")
    with pytest.raises(UserError, match=r"4 is damaged: wrong checksum of params.half, params.kernel\."):
        Checkpoints(folder).restore(state(4))
    (folder / "3").rename(folder / "5")
    with pytest.raises(UserError, match="5 is damaged: its record is not the one"):
        Checkpoints(folder).restore(state(5))


def test_a_best_that_is_gone_is_forgotten(tmp_path):
    """It was deleted for a better one, which is damaged: the best is then one of those that are there."""

    def numbered(step: int) -> TrainState:
        return dataclasses.replace(state(1), step=jnp.int32(step))

    checkpoints = Checkpoints(tmp_path, for_training=True)
    for step, score in ((1, 0.9), (2, 0.1), (3, 0.95)):
        checkpoints.save(numbered(step), score)
    checkpoints.close()
    for file in (tmp_path / "3" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    again = Checkpoints(tmp_path, for_training=True)
    assert same(again.restore(numbered(0)), numbered(2)) and again.best_step is None
    again.save(numbered(3), 0.5)
    assert again.best_step == 3


def test_a_task_state_of_another_shape_is_named(folder):
    """The state that a task keeps is a part of the checkpoint, whatever arrays it has."""
    other = dataclasses.replace(state(4), task_state={"seen": jnp.zeros((2, 3))})
    words = r"of another model or task.*task_state\.seen \(checkpoint int32 \(4,\), model float32 \(2, 3\)\)$"
    with pytest.raises(UserError, match=words):
        Checkpoints(folder).restore(other)


def test_only_folders_called_like_a_step_are_checkpoints(folder):
    """What else lies there stays, but for what a killed run left, which goes with the first save."""
    for name in ("damaged_12", "0012", "12.0", "٣", "13.copy"):
        (folder / name).mkdir()
    (folder / "14").write_text("no folder")
    unfinished = [folder / name for name in ("15.orbax-checkpoint-tmp", "16.orbax-checkpoint-tmp-123")]
    for path in unfinished:
        path.mkdir()
    assert Checkpoints(folder).steps == [1, 3, 4] and all(path.exists() for path in unfinished)
    before = {path.name for path in folder.iterdir()}
    with contextlib.closing(Checkpoints(folder, for_training=True)) as checkpoints:
        assert checkpoints.steps == [1, 3, 4]
        checkpoints.save(state(5))
    gone = {path.name for path in unfinished} | {"3"}  # neither the best nor one of the last two any more
    assert before - {path.name for path in folder.iterdir()} == gone
    for step in (1, 4, 5):
        shutil.rmtree(folder / str(step))
    assert not has_checkpoint(folder)


def test_the_best_that_is_damaged_is_not_replaced_by_another(folder):
    """It was chosen; none of the others can stand for it, in training neither."""
    shutil.rmtree(folder / "1" / "state")
    for for_training in (True, False):
        with pytest.raises(UserError, match=r"checkpoints/1 is damaged: .* tests another one: 3, 4"):
            Checkpoints(folder, for_training=for_training).restore(state(1), "best")
    assert (folder / "1").is_dir()


def test_changed_data_are_refused(tmp_path):
    """Unless they are allowed, or it is not known what they were or are."""
    folder = tmp_path / "checkpoints"
    with contextlib.closing(Checkpoints(folder, for_training=True, data="these")) as checkpoints:
        checkpoints.save(state(1))
    for accepted in ({"data": "these"}, {"data": None}, {"data": "those", "allow_changed_data": True}):
        assert same(Checkpoints(folder, **accepted).restore(state(1)), state(1))
    for for_training in (True, False):
        with pytest.raises(UserError, match=r"images or labels have changed.*--config.allow_changed_data=True"):
            Checkpoints(folder, for_training=for_training, data="those").restore(state(1))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8"])
@pytest.mark.parametrize("shape", [(), (1,), (6, 8), (2, 3, 4)])
def test_one_changed_bit_changes_the_checksum(dtype, shape):
    """Of any element, and of no other leaf."""
    numbers = np.arange(np.prod(shape)).reshape(shape).astype(jnp.dtype(dtype))
    (before, other) = checksums([numbers, numbers])
    for place in np.ndindex(*shape):
        for bit in (0, 8 * numbers.itemsize - 1):
            changed = numbers.copy()
            bits = changed.view(f"uint{8 * numbers.itemsize}")
            bits[place] ^= 1 << bit
            after = checksums([changed, numbers])
            assert after[0] != before and after[1] == other


def test_checksums_by_an_independent_hand():
    """In Python's whole numbers: place and bits of each element, mixed one to one, and added up."""

    def mixed(place: int, bits: int) -> int:
        number = (bits * (2 * place + 1) + place) % 2**32
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            number = (number ^ number >> shift) * factor % 2**32
        return number ^ number >> 16

    leaves = {
        "int32": (np.array([[1, 2], [-3, 4]], np.int32), [1, 2, 2**32 - 3, 4]),
        "float32": (np.float32(1), [0x3F800000]),
        "bfloat16": (jnp.array([1, -1], jnp.bfloat16), [0x3F80, 0xBF80]),
        "empty": (np.zeros((0, 3), np.float32), []),
    }
    expected = [sum(mixed(*each) for each in enumerate(bits)) % 2**32 for _, bits in leaves.values()]
    assert checksums([jnp.asarray(leaf) for leaf, _ in leaves.values()]).tolist() == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [(np.ones(64), np.zeros(64)), (np.ones(64), -np.ones(64)), (np.arange(40), np.arange(40)[::-1])],
    ids=["ones and zeros", "signs", "order"],
)
def test_damage_to_many_numbers_does_not_cancel(one, other):
    first, second = checksums([jnp.asarray(each, jnp.float32) for each in (one, other)]).tolist()
    assert first != second


def test_checksums_do_not_depend_on_the_devices():
    """On eight devices, in any of four shardings, they are those of one device."""
    program = """
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from ror_jax.training.integrity import checksums
numbers = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
mesh = jax.make_mesh((4, 2), ("data", "model"))
specs = [(), ("data",), (None, "model"), ("data", "model"), (("data", "model"),)]
print(*{int(checksums([jax.device_put(numbers, NamedSharding(mesh, PartitionSpec(*spec)))])[0]) for spec in specs})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment(8))
    numbers = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
    assert done.stdout.split() == [str(checksums([numbers])[0])], done.stderr
