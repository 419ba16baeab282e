"""Checkpoints of a run: the latest ones and the best, written in the background by Orbax, and checked when read."""

import contextlib
import json
import re
import shutil
import threading
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
from orbax.checkpoint import v1 as orbax

from ror_jax.errors import UserError
from ror_jax.files import NotWrittenError, writing
from ror_jax.training.distributed import is_first, largest, together
from ror_jax.training.state import TrainState

KEEP = 2
_ONE_AT_A_TIME = threading.Lock()  # Orbax numbers what it does by a counter of the process


class Damaged(Exception):
    """A checkpoint cannot be used. Its argument says which one, and why."""


class Checkpoints:
    """The folder `checkpoints` of a run: a subfolder for each saved step. The best is the one of the highest score.

    Each has, beside the state, a record: shape, dtype and checksum of every tensor, the fingerprint `data` of the data
    set, and the best step so far with its score. What does not fit its record is damaged, and not used.

    In training, what a killed run left unfinished is deleted, and damaged checkpoints are set aside as `damaged_STEP`.
    Runs that train at once in one process, not `alone`, write in turn and not in the background.
    """

    def __init__(
        self,
        folder: Path,
        *,
        for_training: bool = False,
        alone: bool = True,
        data: str | None = None,
        allow_changed_data: bool = False,
    ):
        self._folder, self._for_training, self._alone = folder.absolute(), for_training, alone
        self._data, self._allow_changed_data = data, allow_changed_data
        self._writer = ThreadPoolExecutor(1)
        self._saving: Future[list[int]] | None = None
        with together():  # all find what the first process leaves
            if for_training and is_first():
                with writing(self._folder):
                    self._folder.mkdir(parents=True, exist_ok=True)
                    for child in self._folder.iterdir():
                        if re.fullmatch(r"\d+\.(orbax-checkpoint-tmp.*|deleted)", child.name):
                            shutil.rmtree(child)
        with together():
            if for_training and not self._folder.is_dir():
                raise UserError(
                    f"{self._folder} is not seen by all processes: --workdir must be a folder that all share"
                )
        self._steps = _steps(self._folder)
        self._records: dict[int, dict] = {}
        self.damages: list[str] = []  # what `restore` has set aside, in words
        self.data_changed = False  # whether what `restore` has read was trained on other data

    @property
    def steps(self) -> list[int]:
        self.check(wait=True)
        return self._steps

    @property
    def best_step(self) -> int | None:
        """The step of the highest score, the last of equals; None before any score."""
        try:
            best = self._record(self.steps[-1])["best"] if self.steps else None
        except Damaged as damage:
            raise UserError(f"{damage}; only that one knew which is the best") from damage
        return best["step"] if best and best["step"] in self._steps else None

    def check_room(self, state: TrainState) -> None:
        """Raises UserError where the disk has less room than a checkpoint of `state` takes."""
        needed, free = sum(leaf.nbytes for leaf in jax.tree.leaves(state)), shutil.disk_usage(self._folder).free
        if free < needed:
            raise UserError(
                f"a checkpoint takes {needed / 2**20:,.1f} MiB, and the disk of {self._folder} has"
                f" {free / 2**20:,.1f} MiB left; make room, or choose another --workdir"
            )

    def save(self, state: TrainState, score: float | None = None) -> None:
        """Saves `state` under its step, unless that step is there already; alone, it returns before it is written.

        Raises:
          NotWrittenError: it, or the one before it, cannot be written.
        """
        step = int(state.step)
        if step in self.steps:
            return
        best = None
        with contextlib.suppress(Damaged):
            best = self._record(self._steps[-1])["best"] if self._steps else None
        if best and best["step"] not in self._steps:  # deleted for a better one, which was damaged
            best = None
        if score is not None and (best is None or score >= best["score"]):
            best = {"step": step, "score": score}
        record = {"step": step, "tensors": _tensors(state, checksums(state)), "data": self._data, "best": best}
        self._records[step] = record
        if self._alone:
            response = self._write(orbax.save_async, step, state)
            self._saving = self._writer.submit(self._finish, step, response)
        else:
            with _ONE_AT_A_TIME:
                self._write(orbax.save, step, state)
            self._steps = self._finish(step)

    def save_again(self, state: TrainState, score: float) -> None:
        """Puts `state` in the place of the checkpoint of its step, which was saved before it was tested."""
        step = int(state.step)
        if is_first():
            path = self._folder / str(step)
            with writing(path):
                path.rename(path.with_suffix(".deleted"))  # the next start deletes it
        self._steps.remove(step)
        self.save(state, score)

    def _write(self, save, step: int, state: TrainState):
        metadata = {"record": self._records[step], "crc32": _crc32(self._records[step])}
        try:
            return save(self._folder / str(step), state, custom_metadata=metadata)
        except Exception as error:
            raise self._not_written(step, error) from error

    def _finish(self, step: int, response=None) -> list[int]:
        """Waits until the step is written, deletes what is not kept any more, and returns the steps that are."""
        try:
            if response:
                response.result()
        except Exception as error:  # Orbax and TensorStore have many ways to say that a disk is full
            raise self._not_written(step, error) from error
        steps = [*self._steps, step]
        kept = {*steps[-KEEP:], (self._records[step]["best"] or {}).get("step")}
        for old in set(steps) - kept:
            self._records.pop(old, None)
            path = self._folder / str(old)
            with contextlib.suppress(OSError):  # one too many does no harm
                if is_first():
                    # Renamed first: a kill in the midst of deleting leaves nothing that looks like a checkpoint.
                    shutil.rmtree(path.rename(path.with_suffix(".deleted")))
        return [each for each in steps if each in kept]

    def _not_written(self, step: int, error: Exception) -> NotWrittenError:
        return NotWrittenError(f"the checkpoint {self._folder / str(step)} cannot be written: {_reason(error)}")

    def check(self, wait: bool = False) -> None:
        """Raises NotWrittenError if what was being saved could not be; looks only, unless told to `wait` for it."""
        if self._saving and (wait or self._saving.done()):
            saving, self._saving = self._saving, None
            self._steps = saving.result()

    def restore(self, like: TrainState, which: str | int = "latest") -> TrainState:
        """The state at the latest, the best or a given step, laid out over the devices as `like` is.

        In training, the latest is the newest one that is sound; those after it are set aside, see `damages`.

        Raises:
          UserError: there is no such checkpoint, it is damaged, its tensors are not those of `like` (listed), or the
            data set has changed since.
        """
        if not self.steps:
            raise UserError(f"no checkpoint in {self._folder}; train first")
        if which == "latest" and self._for_training:
            return self._newest_sound(like)
        step = self._steps[-1] if which == "latest" else self.best_step if which == "best" else which
        if step is None or not str(step).isdecimal() or (which != "best" and int(step) not in self._steps):
            raise UserError(f"no checkpoint {which!r}; there are 'latest', 'best' and the steps {self._steps}")
        try:
            return self._load(int(step), like)
        except Damaged as damage:
            others = [other for other in self._steps if other != int(step)]
            raise UserError(
                f"{damage}. To have it again, train again in another --workdir; --mode=evaluate --checkpoint=STEP tests"
                f" another one: {', '.join(map(str, others)) or 'there is none'}"
            ) from damage

    def _newest_sound(self, like: TrainState) -> TrainState:
        damages = {}
        for step in reversed(self._steps):
            try:
                state = self._load(step, like)
                break
            except Damaged as damage:
                damages[step] = damage
        else:
            raise UserError(
                f"no checkpoint in {self._folder} is sound: {'; '.join(map(str, damages.values()))}. Put a copy there,"
                " or delete that folder to train from the beginning"
            )
        # Only now: were all of them set aside, the next start would see none and begin anew.
        for step, damage in damages.items():
            self.damages.append(f"{damage}; it was set aside as {self._set_aside(step)}")
        self._steps = self._steps[: self._steps.index(int(state.step)) + 1]
        return state

    def _set_aside(self, step: int) -> str:
        """Gives a checkpoint another name, which no other folder has; returns that name."""
        numbers = ("", *(f"_{number}" for number in range(2, 1000)))
        aside = next(path for number in numbers if not (path := self._folder / f"damaged_{step}{number}").exists())
        if is_first():
            with writing(aside):
                (self._folder / str(step)).rename(aside)
        return aside.name

    def _load(self, step: int, like: TrainState) -> TrainState:
        """Raises Damaged, or UserError where a sound checkpoint does not fit."""
        wanted, state, failed = _tensors(like), None, None
        abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), like)
        path = self._folder / str(step)
        try:
            saved = self._record(step)
            self._compare(step, saved, wanted)
            with _ONE_AT_A_TIME:
                state = orbax.load(path, abstract)
        except (Damaged, UserError) as error:
            failed = error
        except Exception as error:  # Orbax and TensorStore have many ways to say that a file is damaged
            failed = Damaged(f"the checkpoint {path} is damaged: {_reason(error)}")
        if any(largest(failed is not None)):  # each process has read its own part
            raise failed or Damaged(f"the checkpoint {path} is damaged: another process cannot read its part")
        found = _tensors(state, checksums(state))
        changed = [name for name in found if found[name] != saved["tensors"][name]]
        if changed:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise Damaged(f"the checkpoint {path} is damaged: wrong checksum of {', '.join(changed[:3])}{more}")
        return state

    def _record(self, step: int) -> dict:
        """What was written beside the state; raises Damaged where it is not there any more."""
        if step in self._records:
            return self._records[step]
        path = self._folder / str(step)
        try:
            metadata = orbax.metadata(path).custom_metadata or {}
            record = metadata.get("record")
            if not metadata:
                raise ValueError("without a record, as an older version of this program wrote it")
            if metadata.get("crc32") != _crc32(record) or record["step"] != step:
                raise ValueError("its record is not the one that was written")
        except Exception as error:
            raise Damaged(f"the checkpoint {path} is damaged: {_reason(error)}") from error
        self._records[step] = record
        return record

    def _compare(self, step: int, saved: dict, wanted: dict) -> None:
        def form(tensors: dict, name: str) -> str:
            return f"{tensors[name]['dtype']} {tuple(tensors[name]['shape'])}" if name in tensors else "none"

        tensors = saved["tensors"]
        different = [
            f"{name} (checkpoint {form(tensors, name)}, model {form(wanted, name)})"
            for name in wanted | tensors
            if form(tensors, name) != form(wanted, name)
        ]
        if different:
            shown = "; ".join(different[:8]) + (f"; and {len(different) - 8} more" if len(different) > 8 else "")
            raise UserError(
                f"the checkpoint at step {step} is of another model or task (choose another --workdir, or delete that"
                f" one). Tensors that differ: {shown}"
            )
        self.data_changed = None not in (saved["data"], self._data) and saved["data"] != self._data
        if self.data_changed and not self._allow_changed_data:
            raise UserError(
                f"the data are not those that the run in {self._folder.parent} began with: images or labels have"
                " changed. Put the old ones back, choose another --workdir, or go on with these all the same:"
                " --config.allow_changed_data=True"
            )

    def close(self) -> None:
        """Waits until all is written; raises NotWrittenError if it could not be."""
        try:
            self.check(wait=True)
        finally:
            self._writer.shutdown()


def has_checkpoint(folder: Path) -> bool:
    """Whether a run has saved itself there; makes nothing, unlike `Checkpoints`."""
    return bool(_steps(folder))


def _steps(folder: Path) -> list[int]:
    """The steps that are there, in order: folders that are called like a number, as Orbax calls what is complete."""
    children = folder.iterdir() if folder.is_dir() else ()
    return sorted(int(child.name) for child in children if re.fullmatch(r"0|[1-9]\d*", child.name) and child.is_dir())


@jax.jit
def checksums(tree) -> jax.Array:
    """A checksum of each leaf, uint32 [leaves]: the sum over its elements of a hash of place and bits.

    All is mod 2^32, so that neither the order of the sum nor the number of devices matters. For each place the hash
    (the finalizer of MurmurHash3) maps all bits one to one: a change of one element always changes the sum, and that of
    several with all but one chance in 2^32.
    """

    def checksum(leaf: jax.Array) -> jax.Array:
        bits = leaf.view(f"uint{8 * leaf.dtype.itemsize}").astype(jnp.uint32)
        place = jnp.zeros(leaf.shape, jnp.uint32)
        for axis, size in enumerate(leaf.shape):  # not a reshaped range: each device can do its own part of this
            place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
        mixed = bits * (2 * place + 1) + place
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            mixed = (mixed ^ mixed >> shift) * jnp.uint32(factor)
        return jnp.sum(mixed ^ mixed >> 16, dtype=jnp.uint32)

    return jnp.stack([checksum(leaf) for leaf in jax.tree.leaves(tree)])


def _tensors(state: TrainState, sums: jax.Array | None = None) -> dict[str, dict]:
    """Shape and dtype of every tensor by dotted name, and its checksum if given."""
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="."): {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }
    if sums is not None:
        for leaf, checksum in zip(leaves.values(), jax.device_get(sums).tolist(), strict=True):
            leaf["checksum"] = checksum
    return leaves


def _crc32(record: dict | None) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())


def _reason(error: BaseException) -> str:
    """The gist of an exception in a line; TensorStore's go on for pages, and say it last."""
    while error.__cause__:
        error = error.__cause__
    words = getattr(error, "strerror", None) or re.split(r" \[\w+(\[\d+\])?=", str(error))[0].rpartition(": ")[2]
    return f"{' '.join(words.split())[:200]} ({type(error).__name__})"
