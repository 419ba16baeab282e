"""The folder of a run, and the settings that it was begun with."""

import contextlib
import fcntl
import json
from pathlib import Path

from ml_collections import ConfigDict

from ror_jax.config import default_config
from ror_jax.errors import UserError
from ror_jax.training.logging import environment, replace_text

# What may change between two starts of one run, because the result does not depend on it.
FREE = (
    "cache_dir",
    "checkpoint_minutes",
    "closing_words",
    "data_dir",
    "guard",  # a run that ended at a bad step goes on as if it had been allowed to skip it from the beginning
    "log_every",
    "mesh",
    "profile",
    "test_batch_size",
    "workers",
)


def check_workdir(workdir: Path, config: ConfigDict, *, free: tuple[str, ...] = FREE) -> None:
    """Raises UserError if the folder holds a run with other settings than these; the message lists them.

    Settings of the names `free` may differ.
    """
    path = workdir / "config.json"
    if path.exists():
        usual, now = (json.loads(settings.to_json_best_effort()) for settings in (default_config(), config))
        # A setting that is newer than the run had its default then.
        try:
            before = flat_settings(usual) | flat_settings(json.loads(path.read_text()))
        except (ValueError, AttributeError) as error:
            raise UserError(f"{path} is damaged ({error}); choose another --workdir, or delete that one") from error
        # Where a stage begins is the folder of the one before it, whose settings are a part of these.
        _compare(workdir, before, flat_settings(now), (*free, "init_from") if config.stages else free)


def open_workdir(workdir: Path, config: ConfigDict) -> None:
    """Makes the folder and writes `config.json` and `environment.json`.

    Raises:
      UserError: the folder cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        for name, content in (("config", json.loads(config.to_json_best_effort())), ("environment", environment())):
            replace_text(workdir / f"{name}.json", json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"the run's folder {workdir} cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def locked(workdir: Path):
    """Holds the folder for this process alone; raises UserError where another one has it."""
    with (workdir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is training in {workdir}; choose another --workdir") from None
        yield


def _compare(workdir: Path, before: dict, now: dict, free: tuple[str, ...]) -> None:
    changed = [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and key.split(".")[0] not in free
    ]
    if changed:
        raise UserError(
            f"{workdir} holds a run with other settings: {'; '.join(changed)}."
            " Choose another --workdir (in another folder, or with another stage.NAME.name, if this is a stage of a"
            " recipe), or delete that one"
        )


def flat_settings(tree: dict, prefix: str = "") -> dict:
    """The settings of `config.json` by dotted name."""
    flat = {}
    for key, value in tree.items():
        flat |= flat_settings(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
