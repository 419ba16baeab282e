"""Tasks: outputs and labels in; loss, metrics and predictions out. They know no model and no data."""

import dataclasses
from collections.abc import Mapping

from ror_jax.errors import UserError, unknown
from ror_jax.tasks.age_gender import AgeGender
from ror_jax.tasks.classification import Classification, Gender
from ror_jax.tasks.ordered import AgeGroup, AgeYears, OlderThan

TASKS = {
    "classification": Classification,
    "age_gender": AgeGender,
    "age_group": AgeGroup,
    "age_years": AgeYears,
    "gender": Gender,
    "older_than": OlderThan,
}


def registered() -> Mapping[str, type]:
    """The tasks that `create_task` knows, by name. The fields of their classes but `names` are their options."""
    return TASKS


def find_task(name: str) -> type:
    """The class of the task `name`; raises UserError for an unknown one."""
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]


def create_task(name: str, labels: Mapping[str, tuple[str, ...]], **options):
    """The task `name` for data whose classes are `labels` (class names by record key).

    Raises:
      UserError: an unknown task or option, an option that makes no sense, or data without the task's label.
    """
    task = find_task(name)
    fields = [field.name for field in dataclasses.fields(task) if field.name != "names"]
    for option in options:
        if option not in fields:
            raise unknown(f"option of task {name!r}:", option, fields)
    for label in task.targets():
        if label not in labels:
            raise UserError(f"task {name!r} needs the label {label!r}, but the data has {', '.join(labels)}")
    return task(names=tuple(labels[task.target]), **options)
