"""Turns torchvision's or timm's weights of a ResNet, EfficientNet or ConvNeXt into a folder that a run can start from.

    python -m tools.convert_torchvision --weights resnet34.pth --model ror34 --output weights/ror34
    python -m ror_jax.main --config=... --config.model.name=ror34 --config.init_from=weights/ror34

A RoR keeps every weight of the ResNet of its depth and gets new shortcuts above the blocks (Deep-RoR, section III.D).
Leave timm's `tf_efficientnet_*` alone: they are other networks under the same names as `efficientnet_*`.

`.pth` and `.pt` need PyTorch, which reads tensors and nothing else from them: no code in the file is run.
`.safetensors` needs nothing more.
"""

import argparse
import hashlib
import re
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from safetensors.numpy import load_file

from ror_jax.errors import UserError
from ror_jax.models import create_model, describe_network, model_config
from ror_jax.models.pretrained import IMAGENET_MEAN, IMAGENET_STD, load_state_dict, prediction_layer
from ror_jax.models.surgery import ror_from_resnet
from ror_jax.models.weights import flatten, save_weights


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a `.pth`, `.pt` or `.safetensors` file by PyTorch's names, half-precision ones as float32.

    A state dict may lie under "state_dict" or "model", and its names may begin with "module." or "model.".

    Raises:
      UserError: there is no such file, it holds no state dict, or numbers that are not finite, it would run code, or
        PyTorch is missing.
    """
    if path.suffix not in (".pth", ".pt", ".safetensors"):
        raise UserError(f"{path}: weights are .pth, .pt or .safetensors files")
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if path.suffix == ".safetensors":
        try:
            state = load_file(path)
        except Exception as error:  # of safetensors, or of numpy, which does not know all types of numbers
            raise UserError(f"{path} is no sound safetensors file: {error}") from error
    else:
        state = _read_torch(path)
    if not all(isinstance(name, str) and name.isprintable() and len(name) < 200 for name in state):
        raise UserError(f"{path} holds no state dict: its tensors have names that no layer has")
    names = {name: re.sub(r"^((module|model)\.)+", "", name) for name in state}
    if len(set(names.values())) < len(names):
        raise UserError(f"{path} holds several networks: names are the same without 'module.' and 'model.'")
    broken = [name for name, array in state.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    if broken:
        raise UserError(f"{path} has numbers that are not finite in {', '.join(broken[:8])}")
    return {names[name]: array for name, array in state.items()}


def _read_torch(path: Path) -> dict[str, np.ndarray]:
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
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not state or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise UserError(f"{path} holds no state dict: a dict of tensors by name, perhaps under 'state_dict' or 'model'")
    for name, tensor in state.items():
        # Not a view that shows a few numbers of the file again and again, nor what numpy does not have.
        odd = tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta
        if odd or tensor.nbytes > path.stat().st_size:
            raise UserError(f"{path}: {name!r:.99} is no plain tensor, or not wholly in the file")
    return {
        name: (tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor).numpy(force=True)
        for name, tensor in state.items()
    }


def convert(
    path: Path, model: str, output: Path, *, new_shortcut_init: str = "he", classifier: bool = True, seed: int = 0
) -> str:
    """Writes the network `model` with the weights of the file `path` into the folder `output`.

    Args:
      model: an EfficientNet, a ConvNeXt, a plain ResNet such as "resnet34", or a RoR of the same depth such as "ror34".
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
    state = read_weights(path)
    head = prediction_layer(config, state)
    width = nnx.eval_shape(config.build).maps["last"].width
    fits = np.shape(state.get(f"{head}.weight"))[1:] == (width,)
    heads = {"label": len(state[f"{head}.weight"])} if classifier and fits else {}
    pixels = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    shapes = nnx.eval_shape(lambda: create_model(model, heads, rngs=nnx.Rngs(seed), **pixels, **plain))
    graph, unknown = nnx.split(shapes)  # every number comes from the file: none is drawn
    network = nnx.merge(graph, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), unknown))
    taken = load_state_dict(network, state)
    overrides = {}
    if levels > 1:
        overrides = {"new_shortcut_init": new_shortcut_init}
        network = ror_from_resnet(network, levels, rngs=nnx.Rngs(seed), **overrides)

    _, params, batch_stats = nnx.split(network, nnx.Param, nnx.BatchStat)
    params, batch_stats = nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats)
    with path.open("rb") as file:
        source = {"file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    save_weights(output, params, batch_stats, describe_network(model, overrides, network) | {"source": source})

    ours = flatten(params, batch_stats).items()
    rows = {
        "taken": [state[name] for name in taken],
        "new shortcuts": [array for name, array in ours if re.search(r"children\.\d+\.shortcut\.", name)],
        f"left: {head}": [state[name] for name in state if name.startswith(f"{head}.") and name not in taken],
        "left: num_batches_tracked": [array for name, array in state.items() if name.endswith("num_batches_tracked")],
    }
    return "\n".join([f"{'':26}{'tensors':>8}{'numbers':>14}", *(_row(name, rows[name]) for name in rows)])


def _row(name: str, arrays: Iterable[np.ndarray]) -> str:
    sizes = [array.size for array in arrays]
    return f"{name:26}{len(sizes):>8,}{sum(sizes):>14,}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="a .pth, .pt or .safetensors file")
    parser.add_argument("--model", required=True, help="such as resnet34, ror34 or convnext_tiny")
    parser.add_argument("--output", type=Path, required=True, help="the folder to write")
    parser.add_argument("--new_shortcut_init", choices=("he", "zero"), default="he", help="zero: outputs stay the same")
    parser.add_argument("--without_classifier", action="store_true", help="leave ImageNet's prediction layer out")
    parser.add_argument("--seed", type=int, default=0, help="of the new shortcuts")
    args = parser.parse_args(arguments)
    try:
        table = convert(
            args.weights,
            args.model,
            args.output,
            new_shortcut_init=args.new_shortcut_init,
            classifier=not args.without_classifier,
            seed=args.seed,
        )
    except UserError as error:
        sys.exit(f"error: {error}")
    print(f"{args.model} from {args.weights} is in {args.output}\n{table}")


if __name__ == "__main__":
    main()
