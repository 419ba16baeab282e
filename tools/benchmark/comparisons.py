"""What is measured: a function a benchmark; the first line of its docstring is what `--list` prints."""

import ctypes
import dataclasses
import gc
import io
import math
import multiprocessing
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import jax
import numpy as np
from jax.extend.core import jaxprs_in_params
from PIL import Image

from input_pipeline import transforms
from tools.benchmark.measuring import (
    INSTALL_TORCHVISION,
    MEAN,
    Options,
    Ours,
    OursInOnnxRuntime,
    Row,
    Skipped,
    Workload,
    by_turns,
    counterpart,
    difference,
    pair,
    say,
    torch_networks,
)
from tools.benchmark.photographs import predict

MIB = 2**20

# By a part of the name: dense bfloat16 [FLOP/s], memory [bytes/s]. NVIDIA's data sheets of the SXM variants.
PEAKS = {"H200": (989e12, 4.8e12), "H100": (989e12, 3.35e12), "A100-SXM4-80GB": (312e12, 2.039e12)}


def ror(options: Options) -> list[Row]:
    """training step of ror3_110 against cifar_resnet110, batch 128, 32 px: time"""
    deep, plain = (options.workload(model, 128, 32) for model in ("ror3_110", "cifar_resnet110"))
    return [_two_of_ours(deep, plain, 1.02, options)]


def drop_path(options: Options) -> list[Row]:
    """training step of ror3_110 with survival 0.5 against 1.0, batch 128, 32 px: time"""
    half, all_of_it = (options.workload("ror3_110", 128, 32, survival=survival) for survival in (0.5, 1.0))
    return [_two_of_ours(half, all_of_it, 0.80, options)]


def _two_of_ours(first: Workload, second: Workload, limit: float, options: Options) -> Row:
    times = by_turns([Ours(work).train for work in (first, second)], options.rounds)
    what = f"training step, {first.name} : {second}"
    return Row(what, "s", ("<=", limit), *map(tuple, times.T.tolist()))


def backbones(options: Options) -> list[Row]:
    """training step of the multi-task article's backbones and of ror34, batch 8 (GPU: 128), 224 px: images/s"""
    batch_size = 8 if jax.default_backend() == "cpu" else 128
    names = ("resnet18", "efficientnet_b0", "convnext_tiny", "ror34")
    works = [options.workload(name, batch_size, 224) for name in names]
    times = by_turns([Ours(work).train for work in works], options.rounds).T
    return [
        Row(f"training, {work}", "images/s", None, tuple(work.batch_size / seconds))
        for work, seconds in zip(works, times, strict=True)
    ]


def compile_time(options: Options) -> list[Row]:
    """trace + compile of the training step, batch 128, 32 px: preror3_1202 against preror3_20; ror3_110 alone: time"""
    works = [options.workload(model, 128, 32) for model in ("preror3_1202", "preror3_20", "ror3_110")]

    def run(ours: Ours) -> Callable[[int], object]:
        return lambda count: [ours.compile() for _ in range(count)]

    deep, shallow, middle = by_turns([run(Ours(work)) for work in works], options.rounds).T.tolist()
    what = "trace + compile the training step"
    return [
        Row(f"{what}, {works[0].model} : {works[1].model}", "s", ("<=", 1.5), tuple(deep), tuple(shallow)),
        Row(f"{what}, {works[2].model}", "s", ("<=", 5), tuple(middle)),
    ]


def train_torch(options: Options) -> list[Row]:
    """training step against PyTorch's (CPU: cifar_resnet110, resnet34; GPU: ror3_110, ror34, ror50): images/s"""
    if jax.default_backend() == "cpu":
        works, limit = [("cifar_resnet110", 128, 32), ("resnet34", 16, 224)], 0.6
    else:
        works, limit = [("ror3_110", 128, 32), ("ror34", 128, 224), ("ror50", 64, 224)], 1.2
    rows = []
    for work in (options.workload(*work) for work in works):
        say(f"  {work}")
        ours, theirs, wrong = pair(work)
        rows.append(_rates(f"training, {work}", work.batch_size, [ours.train, theirs.train], limit, options, wrong))
    return rows


def inference_torch(options: Options) -> list[Row]:
    """evaluation mode against PyTorch's on CPU, in ONNX Runtime and in XLA, resnet34, batch 1 and 32: images/s"""
    if jax.default_backend() != "cpu":
        raise Skipped("measured on CPU: JAX_PLATFORMS=cpu")
    rows = []
    for work in (options.workload("resnet34", batch_size, 224) for batch_size in (1, 32)):
        say(f"  {work}")
        xla, theirs, wrong = pair(work)
        onnx = OursInOnnxRuntime(xla)
        ways = [("ONNX Runtime", onnx, difference(onnx, theirs)), ("XLA", xla, wrong)]
        runs = [*(way.infer for _, way, _ in ways), theirs.infer]
        *ours, other = map(tuple, (work.batch_size / by_turns(runs, options.rounds)).T.tolist())
        best = max(ours, key=np.median)  # the one to recommend, which the goal is for
        for (name, _, wrong), rates in zip(ways, ours, strict=True):
            goal = (">=", 1.0) if rates is best else None
            rows.append(Row(f"evaluation, {work}, {name}", "images/s", goal, rates, other, wrong=wrong))
    return rows


def _rates(what: str, images: int, runs, limit: float, options: Options, wrong: str = "") -> Row:
    rates = (images / by_turns(runs, options.rounds)).T.tolist()
    return Row(what, "images/s", (">=", limit), *map(tuple, rates), wrong=wrong)


def input_torch(options: Options) -> list[Row]:
    """JPEG of 256 and 816 px to an augmented float32 image of 224 px against torchvision's, one thread: images/s"""
    image_loader = torch_networks().image_loader
    try:
        return [_input(image_loader, stored, options) for stored in ((48, 144) if options.tiny else (256, 816))]
    except ImportError as error:
        raise Skipped(f"torchvision is not installed: {INSTALL_TORCHVISION}") from error


def _input(image_loader: Callable, stored: int, options: Options) -> Row:
    size, batch_size = (32, 4) if options.tiny else (224, 32)
    files = random_jpegs(4 * batch_size, stored)
    loader = image_loader(files, size, batch_size)
    transform = transforms.training_transform("scale_and_aspect", size=size, resize=size, fill=MEAN)
    rng = np.random.default_rng(0)

    def batch(files: list[bytes]) -> np.ndarray:
        images = [transform(transforms.EncodedImage(file, "a file"), rng).pixels for file in files]
        return np.stack(images, dtype=np.float32)

    def ours(count: int) -> list[np.ndarray]:
        for _ in range(count):
            batches = [batch(files[start : start + batch_size]) for start in range(0, len(files), batch_size)]
        return batches

    def theirs(count: int) -> list:
        for _ in range(count):
            batches = [batch.numpy() for batch in loader]
        return batches

    mine, other = np.concatenate(ours(1)), np.concatenate(theirs(1)).transpose(0, 2, 3, 1)
    same = mine.shape == other.shape and mine.dtype == other.dtype == np.float32
    wrong = "" if same and abs(mine.mean() / 255 - other.mean()) < 0.05 else "the images are of another kind"
    what = f"decode, crop, resize, flip, one thread, JPEG {stored} px -> {size} px"
    return _rates(what, len(files), [ours, theirs], 1.5, options, wrong)


def random_jpegs(count: int, size: int) -> list[bytes]:
    """Smooth random images of quality 95, with the same detail whatever their size."""
    rng, files = np.random.default_rng(0), []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8))
        file = io.BytesIO()
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
        files.append(file.getvalue())
    return files


def memory(options: Options) -> list[Row]:
    """peak memory of the training step against PyTorch's, cifar_resnet110, batch 128, 32 px, also with remat: MiB"""
    torch_networks()
    on_cpu = jax.default_backend() == "cpu"
    if on_cpu and sys.platform != "linux":
        raise Skipped("the peak of a process is measured on Linux")
    rows, plain = [], options.workload("cifar_resnet110", 128, 32)
    theirs = in_fresh_process(*((process_growth, plain, "theirs") if on_cpu else (torch_gpu_peak, plain)))
    for work, limit in ((plain, 1.0), (dataclasses.replace(plain, remat=True), 0.5)):
        say(f"  {work}")
        usage = Ours(work).compile().memory_analysis()
        ours = usage.argument_size_in_bytes + usage.output_size_in_bytes + usage.temp_size_in_bytes
        ours = (ours - usage.alias_size_in_bytes) / MIB
        note = "ours: arguments, outputs and temporaries of the compiled step; theirs: the most that PyTorch allocated"
        if on_cpu:
            note = (
                f"growth of a process in two steps, and what it held before. XLA's own account of ours: {ours:.0f} MiB"
            )
            ours = in_fresh_process(process_growth, work, "ours")
        rows.append(Row(f"peak memory of training, {work}", "MiB", ("<=", limit), (ours,), (theirs,), note=note))
    return rows


def in_fresh_process(function: Callable, *arguments):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def process_growth(work: Workload, side: str) -> float:
    """MiB: how much more this process holds at most in two training steps than before, and what it held for them.

    That is the batch, the weights and, of ours, the momentum, which PyTorch makes in its first step.
    """
    ours = Ours(work)
    if side == "ours":
        ours.step = ours.compile()
        run, held = ours, sum(leaf.nbytes for leaf in jax.tree.leaves((ours.state, ours.batch)))
    else:
        run = counterpart(ours, work)
        held = run.held_bytes()
        del ours
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what compiling has left free must not hide what the steps take
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is held now
    before = _status("VmRSS")
    run.train(2)
    return _status("VmHWM") - before + held / MIB


def _status(name: str) -> float:
    """A line of Linux's account of this process, MiB."""
    return int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def torch_gpu_peak(work: Workload) -> float:
    """MiB that PyTorch held on the GPU at most in four training steps."""
    theirs = counterpart(Ours(work), work)
    import torch

    theirs.train(2)  # compiles and chooses algorithms, which takes memory of its own
    torch.cuda.reset_peak_memory_stats()
    theirs.train(2)
    return torch.cuda.max_memory_allocated() / MIB


def host(options: Options) -> list[Row]:
    """time for the call of the training step to return, ror3_110, batch 8, 32 px, 1 and 10 steps a call: ms a step"""
    work, rows = options.workload("ror3_110", 8, 32), []
    for steps in (1, 10):
        ours, times = Ours(work), []
        ours.step = ours.make_step(steps)
        ours.train(2)
        for _ in range(4 * options.rounds):
            start = time.perf_counter()
            ours.state, loss, _ = ours.step(ours.state, ours.batch)
            times.append(1e3 * (time.perf_counter() - start) / steps)
            jax.block_until_ready((ours.state, loss))
        rows.append(Row(f"call of the training step returns, {work}, {steps} a call", "ms", ("<=", 1.0), tuple(times)))
    return rows


def roofline(options: Options) -> list[Row]:
    """share of what the GPU could do in the training step, ror34 batch 128 and ror50 batch 64, 224 px: %"""
    kind = jax.devices()[0].device_kind
    peaks = [peak for name, peak in PEAKS.items() if name in kind]
    if not peaks:
        raise Skipped(f"for GPUs whose peaks are known ({', '.join(PEAKS)}); this is {kind}")
    (flops_peak, bytes_peak), rows = peaks[0], []
    for work in (options.workload("ror34", 128, 224), options.workload("ror50", 64, 224)):
        say(f"  {work}")
        ours = Ours(work)
        cost = ours.compile().cost_analysis() or {}
        xla_flops, xla_bytes = (cost.get(key, 0.0) for key in ("flops", "bytes accessed"))
        flops = 3 * 2 * multiply_adds(ours)  # forward, and as much again for either gradient
        seconds = by_turns([ours.train], options.rounds)[:, 0]
        limit = max(flops / flops_peak, xla_bytes / bytes_peak)
        median = float(np.median(seconds))
        note = (
            f"{flops:.3g} FLOP in {median:.4g} s are {flops / median / 1e12:.0f} of {flops_peak / 1e12:.0f} TFLOP/s,"
            f" {100 * flops / median / flops_peak:.1f} %; {xla_bytes:.3g} bytes,"
            f" {100 * xla_bytes / median / bytes_peak:.1f} % of {bytes_peak / 1e12:g} TB/s. FLOP are counted from the"
            f" network; XLA says {xla_flops:.3g}. Its two numbers count the body of a loop once, so the bytes are at"
            f" least these. The share is of the larger one of both times at the peak, {limit:.4g} s"
        )
        what = f"roofline, training step, {work}"
        rows.append(Row(what, "%", (">=", 40), tuple((100 * limit / seconds).tolist()), note=note))
    return rows


def multiply_adds(ours: Ours) -> int:
    """Of convolutions and matrix products in one pass of the batch forward."""

    def count(jaxpr) -> int:
        total = 0
        for equation in jaxpr.eqns:
            name, out = equation.primitive.name, equation.outvars[0].aval
            if name == "conv_general_dilated":
                kernel = equation.invars[1].aval.shape  # [h, w, C, K]
                total += out.size * math.prod(kernel[:-1])
            elif name == "dot_general":
                (contracted, _), _ = equation.params["dimension_numbers"]
                total += out.size * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            inner = sum(count(part) for part in jaxprs_in_params(equation.params))
            total += inner * equation.params.get("length", 1)  # of a scan
        return total

    state = ours.state
    return count(jax.make_jaxpr(ours.forward)(state.params, state.batch_stats, ours.batch["image"]).jaxpr)


BENCHMARKS: dict[str, Callable[[Options], list[Row]]] = {
    "ror": ror,
    "drop_path": drop_path,
    "backbones": backbones,
    "compile": compile_time,
    "train_torch": train_torch,
    "inference_torch": inference_torch,
    "input_torch": input_torch,
    "memory": memory,
    "host": host,
    "predict": predict,
    "roofline": roofline,
}
AGAINST_TORCH = ("train_torch", "inference_torch", "input_torch", "memory")
