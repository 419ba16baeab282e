"""The loop: it learns, it resumes bit for bit, it stops at what is not a number."""

import contextlib
import dataclasses
import json
import os
import resource
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from input_pipeline import DataError
from ror_jax.errors import UserError
from ror_jax.runs.experiment import create_experiment
from ror_jax.training.checkpoint import Checkpoints
from ror_jax.training.loop import train
from ror_jax.training.state import TrainState
from ror_jax.training.stopping import Stopped

SETTINGS = {"test_every": 1, "log_every": 2, "checkpoint_minutes": 60}


@pytest.fixture(scope="module")
def experiment(tiny_config):
    """Six steps an epoch, twelve in all, with stochastic depth and augmentation."""
    return create_experiment(tiny_config(model__survival=0.5))


@pytest.fixture(scope="module")
def finished(experiment, tmp_path_factory):
    """The state and the folder of a run that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    return train(fresh(experiment), workdir, **SETTINGS), workdir


def fresh(experiment):
    """The experiment with a copy of its first state, since training takes a state's memory over."""
    return dataclasses.replace(experiment, state=jax.tree.map(lambda leaf: leaf.copy(), experiment.state))


def disturbed(experiment, after: int, action):
    """The experiment, but `action` happens once when `after` batches have been handed out."""

    def batches(start):
        for number, batch in enumerate(experiment.train_batches(start), start=start):
            if number == after:
                batch = action(batch) or batch
            yield batch

    return dataclasses.replace(fresh(experiment), train_batches=batches)


def undecodable(_):
    raise DataError("face 7: the image cannot be decoded")


def assert_same(one: TrainState, other: TrainState) -> None:
    for (path, leaf), expected in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(leaf, expected, err_msg=jax.tree_util.keystr(path))


def rows_without_times(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in row.items() if key not in ("images_per_second", "input_wait")} for row in rows
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [3, 6, 8])
def test_a_stopped_run_goes_on_bit_for_bit(experiment, finished, tmp_path, number, after):
    """In the middle of an epoch and at its end: the same weights, statistics, momentum and log as without the stop."""
    stopping = disturbed(experiment, after, lambda batch: os.kill(os.getpid(), number))
    with pytest.raises(Stopped) as stopped:
        train(stopping, tmp_path, **SETTINGS)
    assert stopped.value.args == (number, after + 1)
    state = train(fresh(experiment), tmp_path, **SETTINGS)
    assert_same(state, finished[0])
    assert rows_without_times(tmp_path) == rows_without_times(finished[1])


@pytest.fixture(scope="module", params=[1, 3], ids="{} steps a call".format)
def resident(request, tiny_config, tmp_path_factory):
    """An experiment whose images are on the device, and the state and the folder of its undisturbed run."""
    settings = {"model__survival": 0.5, "data_on_device": True, "steps_per_call": request.param}
    experiment, workdir = create_experiment(tiny_config(**settings)), tmp_path_factory.mktemp("resident")
    return experiment, train(fresh(experiment), workdir, **SETTINGS | {"log_every": 4}), workdir


def test_a_run_whose_images_are_on_the_device_goes_on_bit_for_bit(resident, tmp_path):
    """Crops, flips and order are the step's own, wherever the run begins; and they are not those of the host."""
    experiment, whole, workdir = resident
    per_call, settings = experiment.steps_per_call, SETTINGS | {"log_every": 4}
    stopping = disturbed(experiment, 2, lambda batch: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped) as stopped:
        train(stopping, tmp_path, **settings)
    assert stopped.value.args[1] == 3 * per_call
    assert_same(train(fresh(experiment), tmp_path, **settings), whole)
    assert rows_without_times(tmp_path) == rows_without_times(workdir)
    assert [row["step"] for row in rows_without_times(workdir) if row["split"] == "step"] == (
        [4, 8, 12] if per_call == 1 else [6, 9, 12]
    )
    assert set(next(experiment.train_batches(0))) == {"columns", "order"}


def test_without_epochs_nothing_is_trained(tiny_config, tmp_path):
    experiment = create_experiment(tiny_config(epochs=0, optimizer__decay_epochs=()))
    assert_same(train(fresh(experiment), tmp_path, **SETTINGS), experiment.state)


@pytest.mark.parametrize(("test_every", "test_every_steps", "step"), [(1, None, 6), (2, None, 12), (1, 4, 4)])
def test_a_damaged_test_image_costs_nothing_of_what_was_trained(
    experiment, tmp_path, test_every, test_every_steps, step
):
    """The run is saved, and tested when the image is mended; then it ends as if nothing had happened."""
    settings = {**SETTINGS, "test_every": test_every, "test_every_steps": test_every_steps}
    folders = [tmp_path / "undisturbed", tmp_path / "damaged"]
    expected = train(fresh(experiment), folders[0], **settings)
    with pytest.raises(DataError):
        train(dataclasses.replace(fresh(experiment), test_batches=undecodable), folders[1], **settings)
    assert Checkpoints(folders[1] / "checkpoints").steps[-1] == step
    assert_same(train(fresh(experiment), folders[1], **settings), expected)
    rows, best = zip(
        *((rows_without_times(folder), Checkpoints(folder / "checkpoints").best_step) for folder in folders),
        strict=True,
    )
    assert rows[0] == rows[1]
    assert best[0] == best[1] is not None


def test_a_damaged_training_image_costs_nothing_of_what_was_trained(experiment, finished, tmp_path):
    """The steps before it are saved, and when the image is mended the run goes on to the same result, bit for bit."""

    with pytest.raises(DataError, match="face 7"):
        train(disturbed(experiment, 9, undecodable), tmp_path, **SETTINGS)
    assert Checkpoints(tmp_path / "checkpoints").steps == [6, 9]
    assert_same(train(fresh(experiment), tmp_path, **SETTINGS), finished[0])
    assert rows_without_times(tmp_path) == rows_without_times(finished[1])


def test_a_run_that_is_saved_before_its_first_step_keeps_its_first_weights(experiment, tmp_path):
    """Those of `init_from`, such as, which are not read again."""

    def other():
        state = fresh(experiment).state
        state = dataclasses.replace(state, params=jax.tree.map(lambda leaf: leaf + 0.01, state.params))
        return dataclasses.replace(experiment, state=state)

    expected = train(other(), tmp_path / "undisturbed", **SETTINGS)
    stopped = dataclasses.replace(disturbed(experiment, 0, undecodable), state=other().state)
    with pytest.raises(DataError):
        train(stopped, tmp_path / "saved", **SETTINGS)
    assert_same(train(fresh(experiment), tmp_path / "saved", **SETTINGS), expected)


def test_calls_that_do_not_end_with_an_epoch_are_refused(experiment, finished, tmp_path):
    """As of images on the device that have become more since the run was stopped."""
    shutil.copytree(finished[1] / "checkpoints" / "6", tmp_path / "checkpoints" / "6")
    changed = dataclasses.replace(fresh(experiment), steps_per_epoch=8, total_steps=16, steps_per_call=4)
    with pytest.raises(UserError, match="at step 6, from where 4 steps a call do not end with an epoch of 8 steps"):
        train(changed, tmp_path, **SETTINGS)


def test_tests_within_an_epoch_are_logged(experiment, tmp_path):
    """Every fourth of six steps an epoch: after steps 4 and 8, besides the ends of the epochs at 6 and 12."""
    train(fresh(experiment), tmp_path, test_every_steps=4, **SETTINGS)
    tests = [row for row in rows_without_times(tmp_path) if row["split"] == "test"]
    assert [row["step"] for row in tests] == [4, 6, 8, 12]
    assert tests[0]["epoch"] == pytest.approx(4 / 6)


@pytest.mark.parametrize(("seconds", "low", "high"), [(0.2, 0.5, 1.0), (0.0, 0.0, 0.2)])
def test_the_share_of_waiting_for_input_is_logged(experiment, tmp_path, seconds, low, high):
    """Of a source that is slow, and of one that has all its batches ready: with each interval and each epoch."""
    ready = list(experiment.train_batches(0))

    def batches(start):
        for batch in ready[start:]:
            time.sleep(seconds)
            yield batch

    train(dataclasses.replace(fresh(experiment), train_batches=batches), tmp_path, **SETTINGS)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for split, count in (("step", 6), ("train", 2)):
        logged = [row for row in rows if row["split"] == split]
        assert len(logged) == count and all(row["images_per_second"] > 0 for row in logged)
        assert low <= np.median([row["input_wait"] for row in logged]) <= high


def test_a_killed_run_repeats_what_was_not_saved(experiment, finished, tmp_path):
    """An exception in mid-epoch, as hard as a kill: the run goes on from the end of the last epoch, same result."""

    def crash(batch):
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        train(disturbed(experiment, 9, crash), tmp_path, **SETTINGS)
    state = train(fresh(experiment), tmp_path, **SETTINGS)
    assert_same(state, finished[0])
    assert rows_without_times(tmp_path) == rows_without_times(finished[1])


def test_training_moves_everything_it_should(experiment, finished):
    """Every parameter, every running mean and every momentum has changed; the step counts the batches."""
    state, _ = finished
    assert int(state.step) == experiment.total_steps == 12
    for field in ("params", "batch_stats", "opt_state"):
        before, after = getattr(experiment.state, field), getattr(state, field)
        for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
            assert not np.array_equal(old, new), f"{field}{jax.tree_util.keystr(path)}"


def test_a_finished_run_is_not_trained_again(experiment, finished):
    """The same command once more returns the same state and adds nothing to the log."""
    state, workdir = finished
    log = (workdir / "metrics.jsonl").read_text()
    assert_same(train(fresh(experiment), workdir, **SETTINGS), state)
    assert (workdir / "metrics.jsonl").read_text() == log


def test_latest_and_best_checkpoints_are_kept(finished):
    """The last steps and the best test score are there, and the best is the one that the log says."""
    _, workdir = finished
    tests = [row for row in rows_without_times(workdir) if row["split"] == "test"]
    best = max(tests, key=lambda row: (row["exact"], row["step"]))["step"]  # the last of equals
    checkpoints = Checkpoints(workdir / "checkpoints")
    assert checkpoints.steps == [6, 12]
    assert checkpoints.best_step == best


def damage(batch):
    """The batch with a learning signal that is not a number."""
    where = batch.get("columns", batch)
    damaged = where | {"mask": where["mask"] * np.nan}
    return {**batch, "columns": damaged} if "columns" in batch else damaged


@pytest.mark.parametrize("stopping", [False, True])
@pytest.mark.parametrize("step", [9, 12])
def test_a_bad_step_ends_the_run_and_keeps_the_last_good_checkpoint(experiment, tmp_path, step, stopping):
    """In the middle of an epoch and at its end, where it would be saved, and when it should be saved to leave."""

    def action(batch):
        if stopping:
            os.kill(os.getpid(), signal.SIGTERM)
        return damage(batch)

    said = rf"step {step} \(epoch {step / 6:.2f}\): the loss is not finite; the last good checkpoint is at step 6\."
    with pytest.raises(UserError, match=said):
        train(disturbed(experiment, step - 1, action), tmp_path, **SETTINGS)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.steps == [6]
    restored = checkpoints.restore(experiment.state)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(restored.params))


def test_a_bad_step_in_a_call_of_several_is_named(resident, tmp_path):
    experiment, *_ = resident
    with pytest.raises(UserError, match=r"step 7 .*: the loss is not finite; the last good checkpoint is at step 6"):
        train(disturbed(experiment, 6 // experiment.steps_per_call, damage), tmp_path, **SETTINGS)


def test_skipped_steps_are_counted_through_a_stop(tiny_config, tmp_path, capsys):
    """Steps 8 and 9 are bad and the run is stopped between them: it goes on bit for bit, and counts both."""
    experiment = create_experiment(tiny_config(model__survival=0.5, guard__max_skips=2))
    bad = disturbed(disturbed(experiment, 7, damage), 8, damage)
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole = train(fresh(bad), tmp_path / "whole", **SETTINGS)
    stopping = disturbed(bad, 7, lambda batch: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped):
        train(stopping, tmp_path / "stopped", **SETTINGS)
    capsys.readouterr()
    assert_same(train(fresh(bad), tmp_path / "stopped", **SETTINGS), whole)
    assert int(whole.step) == 12 and int(whole.guard["skipped"]) == 2
    said = capsys.readouterr().out
    assert "Skipped step 9 (epoch 1.50): the loss is not finite." in said and "bad steps skipped: 2" in said
    rows = rows_without_times(tmp_path / "stopped")
    assert rows == rows_without_times(tmp_path / "whole")
    assert [row["skipped"] for row in rows if row["split"] == "train"] == [0, 2]
    assert [row["step"] for row in rows if "loss" in row] == [2, 4, 6, 10, 12]
    assert "NaN" not in (tmp_path / "stopped" / "metrics.jsonl").read_text()


def test_a_checkpoint_of_another_model_names_the_tensors(finished, tiny_config):
    """What differs is listed with both shapes."""
    other = create_experiment(tiny_config(model__widths=(4, 6)))
    with pytest.raises(UserError, match=r"of another model.*norms\.0\.scale \(checkpoint .*\(1, 8\), model .*\(1, 6\)"):
        Checkpoints(finished[1] / "checkpoints").restore(other.state)


def cut_short(checkpoint):
    """Cuts the files of a checkpoint to a few bytes."""
    for file in checkpoint.rglob("*"):
        if file.is_file() and file.stat().st_size > 1000:
            os.truncate(file, 100)


def test_a_damaged_checkpoint_is_set_aside(experiment, finished, tmp_path, capsys):
    """Twice: training goes on from the one before it, says what that costs, and ends as if nothing had happened."""
    shutil.copytree(finished[1], tmp_path, dirs_exist_ok=True)
    for aside in ("damaged_12", "damaged_12_2"):
        cut_short(tmp_path / "checkpoints" / "12")
        assert_same(train(fresh(experiment), tmp_path, **SETTINGS), finished[0])
        assert rows_without_times(tmp_path) == rows_without_times(finished[1])
        said = next(line for line in capsys.readouterr().out.splitlines() if "damaged" in line)
        assert "checkpoints/12 is damaged: " in said and f"set aside as {aside}. " in said
        assert "Its work after step 6, 6 steps (1.00 epochs), is done again." in said
        assert (tmp_path / "checkpoints" / aside).is_dir()
        assert Checkpoints(tmp_path / "checkpoints").steps == [6, 12]


def test_without_a_sound_checkpoint_nothing_is_begun_anew(experiment, finished, tmp_path):
    """Neither at once nor when it is started again."""
    shutil.copytree(finished[1], tmp_path, dirs_exist_ok=True)
    for step in ("6", "12"):
        cut_short(tmp_path / "checkpoints" / step)
    for _ in range(2):
        with pytest.raises(UserError, match=r"no checkpoint in .*checkpoints is sound: .*12 is damaged.*6 is damaged"):
            train(fresh(experiment), tmp_path, **SETTINGS)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["12", "6"]


@contextlib.contextmanager
def no_room():
    """While this lasts, no file can grow beyond 2 kB; the error is that of a file that is too large."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda batch: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_checkpoint_that_cannot_be_written_ends_the_run_at_once(experiment, finished, tmp_path):
    """A save in mid-epoch fails: noticed soon, not at the next save; with room the result is the same."""
    with no_room() as fill:

        def after_the_save(batch):
            while not (tmp_path / "checkpoints" / "6").is_dir():
                time.sleep(0.1)
            fill(batch)

        full = disturbed(experiment, 7, after_the_save)

        def slow(start):
            for batch in full.train_batches(start):
                time.sleep(0.3)
                yield batch

        settings = SETTINGS | {"checkpoint_minutes": 0.02, "log_every": 100}  # 1.2 s
        message = r"checkpoints/\d+ cannot be written: File too large .* checkpoint is at step 6 .*1.00\); [2-6] steps"
        with pytest.raises(UserError, match=message) as stopped:
            train(dataclasses.replace(full, train_batches=slow), tmp_path, **settings)
    assert "\n" not in str(stopped.value)
    assert_same(train(fresh(experiment), tmp_path, **SETTINGS), finished[0])


def test_a_log_that_cannot_be_written_ends_the_run(experiment, finished, tmp_path):
    """With a folder in the place of the file; when that is gone, the run goes on from its last checkpoint."""
    path = tmp_path / "metrics.jsonl"

    def block(batch):
        path.unlink()
        path.mkdir()

    with pytest.raises(UserError, match=r"metrics.jsonl cannot be written: .* is at step 6 .* steps .* are lost"):
        train(disturbed(experiment, 7, block), tmp_path, **SETTINGS)
    with pytest.raises(UserError, match=r"metrics.jsonl cannot be read: Is a directory"):
        train(fresh(experiment), tmp_path, **SETTINGS)
    path.rmdir()
    assert_same(train(fresh(experiment), tmp_path, **SETTINGS), finished[0])


def test_a_disk_without_room_for_a_checkpoint(experiment, tmp_path, monkeypatch):
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(experiment.state))
    for free, refused in ((size, False), (size - 1, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: shutil._ntuple_diskusage(free, 0, free))
        with pytest.raises(UserError, match="MiB left; make room") if refused else contextlib.nullcontext():
            Checkpoints(tmp_path, for_training=True).check_room(experiment.state)


def test_a_checkpoint_that_does_not_exist_is_named(finished, experiment, tmp_path):
    with pytest.raises(UserError, match=r"no checkpoint '7'; there are 'latest', 'best' and the steps \[6, 12\]"):
        Checkpoints(finished[1] / "checkpoints").restore(experiment.state, "7")
    with pytest.raises(UserError, match="no checkpoint in"):
        Checkpoints(tmp_path / "checkpoints").restore(experiment.state)


def test_profile_leaves_a_trace(experiment, finished, tmp_path, capsys):
    """A few steps of the run lie in its folder, in TensorBoard's and in Perfetto's form; the result is the same."""
    state = train(fresh(experiment), tmp_path, **SETTINGS, profile=True)
    assert_same(state, finished[0])
    names = [path.name for path in (tmp_path / "profile").rglob("*")]
    assert any(name.endswith(".xplane.pb") for name in names)
    assert any(name.endswith(".trace.json.gz") for name in names)
    assert f"in {tmp_path / 'profile'}" in capsys.readouterr().out
