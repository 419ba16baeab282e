"""The interface of a task: outputs and labels in; loss, measures and answers out. A task knows no model and no data."""

import abc
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ror_jax.errors import UserError, unknown
from ror_jax.outputs import Head, Trunk
from ror_jax.tasks.answers import FACE_KEYS, Answer
from ror_jax.tasks.metrics import metric

Arrays = Mapping[str, Any]  # jax or numpy arrays by name


class Label(NamedTuple):
    """A label of an image: a record's key, in a batch an array [B, *shape].

    Attributes:
      shape: of the label of one image.
      dtype: of the array.
      names: of the classes or of the flags; empty for numbers.
      signed: numbers may be negative, and only NaN is unknown; otherwise every negative number is, too.
      geometry: whether it moves with the image, so that a data set must say how, see `input_pipeline.geometry`.
    """

    shape: tuple[int, ...] = ()
    dtype: Any = np.int32
    names: tuple[str, ...] = ()
    signed: bool = False
    geometry: bool = False

    def known(self, values: Any) -> Any:
        """Whether each number is known, bool [B, *shape], for arrays of numpy or JAX."""
        return values == values if self.signed else values >= 0  # NaN is neither


class Task(abc.ABC):
    """What is learned from labels. A task is a frozen dataclass that derives from this class.

    B is the number of images of a batch, V that of the views of a test image. A batch has the labels, [B, *shape] each,
    and `mask` float32 [B], 0 for padding. Where a batch is divided over devices, the methods see the rows of one of
    them; sums over the batch go through `ror_jax.parallel.total`.

    Attributes:
      labels: that are learned, by key. An image counts for those that it has.
      heads: the outputs that a network must have, by name.
      trunks: features that these heads read, beside the network's own "features".
      primary: name of the main result.
      plotted: names of the results that are drawn over the epochs.
      loss_name: the loss in words.
      loss_may_be_negative: whether it may; `guard.loss_spike` is then refused.
      variance_factor: c in loss / (c s), if the variance s of the loss is learned, see `weighting.Uncertainty`.
      needs_validation: whether `update` learns from the validation split.
    """

    labels: Mapping[str, Label]
    heads: Mapping[str, Head]
    trunks: Mapping[str, Trunk] = {}
    primary: str
    plotted: tuple[str, ...]
    loss_name: str
    loss_may_be_negative: bool = False
    variance_factor: float = 1.0
    needs_validation: bool = False

    def initial_state(self) -> Any:
        """What the task learns from validation: a pytree of arrays, part of the train state."""
        return {}

    @abc.abstractmethod
    def loss(self, outputs: Arrays, batch: Arrays, state: Any, step: jax.Array) -> tuple[jax.Array, dict]:
        """The loss of one batch, a scalar, and its parts by name; `outputs` are [B, size] by name of the head."""

    @abc.abstractmethod
    def decode(self, outputs: Arrays, mirrored: tuple[bool, ...]) -> Any:
        """Estimates, a pytree of arrays [B, ...], from outputs [B, V, size].

        `mirrored` tells of each of the V views whether it is a mirror image.
        """

    @abc.abstractmethod
    def measure(self, estimates: Any, batch: Arrays, state: Any) -> Any:
        """Sums and counts over one batch, on all devices together: a pytree. Those of all batches are added up."""

    @abc.abstractmethod
    def summarize(self, sums: Any) -> dict[str, Any]:
        """Results by name, from the sums over a split (numpy arrays); `images` is how many counted.

        Results whose names begin with "best_" were chosen on these very images; tests leave them out.
        """

    def update(self, state: Any, sums: Any, epoch: float) -> Any:
        """The task state that follows from the sums over the validation split after `epoch` epochs."""
        return state

    @abc.abstractmethod
    def answers(self, estimates: Any, state: Any) -> dict[str, Answer]:
        """What a person is told, by name."""

    @abc.abstractmethod
    def truth(self, batch: Arrays) -> dict:
        """What the answers should have been, by name, as `Answer` describes it; -1 or NaN where it is not known."""

    def known(self, batch: Arrays) -> jax.Array:
        """Whether an image has any of the labels, bool [B]."""
        found = [label.known(jnp.asarray(batch[key])) for key, label in self.labels.items()]
        return jnp.stack([values.reshape(len(values), -1).any(1) for values in found]).any(0)

    def score(self, results: Mapping[str, Any]) -> float:
        """What epochs are compared by; higher is better."""
        return metric(self.primary).sign * results[self.primary]

    def line(self, results: Mapping[str, Any]) -> str:
        """The main results in a few words."""
        return f"{self.primary.replace('_', ' ')} {metric(self.primary).text(results[self.primary])}"

    def check_validation(self, labels: Callable[[list[str]], Arrays]) -> None:
        """Raises UserError if `update` cannot learn from a validation split with these labels, see `first_biases`."""
        return None

    def first_biases(self, labels: Callable[[list[str]], Arrays]) -> dict:
        """What the biases of heads begin with, by name of the head; those of the others begin with 0.

        `labels(keys)` gives the labels of all training images: arrays [N, ...] by key, places in pixels of the images.
        """
        return {}

    def constant_baseline(self, labels: Callable[[list[str]], Arrays]) -> Any | None:
        """The best estimates [1, ...] without an image, from the labels as in `first_biases`; None: undefined."""
        return None


def sums_shapes(task: Task) -> Any:
    """Shapes and dtypes of what `measure` returns.

    Raises:
      UserError: the task uses an output or a label that it has not declared, its loss is no scalar, its shapes do not
        fit, it tells the truth of something that it does not answer, or an answer has one of `FACE_KEYS` for a name.
    """

    def sums() -> Any:
        outputs = {name: jnp.zeros((1, head.size)) for name, head in task.heads.items()}
        batch = {key: jnp.zeros((1, *label.shape), label.dtype) for key, label in task.labels.items()}
        batch = _Declared(batch | {"mask": jnp.ones(1)}, "label")
        state = task.initial_state()
        loss, _ = task.loss(_Declared(outputs, "head"), batch, state, jnp.int32(0))
        if jnp.shape(loss):
            raise UserError(f"the loss of a batch is an array {list(loss.shape)}; it must be a scalar")
        views = _Declared({name: output[:, None] for name, output in outputs.items()}, "head")
        estimates = task.decode(views, (False,))
        answers = task.answers(estimates, state)
        if taken := answers.keys() & set(FACE_KEYS):
            raise UserError(
                f"an answer cannot be called {min(taken)!r}: results have a field of that name for every face"
            )
        if others := task.truth(batch).keys() - answers.keys():
            raise UserError(f"`truth` of the task returns {', '.join(sorted(others))}, which `answers` does not return")
        return task.measure(estimates, batch, state)

    try:
        return jax.eval_shape(sums)
    except (IndexError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        words = str(error).splitlines()[0]
        raise UserError(f"the task does not fit the shapes of its own heads and labels: {words}") from error


def state_to_json(state: Any) -> dict[str, Any]:
    """A task state as numbers and lists by dotted name."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf).tolist() for path, leaf in leaves}


def state_from_json(task: Task, saved: Mapping[str, Any], strict: bool = True) -> Any:
    """The inverse of `state_to_json`; entries that are missing keep their initial value.

    Unless `strict`, so do those of another shape, as of heads that are replaced.

    Raises:
      UserError: an entry is no array of numbers, or of another shape than the task's.
    """

    def restore(path, initial):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        try:
            value = np.asarray(saved.get(name, initial), initial.dtype)
        except (TypeError, ValueError) as error:
            raise UserError(f"the task state {name} is no array of numbers") from error
        if value.shape == np.shape(initial):
            return value
        if strict:
            raise UserError(f"the task state {name} has the shape {value.shape}; the task's has {np.shape(initial)}")
        return initial

    return jax.tree_util.tree_map_with_path(restore, jax.tree.map(np.asarray, task.initial_state()))


class _Declared(dict):
    """A dict whose missing keys are a mistake of the task, told in one line."""

    def __init__(self, values: Mapping, what: str):
        super().__init__(values)
        self._what = what

    def __missing__(self, name):
        raise UserError(f"the task uses what it has not declared: {unknown(self._what, name, self)}")
