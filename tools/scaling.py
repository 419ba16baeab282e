"""What a training step moves between devices and what it computes, and how far that goes on many of them.

    python -m tools.scaling                          RoR-34 and RoR-152 at 224 pixels, 32 images a chip
    python -m tools.scaling ror50 --batch_size 64

Compiles the step for a few devices, which a CPU can pretend to be, and reads from the compiled program which sums they
exchange, of how many bytes and how often. Their number does not change what each sends. The throughput is arithmetic
from there on, printed with the tables: it was measured on none of these machines.
"""

import argparse
import dataclasses
import math
import os
import re

if __name__ == "__main__":  # before JAX reads it
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax

from ror_jax.training.mesh import create_mesh
from ror_jax.training.state import count_parameters
from tools.benchmark.comparisons import multiply_adds
from tools.benchmark.measuring import Ours, Workload

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
ITEM_BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "bf16": 2,
    "f16": 2,
    "s32": 4,
    "u32": 4,
    "f32": 4,
    "s64": 8,
    "u64": 8,
    "f64": 8,
}
SHARE_OF_PEAK = 0.3  # of the arithmetic, that a chip is taken to reach in a training step; not measured
CHIPS = (8, 64, 512)


@dataclasses.dataclass(frozen=True)
class Machine:
    """Chips, and what each of them can do; from the makers' data sheets, but for the latency, which is assumed.

    Attributes:
      flops: of one chip, dense bfloat16 [FLOP/s].
      near: what one chip sends to its neighbours, and far: to chips outside of its group of `group` [bytes/s].
      latency: of a small all-reduce, in a group of chips and beyond [s].
    """

    name: str
    flops: float
    near: float
    far: float
    group: int
    latency: tuple[float, float]


MACHINES = (
    # NVLink 900 GB/s in both directions together; a network card of 400 Gbit/s for each GPU.
    Machine("NVIDIA H100 SXM, nodes of 8", 989e12, 450e9, 50e9, 8, (20e-6, 60e-6)),
    # 6 links in a 3D torus, 2,400 Gbit/s together; all of 512 chips are in one pod.
    Machine("TPU v4, one slice", 275e12, 300e9, 300e9, 4096, (20e-6, 20e-6)),
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """An exchange between devices: what it is, bytes of the whole array or arrays, how often it runs in a step."""

    kind: str
    bytes: int
    times: int


def collectives(program: str) -> list[Collective]:
    """All exchanges in the text of a compiled program, those in a loop's body as often as the loop runs.

    Of the branches of a conditional all are counted.

    Raises:
      ValueError: a loop with an exchange does not say how often it runs, or an exchange is not of the form that XLA's
        CPU backend writes.
    """
    found: dict[str, list[Collective]] = {}
    calls: dict[str, list[tuple[str, int | None]]] = {}
    entry = name = ""
    for line in program.splitlines():
        head = re.match(r"(ENTRY )?%?([\w.-]+) \(.*\{$", line)
        if head:
            name = head[2]
            entry = name if head[1] else entry
            found[name], calls[name] = [], []
        elif " = " in line:
            found[name] += _exchange(line)
            trips = re.search(r"known_trip_count\D*(\d+)", line)
            loop = re.search(r" while\(", line)
            for called in re.findall(
                r"(?:body|condition|calls|to_apply|\w+_computations?)=\{?((?:%[\w.-]+(?:, )?)+)", line
            ):
                times = (int(trips[1]) if trips else None) if loop else 1
                calls[name] += [(each, times) for each in re.findall(r"%([\w.-]+)", called)]

    def run(name: str, times: int) -> list[Collective]:
        here = [dataclasses.replace(each, times=times) for each in found.get(name, ())]
        for called, count in calls.get(name, ()):
            inside = run(called, 1)
            if inside and count is None:
                raise ValueError(f"a loop in {name} exchanges numbers and does not say how often")
            here += [dataclasses.replace(each, times=each.times * times * count) for each in inside]
        return here

    return run(entry, 1)


def _exchange(line: str) -> list[Collective]:
    """The exchange that an instruction is, if it is one."""
    match = re.search(rf" = (.*?) ({'|'.join(KINDS)})(-start)?\(", line)
    if not match:
        return []
    if match[3] or "replica_groups=[" in line:
        raise ValueError(f"an exchange of another form: {line.strip()[:200]}")
    shapes = re.findall(r"(\w+)\[([\d,]*)\]", match[1])
    size = sum(ITEM_BYTES[kind] * math.prod(int(side) for side in sides.split(",") if side) for kind, sides in shapes)
    if match[2] == "reduce-scatter":  # the result is a part
        size *= len(re.search(r"replica_groups=\{\{([\d,]+)\}", line)[1].split(","))
    return [Collective(match[2], size, 1)]


@dataclasses.dataclass(frozen=True)
class Step:
    """A training step: numbers of parameters, FLOP an image forwards and backwards, and what goes between devices."""

    name: str
    batch_size: int
    parameters: int
    flops: float
    gradient: Collective
    others: list[Collective]

    def seconds(self, machine: Machine, chips: int) -> tuple[float, float, float]:
        """Time for the arithmetic, for the gradients and for all smaller sums, on so many chips."""
        compute = self.batch_size * self.flops / (SHARE_OF_PEAK * machine.flops)
        inside = min(chips, machine.group)
        # A ring, in each group and then across groups, where each chip carries its share of the gradients.
        groups = chips // inside
        gradients = 2 * (inside - 1) / inside * self.gradient.bytes / machine.near
        gradients += 2 * (groups - 1) / groups * self.gradient.bytes / inside / machine.far
        small = sum(each.times for each in self.others) * machine.latency[groups > 1]
        return compute, gradients, small


def measure(model: str, batch_size: int, pixels: int) -> Step:
    """Compiles the step for all devices there are, an image on each, and reads it."""
    ours = Ours(Workload(model, jax.device_count(), pixels), create_mesh())
    gradient, *others = sorted(collectives(ours.compile().as_text()), key=lambda each: -each.bytes * each.times)
    flops = 3 * 2 * multiply_adds(ours) / jax.device_count()  # forwards, and as much again for either gradient
    return Step(model, batch_size, count_parameters(ours.state.params), flops, gradient, others)


def report(steps: list[Step]) -> str:
    """The tables, in Markdown."""
    lines = [
        "| network | parameters | GFLOP an image, both ways | gradients, one all-reduce | other exchanges of a step |",
        "|---|---:|---:|---:|---:|",
    ]
    for step in steps:
        moved = sum(each.bytes * each.times for each in step.others)
        largest = max(each.bytes for each in step.others)
        lines.append(
            f"| {step.name} | {step.parameters:,} | {step.flops / 1e9:.1f} | {step.gradient.bytes / 1e6:.1f} MB |"
            f" {sum(each.times for each in step.others)}, {moved / 1e6:.2f} MB together, the largest"
            f" {largest / 1e3:.1f} kB |"
        )
    lines += [
        "",
        "| network | machine | chips | arithmetic | gradients | small sums | images/s | of ideal |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for step in steps:
        for machine in MACHINES:
            for chips in CHIPS:
                parts = step.seconds(machine, chips)
                lines.append(
                    f"| {step.name}, {step.batch_size} a chip | {machine.name} | {chips} |"
                    f" {' | '.join(f'{1e3 * seconds:.2f} ms' for seconds in parts)} |"
                    f" {chips * step.batch_size / sum(parts):,.0f} | {100 * parts[0] / sum(parts):.0f} % |"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["ror34", "ror152"], metavar="MODEL", help="see list_models()")
    parser.add_argument("--batch_size", type=int, default=32, help="images a chip (default: %(default)s)")
    parser.add_argument("--pixels", type=int, default=224, help="a side (default: %(default)s)")
    arguments = parser.parse_args()
    print(report([measure(model, arguments.batch_size, arguments.pixels) for model in arguments.models]))


if __name__ == "__main__":
    main()
