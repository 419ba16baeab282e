"""Trains and tests a network.

    python -m ror_jax.main --config=configs/quickstart.py
    python -m ror_jax.main --config=configs/adience_fold0.py --config.data_dir=DIR

Every setting of ror_jax/config.py can be changed on the command line: --config.model.survival=1. A run that was
stopped goes on where it was when the same command is given again.
"""

import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's own chatter

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from input_pipeline import DataError
from ror_jax.errors import UserError
from ror_jax.evaluation.evaluate import evaluate
from ror_jax.models.weights import save_card
from ror_jax.report.summary import summarize
from ror_jax.training.checkpoint import Checkpoints
from ror_jax.training.experiment import create_experiment
from ror_jax.training.logging import read_rows
from ror_jax.training.loop import Stopped, train
from ror_jax.training.state import count_parameters
from ror_jax.training.workdir import check_workdir, open_workdir

CONFIG = config_flags.DEFINE_config_file("config", help_string="A file of configs/.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run. Default: runs/NAME, with the name in the config.")
MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate"], "Train and test, or only test a checkpoint.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "What to evaluate: 'latest', 'best' or a step.")


def run(config, workdir: Path) -> None:
    """Trains (or evaluates) as `config` says and leaves everything in `workdir`."""
    cache = Path(config.cache_dir).expanduser() / "xla"
    jax.config.update("jax_compilation_cache_dir", str(cache))

    check_workdir(workdir, config)
    if MODE.value == "evaluate" and not (workdir / "checkpoints").is_dir():
        raise UserError(f"no checkpoint in {workdir / 'checkpoints'}; train first, or say which --workdir")
    experiment = create_experiment(config, workdir)
    print(experiment.dataset.description)
    parameters = f"{config.model.name} ({count_parameters(experiment.state.params):,} parameters)"
    devices = f"{experiment.mesh.size} {jax.devices()[0].device_kind}"
    if MODE.value == "train":
        open_workdir(workdir, config)
        save_card(workdir, experiment.card)
        length = f"{experiment.total_steps} steps ({experiment.steps_per_epoch} an epoch)"
        print(f"Training {parameters} on {devices} for {length} in {workdir}")
        state = train(
            experiment,
            workdir,
            test_every=config.test_every,
            log_every=config.log_every,
            checkpoint_minutes=config.checkpoint_minutes,
        )
        results_folder = workdir
    else:
        print(f"Testing the {CHECKPOINT.value} checkpoint of {parameters} in {workdir} on {devices}")
        state = Checkpoints(workdir / "checkpoints").restore(experiment.state, CHECKPOINT.value)
        results_folder = workdir / f"evaluate_{CHECKPOINT.value}"  # the run's own result stays what it is
        results_folder.mkdir(exist_ok=True)
    results = evaluate(experiment.eval_step, state, experiment.test_batches(), experiment.task, experiment.mesh)
    print(summarize(experiment, state, results, read_rows(workdir / "metrics.jsonl"), results_folder))
    print(config.closing_words, end="")


def main(argv) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument: {argv[1]}")
    logging.set_verbosity(logging.ERROR)
    config = CONFIG.value
    workdir = Path(WORKDIR.value or f"runs/{config.name}")
    try:
        run(config, workdir)
    except (UserError, DataError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("Stopped outside of training: nothing is lost. The same command goes on.")
        sys.exit(128 + signal.SIGINT)
    except Stopped as stopped:
        number, step = stopped.args
        print(f"Stopped by {signal.Signals(number).name} and saved at step {step}. The same command goes on.")
        sys.exit(128 + number)


def parse(argv: list[str]) -> list[str]:
    """Parses the flags and loads the config; what does not exist ends the program with one line."""
    try:
        argv = app.parse_flags_with_usage(argv)
        CONFIG.value.name  # noqa: B018  (loads the file)
        return argv
    except OSError as error:
        sys.exit(f"error: the config: {str(error).strip().rpartition('] ')[2]}")
    except (AttributeError, KeyError) as error:  # of ConfigDict, whose words are quoted more than once
        words = str(error).replace("\\n", " ").replace("\\", "").replace("'", "").replace('"', "")
        sys.exit(f"error: there is no setting {words.replace(' Did', '; did')} (all of them are in ror_jax/config.py)")


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=parse)
