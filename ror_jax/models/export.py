"""Networks as ONNX files, which ONNX Runtime runs on CPU faster than XLA does.

A module has `to_onnx` beside its `__call__`, which adds to a `Graph` what it computes in evaluation mode, in float32.
Convolutions and batch normalisations stand in the file as they stand in the network: on opening it, ONNX Runtime folds
the one into the other, lets the convolutions add up shortcuts and apply ReLUs, and lays images out as the processor
likes them. It knows all this by the names of the operators; made from JAX's operations, which know no batch
normalisation, a file is slower.
"""

import os
from collections.abc import Callable, Iterable
from typing import BinaryIO

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
from flax import nnx

from ror_jax.errors import UserError
from ror_jax.models.network import Network

OPSET = 17  # of ONNX 1.12, from 2022: what reads the files need not be new


def to_onnx(model: Network, path: str | os.PathLike | BinaryIO, image_size: int | None = None) -> None:
    """Writes a network in evaluation mode to a file that is open for writing, or of that name, which is replaced.

    The input is `images`, uint8 [B, H, W, 3], as the network takes them; an output float32 [B, K] has the name of each
    head; heads that are constants are left out. B may be anything, and so may H and W, unless the configuration fixes
    them (4c2f, VGG), or a trunk pools to a grid: then both are `image_size`.

    Raises:
      UserError: the network has no head that reads a trunk, or a backbone without `to_onnx`; a trunk pools to a grid
        and `image_size` is not given; or the file cannot be written.
    """
    heads = {name: head for name, head in model.head_specs.items() if head.trunk is not None}
    if not heads:
        raise UserError("a network without a prediction layer has no outputs to export")
    if "images" in heads:
        raise UserError("a prediction layer cannot be called 'images' in an ONNX file: that is the input")
    if not has_onnx(model):
        raise UserError(f"{type(model.backbone).__name__} cannot be exported to ONNX: it has no method to_onnx")
    side, sizes = getattr(model.backbone.config, "image_size", None), None
    grids = sorted({head.trunk for head in heads.values() if model.trunks[head.trunk].needs_sizes})
    if grids:
        side = side or image_size
        if side is None:
            raise UserError(f"trunk {grids[0]!r} pools to a grid, which ONNX needs an image_size for")
        sizes = _map_sizes(model.backbone, side)
    graph = Graph()
    model.to_onnx(graph, graph.node("Cast", graph.channels_first("images"), to=onnx.TensorProto.FLOAT), sizes)
    images = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["B", side or "H", side or "W", 3])
    outputs = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["B", head.size])
        for name, head in heads.items()
    ]
    nodes, constants = graph.needed(heads)
    whole = onnx.helper.make_graph(nodes, "network", [images], outputs, constants)
    opset = [onnx.helper.make_opsetid("", OPSET)]
    try:
        onnx.save(onnx.helper.make_model_gen_version(whole, opset_imports=opset), path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def has_onnx(model: Network) -> bool:
    """Whether the backbone of `model` can be written as ONNX."""
    return hasattr(model.backbone, "to_onnx")


def _map_sizes(backbone: nnx.Module, side: int) -> dict[str, tuple[int, int]]:
    """Height and width of each map for images of side x side pixels."""
    definition, state = nnx.split(backbone)
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    maps = jax.eval_shape(lambda state, images: nnx.merge(definition, state)(images), state, images)
    return {name: x.shape[1:3] for name, x in maps.items()}


def open_onnx(path: str | os.PathLike | bytes) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """A function from images, uint8 [B, H, W, 3], to the outputs, float32 [B, K] by name, on all cores of this process.

    Args:
      path: of the ONNX file, or its bytes.

    Raises:
      UserError: there is no such file, or it is damaged.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # each way to fail has a class of its own, with nothing above it
        name = "the network as ONNX" if isinstance(path, bytes) else path
        raise UserError(f"{name} cannot be opened: {error}") from error
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))


def threads() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class Graph:
    """Collects nodes and constants from the `to_onnx` of modules. Values have names; images are [B, C, H, W]."""

    def __init__(self):
        self._nodes, self._constants = [], {}
        self._relus = {}  # name of a value -> that of its ReLU

    def node(self, operator: str, *inputs, output: str | None = None, **attributes) -> str:
        """Adds a node, and a constant for each input that is not a name; returns the name of its output."""
        output = output or f"{operator}_{len(self._nodes)}"
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        self._nodes.append(onnx.helper.make_node(operator, names, [output], **attributes))
        return output

    def constant(self, value: np.ndarray | nnx.Variable) -> str:
        """Adds an array; variables as float32."""
        name = f"constant_{len(self._constants)}"
        array = np.asarray(value[...], np.float32) if isinstance(value, nnx.Variable) else value
        self._constants[name] = onnx.numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def needed(self, outputs: Iterable[str]) -> tuple[list, list]:
        """Returns the nodes and constants that these values are computed from."""
        names, nodes = set(outputs), []
        for node in reversed(self._nodes):
            if names & set(node.output):
                names |= set(node.input)
                nodes.append(node)
        return nodes[::-1], [constant for name, constant in self._constants.items() if name in names]

    def relu(self, x: str) -> str:
        """Adds a ReLU, unless x is one or has one already: nested residuals begin with one each."""
        if x not in self._relus:
            y = self.node("Relu", x)
            self._relus |= {x: y, y: y}
        return self._relus[x]

    def max_pool(self, x: str, size: int, stride: int, **attributes) -> str:
        y = self.node("MaxPool", x, kernel_shape=[size] * 2, strides=[stride] * 2, **attributes)
        if self._relus.get(x) == x:
            self._relus[y] = y
        return y

    def channels_last(self, x: str) -> str:
        return self.node("Transpose", x, perm=[0, 2, 3, 1])

    def channels_first(self, x: str) -> str:
        return self.node("Transpose", x, perm=[0, 3, 1, 2])

    def silu(self, x: str) -> str:
        return self.node("Mul", x, self.node("Sigmoid", x))

    def gelu(self, x: str) -> str:
        """x / 2 (1 + erf(x / sqrt 2)), in the order in which ONNX Runtime knows it."""
        y = self.node("Add", self.node("Erf", self.node("Div", x, np.float32(np.sqrt(2)))), np.float32(1))
        return self.node("Mul", self.node("Mul", x, y), np.float32(0.5))
