"""Checkpoints of a run: the latest ones and the best, written in the background by Orbax."""

import threading
from pathlib import Path

import jax
from orbax.checkpoint import v1 as orbax

from ror_jax.errors import UserError
from ror_jax.training.state import TrainState

KEEP = 2
_ONE_AT_A_TIME = threading.Lock()  # Orbax numbers what it does by a counter of the process


class Checkpoints:
    """The folder `checkpoints` of a run: a subfolder for each saved step. The best is the one of the highest score.

    Runs that train at once in one process, not `alone`, write in turn and not in the background.
    """

    def __init__(self, folder: Path, *, for_training: bool = False, alone: bool = True):
        self._alone = alone
        keep = orbax.training.preservation_policies
        best = keep.BestN(get_metric_fn=lambda metrics: metrics["score"], n=1, keep_checkpoints_without_metrics=False)
        self._checkpointer = orbax.training.Checkpointer(
            folder.absolute(),
            preservation_policy=keep.AnyPreservationPolicy([keep.LatestN(KEEP), best]),
            cleanup_tmp_directories=for_training,  # what a killed run left; in evaluation it may be a living one's
        )

    @property
    def steps(self) -> list[int]:
        return [checkpoint.step for checkpoint in self._checkpointer.checkpoints]

    @property
    def best_step(self) -> int | None:
        """The step of the highest score, the last of equals; None before any score."""
        scored = [checkpoint for checkpoint in self._checkpointer.checkpoints if checkpoint.metrics]
        return max(scored, key=lambda each: (each.metrics["score"], each.step)).step if scored else None

    def save(self, state: TrainState, score: float | None = None) -> None:
        """Saves `state` under its step, unless that step is there already; alone, it returns before it is written."""
        step = int(state.step)
        if step not in self.steps:
            metrics = None if score is None else {"score": score}
            if self._alone:
                self._checkpointer.save_async(step, state, force=True, metrics=metrics)
            else:
                with _ONE_AT_A_TIME:
                    self._checkpointer.save(step, state, force=True, metrics=metrics)

    def restore(self, like: TrainState, which: str | int = "latest") -> TrainState:
        """The state at the latest, the best or a given step, laid out over the devices as `like` is.

        Raises:
          UserError: there is no such checkpoint, it is damaged, or its tensors are not those of `like` (listed).
        """
        self._checkpointer.wait()  # for what is being saved
        if not self.steps:
            raise UserError(f"no checkpoint in {self._checkpointer.directory}; train first")
        step = {"latest": self.steps[-1], "best": self.best_step}.get(which, which)
        if step is None or not str(step).isdecimal() or int(step) not in self.steps:
            raise UserError(f"no checkpoint {which!r}; there are 'latest', 'best' and the steps {self.steps}")
        abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), like)
        try:
            self._compare(int(step), like)
            with _ONE_AT_A_TIME:
                return self._checkpointer.load(int(step), abstract)
        except UserError:
            raise
        except Exception as error:  # Orbax and TensorStore have many ways to say that a file is damaged
            raise UserError(
                f"the checkpoint {self._checkpointer.directory / str(step)} cannot be read ({type(error).__name__});"
                " delete that folder to go on from the one before it"
            ) from error

    def _compare(self, step: int, like: TrainState) -> None:
        saved, wanted = _shapes(self._checkpointer.metadata(step).metadata["params"]), _shapes(like.params)
        different = [
            f"{name} (checkpoint {saved.get(name, 'none')}, model {wanted.get(name, 'none')})"
            for name in sorted(saved.keys() | wanted.keys())
            if saved.get(name) != wanted.get(name)
        ]
        if different:
            shown = "; ".join(different[:8]) + (f"; and {len(different) - 8} more" if len(different) > 8 else "")
            raise UserError(f"the checkpoint at step {step} is of another model. Tensors that differ: {shown}")

    def close(self) -> None:
        """Waits until all is written."""
        self._checkpointer.close()


def has_checkpoint(folder: Path) -> bool:
    """Whether a run has saved itself there; makes nothing, unlike `Checkpoints`."""
    return folder.is_dir() and any(child.name.isdigit() for child in folder.iterdir())


def _shapes(tree: dict) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: hasattr(leaf, "shape"))
    return {jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape) for path, leaf in leaves}
