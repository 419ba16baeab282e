"""The command line, as a person would type it."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest
import tiny
from processes import ROOT, Process, environment

from ror_jax.errors import UserError
from ror_jax.models import load_model
from ror_jax.runs.workdir import check_workdir, open_workdir

TINY = [*tiny.TINY, "--config.model.blocks_per_group=(1,1)", "--config.epochs=2"]
QUICKSTART, ADIENCE = "--config=configs/quickstart.py", "--config=configs/adience_fold0.py"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def start(cache):
    """A function that starts the program with some arguments; the quick start's config unless they name another."""

    def start(*arguments, devices=1):
        if not arguments[0].startswith("--config="):
            arguments = (QUICKSTART, *arguments)
        if not any(argument.startswith("--workdir=") for argument in arguments):
            arguments = (*arguments, f"--workdir={cache / 'unused'}")  # never what `make run` left
        return Process("ror_jax.main", *arguments, f"--config.cache_dir={cache}", devices=devices)

    return start


@pytest.fixture(scope="module")
def command(start):
    """A function that runs the program with some arguments to its end."""

    def run(*arguments, devices=1):
        process = start(*arguments, devices=devices)
        stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    return run


@pytest.fixture(scope="module")
def trained(cache, tmp_path_factory):
    """A finished run, started from a shell: its folder and what it printed."""
    workdir = tmp_path_factory.mktemp("run")
    words = [sys.executable, "-m", "ror_jax.main", QUICKSTART, *TINY, f"--workdir={workdir}"]
    done = subprocess.run(
        [*words, f"--config.cache_dir={cache}"], cwd=ROOT, capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout


def test_a_run_leaves_its_results(trained):
    """Pictures, numbers, log, settings, versions; and the words say what was reached beside the majority rate."""
    workdir, printed = trained
    for name in ("curves.png", "age_group_confusion.png", "age_group_reliability.png", "examples.png"):
        assert (workdir / name).read_bytes().startswith(b"\x89PNG"), name
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["epoch"] == 2 and summary["test"]["images"] == 12
    assert f"exact {100 * summary['test']['exact']:.2f} %" in printed
    assert "always the most frequent class" in printed
    assert "configs/adience.py:small" in printed  # how to go on
    config = json.loads((workdir / "config.json").read_text())
    assert config["model"]["widths"] == [4, 8] and config["optimizer"]["weight_decay"] == 1e-4
    environment = json.loads((workdir / "environment.json").read_text())
    assert {"jax", "flax"} <= environment["versions"].keys() and environment["command"]
    splits = [json.loads(line)["split"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert splits == ["train", "test"] * 2
    assert any((workdir / "tensorboard").iterdir())
    assert load_model(workdir).heads["age_group"].bias.shape == (8,)


def test_evaluation_repeats_the_result_without_training(command, trained):
    """On eight devices instead of one, the same images give the same counts."""
    workdir, _ = trained
    before, log = (workdir / "summary.json").read_text(), (workdir / "metrics.jsonl").read_text()
    done = command(*TINY, f"--workdir={workdir}", "--mode=evaluate", devices=8)
    assert done.returncode == 0, done.stderr
    again = json.loads((workdir / "evaluate_latest" / "summary.json").read_text())
    assert again["test"]["confusion"] == json.loads(before)["test"]["confusion"]
    assert (workdir / "summary.json").read_text() == before
    assert (workdir / "metrics.jsonl").read_text() == log


def test_evaluation_can_average_over_views(command, trained):
    """An image and its mirror image: other sums than of the image alone, in a folder of their own."""
    workdir, _ = trained
    done = command(*TINY, f"--workdir={workdir}", "--mode=evaluate", "--config.views=flip")
    assert done.returncode == 0, done.stderr
    single = json.loads((workdir / "summary.json").read_text())["test"]
    flipped = json.loads((workdir / "evaluate_latest_flip" / "summary.json").read_text())["test"]
    assert flipped["images"] == single["images"] and flipped["cross_entropy"] != single["cross_entropy"]


def test_stopping_and_going_on(start, command, tmp_path, request):
    """By SIGTERM, and by Ctrl-C pressed twice: a status of its own, one line. Another run must wait meanwhile."""
    run = (*TINY, "--config.epochs=500", f"--workdir={tmp_path}")

    def training():
        process = start(*run)
        request.addfinalizer(process.kill)
        said = ""
        while "\nepoch " not in said:
            said += (line := process.stdout.readline())
            assert line, process.communicate()
        return process, said

    def stopped(process):
        stdout, stderr = process.communicate()
        assert "Traceback" not in stderr
        return process.returncode, stdout.splitlines()[-1]

    first, _ = training()
    second = command(*run)
    assert second.returncode == 1 and f"error: process {first.pid} on " in second.stderr
    assert f"is training in {tmp_path}; wait for it" in second.stderr and second.stderr.count("\n") == 1
    first.send_signal(signal.SIGTERM)
    code, said = stopped(first)
    step = re.fullmatch(r"Stopped by SIGTERM and saved at step (\d+). The same command goes on.", said)[1]
    assert code == 143

    third, said = training()
    assert f"Resuming from step {step} of 3000" in said
    for _ in range(2):
        third.send_signal(signal.SIGINT)
        time.sleep(0.1)
    assert stopped(third)[0] == 130


@pytest.mark.parametrize("mode", ["train", "evaluate"])
def test_another_run_in_the_same_folder_is_refused(command, trained, mode):
    """The settings that differ are named, and nothing in the folder changes."""
    workdir, _ = trained
    config = (workdir / "config.json").read_text()
    done = command(*TINY, f"--workdir={workdir}", f"--mode={mode}", "--config.optimizer.learning_rate=0.5")
    assert done.returncode == 1
    assert "holds a run with other settings: optimizer.learning_rate was 0.1 and is 0.5" in done.stderr
    assert (workdir / "config.json").read_text() == config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.modle.name=x"], "there is no setting modle; did you mean model instead of modle"),
        (["--config.optimizer.momentun=0"], "did you mean momentum instead of momentun"),
        (["--config=configs/quickstrt.py"], "the config: No such file or directory: 'configs/quickstrt.py'"),
        (["--config=configs/ror.py:svhn,ror3_110"], "unknown svhn network 'ror3_110'; did you mean 'ror3_wrn40"),
        (["--config.seed=1", "--config.epochs=many"], "error: flag --config.epochs=many: invalid literal for int()"),
        (["--config=configs/quickstart.py:gendre"], "unknown config argument 'gendre'; did you mean 'gender'?"),
        (["--config.model.name=preror85"], "unknown model 'preror85'; did you mean 'preror82'"),
        (["--config.model.name=ror35"], "unknown model 'ror35'; did you mean 'ror34'"),
        (["--config.dataset.name=adiense"], "unknown data set 'adiense'; did you mean 'adience'"),
        ([ADIENCE], "adience needs data_dir"),
        (
            ["--config=configs/adience_fold0.py", "--config.data_dir=configs"],
            "is not Adience: there is no fold_0_data.txt",
        ),
        (
            [*TINY, "--config.task.weights=(1,2,3)"],
            "3 class weights were given, (1.0, 2.0, 3.0), but there are 8",
        ),
        ([*TINY, "--mode=evaluate", "--workdir=/nonexistent"], "no checkpoint in /nonexistent/checkpoints"),
    ],
)
def test_a_mistake_gets_one_line(command, arguments, message):
    """No traceback, exit status 1, and the line says what was meant."""
    done = command(*arguments)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.strip() and "preparing" not in line]
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert message in lines[0]


def test_a_batch_that_the_mesh_does_not_divide(command):
    done = command(*TINY, "--config.batch_size=12", devices=8)
    assert "a batch of 12 images cannot be divided over 8 devices; try 8" in done.stderr


def test_a_setting_newer_than_the_run_had_its_default(tiny_config, tmp_path):
    """What an older version wrote goes on; another value than the default of today is another run."""
    config = tiny_config()
    open_workdir(tmp_path, config)
    older = json.loads((tmp_path / "config.json").read_text())
    del older["test_every_steps"]
    (tmp_path / "config.json").write_text(json.dumps(older))
    check_workdir(tmp_path, config)
    config.test_every_steps = 2
    with pytest.raises(UserError, match="test_every_steps was None and is 2"):
        check_workdir(tmp_path, config)


def test_an_argument_that_a_config_does_not_take(command, tmp_path):
    (tmp_path / "mine.py").write_text("def get_config():\n    pass\n")
    done = command(f"--config={tmp_path}/mine.py:gender")
    assert done.returncode == 1 and "the config takes no such argument after its name" in done.stderr


def test_rows_are_listed_for_as_long_as_somebody_reads(start):
    """As by `| head`."""
    process = start("--config=configs/deep_ror.py", "--list")
    line = next(line for line in process.stdout if line.startswith("--config="))
    process.stdout.close()
    assert line == "--config=configs/deep_ror.py:preresnet34,age\n"
    assert process.communicate() == ("", "") and process.returncode == 0


def test_settings_of_a_stage(command, tmp_path):
    """Of any kind, whether the recipe changes them or not; a misspelt one is refused."""
    recipe = ("--config=configs/deep_ror.py:ror34_imdb_wiki,two_mechanisms,smoke", f"--workdir={tmp_path / 'run'}")
    done = command(*recipe, f"--config.stage.imdb_wiki.data_dir={tmp_path}", "--config.stage.gender.epochs=1")
    assert done.returncode == 1 and f"error: {tmp_path} has neither imdb_crop" in done.stderr
    done = command(*recipe, "--config.stage.gender.epoch=1")
    assert done.returncode == 1 and "there is no setting" in done.stderr and "epochs" in done.stderr


def test_folds_belong_to_cross_validation(command):
    done = command("--folds=0")
    assert done.returncode == 1 and "--folds belongs to --mode=cross_validate" in done.stderr
