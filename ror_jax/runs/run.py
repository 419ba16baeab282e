"""What the command line does with one run, or with a recipe of several: train and test, or test a checkpoint again."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from input_pipeline import on_device, pipeline
from ror_jax.errors import UserError
from ror_jax.files import writing
from ror_jax.models.weights import TENSORS, save_card, save_weights
from ror_jax.report.figures import save_sampling
from ror_jax.report.predictions import Collector
from ror_jax.report.summary import summarize
from ror_jax.runs.checks import classes_without_images
from ror_jax.runs.experiment import create_experiment, open_task
from ror_jax.runs.recipe import Stage, stages
from ror_jax.runs.workdir import check_workdir, locked, open_workdir
from ror_jax.saved_settings import FREE, flat_settings
from ror_jax.startup import use_devices
from ror_jax.tasks.task import state_to_json
from ror_jax.training.checkpoint import Checkpoints
from ror_jax.training.distributed import all_or_none, check_same, is_first
from ror_jax.training.evaluation import measure, without_tuned
from ror_jax.training.experiment import Experiment
from ror_jax.training.logging import read_rows
from ror_jax.training.loop import train
from ror_jax.training.mesh import describe_layout, gather
from ror_jax.training.state import TrainState, count_parameters
from ror_jax.training.stopping import EarlyStopping

_DRAWING = threading.Lock()  # matplotlib knows no threads


def train_and_test(config: ConfigDict, workdir: Path | str) -> None:
    """Trains as `config` says, stage by stage, and leaves everything in the stages' folders, the last being `workdir`.

    A run that has ended is tested again; a stage before it that has ended is not touched.
    """
    *before, last = chain = stages(config, Path(workdir))
    if before:
        with all_or_none():
            check_stages(chain)
    for stage in before:
        complete(stage)
    train_stage(last)
    print(config.closing_words, end="")


def check_stages(chain: Iterable[Stage]) -> None:
    """Looks at all settings and folders, and opens all data, before hours go into the first stage."""
    chain = list(chain)
    for stage in chain:
        check_workdir(stage.folder, stage.config)
    for stage in chain:
        open_task(stage.config)


def complete(stage: Stage, **options) -> None:
    """Trains and tests a stage unless that has been done; the options are those of `train_stage`."""
    if all((stage.folder / name).exists() for name in ("config.json", "summary.json", TENSORS)):
        print(f"{stage.config.name} is complete in {stage.folder}.")
    else:
        train_stage(stage, **options)


def train_stage(
    stage: Stage,
    *,
    devices: Sequence[jax.Device] | None = None,
    label: str = "",
    asked_to_stop: list[int] | None = None,
) -> None:
    """Trains and tests one run, or what is left of it; see `create_experiment` and `train` for the options."""
    config, workdir = stage.config, stage.folder
    say = functools.partial(_say, label)
    with all_or_none():
        check_workdir(workdir, config)
        experiment, name = _open(config, workdir, devices, say)
    own = ("cache_dir", "data_dir", "workers")  # of each host
    shared = {name: value for name, value in flat_settings(config).items() if name.split(".")[-1] not in own}
    check_same("the settings", str(shared))
    check_same("the data", experiment.dataset.fingerprint)
    with contextlib.ExitStack() as stack:
        with all_or_none():
            if is_first():
                stack.enter_context(locked(workdir))
                check_workdir(workdir, config)  # again: now no other process can begin another run there
                open_workdir(workdir, config)
                save_card(workdir, experiment.card)  # a run that goes on finds there what `init_from` held
                if experiment.sampling and config.epochs:
                    _show_sampling(experiment, config, workdir / "sampling.png", say)
        for line in classes_without_images(experiment.dataset, experiment.task) if config.epochs else ():
            say(line)
        length = f"{experiment.total_steps} steps ({experiment.steps_per_epoch} an epoch)"
        say(f"Training {name} for {length} in {workdir}" if config.epochs else f"Testing {name} in {workdir}")
        if experiment.mesh.size > 1:
            state = experiment.state
            parts = {"parameters": state.params, "optimiser": state.opt_state, "batch statistics": state.batch_stats}
            say(describe_layout(parts, experiment.mesh))
        state = train(
            experiment,
            workdir,
            test_every=config.test_every,
            test_every_steps=config.test_every_steps,
            log_every=config.log_every,
            checkpoint_minutes=config.checkpoint_minutes,
            early_stopping=EarlyStopping(**config.early_stopping),
            allow_changed_data=config.allow_changed_data,
            profile=config.profile,
            label=label,
            asked_to_stop=asked_to_stop,
        )
        weights = gather((state.params, state.batch_stats), experiment.mesh)
        with all_or_none():
            if is_first():
                learned = jax.device_get(state.task_state)  # a threshold, such as
                save_weights(workdir, *weights, experiment.card | {"task_state": state_to_json(learned)})
        by_validation = experiment.dataset.validation and experiment.total_steps
        selected = "best epoch on validation" if by_validation else "last epoch"
        _test(experiment, state, selected, workdir, workdir, say)


def evaluate_checkpoint(config: ConfigDict, workdir: Path | str, which: str) -> None:
    """Tests a checkpoint of the run in `workdir`: "latest", "best" or a step."""
    workdir = Path(workdir)
    config = stages(config, workdir)[-1].config
    check_workdir(workdir, config, free=(*FREE, "views"))
    checkpoints = workdir / "checkpoints"
    if not checkpoints.is_dir():
        raise UserError(f"no checkpoint in {checkpoints}; train first, or say which --workdir")
    with all_or_none():
        experiment, name = _open(config, workdir)
    print(f"Testing the {which} checkpoint of {name} in {workdir}")
    data = experiment.dataset.fingerprint
    saved = Checkpoints(checkpoints, data=data, allow_changed_data=config.allow_changed_data)
    with contextlib.closing(saved):
        state = saved.restore(experiment.state, which)
    views = "" if config.views == "single" else f"_{config.views}"
    folder = workdir / f"evaluate_{which}{views}"  # the run's own result stays what it is
    with all_or_none():
        if is_first():
            with writing(folder):
                folder.mkdir(exist_ok=True)
    dataset = experiment.dataset
    by = (
        ""
        if which != "best"
        else f" by the images for {'validation' if dataset.validation else next(iter(dataset.tests))}"
    )
    _test(experiment, state, f"{which} checkpoint{by}", workdir, folder)


def _open(
    config: ConfigDict,
    workdir: Path,
    devices: Sequence[jax.Device] | None = None,
    say: Callable[[str], None] = print,
) -> tuple[Experiment, str]:
    """The experiment, and what it works with in words."""
    use_devices(config.cache_dir)
    experiment = create_experiment(config, workdir, devices)
    say(experiment.dataset.description)
    parameters = f"{config.model.name} ({count_parameters(experiment.state.params):,} parameters)"
    return experiment, f"{parameters} on {experiment.mesh.size} {jax.devices()[0].device_kind}"


def _show_sampling(experiment: Experiment, config: ConfigDict, path: Path, say: Callable[[str], None]) -> None:
    """Draws what sampling makes of the training images; says which kinds there are none of."""
    sampling = experiment.sampling
    order = pipeline.record_order(experiment.dataset.train, config.seed, sampling)
    first = on_device.epoch_order(order, config.batch_size, 0)
    with _DRAWING:
        save_sampling(sampling.label, sampling.names, sampling.counts(), sampling.counts(first), path)
    if sampling.empty:
        say(f"No training image has its {sampling.label} in {', '.join(sampling.empty)}: none can be drawn there.")


def _test(
    experiment: Experiment,
    state: TrainState,
    selected: str,
    workdir: Path,
    folder: Path,
    say: Callable[[str], None] = print,
) -> None:
    dataset, best_step = experiment.dataset, None
    with contextlib.suppress(UserError):  # of a checkpoint that is damaged, which is not the one that is tested
        best_step = Checkpoints(workdir / "checkpoints").best_step
    tests, validation = {}, []
    for split, source in dataset.validation.items():  # intervals are set on it
        each = Collector()
        say(f"Answering {len(source)} images of {split}.")
        measure(experiment, state, source, each)
        validation.append(each.predictions())
    for split, source in dataset.tests.items():
        each = Collector()
        say(f"Testing on {len(source)} images{'' if split == 'test' else f' of {split}'}.")
        results = without_tuned(experiment.task.summarize(measure(experiment, state, source, each)))
        tests[split] = results, each.predictions()
    with all_or_none(), _DRAWING:
        if not is_first():
            return
        rows = read_rows(workdir / "metrics.jsonl")
        say(summarize(experiment, state, selected, best_step, tests, validation, rows, folder))


def _say(label: str, text: str) -> None:
    print("\n".join(f"{label}: {line}" if label else line for line in text.splitlines()), flush=True)
