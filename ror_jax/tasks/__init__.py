"""Tasks: outputs and labels in; loss, measures and answers out. They know no model and no data.

`create_task` makes a task by its name. `register` adds one, such as from the file of a config.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ror_jax.errors import UserError, unknown
from ror_jax.tasks.age import AgeRegression, AgeYears
from ror_jax.tasks.age_gender import create_age_gender
from ror_jax.tasks.age_span import AgeSpan
from ror_jax.tasks.classification import Classification
from ror_jax.tasks.gender import Gender
from ror_jax.tasks.metrics import METRICS
from ror_jax.tasks.multitask import MultiTask
from ror_jax.tasks.ordered import AgeGroup, OlderThan
from ror_jax.tasks.task import Label, Task
from ror_jax.tasks.weighting import WEIGHTINGS, Weighting

__all__ = ["Label", "MultiTask", "Task", "Weighting", "create_task", "register", "registered", "task_labels"]


class _Entry(NamedTuple):
    create: Callable[..., Task]
    labels: tuple[str, ...]


_TASKS: dict[str, _Entry] = {}


def register(name: str, create: Callable[..., Task], labels: Sequence[str]) -> None:
    """Adds a task that `config.task.name` can then name.

    Args:
      name: not taken, and without "+".
      create: makes the task, often its class: `create(*names, **options)`. For each of the labels it gets the names of
        the classes, a tuple (empty for a label that is no class); its keyword-only parameters are settings of
        `config.task`.
      labels: the keys of the labels that the task learns.

    Raises:
      UserError: the name is taken or has a "+", or the other arguments are not as described.
    """
    if name in _TASKS or "+" in name:
        raise UserError(f"a task cannot be called {name!r}: {'that name is taken' if name in _TASKS else 'it has a +'}")
    if not callable(create) or isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
        raise UserError(f"task {name!r}: register takes a class or function, and a list of keys of labels")
    _TASKS[name] = _Entry(create, tuple(labels))


def registered() -> dict[str, Callable[..., Task]]:
    """What makes the tasks, by their names; keyword-only parameters are their options."""
    return {name: entry.create for name, entry in _TASKS.items()}


def task_options(name: str) -> list[str]:
    """The options of the registered task `name`."""
    parameters = inspect.signature(_TASKS[name].create).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


def task_labels(name: str) -> tuple[str, ...]:
    """The keys of the labels that the task `name` learns; raises UserError for an unknown task."""
    return tuple(dict.fromkeys(label for part in _parts(name) for label in _TASKS[part].labels))


def create_task(
    name: str,
    labels: Mapping[str, tuple[str, ...]],
    *,
    weighting: str | None = None,
    loss_weights: tuple[float, ...] | None = None,
    **options: Any,
) -> Task:
    """Returns the task `name`; "A+B" is a `MultiTask` of the tasks A and B.

    Args:
      labels: of the data, the names of the classes by record key.
      weighting: how the losses of "A+B" are weighed, one of `WEIGHTINGS`; default "fixed".
      loss_weights: of "A+B", a number for each part in their order; default: 1 each.
      **options: of the task. Of "A+B", each goes to the first part that has such an option.

    Raises:
      UserError: an unknown task or option, an option that makes no sense, data without one of the labels, or with other
        classes than the task has.
    """
    parts = _parts(name)
    taken: dict[str, dict] = {part: {} for part in parts}
    known = {part: task_options(part) for part in parts}
    for option, value in options.items():
        owner = next((part for part in parts if option in known[part]), None)
        if owner is None:
            raise unknown(f"option of task {name!r}:", option, {each for names in known.values() for each in names})
        taken[owner][option] = value
    for label in task_labels(name):
        if label not in labels:
            raise UserError(f"task {name!r} needs the label {label!r}, but the data has {', '.join(labels)}")
    made = {part: _create(part, labels, taken[part]) for part in parts}
    if len(parts) == 1 and (weighting, loss_weights) != (None, None):
        raise UserError(f"task.weighting and task.loss_weights are for tasks such as 'age_group+gender', not {name!r}")
    return made[name] if len(parts) == 1 else MultiTask(made, _weighting(parts, weighting, loss_weights))


def _create(name: str, labels: Mapping[str, tuple[str, ...]], options: Mapping[str, Any]) -> Task:
    """Makes a registered task; raises UserError where what was registered makes none."""
    entry = _TASKS[name]
    try:
        task = entry.create(*(labels[key] for key in entry.labels), **options)
    except TypeError as error:  # such as a method that is missing
        raise UserError(f"task {name!r} cannot be created: {error}") from error
    wanted = ("labels", "heads", "primary", "plotted", "loss_name")
    if not isinstance(task, Task) or (missing := [attribute for attribute in wanted if not hasattr(task, attribute)]):
        lacks = f"lacks {', '.join(missing)}" if isinstance(task, Task) else "is none"
        raise UserError(f"task {name!r} {lacks}, see ror_jax.tasks.Task")
    if task.labels.keys() != set(entry.labels):
        raise UserError(
            f"task {name!r} learns {', '.join(task.labels)}, but is registered for {', '.join(entry.labels)}"
        )
    if "features" in task.trunks:
        raise UserError(f"task {name!r}: a trunk cannot be called 'features', which is the network's own")
    for key, label in task.labels.items():
        if label.names and len(label.names) != len(labels[key]):
            raise UserError(
                f"task {name!r} has {len(label.names)} classes of {key!r}, but the data has {len(labels[key])}"
            )
    if task.primary not in METRICS and not isinstance(task, MultiTask):
        words = "say how it is shown, and whether lower is better: metrics.register"
        raise UserError(f"task {name!r}: nothing is known of its primary result {task.primary!r}; {words}")
    return task


def _parts(name: str) -> list[str]:
    parts = name.split("+")
    if "" in parts:
        raise UserError(f"task {name!r}: a name is missing" if name else "task.name is empty; it must name a task")
    for part in parts:
        if part not in _TASKS:
            raise unknown("task", part, _TASKS)
    if len(set(parts)) < len(parts):
        raise UserError(f"task {name!r} names a task twice")
    return parts


def _weighting(parts: list[str], name: str | None, weights: Any) -> Weighting:
    if (name or "fixed") not in WEIGHTINGS:
        raise unknown("weighting", name, WEIGHTINGS)
    try:
        numbers = [1.0] * len(parts) if weights is None else [float(weight) for weight in weights]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != len(parts):
        raise UserError(f"task.loss_weights are {weights!r}; there must be a number for each of {', '.join(parts)}")
    return WEIGHTINGS[name or "fixed"](dict(zip(parts, numbers, strict=True)))


register("classification", Classification, ["label"])
register("age_gender", create_age_gender, ["age", "gender"])
register("age_group", AgeGroup, ["age_group"])
register("age_regression", AgeRegression, ["age"])
register("age_span", AgeSpan, ["age_span"])
register("age_years", AgeYears, ["age"])
register("gender", Gender, ["gender"])
register("older_than", OlderThan, ["age_group"])
