"""The settings of a run as its folder keeps them, in `config.json`."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from ror_jax.errors import UserError
from ror_jax.files import read_json, replace_json

FORMAT = 2  # of config.json
# What may change between two starts of one run, because the result does not depend on it.
FREE = (
    "allow_changed_data",
    "cache_dir",
    "checkpoint_minutes",
    "closing_words",
    "data_dir",
    "guard",  # a run that ended at a bad step goes on as if it had been allowed to skip it from the beginning
    "log_every",
    "mesh",
    "profile",
    "steps_per_call",  # but for rounding
    "test_batch_size",
    "workers",
)


def write_settings(path: Path, config: ConfigDict) -> None:
    """Writes `config.json`; raises NotWrittenError where that is impossible."""
    replace_json(path, {"format": FORMAT} | json.loads(config.to_json_best_effort()))


def read_settings(path: Path) -> dict:
    """Returns the settings of a `config.json` by dotted name.

    Raises:
      UserError: the file is damaged, or of another version of the program.
    """
    try:
        settings = _flat(read_json(path))
    except (UserError, RecursionError) as error:
        words = str(error) if isinstance(error, UserError) else f"{path} is damaged: {error}"
        raise UserError(f"{words}; choose another --workdir, or delete that folder") from error
    if settings.pop("format", None) != FORMAT:
        raise UserError(f"{path} was written by ror-jax before 0.2; choose another --workdir, or install that version")
    return settings


def flat_settings(config: ConfigDict) -> dict:
    """Returns the settings of a config by dotted name, as `read_settings` would."""
    return _flat(json.loads(config.to_json_best_effort()))


def _flat(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
