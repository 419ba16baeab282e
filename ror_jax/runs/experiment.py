"""From a config to what a run works with. Nothing below this file reads a config."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import jax
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from input_pipeline import Dataset, create_dataset, on_device, pipeline, transforms
from input_pipeline.jitter import Jitter
from input_pipeline.records import Source, label_columns
from input_pipeline.sampling import InverseFrequency
from ror_jax.config import given
from ror_jax.errors import UserError
from ror_jax.models import create_model, describe_network, model_config
from ror_jax.models.pretrained import IMAGENET_MEAN, IMAGENET_STD
from ror_jax.models.weights import Weights, flatten, load_card, load_weights, take
from ror_jax.models.zoo import model_folder
from ror_jax.runs.checks import check_data, check_settings, resize, steps_per_call
from ror_jax.startup import expanded
from ror_jax.tasks import Task, create_task, task_labels
from ror_jax.tasks.task import state_from_json
from ror_jax.training.checkpoint import has_checkpoint
from ror_jax.training.experiment import Experiment
from ror_jax.training.mesh import batch_sharding, check_batch_size, create_mesh, put_global, replicated
from ror_jax.training.optimizer import check_parts, create_optimizer
from ror_jax.training.state import TrainState, create_state, start_from, with_task_state
from ror_jax.training.step import make_eval_step, make_train_step


def open_task(config: ConfigDict) -> tuple[Dataset, Task]:
    """The data, prepared if they are not yet, and the task; first of all the other settings are looked at.

    Raises:
      UserError: a setting that makes no sense, with what would.
    """
    check_settings(config)
    _model_options(config)  # a misspelt model should not cost the minutes of preparing data
    labels = task_labels(config.task.name)
    cache_dir = expanded(config.cache_dir, "cache_dir") / "datasets"
    dataset = create_dataset(data_dir=config.data_dir, cache_dir=cache_dir, labels=labels, **given(config.dataset))
    task = create_task(labels=dataset.labels, **given(config.task))
    check_data(config, dataset, task)
    return dataset, task


def create_experiment(
    config: ConfigDict, workdir: Path | None = None, devices: Sequence[jax.Device] | None = None
) -> Experiment:
    """Opens the data, builds model, task and optimiser, and compiles nothing yet but the model's initialiser.

    Where `workdir` has a checkpoint to go on from, `config.init_from` is not read again. `devices` are those to use,
    of which `config.mesh` takes some; all, unless given.

    Raises:
      UserError: a setting that makes no sense, with what would.
    """
    mesh = create_mesh(**config.mesh, devices=devices)
    for size in (config.batch_size, config.test_batch_size):
        check_batch_size(size, mesh)
    model_options = _model_options(config)
    weights = _first_weights(config, model_options, workdir)
    dataset, task = open_task(config)

    # Without epochs there is nothing to divide into batches, however few images there are.
    steps = pipeline.steps_per_epoch(len(dataset.train), config.batch_size) if config.epochs else 1
    per_call = steps_per_call(config, steps) if config.epochs else 1
    optimizer, schedule = create_optimizer(epochs=config.epochs, steps_per_epoch=steps, **given(config.optimizer))

    # Weights mean what they meant only for pixels normalised as in their own training, whatever data come now.
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if config.normalize_by == "imagenet" else (dataset.mean, dataset.std)
    if weights:
        mean, std = weights.card["mean"], weights.card["std"]

    def make_model(rngs: nnx.Rngs) -> nnx.Module:
        return create_model(heads=task.heads, trunks=task.trunks, rngs=rngs, mean=mean, std=std, **model_options)

    graph, state = create_state(make_model, optimizer, task, mesh, config.seed)
    check_parts(state.params, config.optimizer.rates, config.optimizer.frozen)
    biases = task.first_biases(partial(label_columns, dataset.train))
    state = start_from(state, {f"params.heads.{name}.bias": bias for name, bias in biases.items()})
    if weights and weights.tensors:
        state = _start_from(state, weights, config.init_from, to_train=config.epochs > 0)
        if task.needs_validation:  # what was learned from it belongs to the weights
            saved = weights.card.get("task_state", {})
            state = with_task_state(state, state_from_json(task, saved, strict=not config.epochs))
    if not (config.epochs or weights or (workdir and has_checkpoint(workdir / "checkpoints"))):
        print("epochs is 0 and there is no init_from: the network that is tested has random weights.")

    sampling = InverseFrequency(dataset, **config.sampling) if config.sampling.label else None
    if config.data_on_device:
        feed = _resident(config, dataset, mean, sampling, mesh, per_call)
    else:
        feed = _streamed(config, dataset, mean, sampling)
    return Experiment(
        dataset=dataset,
        task=task,
        mesh=mesh,
        state=state,
        train_step=make_train_step(
            graph,
            task,
            optimizer,
            config.seed,
            mesh,
            feed.load_training,
            per_call,
            deterministic=config.deterministic,
            **config.guard,
        ),
        eval_step=make_eval_step(
            graph,
            task,
            mesh,
            transforms.mirrored_views(config.views),
            feed.load_test,
            deterministic=config.deterministic,
        ),
        sampling=sampling,
        train_batches=feed.train_batches,
        test_batches=feed.test_batches,
        schedule=schedule,
        batch_size=config.batch_size,
        steps_per_epoch=steps,
        steps_per_call=per_call,
        total_steps=steps * config.epochs,
        card=describe_network(
            model_options.pop("name"), model_options, nnx.merge(graph, state.params, state.batch_stats)
        )
        | {
            # The card of the folder that the run began with; of a run that goes on, that of its own card.
            "init_from": weights and (weights.card if weights.tensors else weights.card["init_from"]),
        },
    )


@dataclasses.dataclass(frozen=True)
class _Feed:
    """Where batches come from, and what the compiled programs have to make of them first (None: nothing)."""

    train_batches: Callable[[int], Iterator[dict]]
    test_batches: Callable[..., Iterator[dict]]
    load_training: Callable | None = None
    load_test: Callable | None = None


def _sizes(config: ConfigDict) -> dict:
    return {"size": config.image_size, "resize": resize(config)}


def _transform_options(config: ConfigDict, fill) -> dict:
    return _sizes(config) | {"fill": fill, "min_area": config.min_area, "flip": config.flip}


def _streamed(
    config: ConfigDict, dataset: Dataset, fill: tuple[float, ...], sampling: InverseFrequency | None
) -> _Feed:
    """Images are read, decoded and augmented on the host while the accelerator trains."""
    processes = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    augment = transforms.training_transform(
        config.augmentation,
        **_transform_options(config, fill),
        fit=config.fit,
        jitter=Jitter(fill=tuple(fill), **config.jitter),
    )
    crop = partial(transforms.crop_views, **_sizes(config), views=config.views, fit=config.fit, fill=fill)

    def test_batches(source: Source, all_rows: bool = False) -> Iterator[dict]:
        shares = {} if all_rows else processes
        options = {"transform": crop, "batch_size": config.test_batch_size, "geometry": dataset.geometry}
        return pipeline.test_batches(source, **options, **shares)

    return _Feed(
        lambda start: pipeline.train_batches(
            dataset.train,
            transform=augment,
            batch_size=config.batch_size,
            seed=config.seed,
            epochs=config.epochs,
            geometry=dataset.geometry,
            draw=sampling,
            start_step=start,
            workers=_workers(config.workers),
            **processes,
        ),
        test_batches,
    )


def _resident(
    config: ConfigDict,
    dataset: Dataset,
    fill: tuple[float, ...],
    sampling: InverseFrequency | None,
    mesh: Mesh,
    per_call: int,
) -> _Feed:
    """All images lie on every device, as uint8, and are augmented in the compiled step."""

    def load(source: Source) -> dict[str, jax.Array]:
        return {key: put_global(column, replicated(mesh)) for key, column in on_device.load_columns(source).items()}

    train, tested = load(dataset.train), {id(source): load(source) for source in dataset.evaluations.values()}
    transform = on_device.training_transform(config.augmentation, **_transform_options(config, fill))
    views = partial(on_device.crop_views, size=config.image_size, resize=resize(config), views=config.views)

    def test_batches(source: Source, all_rows: bool = False) -> Iterator[dict]:
        if all_rows or id(source) not in tested:
            return _streamed(config, dataset, fill, sampling).test_batches(source, all_rows)
        return on_device.test_batches(
            tested[id(source)],
            batch_size=config.test_batch_size,
            place=partial(put_global, sharding=batch_sharding(mesh)),
        )

    return _Feed(
        lambda start: on_device.train_batches(
            train,
            order=pipeline.record_order(dataset.train, config.seed, sampling),
            batch_size=config.batch_size,
            epochs=config.epochs,
            start_step=start,
            place=partial(put_global, sharding=batch_sharding(mesh, before=1)),
            steps_per_call=per_call,
        ),
        test_batches,
        lambda batch, step, key: on_device.training_rows(batch, step, transform, key, dataset.geometry),
        lambda batch: on_device.test_rows(batch, views, dataset.geometry),
    )


def _model_options(config: ConfigDict) -> dict:
    """The arguments of `model_config` and `create_model`."""
    options = given(config.model)
    if "image_size" in {field.name for field in dataclasses.fields(model_config(**options))}:
        options["image_size"] = config.image_size
    return options


def _first_weights(config: ConfigDict, model_options: dict, workdir: Path | None) -> Weights | None:
    """What a new run starts from; of a run that has begun, only the card that it left in its own folder."""
    if config.init_from is None:
        return None
    if workdir is not None and has_checkpoint(workdir / "checkpoints"):
        return Weights({}, load_card(workdir))
    weights = load_weights(model_folder(config.init_from, config.cache_dir, "init_from"))
    name = weights.card["model"]
    held, wanted = model_config(name, **weights.card["overrides"]), model_config(**model_options)
    if getattr(held, "levels", 1) != getattr(wanted, "levels", 1):
        raise UserError(
            f"init_from: {config.init_from} holds {name!r}, which has other shortcut levels than"
            f" {model_options['name']!r}; for a RoR from a ResNet's weights run python -m ror_jax.convert with --model"
            f" {model_options['name']}"
        )
    return weights


def _start_from(state: TrainState, weights: Weights, folder: str, to_train: bool) -> TrainState:
    """The state with all weights that fit it; says in one line which did."""
    model = flatten(state.params, state.batch_stats)
    try:
        taken = take(weights.tensors, model)
    except UserError as error:
        raise UserError(f"init_from: {folder}: {error}") from error
    fresh, left = model.keys() - taken.keys(), weights.tensors.keys() - taken.keys()
    if fresh and not to_train:
        raise UserError(
            f"init_from: {folder} has no {', '.join(sorted(fresh))} for these classes, and with epochs=0 they would"
            " stay random: the test would mean nothing"
        )
    print(
        f"Starting from {weights.card['model']} in {folder}: took {len(taken)} tensors with"
        f" {sum(tensor.size for tensor in taken.values()):,} numbers;"
        f" fresh: {', '.join(sorted(fresh)) or 'nothing'}; not used: {', '.join(sorted(left)) or 'nothing'}."
    )
    return start_from(state, taken)


def _workers(workers: int) -> int:
    if workers >= 0:
        return workers
    return 0 if jax.default_backend() == "cpu" else min(os.cpu_count() // 2, 16)
