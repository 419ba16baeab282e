"""The folder of a run, and the settings that it was begun with."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from ror_jax.errors import UserError
from ror_jax.training.logging import environment

# What may change between two starts of one run, because the result does not depend on it.
FREE = (
    "cache_dir",
    "checkpoint_minutes",
    "closing_words",
    "data_dir",
    "log_every",
    "mesh",
    "test_batch_size",
    "workers",
)


def open_workdir(workdir: Path, config: ConfigDict) -> None:
    """Makes the folder and writes `config.json` and `environment.json`, or checks that the run in it is this one.

    Raises:
      UserError: the folder cannot be written, or holds a run with other settings; the message lists them.
    """
    settings = json.loads(config.to_json_best_effort())
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        path = workdir / "config.json"
        if path.exists():
            _compare(workdir, _flat(json.loads(path.read_text())), _flat(settings))
        path.write_text(json.dumps(settings, indent=2) + "\n")
        (workdir / "environment.json").write_text(json.dumps(environment(), indent=2) + "\n")
    except OSError as error:
        raise UserError(f"the run's folder {workdir} cannot be written: {error.strerror}") from error


def _compare(workdir: Path, before: dict, now: dict) -> None:
    changed = [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and key.split(".")[0] not in FREE
    ]
    if changed:
        raise UserError(
            f"{workdir} holds a run with other settings: {'; '.join(changed)}."
            " Choose another --workdir, or delete that one"
        )


def _flat(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
