"""Trains and tests a network.

    python -m ror_jax.main --config=configs/quickstart.py
    python -m ror_jax.main --config=configs/adience_fold0.py --config.data_dir=DIR

Every setting can be changed on the command line: --config.model.survival=1. With --settings, all of them are printed,
with --list the rows of the config file. A run that was stopped goes on where it was when the same command is given
again.
"""

import os
import re
import signal
import sys
from collections.abc import Iterable
from logging import CRITICAL, getLogger
from pathlib import Path

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's own chatter

from absl import app, flags, logging
from ml_collections import config_flags

from input_pipeline.errors import InputError
from input_pipeline.process import prepare_process
from ror_jax.config import describe
from ror_jax.errors import UserError
from ror_jax.report.listing import list_rows
from ror_jax.runs.run import evaluate_checkpoint, train_and_test
from ror_jax.runs.studies import STUDIES, cross_validate
from ror_jax.training import distributed
from ror_jax.training.stopping import Stopped

CONFIG = config_flags.DEFINE_config_file("config", help_string="A file of configs/.", lock_config=True)
LIST = flags.DEFINE_boolean("list", False, "Print the rows of the config file, with published results, and leave.")
SETTINGS = flags.DEFINE_boolean("settings", False, "Print all settings of the config, with descriptions, and leave.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run. Default: runs/NAME, with the name in the config.")
MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "evaluate", *STUDIES],
    "Train and test; only test a checkpoint; or several runs: on all folds, the questions of Deep-RoR's aging curve, or"
    " all losses for ordered ages.",
)
FOLDS = flags.DEFINE_list("folds", None, "With --mode=cross_validate: the folds to do, such as 0,2. Default: all five.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of the first process. TPU pods and SLURM tell it.")
PROCESSES = flags.DEFINE_integer("num_processes", None, "With --coordinator: how many processes there are.")
PROCESS = flags.DEFINE_integer("process_id", None, "With --coordinator: which of them this is, from 0 on.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "What to evaluate: 'latest', 'best' or a step.")


def main(argv) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument: {argv[1]}")
    # What goes wrong ends in one line; Orbax, asyncio and TensorStore's threads would tell it in pages before.
    logging.set_verbosity(logging.FATAL)
    getLogger("asyncio").setLevel(CRITICAL)
    sys.unraisablehook = lambda unraisable: None
    prepare_process()
    config = CONFIG.value
    workdir = Path(WORKDIR.value or f"runs/{config.name}")
    try:
        if LIST.value or SETTINGS.value:
            file = config_flags.get_config_filename(flags.FLAGS["config"])
            return print_each(list_rows(file) if LIST.value else [describe(config)])
        distributed.initialize(COORDINATOR.value, PROCESSES.value, PROCESS.value)
        if FOLDS.value is not None and MODE.value != "cross_validate":
            raise UserError("--folds belongs to --mode=cross_validate; one fold alone is --config.dataset.fold")
        if MODE.value == "train":
            train_and_test(config, workdir)
        elif MODE.value == "evaluate":
            evaluate_checkpoint(config, workdir, CHECKPOINT.value)
        elif FOLDS.value is not None:
            cross_validate(config, workdir, folds(FOLDS.value))
        else:
            STUDIES[MODE.value](config, workdir)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("Stopped at once. The same command goes on from the last checkpoint.")
        sys.exit(128 + signal.SIGINT)
    except Stopped as stopped:
        number, step = stopped.args
        saved = "" if step is None else f" and saved at step {step}"
        print(f"Stopped by {signal.Signals(number).name}{saved}. The same command goes on.")
        sys.exit(128 + number)


def print_each(texts: Iterable[str]) -> None:
    """Prints texts as they come, until nobody reads any more: `head` leaves early."""
    try:
        for text in texts:
            print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to flush at the exit


def folds(words: list[str]) -> list[int]:
    try:
        return [int(word) for word in words]
    except ValueError:
        raise UserError(f"--folds={','.join(words)}: folds are numbers, such as 0,2") from None


def parse(argv: list[str]) -> list[str]:
    """Parses the flags and loads the config; what does not exist ends the program with one line."""
    try:
        argv = flags.FLAGS(argv)
        CONFIG.value.name  # noqa: B018  (loads the file)
        return argv
    except flags.Error as error:
        first = error
        while first.__context__:
            first = first.__context__
        if isinstance(first, InputError):  # what a config file says, wrapped by the flags
            sys.exit(f"error: {first}")
        if isinstance(first, TypeError) and "get_config()" in str(first):
            sys.exit(f"error: the config takes no such argument after its name: {first}")
        sys.exit(f"error: {error} (--help tells the flags)")
    except OSError as error:
        sys.exit(f"error: the config: {str(error).strip().rpartition('] ')[2]}")
    except (AttributeError, KeyError) as error:  # of ConfigDict, whose words are quoted more than once
        words = re.sub(r"Key | does not exist and.*\}|[\\\"']", "", str(error).replace("\\n", " "), flags=re.DOTALL)
        sys.exit(f"error: there is no setting {words.replace(' Did', '; did')} (--settings prints all of them)")


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=parse)
