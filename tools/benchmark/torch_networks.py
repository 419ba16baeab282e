"""PyTorch counterparts of what `tools.benchmark` measures: the residual networks, training, testing, reading images.

The networks follow equations 1 to 8 of RoR block after block, the way torchvision writes its own (module by module,
activations in place), and not the recursion of `ror_jax.models.residual`: so they are a check on it, too.
"""

import io
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from ror_jax.models.pretrained import LEAVES
from ror_jax.models.residual import ResidualConfig


class Shortcut(nn.Module):
    """A 1x1 projection, or the identity, subsampled and padded with zeros where the shape changes (type A)."""

    def __init__(self, config: ResidualConfig, in_width: int, width: int, stride: int, *, project: bool):
        super().__init__()
        norm = not config.preactivation if config.shortcut_norm is None else config.shortcut_norm
        self.stride, self.wider, self.average = stride, width - in_width, config.downsample == "average"
        self.conv = _conv(in_width, width, 1, stride) if project else None
        self.norm = nn.BatchNorm2d(width) if project and norm else None

    def forward(self, x):
        if self.conv is not None:
            x = self.conv(x)
            return x if self.norm is None else self.norm(x)
        if self.stride > 1 and self.average:
            x = functional.avg_pool2d(x, self.stride, ceil_mode=True, count_include_pad=False)
        elif self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(x, (0, 0, 0, 0, 0, self.wider)) if self.wider else x


class Body(nn.Module):
    """F: the convolutions of a block with their BN and ReLU."""

    def __init__(
        self, config: ResidualConfig, in_width: int, width: int, out_width: int, stride: int, first_norm: bool
    ):
        super().__init__()
        self.preactivation = config.preactivation
        widths = [in_width, *[width] * (len(config.kernels) - 1), out_width]
        strided = config.kernels.index(3)
        self.convs = nn.ModuleList(
            _conv(*pair, kernel, stride if index == strided else 1)
            for index, (pair, kernel) in enumerate(zip(itertools.pairwise(widths), config.kernels, strict=True))
        )
        norms = [nn.BatchNorm2d(width) for width in (widths[:-1] if config.preactivation else widths[1:])]
        self.norms = nn.ModuleList(norms if first_norm else [nn.Identity(), *norms[1:]])

    def forward(self, x):
        last = len(self.convs) - 1
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            if self.preactivation:
                x = conv(x if isinstance(norm, nn.Identity) else norm(x).relu_())
            else:
                x = norm(conv(x))
                x = x if index == last else x.relu_()
        return x


class Block(nn.Module):
    """h(x) + F(x), the final level."""

    def __init__(self, config: ResidualConfig, in_width: int, width: int, stride: int):
        super().__init__()
        out_width, kind = width * config.expansion, config.shortcut_types[-1]
        project = kind == "C" or (kind == "B" and (in_width != out_width or stride > 1))
        shared = config.both_preact and project
        self.shared_norm = nn.BatchNorm2d(in_width) if shared else None
        self.shortcut = Shortcut(config, in_width, out_width, stride, project=project)
        self.body = Body(config, in_width, width, out_width, stride, not shared)

    def forward(self, x):
        if self.shared_norm is not None:
            x = self.shared_norm(x).relu_()
        y = self.body(x)
        y += self.shortcut(x)
        return y


class Network(nn.Module):
    """Images [B, H, W, 3], 0...255, as our networks take them, to logits [B, K].

    Stochastic depth and dropout are not written here.

    Args:
      mean, std: of the training pixels in 0...255, a number a channel.
    """

    def __init__(self, config: ResidualConfig, num_classes: int, *, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        if config.survival < 1 or config.dropout > 0:
            raise ValueError("stochastic depth and dropout are not written for PyTorch")
        self.preactivation, self.imagenet = config.preactivation, config.stem == "imagenet"
        for name, numbers in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(numbers).reshape(1, 3, 1, 1), persistent=False)
        in_width = config.stem_width or config.widths[0]
        self.stem = _conv(3, in_width, 7 if self.imagenet else 3, 2 if self.imagenet else 1)

        chain = [
            (width, 2 if group > 0 and block == 0 else 1)
            for group, (count, width) in enumerate(zip(config.blocks_per_group, config.widths, strict=True))
            for block in range(count)
        ]
        widths = [in_width, *(width * config.expansion for width, _ in chain)]  # before, between and after the blocks
        self.blocks = nn.ModuleList(Block(config, widths[index], *sizes) for index, sizes in enumerate(chain))

        # g of the levels above: where each span begins and ends, and its shortcut.
        types = config.shortcut_types if len(config.shortcut_types) > 1 else ("B",) * config.levels
        self.spans = _spans(config.blocks_per_group, config.levels)
        self.starts = {start for spans in self.spans for start, _ in spans}
        self.levels = nn.ModuleList(
            nn.ModuleList(
                Shortcut(
                    config,
                    widths[start],
                    widths[stop],
                    math.prod(stride for _, stride in chain[start:stop]),
                    project=kind != "A",
                )
                for start, stop in spans
            )
            for spans, kind in zip(self.spans, types[:-1], strict=True)
        )
        self.norm = nn.BatchNorm2d(widths[-1] if config.preactivation else in_width)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, images):
        # Bytes [B, H, W, 3] seen as [B, 3, H, W] are in channels_last order already.
        x = self.stem((images.permute(0, 3, 1, 2).float() - self.mean) / self.std)
        if not self.preactivation:
            x = self.norm(x).relu_()
        if self.imagenet:
            x = functional.max_pool2d(x, 3, 2, padding=1)
        held = {}  # inputs of spans, by their first block
        for index, block in enumerate(self.blocks):
            if index in self.starts:
                held[index] = x
            x = block(x)
            for spans, shortcuts in zip(reversed(self.spans), reversed(self.levels), strict=True):
                for (start, stop), shortcut in zip(spans, shortcuts, strict=True):
                    if stop == index + 1:
                        x = x + shortcut(held[start])
            if not self.preactivation:
                x = x.relu_()
        if self.preactivation:
            x = self.norm(x).relu_()
        return self.head(x.mean((2, 3)))


def _conv(in_width: int, width: int, size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(in_width, width, size, stride, padding=size // 2, bias=False)


def _spans(blocks_per_group: Sequence[int], levels: int) -> list[list[tuple[int, int]]]:
    """What the levels above the final one span, as (first block, block behind the last), outermost level first.

    Everything; each group; the halves of what the level above spans.
    """
    stops = [0, *itertools.accumulate(blocks_per_group)]
    spans = [[(0, stops[-1])], list(itertools.pairwise(stops))]
    while len(spans) < levels - 1:
        middles = [(start, (start + stop + 1) // 2, stop) for start, stop in spans[-1]]
        spans.append([half for points in middles for half in itertools.pairwise(points)])
    return spans[: levels - 1]


def load_weights(network: Network, params: dict, batch_stats: dict) -> None:
    """Copies parameters and statistics of our network of the same configuration, given as plain dicts, in place.

    Raises:
      RuntimeError: some are missing, misshapen or too many.
    """
    state = {
        f"{module}.{LEAVES[leaf]}": torch.from_numpy(array)
        for tree in (params, batch_stats)
        for module, leaf, array in _modules(tree)
    }
    counters = {name: value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    network.load_state_dict(state | counters)


def _modules(tree: dict) -> Iterator[tuple[str, str, np.ndarray]]:
    """(our PyTorch network's name of the module, our name of the leaf, the array in PyTorch's layout)."""
    blocks, numbers = itertools.count(), [itertools.count() for _ in range(9)]

    def flat(name: str, tree: dict, block=slice(None)):
        for key, value in tree.items():
            if isinstance(value, dict):
                yield from flat(f"{name}.{key}", value, block)
            else:
                array = np.asarray(value)[block]
                yield name, key, np.array(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T, np.float32)

    def walk(residual: dict, level: int):
        if level > 0:
            yield from flat(f"levels.{level - 1}.{next(numbers[level])}", residual.get("shortcut", {}))
        for _, child in sorted(residual["children"].items()):
            if "blocks" in child:
                for block in range(len(next(_leaves(child)))):
                    yield from flat(f"blocks.{next(blocks)}", child["blocks"], block)
            else:
                yield from walk(child, level + 1)

    backbone = tree["backbone"]
    yield from walk(backbone["residuals"], 0)
    (head,) = tree["heads"].values() if "heads" in tree else ({},)
    for name, module in (("stem", backbone.get("stem", {})), ("norm", backbone["norm"]), ("head", head)):
        yield from flat(name, module)


def _leaves(tree: dict) -> Iterator[np.ndarray]:
    for value in tree.values():
        yield from _leaves(value) if isinstance(value, dict) else (value,)


class Run:
    """A network in channels_last on its device with one batch: trains on it, or only looks at it.

    On CPU float32; on a GPU bfloat16 by autocast and `torch.compile`.

    Args:
      images: uint8 [B, H, W, 3]. labels: int [B].
    """

    def __init__(self, network: Network, images: np.ndarray, labels: np.ndarray, *, device: str, learning_rate: float):
        self.device, self.gpu = device, device == "cuda"
        torch.backends.cudnn.benchmark = True
        self.network = network.to(device, memory_format=torch.channels_last)
        self._fast = torch.compile(network) if self.gpu else network
        self._images = torch.from_numpy(images).to(device)
        self._labels = torch.from_numpy(labels).long().to(device)
        self._optimizer = torch.optim.SGD(
            network.parameters(), learning_rate, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True
        )

    def train(self, steps: int) -> float:
        """So many steps of training; returns the loss of the last, [nats], when all are done."""
        self._fast.train()
        for _ in range(steps):
            self._optimizer.zero_grad()
            with self._precision():
                loss = functional.cross_entropy(self._fast(self._images), self._labels)
            loss.backward()
            self._optimizer.step()
        self._wait()
        return loss.item()

    def infer(self, times: int) -> np.ndarray:
        """The logits [B, K] in evaluation mode, computed so many times."""
        self.network.eval()
        with torch.inference_mode(), self._precision():
            for _ in range(times):
                logits = self.network(self._images)
        self._wait()
        return logits.float().numpy(force=True)

    def held_bytes(self) -> int:
        """Of the batch, the weights and the statistics."""
        tensors = (self._images, self._labels, *self.network.state_dict().values())
        return sum(tensor.nbytes for tensor in tensors)

    def _precision(self):
        return torch.autocast(self.device, torch.bfloat16, enabled=self.gpu)

    def _wait(self) -> None:
        if self.gpu:
            torch.cuda.synchronize()


class _Files(Dataset):
    def __init__(self, files: Sequence[bytes], transform: Callable):
        self._files, self._transform = files, transform

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int):
        return self._transform(Image.open(io.BytesIO(self._files[index])).convert("RGB"))


def image_loader(files: Sequence[bytes], size: int, batch_size: int) -> DataLoader:
    """Batches float32 [B, 3, size, size] of JPEG files, as torchvision's training scripts read ImageNet, in one thread.

    Raises:
      ImportError: torchvision is not installed.
    """
    try:
        from torchvision import transforms
    except RuntimeError:
        # Its compiled operators are made for another PyTorch (the usual package's, for CUDA), and two of them must be
        # known while it is imported. The transforms of Pillow images use none: a declaration is enough.
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from torchvision import transforms

    torch.set_num_threads(1)
    steps = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    return DataLoader(_Files(files, transforms.Compose(steps)), batch_size)
