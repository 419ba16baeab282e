"""What all benchmarks share: a training step of ours, its counterpart in PyTorch, and turns."""

import dataclasses
import math
import operator
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from ror_jax.models import create_model, model_config
from ror_jax.models.convolution import compiler_options
from ror_jax.models.export import open_onnx, threads, to_onnx
from ror_jax.tasks import Classification
from ror_jax.training.mesh import create_mesh, shard_batch
from ror_jax.training.optimizer import create_optimizer
from ror_jax.training.state import create_state
from ror_jax.training.step import make_train_step

INSTALL_TORCH = "pip install torch==2.13.0"
INSTALL_TORCHVISION = "pip install --no-deps torchvision==0.28.0"  # beside any PyTorch: see `image_loader`
MEAN, STD = (127.5,) * 3, (64.0,) * 3  # of the random images
LEARNING_RATE = 1e-4  # learning one batch by heart would end in denormal numbers, which are slow on CPU
SETTLE = 0.3  # seconds between turns: idle threads of OpenMP keep turning for 0.2, on cores that the other one needs
TURN = 0.5  # seconds that a turn takes at least
COMPARE = {"<=": operator.le, ">=": operator.ge}

# Largest difference of the outputs, as a part of the largest output. bfloat16 keeps 8 bits; 0.006 was the most seen.
TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2}

TINY = {
    "ror3_110": "ror3_8",
    "cifar_resnet110": "cifar_resnet8",
    "preror3_1202": "preror3_20",
    "preror3_20": "preror3_8",
    "resnet18": "tiny_resnet",
    "efficientnet_b0": "tiny_efficientnet",
    "convnext_tiny": "tiny_convnext",
    "resnet34": "tiny_resnet",
    "ror34": "tiny_ror",
    "ror50": "tiny_bottleneck",
}


class Skipped(Exception):
    """Why something cannot be measured here, in one line."""


@dataclasses.dataclass(frozen=True)
class Options:
    rounds: int
    tiny: bool

    def workload(self, model: str, batch_size: int, pixels: int, **overrides) -> "Workload":
        """This one, or with `tiny` a small one of the same kind."""
        if self.tiny:
            model, batch_size, pixels = TINY[model], min(batch_size, 4), 16 if pixels == 32 else 32
        return Workload(model, batch_size, pixels, **overrides)


@dataclasses.dataclass(frozen=True)
class Workload:
    """A network and the size of the batch, the same random one for everybody, that it works on."""

    model: str
    batch_size: int
    pixels: int
    survival: float = 1.0
    remat: bool = False

    @property
    def name(self) -> str:
        survival = f" survival {self.survival:g}" if self.survival < 1 else ""
        return f"{self.model}{survival}{' remat' if self.remat else ''}"

    def __str__(self) -> str:
        return f"{self.name}, batch {self.batch_size}, {self.pixels} px"

    @property
    def classes(self) -> int:
        return 10 if self.pixels <= 32 else 1000

    def batch(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(0)
        return {
            "image": rng.integers(0, 256, (self.batch_size, self.pixels, self.pixels, 3), np.uint8),
            "label": rng.integers(0, self.classes, self.batch_size, np.int32),
            "mask": np.ones(self.batch_size, np.float32),
        }


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
      what: was measured.
      unit: of the numbers.
      goal: such as ("<=", 1.02), for the ratio; where there is nothing to compare with, for ours. None: no goal.
      ours, theirs: a number for each round. `theirs` may be another one of ours, and None is nothing.
      wrong: how the outputs of the two differ, if they do.
      note: what one should know to read the numbers.
    """

    what: str
    unit: str
    goal: tuple[str, float] | None
    ours: tuple[float, ...]
    theirs: tuple[float, ...] | None = None
    wrong: str = ""
    note: str = ""

    def judged(self) -> np.ndarray:
        """What the goal is for, a number for each round."""
        return np.array(self.ours) / np.array(self.theirs) if self.theirs else np.array(self.ours)

    def met(self) -> bool | None:
        if self.goal is None:
            return None
        sign, limit = self.goal
        return bool(COMPARE[sign](np.median(self.judged()), limit))

    def cells(self) -> list[str]:
        """ours, theirs, ratio, goal, met or not, spread, as a person reads them."""
        first, third = np.quantile(self.judged(), (0.25, 0.75))
        ours = f"{np.median(self.ours):.4g} {self.unit}"
        theirs = f"{np.median(self.theirs):.4g} {self.unit}" if self.theirs else "-"
        ratio = f"{np.median(self.judged()):.3f}" if self.theirs else "-"
        goal = f"{self.goal[0]} {self.goal[1]:g}" + ("" if self.theirs else f" {self.unit}") if self.goal else "-"
        met = "WRONG" if self.wrong else {True: "yes", False: "no", None: "-"}[self.met()]
        spread = f"{first:.4g} ... {third:.4g}" if len(self.ours) > 1 else "-"
        return [ours, theirs, ratio, goal, met, spread]


# --- Ours ---------------------------------------------------------------------------------------------------------


class Ours:
    """The project's own training step with its state and one batch, on one device unless there is another mesh."""

    def __init__(self, work: Workload, mesh: Mesh | None = None):
        mesh = create_mesh(data=1) if mesh is None else mesh
        task = Classification(names=tuple(str(number) for number in range(work.classes)))
        optimizer, _ = create_optimizer(learning_rate=LEARNING_RATE, decay_epochs=(), epochs=1, steps_per_epoch=1)
        options = {"mean": MEAN, "std": STD, "dtype": getattr(jnp, precision())}
        options |= {"survival": work.survival, "remat": work.remat}

        def make_model(rngs: nnx.Rngs) -> nnx.Module:
            return create_model(work.model, task.heads, rngs=rngs, **options)

        self.graph, self.state = create_state(make_model, optimizer, task, mesh, seed=0)
        self.batch = shard_batch(work.batch(), mesh)
        self.make_step = lambda steps=1: make_train_step(self.graph, task, optimizer, 0, mesh, steps=steps)
        self.step = self.make_step()
        self._evaluate = jax.jit(self.forward, compiler_options=compiler_options())

    def make_irregular(self) -> None:
        """Gives BN and biases, which begin as zeros and ones, numbers that cannot be mistaken for one another."""
        rng = np.random.default_rng(0)

        def change(path, leaf):
            noise = 0.0 if path[-1].key == "kernel" else rng.normal(0, 0.1, leaf.shape)
            return jax.device_put((leaf + noise).astype(leaf.dtype), leaf.sharding)

        model = {"params": self.state.params, "batch_stats": self.state.batch_stats}
        self.state = dataclasses.replace(self.state, **jax.tree_util.tree_map_with_path(change, model))

    def forward(self, params: dict, batch_stats: dict, images: jax.Array) -> jax.Array:
        """The logits [B, K] in evaluation mode."""
        return nnx.merge(self.graph, params, batch_stats)(images)["label"]

    def train(self, steps: int) -> float:
        """So many steps; returns the loss of the last, [nats], when all are done."""
        for _ in range(steps):
            self.state, loss, _ = self.step(self.state, self.batch)
        return float(jax.block_until_ready((self.state, loss))[1])

    def infer(self, times: int) -> np.ndarray:
        """The same, computed so many times, one after the other: on CPU they would run side by side."""
        for _ in range(times):
            logits = self._evaluate(self.state.params, self.state.batch_stats, self.batch["image"]).block_until_ready()
        return np.asarray(logits)

    def compile(self) -> jax.stages.Compiled:
        """Traces and compiles the step anew."""
        return self.make_step().lower(self.state, self.batch).compile()


class OursInOnnxRuntime:
    """The network of `Ours` with its weights and batch, exported and run by ONNX Runtime.

    Raises:
      UserError: a package for it is missing.
    """

    def __init__(self, ours: Ours):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            to_onnx(nnx.merge(ours.graph, ours.state.params, ours.state.batch_stats), file)
            self._run = open_onnx(file)
        self._images = np.asarray(ours.batch["image"])

    def infer(self, times: int) -> np.ndarray:
        """The logits [B, K] in evaluation mode, computed so many times."""
        for _ in range(times):
            logits = self._run(self._images)["label"]
        return logits


def precision() -> str:
    """Of the computation; parameters are float32 everywhere."""
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


# --- Theirs -------------------------------------------------------------------------------------------------------


def torch_networks():
    """The module with the PyTorch counterparts, set up for this machine.

    Raises:
      Skipped: PyTorch is not installed, or has nothing to do with the device that JAX uses.
    """
    try:
        import torch

        from tools.benchmark import torch_networks
    except ImportError as error:
        raise Skipped(f"PyTorch is not installed: {INSTALL_TORCH}") from error
    if jax.default_backend() != "cpu" and not torch.cuda.is_available():
        raise Skipped(f"JAX runs on {jax.default_backend()}, but PyTorch has no such device here")
    torch.set_num_threads(threads())
    return torch_networks


def counterpart(ours: Ours, work: Workload):
    """A `torch_networks.Run` of the same network with the same weights and batch."""
    theirs = torch_networks()
    network = theirs.Network(model_config(work.model), work.classes, mean=MEAN, std=STD)
    theirs.load_weights(network, *jax.device_get((ours.state.params, ours.state.batch_stats)))
    batch, device = work.batch(), "cpu" if jax.default_backend() == "cpu" else "cuda"
    return theirs.Run(network, batch["image"], batch["label"], device=device, learning_rate=LEARNING_RATE)


def pair(work: Workload):
    """Ours, its counterpart, and their `difference`."""
    torch_networks()  # or skipped, before time is spent
    ours = Ours(work)
    ours.make_irregular()
    theirs = counterpart(ours, work)
    return ours, theirs, difference(ours, theirs)


def difference(ours: Ours | OursInOnnxRuntime, theirs) -> str:
    """How the outputs of the two in evaluation mode differ; nothing if they do not."""
    mine, other = ours.infer(1), theirs.infer(1)
    error, limit = float(np.abs(mine - other).max() / np.abs(other).max()), TOLERANCE[precision()]
    return "" if error <= limit else f"the outputs differ by {error:.1e} of the largest, over {limit:g}"


# --- Measuring ----------------------------------------------------------------------------------------------------


def by_turns(runs: Sequence[Callable[[int], object]], rounds: int) -> np.ndarray:
    """Seconds a call, [rounds, runs]: one after the other, in every round.

    A run is called with how often it shall do what it does, and returns when that is done. Two calls come first, to
    compile and to warm up; the second tells how many calls make a turn.
    """
    counts = []
    for run in runs:
        run(1)
        counts.append(math.ceil(TURN / timed(run, 1)))
    times = np.empty((rounds, len(runs)))
    for number in range(rounds):
        say(f"  round {number + 1} of {rounds}")
        for index, (run, count) in enumerate(zip(runs, counts, strict=True)):
            time.sleep(SETTLE)
            times[number, index] = timed(run, count)
    return times


def timed(run: Callable[[int], object], count: int) -> float:
    """Seconds a call."""
    start = time.perf_counter()
    run(count)
    return (time.perf_counter() - start) / count


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
