"""Weights in a folder: tensors in `weights.safetensors`, what they are in `model.json`. Reading them runs no code."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from input_pipeline.datasets.files import open_file
from ror_jax.errors import UserError
from ror_jax.files import replace_json, replacing, writing

TENSORS, CARD = "weights.safetensors", "model.json"


class Weights(NamedTuple):
    """Tensors by dotted name, such as `params.backbone.stem.kernel`, and the card.

    The card has what `models.describe_network` gives, and `source` or `init_from` (where the numbers come from).
    """

    tensors: dict[str, np.ndarray]
    card: dict


def flatten(params: dict, batch_stats: dict) -> dict:
    """The leaves of a model's two pure dicts by dotted name."""
    leaves = jax.tree_util.tree_leaves_with_path({"params": params, "batch_stats": batch_stats})
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def check_numbers(file: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Raises UserError unless all tensors, by our names or PyTorch's, are finite, and all variances 0 or more."""

    def broken(name: str, tensor: np.ndarray) -> bool:
        is_variance = name.rpartition(".")[2] in ("var", "running_var")
        return not np.isfinite(tensor).all() or (is_variance and (tensor < 0).any())

    if wrong := [name for name, tensor in tensors.items() if broken(name, tensor)]:
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise UserError(
            f"{file} has numbers that are not finite, or negative variances, in {', '.join(wrong[:8])}{more}"
        )


def save_weights(folder: Path, params: dict, batch_stats: dict, card: dict) -> None:
    """Writes the two files into `folder`, which is made; files of these names are replaced.

    Raises:
      NotWrittenError: they cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder, flatten(params, batch_stats))
    save_card(folder, card)


def save_tensors(folder: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes `weights.safetensors`; raises NotWrittenError where that is impossible."""
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    with replacing(folder / TENSORS) as unfinished:
        unfinished.write_bytes(save(tensors))  # not `save_file`, whose file only its owner may read


def checksum(folder: Path) -> str:
    """The SHA-256 of `weights.safetensors`, in hexadecimal; raises UserError where that file cannot be read."""
    try:
        with open_file(folder / TENSORS) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"no weights in {folder / TENSORS}: {error.strerror}; export the model again") from error


def load_weights(folder: Path) -> Weights:
    """What `save_weights` wrote; shapes and dtypes stand in the file's own header.

    Raises:
      UserError: there are no such files, or they are damaged, see `check_numbers`.
    """
    card = load_card(folder)
    try:
        tensors = load_file(folder / TENSORS)
    except (OSError, SafetensorError) as error:
        raise UserError(f"no weights in {folder / TENSORS}: {error}") from error
    check_numbers(folder / TENSORS, tensors)
    return Weights(tensors, card)


def save_card(folder: Path, card: dict) -> None:
    """Writes `model.json`; raises NotWrittenError where that is impossible."""
    replace_json(folder / CARD, card)


def load_card(folder: Path) -> dict:
    """Reads `model.json`; raises UserError where there is none, or it lacks what `models.describe_network` gives."""
    path = folder / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        numbers, parts = [*card["mean"], *card["std"]], [card["overrides"], card["heads"], card.get("trunks", {})]
        sound = len(numbers) == 6 and np.isfinite(numbers).all() and min(card["std"]) > 0
        sound = sound and isinstance(card["model"], str) and all(isinstance(part, dict) for part in parts)
    except OSError as error:
        hint = f"python -m ror_jax.convert --weights FILE --model NAME --output {folder} makes it"
        raise UserError(f"no weights in {folder}: {CARD}: {error.strerror}; {hint}") from error
    except (KeyError, RecursionError, TypeError, ValueError):
        sound = False
    if not sound:
        raise UserError(f"{path} is damaged: it must be JSON with model, overrides, heads, trunks, mean and std")
    if "trunks" not in card:
        raise UserError(
            f"{path} was written by ror_jax before 0.2 and has no trunks: convert, train or export the model again, or"
            " use that version"
        )
    return card


def take(tensors: Mapping[str, np.ndarray], model: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
    """Those of `tensors` that `model`, a dict by the same names, has in the same shape.

    Of heads and trunks, layers of another name or size are left out, the whole layer; a backbone must fit in every
    tensor.

    Raises:
      UserError: it does not; the message lists the tensors.
    """

    def shape(arrays, name):
        return tuple(arrays[name].shape) if name in arrays else "none"

    taken = {name: tensor for name, tensor in tensors.items() if shape(model, name) == tensor.shape}
    misfits = (model.keys() | tensors.keys()) - taken.keys()
    rest = [name for name in sorted(misfits) if name.split(".")[1] not in ("heads", "trunks")]
    wrong = [f"{name} (file {shape(tensors, name)}, model {shape(model, name)})" for name in rest]
    if wrong:
        more = f"; and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise UserError(f"the weights are of another model. Tensors that differ: {'; '.join(wrong[:8])}{more}")
    layers = {_layer(name) for name in misfits}
    return {name: tensor for name, tensor in taken.items() if _layer(name) not in layers}


def _layer(name: str) -> str:
    """The module that a tensor is of: batch statistics are of the same as its parameters."""
    return name.partition(".")[2].rpartition(".")[0]
