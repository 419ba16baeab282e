"""What the command line does: train and test, or test a checkpoint again."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from ror_jax.errors import UserError
from ror_jax.evaluation.evaluate import evaluate
from ror_jax.models.weights import save_card, save_weights
from ror_jax.report.summary import summarize
from ror_jax.training.checkpoint import Checkpoints
from ror_jax.training.experiment import Experiment, create_experiment
from ror_jax.training.logging import read_rows
from ror_jax.training.loop import train
from ror_jax.training.state import TrainState, count_parameters
from ror_jax.training.workdir import FREE, check_workdir, open_workdir


def train_and_test(config: ConfigDict, workdir: Path) -> None:
    """Trains as `config` says and leaves everything in `workdir`, the test result of the last epoch included."""
    check_workdir(workdir, config)
    experiment, name = _open(config, workdir)
    open_workdir(workdir, config)
    save_card(workdir, experiment.card)  # a run that goes on finds there what `init_from` held
    length = f"{experiment.total_steps} steps ({experiment.steps_per_epoch} an epoch)"
    print(f"Training {name} for {length} in {workdir}" if config.epochs else f"Testing {name} in {workdir}")
    state = train(
        experiment,
        workdir,
        test_every=config.test_every,
        test_every_steps=config.test_every_steps,
        log_every=config.log_every,
        checkpoint_minutes=config.checkpoint_minutes,
        profile=config.profile,
    )
    save_weights(workdir, *jax.device_get((state.params, state.batch_stats)), experiment.card)
    _test(experiment, state, workdir, workdir)
    print(config.closing_words, end="")


def evaluate_checkpoint(config: ConfigDict, workdir: Path, which: str) -> None:
    """Tests a checkpoint of the run in `workdir`: "latest", "best" or a step."""
    check_workdir(workdir, config, free=(*FREE, "views"))
    checkpoints = workdir / "checkpoints"
    if not checkpoints.is_dir():
        raise UserError(f"no checkpoint in {checkpoints}; train first, or say which --workdir")
    experiment, name = _open(config, workdir)
    print(f"Testing the {which} checkpoint of {name} in {workdir}")
    state = Checkpoints(checkpoints).restore(experiment.state, which)
    views = "" if config.views == "single" else f"_{config.views}"
    folder = workdir / f"evaluate_{which}{views}"  # the run's own result stays what it is
    folder.mkdir(exist_ok=True)
    _test(experiment, state, workdir, folder)


def _open(config: ConfigDict, workdir: Path) -> tuple[Experiment, str]:
    """The experiment, and what it works with in words."""
    jax.config.update("jax_compilation_cache_dir", str(Path(config.cache_dir).expanduser() / "xla"))
    experiment = create_experiment(config, workdir)
    print(experiment.dataset.description)
    parameters = f"{config.model.name} ({count_parameters(experiment.state.params):,} parameters)"
    return experiment, f"{parameters} on {experiment.mesh.size} {jax.devices()[0].device_kind}"


def _test(experiment: Experiment, state: TrainState, workdir: Path, folder: Path) -> None:
    print(f"Testing on {len(experiment.dataset.test)} images.", flush=True)
    results = evaluate(experiment.eval_step, state, experiment.test_batches(), experiment.task, experiment.mesh)
    print(summarize(experiment, state, results, read_rows(workdir / "metrics.jsonl"), folder))
