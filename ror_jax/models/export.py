"""Networks as ONNX files, which ONNX Runtime runs on CPU faster than XLA does.

`to_onnx` writes the evaluation mode module by module, blocks one after the other, in float32. Convolutions and batch
normalisations stand in the file as they stand in the network: on opening it, ONNX Runtime folds the one into the other,
lets the convolutions add up shortcuts and apply ReLUs, and lays images out as the processor likes them. It knows all
this by the names of the operators; made from JAX's operations, which know no batch normalisation, a file is slower.
"""

import os
from collections.abc import Callable, Iterator

import jax
import numpy as np
import onnx
import onnxruntime
from flax import nnx

from ror_jax.errors import UserError
from ror_jax.models.blocks import Run
from ror_jax.models.cnn_4c2f import Cnn4c2f
from ror_jax.models.convnext import ConvNext, ConvNextBlock
from ror_jax.models.efficientnet import ConvNorm, EfficientNet, MBConv
from ror_jax.models.layers import BatchNorm, Conv, LayerNorm, Linear
from ror_jax.models.network import Network
from ror_jax.models.residual import Block, FinalResidual, Residual, ResidualNetwork, Shortcut
from ror_jax.models.vgg import Vgg

OPSET = 17  # of ONNX 1.12, from 2022: what reads the files need not be new


def to_onnx(model: Network, path: str | os.PathLike) -> None:
    """Writes a network in evaluation mode; a file of that name is replaced.

    The input is `images`, uint8 [B, H, W, 3], as the network takes them; an output float32 [B, K] has the name of each
    prediction layer; what is the same for all images is left out. B may be anything, and so may H and W, but for 4c2f
    and VGG, which have theirs from `image_size`.

    Raises:
      UserError: the network has no prediction layer or a backbone that is not written here, or the file cannot be
        written.
    """
    if not model.heads:
        raise UserError("a network without a prediction layer has no outputs to export")
    if "images" in model.heads:
        raise UserError("a prediction layer cannot be called 'images' in an ONNX file: that is the input")
    graph = _Graph()
    outputs = graph.network(model)
    side = getattr(model.backbone.config, "image_size", None)
    images = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["B", side or "H", side or "W", 3])
    logits = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["B", k]) for name, k in outputs.items()]
    whole = onnx.helper.make_graph(graph.nodes, "network", [images], logits, graph.constants)
    opset = [onnx.helper.make_opsetid("", OPSET)]
    try:
        onnx.save(onnx.helper.make_model_gen_version(whole, opset_imports=opset), path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def open_onnx(path: str | os.PathLike) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """A function from images, uint8 [B, H, W, 3], to the outputs, float32 [B, K] by name, on all cores of this process.

    Raises:
      UserError: there is no such file, or it is damaged.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # each way to fail has a class of its own, with nothing above it
        raise UserError(f"{path} cannot be opened: {error}") from error
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))


def threads() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class _Graph:
    """Nodes and constants so far. A method a module: it takes and returns names of values; images are [B, C, H, W]."""

    def __init__(self):
        self.nodes, self.constants = [], []
        self.nonnegative = set()

    def node(self, operator: str, *inputs, output: str | None = None, **attributes) -> str:
        """Adds a node, and a constant for each input that is not a name; returns the name of its output."""
        output = output or f"{operator}_{len(self.nodes)}"
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        self.nodes.append(onnx.helper.make_node(operator, names, [output], **attributes))
        return output

    def constant(self, value) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    # --- Layers -------------------------------------------------------------------------------------------------------

    def relu(self, x: str) -> str:
        """Unless it would change nothing: nested residuals begin with one each."""
        if x in self.nonnegative:
            return x
        x = self.node("Relu", x)
        self.nonnegative.add(x)
        return x

    def max_pool(self, x: str, size: int, stride: int, **attributes) -> str:
        y = self.node("MaxPool", x, kernel_shape=[size] * 2, strides=[stride] * 2, **attributes)
        if x in self.nonnegative:
            self.nonnegative.add(y)
        return y

    def conv(self, conv: Conv, x: str) -> str:
        arrays = [_numbers(conv.kernel).transpose(3, 2, 0, 1)] + ([] if conv.bias is None else [_numbers(conv.bias)])
        options = {"strides": [conv.stride] * 2, "pads": [conv.padding] * 4, "group": conv.groups}
        return self.node("Conv", x, *arrays, **options)

    def norm(self, norm: BatchNorm, x: str) -> str:
        arrays = map(_numbers, (norm.scale, norm.bias, norm.mean, norm.var))
        return self.node("BatchNormalization", x, *arrays, epsilon=norm.epsilon)

    def layer_norm(self, norm: LayerNorm, x: str) -> str:
        """[..., C]."""
        return self.node("LayerNormalization", x, _numbers(norm.scale), _numbers(norm.bias), epsilon=norm.epsilon)

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

    def linear(self, linear: Linear, x: str, output: str | None = None) -> str:
        # ONNX Runtime makes one node of these, which could not give many outputs from one column of weights.
        return self.node("Add", self.node("MatMul", x, _numbers(linear.kernel)), _numbers(linear.bias), output=output)

    def hidden(self, layers: nnx.List, x: str) -> str:
        """Of 4c2f and VGG: [B, C, H, W] to [B, F]."""
        x = self.node("Flatten", self.channels_last(x))
        for layer in layers:
            x = self.relu(self.linear(layer, x))
        return x

    def mean(self, x: str) -> str:
        """Over the image: [B, C, H, W] to [B, C]."""
        return self.node("Flatten", self.node("GlobalAveragePool", x))

    # --- The residual family ------------------------------------------------------------------------------------------

    def shortcut(self, shortcut: Shortcut, x: str) -> str:
        if shortcut.conv is not None:
            x = self.conv(shortcut.conv, x)
            return x if shortcut.norm is None else self.norm(shortcut.norm, x)
        in_width, out_width, stride, _ = shortcut.shape
        if stride > 1 and shortcut.downsample == "average":
            sizes, stride = [stride] * 2, 1
            x = self.node("AveragePool", x, kernel_shape=sizes, strides=sizes, auto_pad="SAME_UPPER")
        if (in_width, stride) == (out_width, 1):
            return x
        # As a convolution, which leaves the image in the layout of those around it, where slices and padding do not.
        identity = np.eye(out_width, in_width, dtype=np.float32)
        return self.node("Conv", x, identity[:, :, None, None], strides=[stride] * 2)

    def block(self, block: Block, x: str) -> str:
        for index, (conv, norm) in enumerate(zip(block.convs, block.norms, strict=True)):
            if block.preactivation and norm is not None:
                x = self.relu(self.norm(norm, x))
            elif not block.preactivation and index > 0:
                x = self.relu(x)
            x = self.conv(conv, x)
            if not block.preactivation:
                x = self.norm(norm, x)
        return x

    def final_residual(self, residual: FinalResidual, x: str, survival: np.float32) -> str:
        if residual.shared_norm is not None:
            x = self.relu(self.norm(residual.shared_norm, x))
        elif not residual.preactivation:
            x = self.relu(x)
        y = self.block(residual.body, x)
        if residual.stochastic and residual.drop_path != "image_rescaled":
            y = self.node("Mul", y, survival)
        return self.node("Add", self.shortcut(residual.shortcut, x), y)

    def run(self, run: Run, x: str, survivals: Iterator[np.float32]) -> str:
        for residual in _blocks(run):
            x = self.final_residual(residual, x, next(survivals))
        return x

    def residual(self, residual: Residual, x: str, survivals: Iterator[np.float32]) -> str:
        """`survivals` begins with that of the residual's first block, and afterwards with that of the block behind."""
        if not residual.preactivation:
            x = self.relu(x)
        y = x
        for link in residual.links:
            y = (self.run if isinstance(link, Run) else self.residual)(link, y, survivals)
        return y if residual.shortcut is None else self.node("Add", y, self.shortcut(residual.shortcut, x))

    # --- EfficientNet and ConvNeXt ------------------------------------------------------------------------------------

    def conv_norm(self, layer: ConvNorm, x: str) -> str:
        return self.norm(layer.norm, self.conv(layer.conv, x))

    def mbconv(self, block: MBConv, x: str) -> str:
        y = x if block.expand is None else self.silu(self.conv_norm(block.expand, x))
        y = self.silu(self.conv_norm(block.depthwise, y))
        squeezed = self.silu(self.conv(block.squeeze, self.node("GlobalAveragePool", y)))
        y = self.node("Mul", y, self.node("Sigmoid", self.conv(block.excite, squeezed)))
        y = self.conv_norm(block.project, y)
        return self.node("Add", x, y) if block.adds else y

    def convnext_block(self, block: ConvNextBlock, x: str) -> str:
        y = self.layer_norm(block.norm, self.channels_last(self.conv(block.depthwise, x)))
        y = self.linear(block.project, self.gelu(self.linear(block.expand, y)))
        y = self.node("Mul", y, _numbers(block.layer_scale))
        return self.node("Add", x, self.channels_first(y))

    # --- Networks -----------------------------------------------------------------------------------------------------

    def residual_network(self, network: ResidualNetwork, x: str) -> str:
        config = network.config
        x = self.conv(network.stem, x)
        if not config.preactivation:
            x = self.relu(self.norm(network.norm, x))
        if config.stem == "imagenet":
            x = self.max_pool(x, 3, 2, pads=[1] * 4)
        x = self.residual(network.residuals, x, iter(config.survivals()))
        x = self.relu(self.norm(network.norm, x) if config.preactivation else x)
        return self.mean(x)

    def efficientnet(self, network: EfficientNet, x: str) -> str:
        x = self.silu(self.conv_norm(network.stem, x))
        for run in network.runs:
            for block in _blocks(run):
                x = self.mbconv(block, x)
        return self.mean(self.silu(self.conv_norm(network.head, x)))

    def convnext(self, network: ConvNext, x: str) -> str:
        def norm(norm, x):
            return self.channels_first(self.layer_norm(norm, self.channels_last(x)))

        x = norm(network.norms[0], self.conv(network.convs[0], x))
        for group, run in enumerate(network.runs):
            if group > 0:
                x = self.conv(network.convs[group], norm(network.norms[group], x))
            for block in _blocks(run):
                x = self.convnext_block(block, x)
        return self.layer_norm(network.norm, self.mean(x))

    def cnn_4c2f(self, network: Cnn4c2f, x: str) -> str:
        for index, conv in enumerate(network.convs):
            x = self.max_pool(self.relu(self.conv(conv, x)), 3, 2, ceil_mode=1)
            if index < 2:
                x = self.node("LRN", x, size=5, alpha=1e-4, beta=0.75)
        return self.hidden(network.hidden, x)

    def vgg(self, network: Vgg, x: str) -> str:
        for group in network.groups:
            for conv in group:
                x = self.relu(self.conv(conv, x))
            x = self.max_pool(x, 2, 2)
        return self.hidden(network.hidden, x)

    def network(self, network: Network) -> dict[str, int]:
        """Returns how many numbers each output has, by name."""
        backbones = {
            ResidualNetwork: self.residual_network,
            EfficientNet: self.efficientnet,
            ConvNext: self.convnext,
            Cnn4c2f: self.cnn_4c2f,
            Vgg: self.vgg,
        }
        backbone = backbones.get(type(network.backbone))
        if backbone is None:
            raise UserError(f"{type(network.backbone).__name__} cannot be exported: {__name__} does not write it")
        mean, std = (np.float32(numbers).reshape(3, 1, 1) for numbers in (network.mean, network.std))
        x = self.node("Cast", self.channels_first("images"), to=onnx.TensorProto.FLOAT)
        features = backbone(network.backbone, self.node("Div", self.node("Sub", x, mean), std))
        if network.mlp is not None:
            for linear, norm in zip(network.mlp.linears, network.mlp.norms, strict=True):
                features = self.gelu(self.norm(norm, self.linear(linear, features)))
        heads = {name: head for name, head in network.heads.items() if isinstance(head, Linear)}
        for name, head in heads.items():
            self.linear(head, features, output=name)
        return {name: head.bias.shape[0] for name, head in heads.items()}


def _blocks(run: Run) -> Iterator[nnx.Module]:
    """The blocks of a run, one by one."""
    definition, state = nnx.split(run.residuals)
    state = jax.device_get(state)
    for index in range(run.length):
        yield nnx.merge(definition, jax.tree.map(lambda leaf: leaf[index], state))  # noqa: B023


def _numbers(variable: nnx.Variable) -> np.ndarray:
    return np.asarray(variable[...], np.float32)
