"""Checks of settings and data, before a run starts."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from input_pipeline import Dataset, create_dataset, find_dataset, list_datasets, transforms
from input_pipeline.geometry import Box, Points
from input_pipeline.jitter import Jitter
from input_pipeline.records import Source, label_columns
from ror_jax.config import RUN, given
from ror_jax.errors import UserError, check_values, unknown
from ror_jax.settings import Setting, declared
from ror_jax.tasks.task import Task, sums_shapes
from ror_jax.training.optimizer import create_optimizer
from ror_jax.training.step import check_guard
from ror_jax.training.stopping import EarlyStopping

DTYPES = (None, "float32", "bfloat16")
MAX_STEPS_PER_CALL = 25  # the 391 steps of 50,000 images in batches of 128 are 17 calls of 23


def resize(config: ConfigDict) -> int:
    return round(config.image_size * 256 / 224) if config.resize is None else config.resize


def check_settings(config: ConfigDict) -> None:
    """Raises UserError or DataError for settings that make no sense, whatever the data are."""
    for part in RUN:
        part(**{name: config[name] for name in declared(part)})
    for part, options in config.dataset.mixture.items():
        _check_part(part, options)
    EarlyStopping(**config.early_stopping)
    check_guard(**config.guard)
    create_optimizer(epochs=config.epochs, steps_per_epoch=1, **given(config.optimizer))
    jitter = Jitter(**config.jitter)
    sizes = {"size": config.image_size, "resize": resize(config), "min_area": config.min_area}
    transforms.training_transform(config.augmentation, fill=jitter.fill, **sizes)
    model = config.model
    wanted = {
        "model.dtype": (model.dtype, model.dtype in DTYPES, "float32 or bfloat16"),
        "model.param_dtype": (model.param_dtype, model.param_dtype in DTYPES, "float32 or bfloat16"),
    }
    check_values(wanted)
    if (jitter.on or config.fit != "crop") and config.data_on_device:
        raise UserError("data_on_device=True can crop and flip alone: it needs fit='crop' and no jitter")


def _check_part(part: str, options: Any) -> None:
    """Raises UserError if an option of a part of a mixture has another type than is declared.

    What it is called is looked at when the part is made.
    """
    name = options.get("name", part) if isinstance(options, ConfigDict) else part
    if not isinstance(options, ConfigDict) or name not in list_datasets():
        return
    known = declared(create_dataset) | declared(find_dataset(name))
    known |= {key: Setting(str, None, "") for key in ("name", "data_dir")}
    for option, value in options.items():
        wanted = known[option].type if option in known else object
        allowed = (int, float) if wanted is float else wanted
        if value is not None and (not isinstance(value, allowed) or (isinstance(value, bool) and wanted is not bool)):
            words = f"it must be of the type {wanted.__name__}"
            raise UserError(f"dataset.mixture.{part}.{option} is {value!r}; {words}")


def check_data(config: ConfigDict, dataset: Dataset, task: Task) -> None:
    """Raises UserError if the data cannot teach what is to be learnt, or have no images for what needs validation."""
    for key, label in task.labels.items():
        if label.geometry and key not in dataset.geometry:
            raise UserError(
                f"{dataset.name}: the label {key!r} is geometry, which moves with the image; the data set must declare"
                " it in Dataset.geometry"
            )
        if isinstance(dataset.geometry.get(key), Points | Box) and config.views not in ("single", "flip"):
            raise UserError(
                f"views is {config.views!r}, whose crops have the label {key!r} in several places; use single or flip"
            )
    for source in (dataset.train, *dataset.evaluations.values()):
        columns = getattr(source, "columns", {})
        for key in task.labels.keys() & columns.keys():
            if columns[key].shape[1:] != task.labels[key].shape:
                shapes = f"{list(columns[key].shape[1:])}; the task takes it as {list(task.labels[key].shape)}"
                raise UserError(f"{dataset.name}: the label {key!r} has the shape {shapes}")
    several = list(task.labels) if len(task.labels) > 1 else []  # of one, a data set keeps no image that lacks it
    uses = {"training": [dataset.train], "validation": dataset.validation.values(), "testing": dataset.tests.values()}
    for use, sources in uses.items():
        for label, values in _labels(sources, several).items() if sources else ():
            if not task.labels[label].known(values).any():
                words = f"{dataset.name}: no image for {use} has a known {label}"
                raise UserError(f"{words}, which task {config.task.name} learns; is that column or label missing?")
    if task.needs_validation and dataset.validation:
        task.check_validation(partial(_labels, dataset.validation.values()))
    if task.loss_may_be_negative and config.guard.loss_spike is not None:
        raise UserError(f"guard.loss_spike is {config.guard.loss_spike}; the loss of this task may be negative: None")
    shapes = sums_shapes(task)
    metric, split = config.early_stopping.metric, config.early_stopping.split
    if split is not None and split not in dataset.validation:
        raise unknown("early_stopping.split", split, dataset.validation)
    if metric is not None:
        nothing = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        results = task.summarize(nothing)
        numbers = [name for name, value in results.items() if isinstance(value, float) and not name.startswith("best_")]
        if metric not in numbers:
            raise unknown("result in early_stopping.metric:", metric, numbers)
    needs = {
        f"early_stopping.patience is {config.early_stopping.patience}, which": config.early_stopping.patience,
        f"task {config.task.name!r} with these settings": task.needs_validation,
    }
    for what, needed in needs.items():
        if needed and not dataset.validation:
            raise UserError(
                f"{what} needs images for validation: of faces, dataset.validation=0.1 holds out some of the people"
            )


def classes_without_images(dataset: Dataset, task: Task) -> list[str]:
    """A line for each label that is learnt as classes of which some have no training image; of labels in memory."""
    columns, lines = getattr(dataset.train, "columns", {}), []
    for key, label in task.labels.items():
        if key in columns and label.names and not label.shape:
            empty = [name for number, name in enumerate(dataset.labels[key]) if not (columns[key] == number).any()]
            lines += [f"No training image has the {key} {', '.join(empty)}: it cannot be learnt."] if empty else []
    return lines


def _labels(sources: Iterable[Source], keys: Sequence[str]) -> dict[str, np.ndarray]:
    """These labels of all records of all sources together, [N] each."""
    columns = [label_columns(source, keys) for source in sources]
    return {key: np.concatenate([each[key] for each in columns]) for key in keys}


def steps_per_call(config: ConfigDict, steps: int) -> int:
    """Returns how many of the `steps` of an epoch one call of the accelerator does.

    Where the setting is None and images lie on the device, it is the largest number up to `MAX_STEPS_PER_CALL` of which
    an epoch, and what lies between two tests, are whole numbers of calls.

    Raises:
      UserError: the setting is none of these numbers, or images do not lie on the device.
    """
    count, between = config.steps_per_call, config.test_every_steps or 0
    if not config.data_on_device:
        if (count or 1) > 1:
            words = "which needs data_on_device=True: one call has one batch otherwise"
            raise UserError(f"steps_per_call is {count}, {words}")
        return 1
    divisors = [number for number in range(1, 101) if steps % number == between % number == 0]
    if count is None:
        return max(number for number in divisors if number <= MAX_STEPS_PER_CALL)
    if steps % count or between % count:
        raise UserError(
            f"steps_per_call is {count}; it must divide the {steps} steps of an epoch"
            f"{f' and test_every_steps, {between}' if between else ''}: {', '.join(map(str, divisors))}"
        )
    return count
