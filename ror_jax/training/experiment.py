"""From a config to what a run works with. Nothing below this file reads a config."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import jax
import optax
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from input_pipeline import Dataset, create_dataset
from input_pipeline.pipeline import steps_per_epoch, test_batches, train_batches
from input_pipeline.transforms import center_crop, training_transform
from ror_jax.errors import UserError
from ror_jax.models import create_model, model_config
from ror_jax.tasks import create_task, find_task
from ror_jax.training.mesh import check_batch_size, create_mesh
from ror_jax.training.optimizer import create_optimizer
from ror_jax.training.state import TrainState, create_state
from ror_jax.training.step import make_eval_step, make_train_step

DTYPES = (None, "float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Data, task, programs and state of one run.

    Attributes:
      train_batches: step to begin at -> batches from there on.
      test_batches: records (the test split, unless given) -> batches, each record once.
      schedule: step -> learning rate.
    """

    dataset: Dataset
    task: object
    mesh: Mesh
    state: TrainState
    train_step: Callable
    eval_step: Callable
    train_batches: Callable[[int], Iterator[dict]]
    test_batches: Callable[..., Iterator[dict]]
    schedule: optax.Schedule
    steps_per_epoch: int
    total_steps: int


def create_experiment(config: ConfigDict) -> Experiment:
    """Opens the data, builds model, task and optimiser, and compiles nothing yet but the model's initialiser.

    Raises:
      UserError: a setting that makes no sense, with what would.
    """
    _check(config)
    mesh = create_mesh(config.mesh.data)
    for size in (config.batch_size, config.test_batch_size):
        check_batch_size(size, mesh)

    cache_dir = Path(config.cache_dir).expanduser() / "datasets"
    # Names are checked before data are prepared: a misspelt model should not cost minutes.
    model_options = _options(config.model)
    if "image_size" in {field.name for field in dataclasses.fields(model_config(**model_options))}:
        model_options["image_size"] = config.image_size
    labels = (find_task(config.task.name).target,)
    dataset = create_dataset(data_dir=config.data_dir, cache_dir=cache_dir, labels=labels, **_options(config.dataset))
    task = create_task(labels=dataset.labels, **_options(config.task))

    steps = steps_per_epoch(len(dataset.train), config.batch_size)
    optimizer, schedule = create_optimizer(steps_per_epoch=steps, **config.optimizer)

    def make_model(rngs: nnx.Rngs) -> nnx.Module:
        return create_model(num_classes=task.outputs, rngs=rngs, mean=dataset.mean, std=dataset.std, **model_options)

    graph, state = create_state(make_model, optimizer, task, mesh, config.seed)

    processes = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    augment = training_transform(
        config.augmentation,
        size=config.image_size,
        fill=dataset.mean,
        min_area=config.min_area,
        fraction=config.central_fraction,
    )
    crop = partial(center_crop, size=config.image_size, fraction=config.central_fraction)
    return Experiment(
        dataset=dataset,
        task=task,
        mesh=mesh,
        state=state,
        train_step=make_train_step(graph, task, optimizer, config.seed),
        eval_step=make_eval_step(graph, task),
        train_batches=lambda start: train_batches(
            dataset.train,
            transform=augment,
            batch_size=config.batch_size,
            seed=config.seed,
            epochs=config.epochs,
            start_step=start,
            workers=_workers(config.workers),
            **processes,
        ),
        test_batches=lambda source=dataset.test: test_batches(
            source, transform=crop, batch_size=config.test_batch_size, **processes
        ),
        schedule=schedule,
        steps_per_epoch=steps,
        total_steps=steps * config.epochs,
    )


def _check(config: ConfigDict) -> None:
    """Raises UserError for numbers that make no sense and that nothing below would refuse."""
    for setting in ("batch_size", "test_batch_size", "epochs", "test_every", "log_every"):
        if config[setting] < 1:
            raise UserError(f"{setting} is {config[setting]}; it must be 1 or more")
    optimizer = config.optimizer
    ranges = {
        "seed": (config.seed >= 0, "0 or more"),
        "image_size": (config.image_size >= 8, "8 or more"),
        "central_fraction": (0 < config.central_fraction <= 1, "in (0, 1]"),
        "checkpoint_minutes": (config.checkpoint_minutes > 0, "positive"),
        "optimizer.momentum": (0 <= optimizer.momentum < 1, "in [0, 1)"),
        "optimizer.weight_decay": (0 <= optimizer.weight_decay < 1, "in [0, 1)"),
        "optimizer.decay_factor": (0 < optimizer.decay_factor <= 1, "in (0, 1]"),
        "model.dtype": (config.model.dtype in DTYPES, "float32 or bfloat16"),
        "model.param_dtype": (config.model.param_dtype in DTYPES, "float32 or bfloat16"),
    }
    for setting, (good, wanted) in ranges.items():
        if not good:
            raise UserError(f"{setting} is out of range; it must be {wanted}")
    if (
        sorted(set(optimizer.decay_epochs)) != list(optimizer.decay_epochs)
        or min(optimizer.decay_epochs, default=1) <= 0
    ):
        raise UserError(f"optimizer.decay_epochs is {optimizer.decay_epochs}; epochs must be positive and rise")


def _options(settings: ConfigDict) -> dict:
    """The settings that were given; the others are left to whoever has a default for them."""
    return {key: value for key, value in settings.items() if value is not None}


def _workers(workers: int) -> int:
    if workers >= 0:
        return workers
    return 0 if jax.default_backend() == "cpu" else min(os.cpu_count() // 2, 16)
