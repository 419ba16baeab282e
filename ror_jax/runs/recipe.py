"""A recipe: stages that are trained one after the other, each from the weights of the one before it."""

import dataclasses
import os
from pathlib import Path

from ml_collections import ConfigDict

from ror_jax.config import default_config, given
from ror_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Stage:
    """One run: its settings and its folder."""

    config: ConfigDict
    folder: Path


def stages(config: ConfigDict, workdir: Path, fold: int | None = None) -> list[Stage]:
    """The stages of a recipe in order; the last is the recipe itself, in `workdir`.

    The others lie beside it under their own names: recipes that begin alike share them. With `fold`, the stages whose
    data have folds are those of that fold, each in a folder `fold_N` of its own.

    Raises:
      UserError: a stage is not described, or has no name of its own.
    """
    found: list[Stage] = []
    for number, name in enumerate([*config.stages, None]):
        own = _stage_config(config, name, config.stages[:number])
        folder = workdir if name is None else workdir.parent / own.name
        if fold is not None and own.dataset.fold is not None:
            own.dataset.fold = fold
            folder /= f"fold_{fold}"
        if found:
            own.init_from = os.path.join(os.curdir, found[-1].folder)  # a path, and no name of a pretrained model
        if folder in [stage.folder for stage in found]:
            raise UserError(
                f"two stages of {config.name} would train in {folder}: each needs a stage.NAME.name of its own"
            )
        found.append(Stage(own, folder))
    return found


def _stage_config(config: ConfigDict, name: str | None, before: tuple[str, ...]) -> ConfigDict:
    """The whole config of one stage; it knows the stages before it and no others."""
    own = config.copy_and_resolve_references()
    with own.unlocked():
        own.stages = before
        own.stage = ConfigDict({other: config.stage[other].to_dict() for other in before if other in config.stage})
    if name is None:
        return own
    if name not in config.stage:
        known = ", ".join(config.stage) or "none"
        raise UserError(f"stages names {name!r}, but there is no stage.{name} that says what it is; there are: {known}")
    changes, usual = given(config.stage[name]), default_config()
    for part in ("dataset", "task"):
        if "name" in changes.get(part, {}):
            own[part], own.sampling = usual[part], usual.sampling
            own.early_stopping.update({"metric": None, "split": None})
            own.data_dir = None if part == "dataset" else own.data_dir
    own.closing_words = ""  # they are the recipe's
    own.update(changes)
    return own
