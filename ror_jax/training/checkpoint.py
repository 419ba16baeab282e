"""Checkpoints of a run: the latest ones and the best, written in the background by Orbax, and checked when read."""

import contextlib
import re
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as orbax

from ror_jax.errors import UserError
from ror_jax.files import NotWrittenError, writing
from ror_jax.training.distributed import all_or_none, is_first, largest
from ror_jax.training.integrity import (
    Damaged,
    check_tensors,
    checksums,
    describe_tensors,
    differing_tensors,
    read_record,
    reason,
    sealed,
)
from ror_jax.training.state import TrainState

KEEP = 2
_ONE_AT_A_TIME = threading.Lock()  # Orbax numbers what it does by a counter of the process


class _KeepBest:
    """A preservation policy of Orbax that keeps the best checkpoint.

    Orbax's own `BestN` ranks by a file without a checksum: a damaged one keeps the program from starting, or makes
    another checkpoint the best.
    """

    step: int | None = None

    def should_preserve(self, checkpoints: Sequence, *, context: Any) -> Sequence[bool]:
        return [each.step == self.step for each in checkpoints]


class Checkpoints:
    """The folder `checkpoints` of a run: a subfolder for each saved step. The best is the one of the highest score.

    Each has, beside the state, a record: shape, dtype and checksum of every tensor, the fingerprint `data` of the data
    set, the score of this step, the best step so far with its score, and `notes` of who saved it. What does not fit its
    record is damaged, and not used.

    In training, what a killed run left unfinished is deleted with the first save, and damaged checkpoints are set aside
    as `damaged_STEP`. Runs that train at once in one process, not `alone`, write in turn and not in the background.
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
        self._folder, self._alone = folder.absolute(), alone
        self._data, self._allow_changed_data = data, allow_changed_data
        self._saving: tuple[int, Any] | None = None  # a step, and Orbax's response
        self._keep_best = _KeepBest()
        self._orbax: orbax.training.Checkpointer | None = None
        with all_or_none():
            if for_training and is_first():
                with writing(self._folder):
                    self._folder.mkdir(parents=True, exist_ok=True)
        with all_or_none():
            if for_training and not self._folder.is_dir():
                raise UserError(
                    f"{self._folder} is not seen by all processes: --workdir must be a folder that all share"
                )
        if for_training:
            self._open()
        self._records: dict[int, dict] = {}
        self.damages: list[str] = []  # what `restore` has set aside, in words
        self.data_changed = False  # whether what `restore` has read was trained on other data

    def _open(self) -> None:
        policies = orbax.training.preservation_policies
        kept = policies.AnyPreservationPolicy([policies.LatestN(KEEP), self._keep_best])
        with _ONE_AT_A_TIME, writing(self._folder):
            self._orbax = orbax.training.Checkpointer(
                self._folder, preservation_policy=kept, cleanup_tmp_directories=True
            )

    @property
    def steps(self) -> list[int]:
        """In order."""
        self.check(wait=True)
        return [each.step for each in self._orbax.checkpoints] if self._orbax else _steps(self._folder)

    @property
    def latest(self) -> dict:
        """The record of the latest checkpoint; raises UserError where it is damaged."""
        try:
            return self._record(self.steps[-1])
        except Damaged as damage:
            raise UserError(f"{damage}; only that one knew which is the best") from damage

    @property
    def best_step(self) -> int | None:
        """The step of the highest score, the last of equals; None before any score."""
        best = self.latest["best"] if self.steps else None
        return best["step"] if best and best["step"] in self.steps else None

    def check_room(self, state: TrainState) -> None:
        """Raises UserError where the disk has less room than a checkpoint of `state` takes."""
        needed, free = sum(leaf.nbytes for leaf in jax.tree.leaves(state)), shutil.disk_usage(self._folder).free
        if free < needed:
            raise UserError(
                f"a checkpoint takes {needed / 2**20:,.1f} MiB, and the disk of {self._folder} has"
                f" {free / 2**20:,.1f} MiB left; make room, or choose another --workdir"
            )

    def save(
        self, state: TrainState, score: float | None = None, notes: dict | None = None, *, again: bool = False
    ) -> None:
        """Saves `state` under its step, unless that step is there already; alone, it returns before it is written.

        With `again`, it takes the place of the checkpoint of its step, which was saved before it was tested.

        Raises:
          NotWrittenError: it, or the one before it, cannot be written.
        """
        step, steps, best = int(state.step), self.steps, None
        if step in steps and not again:
            return
        with contextlib.suppress(Damaged):
            best = self._record(steps[-1])["best"] if steps else None
        if best and best["step"] not in steps:  # deleted for a better one, which was damaged
            best = None
        if score is not None and (best is None or score >= best["score"]):
            best = {"step": step, "score": score}
        self._records[step] = {
            "step": step,
            "tensors": describe_tensors(state, checksums(state)),
            "data": self._data,
            "score": score,
            "best": best,
            "notes": notes or {},
        }
        self._keep_best.step = best and best["step"]
        with contextlib.nullcontext() if self._alone else _ONE_AT_A_TIME:
            try:
                response = self._orbax.save_async(
                    step, state, force=True, overwrite=again, custom_metadata=sealed(self._records[step])
                )
            except Exception as error:
                raise self._not_written(step, error) from error
            self._saving = step, response
            self.check(wait=not self._alone)

    def check(self, wait: bool = False) -> None:
        """Raises NotWrittenError if what was being saved could not be; looks only, unless told to `wait` for it."""
        if self._saving is None:
            return
        step, response = self._saving
        try:
            response.result(None if wait else 0)
        except TimeoutError:
            return
        except Exception as error:  # Orbax and TensorStore have many ways to say that a disk is full
            self._saving = None
            raise self._not_written(step, error) from error
        self._saving = None

    def _not_written(self, step: int, error: Exception) -> NotWrittenError:
        self._records.pop(step)
        return NotWrittenError(f"the checkpoint {self._folder / str(step)} cannot be written: {reason(error)}")

    def restore(self, like: TrainState, which: str | int = "latest") -> TrainState:
        """The state at the latest, the best or a given step, laid out over the devices as `like` is.

        In training, the latest is the newest one that is sound; those after it are set aside, see `damages`.

        Raises:
          UserError: there is no such checkpoint, it is damaged, its tensors are not those of `like` (listed), or the
            data set has changed since.
        """
        steps = self.steps
        if not steps:
            raise UserError(f"no checkpoint in {self._folder}; train first")
        if which == "latest" and self._orbax:
            return self._newest_sound(like)
        step = steps[-1] if which == "latest" else self.best_step if which == "best" else which
        if step is None or not str(step).isdecimal() or (which != "best" and int(step) not in steps):
            raise UserError(f"no checkpoint {which!r}; there are 'latest', 'best' and the steps {steps}")
        try:
            return self._load(int(step), like)
        except Damaged as damage:
            others = [other for other in steps if other != int(step)]
            raise UserError(
                f"{damage}. To have it again, train again in another --workdir; --mode=evaluate --checkpoint=STEP tests"
                f" another one: {', '.join(map(str, others)) or 'there is none'}"
            ) from damage

    def _newest_sound(self, like: TrainState) -> TrainState:
        damages = {}
        for step in reversed(self.steps):
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
        if damages:
            self._orbax.close()
            largest(0)  # all wait for what the first one has done
            self._open()
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
        state, failed, path = None, None, self._folder / str(step)
        abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), like)
        try:
            record = self._record(step)
            self._compare(record, like)
            with _ONE_AT_A_TIME:
                state = orbax.load(path, abstract)
        except (Damaged, UserError) as error:
            failed = error
        except Exception as error:  # Orbax and TensorStore have many ways to say that a file is damaged
            failed = Damaged(f"the checkpoint {path} is damaged: {reason(error)}")
        if any(largest(failed is not None)):  # each process has read its own part
            raise failed or Damaged(f"the checkpoint {path} is damaged: another process cannot read its part")
        check_tensors(path, state, record)
        return state

    def _record(self, step: int) -> dict:
        """What was written beside the state; raises Damaged where it is not there any more."""
        if step not in self._records:
            self._records[step] = read_record(self._folder / str(step))
        return self._records[step]

    def _compare(self, record: dict, like: TrainState) -> None:
        if different := differing_tensors(record["tensors"], describe_tensors(like)):
            shown = "; ".join(different[:8]) + (f"; and {len(different) - 8} more" if len(different) > 8 else "")
            raise UserError(
                f"the checkpoint at step {record['step']} is of another model or task (choose another --workdir, or"
                f" delete that one). Tensors that differ: {shown}"
            )
        self.data_changed = self.is_of_other_data(record)
        if self.data_changed and not self._allow_changed_data:
            raise UserError(
                f"the data are not those that the run in {self._folder.parent} began with: images or labels have"
                " changed. Put the old ones back, choose another --workdir, or go on with these all the same:"
                " --config.allow_changed_data=True"
            )

    def is_of_other_data(self, record: dict) -> bool:
        """Whether images or labels have changed since this was recorded, as far as that is known."""
        return None not in (record["data"], self._data) and record["data"] != self._data

    def close(self) -> None:
        """Waits until all is written; raises NotWrittenError if it could not be."""
        try:
            self.check(wait=True)
        finally:
            if self._orbax:
                with contextlib.suppress(Exception):  # what could not be written has been told
                    self._orbax.close()


def has_checkpoint(folder: Path) -> bool:
    """Whether a run has saved itself there; makes nothing, unlike `Checkpoints`."""
    return bool(_steps(folder))


def _steps(folder: Path) -> list[int]:
    """The steps that are there, in order: folders that are called like a number, as Orbax calls what is complete."""
    children = folder.iterdir() if folder.is_dir() else ()
    return sorted(int(child.name) for child in children if re.fullmatch(r"0|[1-9]\d*", child.name) and child.is_dir())
