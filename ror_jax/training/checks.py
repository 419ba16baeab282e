"""Settings that make no sense, and data that do not go with them, found before anything is begun."""

from functools import partial

import jax
import numpy as np
from ml_collections import ConfigDict

from input_pipeline import Dataset, transforms
from input_pipeline.jitter import Jitter
from input_pipeline.records import label_columns
from ror_jax.errors import UserError, unknown
from ror_jax.tasks.task import Task, sums_shapes

DTYPES = (None, "float32", "bfloat16")


def resize(config: ConfigDict) -> int:
    return round(config.image_size * 256 / 224) if config.resize is None else config.resize


def check_settings(config: ConfigDict) -> None:
    """Raises UserError for numbers that make no sense and that nothing below would refuse."""
    for setting in ("batch_size", "test_batch_size", "test_every", "log_every", "steps_per_call"):
        if config[setting] < 1:
            raise UserError(f"{setting} is {config[setting]}; it must be 1 or more")
    optimizer, guard, stopping = config.optimizer, config.guard, config.early_stopping
    ranges = {
        "seed": (config.seed >= 0, "0 or more"),
        "epochs": (config.epochs >= 0, "0 or more"),
        "image_size": (config.image_size >= 8, "8 or more"),
        "resize": (resize(config) >= config.image_size, f"image_size, {config.image_size}, or more"),
        "flip": (0 <= config.flip <= 1, "from 0 to 1"),
        "fit": (config.fit in transforms.FITS, f"one of {', '.join(transforms.FITS)}"),
        "views": (config.views in transforms.VIEWS, f"one of {', '.join(transforms.VIEWS)}"),
        "test_every_steps": (config.test_every_steps is None or config.test_every_steps > 0, "1 or more, or None"),
        "checkpoint_minutes": (config.checkpoint_minutes > 0, "positive"),
        **{
            f"optimizer.{name}": (optimizer[name] is None or 0 <= optimizer[name] < 1, "in [0, 1)")
            for name in ("momentum", "beta1", "beta2")
        },
        "optimizer.weight_decay": (0 <= optimizer.weight_decay < 1, "in [0, 1)"),
        "optimizer.decay_factor": (0 < optimizer.decay_factor <= 1, "in (0, 1]"),
        "normalize_by": (config.normalize_by in ("data", "imagenet"), "data or imagenet"),
        "early_stopping.patience": (stopping.patience is None or stopping.patience > 0, "1 or more, or None"),
        "early_stopping.min_epochs": (stopping.min_epochs >= 0, "0 or more"),
        "early_stopping.metric": (stopping.metric is None or stopping.patience, "None without early_stopping.patience"),
        "optimizer.warmup_epochs": (optimizer.warmup_epochs <= config.epochs, f"epochs, {config.epochs}, or less"),
        "guard.max_skips": (guard.max_skips >= 0, "0 or more"),
        "guard.loss_spike": (guard.loss_spike is None or guard.loss_spike > 1, "more than 1, or None"),
        "guard.max_batch_stat": (guard.max_batch_stat > 0, "positive"),
        "model.dtype": (config.model.dtype in DTYPES, "float32 or bfloat16"),
        "model.param_dtype": (config.model.param_dtype in DTYPES, "float32 or bfloat16"),
    }
    for setting, (good, wanted) in ranges.items():
        if not good:
            raise UserError(f"{setting} is {_value(config, setting)!r}; it must be {wanted}")
    if (Jitter(**config.jitter).on or config.fit != "crop") and config.data_on_device:
        raise UserError("data_on_device=True can crop and flip alone: it needs fit='crop' and no jitter")
    if (
        sorted(set(optimizer.decay_epochs)) != list(optimizer.decay_epochs)
        or min(optimizer.decay_epochs, default=1) <= 0
    ):
        raise UserError(f"optimizer.decay_epochs is {optimizer.decay_epochs}; epochs must be positive and rise")


def check_data(config: ConfigDict, dataset: Dataset, task: Task) -> None:
    """Raises UserError if the data cannot teach what is to be learnt, or have no images for what needs validation."""
    several = list(task.labels) if len(task.labels) > 1 else []  # of one, a data set keeps no image that lacks it
    for split, source in {"train": dataset.train, **dataset.tested}.items():
        for label, values in label_columns(source, several).items():
            if not (values >= 0).any():
                words = f"{dataset.name}: no image of the split {split} has a known {label}"
                raise UserError(f"{words}, which task {config.task.name} learns; is that column or label missing?")
    if task.needs_validation and dataset.validation is not None:
        task.check_validation(partial(label_columns, dataset.validation))
    if task.loss_may_be_negative and config.guard.loss_spike is not None:
        raise UserError(f"guard.loss_spike is {config.guard.loss_spike}; the loss of this task may be negative: None")
    shapes = sums_shapes(task)
    metric = config.early_stopping.metric
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
        if needed and dataset.validation is None:
            raise UserError(
                f"{what} needs images for validation: of faces, dataset.validation=0.1 holds out some of the people"
            )


def check_calls(config: ConfigDict, steps: int) -> None:
    """Raises UserError if an epoch, or what lies between two tests, is no whole number of calls."""
    count, between = config.steps_per_call, config.test_every_steps or 0
    if count > 1 and not config.data_on_device:
        raise UserError(f"steps_per_call is {count}, which needs data_on_device=True: one call has one batch otherwise")
    if steps % count or between % count:
        divisors = [str(number) for number in range(1, 101) if steps % number == between % number == 0]
        raise UserError(
            f"steps_per_call is {count}; it must divide the {steps} steps of an epoch"
            f"{f' and test_every_steps, {between}' if between else ''}: {', '.join(divisors)}"
        )


def _value(config: ConfigDict, setting: str):
    for name in setting.split("."):
        config = config[name]
    return config
