"""Turns torchvision's or timm's weights of a ResNet, EfficientNet or ConvNeXt into a folder that a run can start from;
those of FairFace's authors into a model that reads photographs.

    python -m ror_jax.convert --weights resnet34.pth --model ror34 --output weights/ror34
    python -m ror_jax.main --config=... --config.model.name=ror34 --config.init_from=weights/ror34

A RoR keeps every weight of the ResNet of its depth and gets new shortcuts above the blocks (Deep-RoR, section III.D).
Leave timm's `tf_efficientnet_*` alone: they are other networks under the same names as `efficientnet_*`.

    python -m ror_jax.convert --weights res34_fair_align_multi_7_20190809.pt --fairface --output models/fairface
    python -m ror_jax.predict --model=models/fairface PHOTOGRAPH_OR_FOLDER ...

makes a model of the network that FairFace's authors published, see `ror_jax.fairface`.

`.pth`, `.pt`, `.pth.tar` and `.bin` need PyTorch, which reads tensors and nothing else from them: no code in the file
is run. `.safetensors` needs nothing more.
"""

import argparse
import hashlib
import re
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from flax import nnx
from safetensors import safe_open

from input_pipeline.errors import InputError
from ror_jax.errors import UserError, unknown
from ror_jax.fairface import write_fairface_model
from ror_jax.models import describe_network, model_config
from ror_jax.models.pretrained import blank_model, load_state_dict, prediction_layer
from ror_jax.models.surgery import ror_from_resnet
from ror_jax.models.weights import check_numbers, flatten, save_weights

ENDINGS = (".pth", ".pt", ".pth.tar", ".bin", ".safetensors")
FLOATS = ("float16", "bfloat16", "float32", "float64", "F16", "BF16", "F32", "F64")  # PyTorch's names, safetensors'
WRAPPERS = r"^((module|model|_orig_mod)\.)+"  # prefixes of DataParallel, of trainers, of torch.compile


def read_weights(path: Path, key: str | None = None) -> dict[str, np.ndarray]:
    """The tensors of a file that ends in one of `ENDINGS` by PyTorch's names, as float32.

    The state dict may lie in the file as it is, or under a key such as "state_dict", "model_state_dict" or "model"; its
    names may begin with `WRAPPERS`, which are taken off. Integers that count batches stay integers.

    Args:
      key: which of several state dicts in a file of PyTorch's, such as "model_ema".

    Raises:
      UserError: there is no such file, it holds no state dict, several of them, or numbers that are no weights (see
        `models.weights.check_numbers`), it would run code, or PyTorch is missing.
    """
    if not path.name.endswith(ENDINGS):
        raise UserError(f"{path}: weights are {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]} files")
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if key is not None and path.suffix == ".safetensors":
        raise UserError(f"key is {key!r}, but {path} has no keys: it is no file of PyTorch's")
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path, key)
    if not all(isinstance(name, str) and name.isprintable() and len(name) < 200 for name in state):
        raise UserError(f"{path} holds no state dict: its tensors have names that no layer has")
    names = {name: re.sub(WRAPPERS, "", name) for name in state}
    if len(set(names.values())) < len(names):
        raise UserError(f"{path} holds several networks: names are the same without the prefixes module., model. ...")
    with np.errstate(over="ignore"):  # what does not fit is infinite, and refused
        state = {names[name]: array.astype(np.float32) if is_weight(name) else array for name, array in state.items()}
    check_numbers(path, state)
    return state


def is_weight(name: str) -> bool:
    """Whether the tensor of that name is no counter of batches."""
    return not name.endswith("num_batches_tracked")


def _check_types(path: Path, types: Mapping[str, str]) -> None:
    """Raises UserError for weights in integers or in 8 bits, which lack the scale that they were divided by."""
    wrong = [f"{name!r:.99} ({kind})" for name, kind in types.items() if kind not in FLOATS and is_weight(str(name))]
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise UserError(
            f"{path}: these are no floats of 16 bits or more: {', '.join(wrong[:4])}{more}; take other weights"
        )


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, "numpy") as file:
            names = list(file.keys())
            _check_types(path, {name: file.get_slice(name).get_dtype() for name in names})
            return {name: file.get_tensor(name) for name in names}
    except UserError:
        raise
    except Exception as error:  # of safetensors, or of numpy, which does not know all types of numbers
        raise UserError(f"{path} is no sound safetensors file: {error}") from error


def _read_torch(path: Path, key: str | None) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise UserError(f"{path} is PyTorch's: pip install torch, or convert the file to .safetensors") from error
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(part.file_size for part in archive.infolist())
            if unpacked > path.stat().st_size:
                raise ValueError("PyTorch compresses nothing; this could unpack to more than the memory holds")
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # whatever a damaged or malicious file leads to
        raise UserError(
            f"{path} was refused: it is damaged, compressed, or holds Python objects, which could run code. If you"
            " trust it, save its state dict alone with PyTorch"
        ) from error
    found = _state_dicts(state, torch.Tensor)
    if not found:
        raise UserError(f"{path} holds no state dict: a dict of tensors by name, perhaps under 'state_dict' or 'model'")
    if key is None and len(found) > 1:
        raise UserError(f"{path} holds several networks; choose one with key (--key): {', '.join(sorted(found))}")
    if key is not None and key not in found:
        raise unknown("key", key, found)
    state = found[key] if key else next(iter(found.values()))
    for name, tensor in state.items():
        # Not a view that shows a few numbers of the file again and again, nor what numpy does not have.
        odd = tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta
        if odd or tensor.nbytes > path.stat().st_size:
            raise UserError(f"{path}: {name!r:.99} is no plain tensor, or not wholly in the file")
    _check_types(path, {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in state.items()})
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).numpy(force=True)
        for name, tensor in state.items()
    }


def _state_dicts(content: object, tensor: type, depth: int = 2) -> dict[str, Mapping]:
    """The dicts of tensors in what a file of PyTorch's holds, by key: "" on top, or such as "model.state_dict"."""
    if not isinstance(content, Mapping) or not content:
        return {}
    if all(isinstance(value, tensor) for value in content.values()):
        return {"": content}
    parts = {
        key: _state_dicts(part, tensor, depth - 1) for key, part in content.items() if depth and isinstance(key, str)
    }
    return {f"{key}.{inner}".rstrip("."): state for key, found in parts.items() for inner, state in found.items()}


def convert(
    path: Path,
    model: str,
    output: Path,
    *,
    key: str | None = None,
    new_shortcut_init: str = "he",
    classifier: bool = True,
    seed: int = 0,
) -> str:
    """Writes the network `model` with the weights of the file `path` into the folder `output`.

    Args:
      model: an EfficientNet, a ConvNeXt, a plain ResNet such as "resnet34", or a RoR of the same depth such as "ror34".
      key: see `read_weights`.
      new_shortcut_init: of the shortcuts that a RoR adds, "he" or "zero" (then the outputs stay the ResNet's).
      classifier: keep ImageNet's prediction layer, as the output "label".
      seed: of the new shortcuts.

    Returns:
      A table of what was taken from the file, what is new and what was left.

    Raises:
      UserError: the file cannot be read, or its weights are of another model.
    """
    levels = getattr(model_config(model), "levels", 1)
    plain = {"levels": 1} if levels > 1 else {}  # what the file may be of
    config = model_config(model, **plain)
    state = read_weights(path, key)
    head = prediction_layer(config, state)
    width = nnx.eval_shape(config.build).maps["last"].width
    fits = np.shape(state.get(f"{head}.weight"))[1:] == (width,)
    heads = {"label": len(state[f"{head}.weight"])} if classifier and fits else {}
    network = blank_model(model, heads, **plain)
    taken = load_state_dict(network, state)
    overrides = {}
    if levels > 1:
        overrides = {"new_shortcut_init": new_shortcut_init}
        network = ror_from_resnet(network, levels, rngs=nnx.Rngs(seed), **overrides)

    _, params, batch_stats = nnx.split(network, nnx.Param, nnx.BatchStat)
    params, batch_stats = nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats)
    card = describe_network(model, overrides, network) | {"source": _source(path, key)}
    save_weights(output, params, batch_stats, card)

    ours = flatten(params, batch_stats).items()
    rows = {
        "taken": [state[name] for name in taken],
        "new shortcuts": [array for name, array in ours if re.search(r"children\.\d+\.shortcut\.", name)],
        f"left: {head}": [state[name] for name in state if name.startswith(f"{head}.") and name not in taken],
        "left: num_batches_tracked": [array for name, array in state.items() if not is_weight(name)],
    }
    return "\n".join([f"{'':26}{'tensors':>8}{'numbers':>14}", *(_row(name, rows[name]) for name in rows)])


def _source(path: Path, key: str | None) -> dict[str, str]:
    """What a card says of the file that its numbers come from."""
    with path.open("rb") as file:
        source = {"file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    return source | ({"key": key} if key else {})


def _row(name: str, arrays: Iterable[np.ndarray]) -> str:
    sizes = [array.size for array in arrays]
    return f"{name:26}{len(sizes):>8,}{sum(sizes):>14,}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help=f"a file: {', '.join(ENDINGS)}")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", help="such as resnet34, ror34 or convnext_tiny")
    what.add_argument("--fairface", action="store_true", help="FairFace's network, as a model for ror_jax.predict")
    parser.add_argument("--output", type=Path, required=True, help="the folder to write")
    parser.add_argument("--key", help="of several networks in a file of PyTorch's, the one under this key")
    ours = parser.add_argument_group("with --model")
    ours.add_argument("--new_shortcut_init", choices=("he", "zero"), default="he", help="zero: outputs stay the same")
    ours.add_argument("--without_classifier", action="store_true", help="leave ImageNet's prediction layer out")
    ours.add_argument("--seed", type=int, default=0, help="of the new shortcuts")
    args = parser.parse_args(arguments)
    try:
        if args.fairface:
            write_fairface_model(read_weights(args.weights, args.key), _source(args.weights, args.key), args.output)
            print(
                f"FairFace's network from {args.weights} is in {args.output}\n"
                f"python -m ror_jax.predict --model={args.output} PHOTOGRAPH_OR_FOLDER ...   reads faces with it."
            )
        else:
            table = convert(
                args.weights,
                args.model,
                args.output,
                key=args.key,
                new_shortcut_init=args.new_shortcut_init,
                classifier=not args.without_classifier,
                seed=args.seed,
            )
            print(f"{args.model} from {args.weights} is in {args.output}\n{table}")
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
