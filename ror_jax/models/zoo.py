"""Pretrained models by name: `zoo.toml` lists them, and their folders are in the package or downloaded at first use."""

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

from input_pipeline.datasets.downloads import Original, download
from input_pipeline.errors import nearest
from ror_jax.errors import UserError, unknown
from ror_jax.files import read_json
from ror_jax.models.weights import CARD, checksum
from ror_jax.startup import CACHE_DIR, expanded

ZOO = Path(__file__).parents[1] / "zoo.toml"
DEFAULT = "faces_small"


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A pretrained model; its folder is one that `python -m ror_jax.export` made.

    Attributes:
      sha256: of its weights in the package, or of the archive at `url`, in hexadecimal.
      size_bytes: of the same.
      licence: of the images that it was trained on, and what that allows.
      attribution: whom to name where it is used.
      training: the command that trained it.
      results: figures of its test by name.
      file: its folder in the package; None: it is downloaded.
      url: of an archive, .zip, with a folder of the model's name.
    """

    sha256: str
    size_bytes: int
    licence: str
    attribution: str
    training: str
    results: Mapping[str, float]
    file: str | None = None
    url: str | None = None


def list_pretrained() -> dict[str, Pretrained]:
    """Returns the pretrained models by name."""
    return {name: Pretrained(**entry) for name, entry in tomllib.loads(ZOO.read_text(encoding="utf-8")).items()}


def pretrained_folder(name: str, cache_dir: str | os.PathLike = CACHE_DIR) -> Path:
    """Returns the folder of a pretrained model; one that is not in the package is downloaded to `cache_dir` once.

    Raises:
      UserError: there is no such model, or its files are damaged.
      DataError: it cannot be downloaded, or what comes has another SHA-256.
    """
    known = list_pretrained()
    if name not in known:
        raise unknown("pretrained model", name, known)
    model = known[name]
    if model.url:
        # By the checksum, so that a version of the program with other weights does not take these.
        place = expanded(cache_dir, "cache_dir") / "zoo" / model.sha256[:16]
        folder = (
            download([Original(name, model.url, model.sha256)], place, "its unpacked folder may be given instead")
            / name
        )
        remedy = f"delete {folder}, and it is downloaded again"
    else:
        folder, remedy = ZOO.parent / model.file, "install ror_jax again"
    if not _is_sound(folder):
        raise UserError(f"the pretrained model {name} in {folder} is damaged; {remedy}")
    return folder


def model_folder(
    model: str | os.PathLike | None, cache_dir: str | os.PathLike = CACHE_DIR, setting: str = "model"
) -> Path:
    """Returns the folder of a model.

    Args:
      model: the name of a pretrained model, or a folder; None: the pretrained model `DEFAULT`. Where a folder has the
        name of a pretrained model, the text means that model; "./NAME" and `Path(NAME)` mean the folder.
      cache_dir: see `pretrained_folder`.
      setting: what the user calls `model`, for messages.

    Raises:
      UserError, DataError: as `pretrained_folder`; or there is neither a model nor a folder of that name.
    """
    model, known = DEFAULT if model is None else model, list_pretrained()
    if isinstance(model, str) and model in known:
        return pretrained_folder(model, cache_dir)
    folder = expanded(model, setting)
    if model == folder.name and not folder.exists():
        raise UserError(f"{setting}: no folder {model}; {nearest('pretrained model', model, known)}")
    return folder


def _is_sound(folder: Path) -> bool:
    try:
        return checksum(folder) == read_json(folder / CARD).get("sha256")
    except UserError:
        return False
