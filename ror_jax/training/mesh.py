"""Devices as a mesh, `data` x `model`, and what lies where on it.

A batch is divided over all devices. Parameters and the optimiser's state are whole on each device where `model` is 1;
else the `model` devices of a row of the mesh share one copy of them (FSDP; with more than one row, hybrid FSDP). Each
fetches the parameters for the step, all of them at its beginning, and keeps its part of them afterwards.
"""

import collections
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ror_jax.errors import UserError

AXES = ("data", "model")
DIVIDED_FROM = 2**12  # numbers in an array; a smaller one is not worth the call that fetches it


def create_mesh(*, data: int = -1, model: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns a mesh of `data` x `model` devices.

    The devices of one process stand side by side, those of the first one first: as the rows of a batch, of which every
    process makes its own.

    Args:
      data: copies of parameters and optimiser state; -1: as many as there are devices for.
      model: devices that share a copy (FSDP). A batch is divided over all data x model devices.
      devices: to choose from; those of all processes unless given.

    Raises:
      UserError: there are not so many devices, or several processes and not all devices in the mesh.
    """
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    if not 1 <= model <= count or count % model:
        divisors = ", ".join(str(number) for number in range(1, count + 1) if count % number == 0)
        raise UserError(f"mesh.model is {model}; it must divide the number of devices, {count}: {divisors}")
    data = count // model if data == -1 else data
    if not 1 <= data <= count // model:
        of_a_model = f" / mesh.model, {model}" if model > 1 else ""
        raise UserError(
            f"mesh.data is {data}; it must be between 1 and {count // model}, the number of devices{of_a_model}"
        )
    if jax.process_count() > 1 and data * model < count:
        raise UserError(
            f"the mesh takes {data} x {model} of {count} devices; with several processes it must take all: leave out"
            " mesh.data"
        )
    if len(set(collections.Counter(device.process_index for device in devices).values())) > 1:
        raise UserError("the processes have different numbers of devices; each must have as many as the others")
    devices = sorted(devices, key=lambda device: (device.process_index, device.id))[: data * model]
    return Mesh(np.reshape(devices, (data, model)), AXES, axis_types=(AxisType.Auto,) * 2)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, before: int = 0) -> NamedSharding:
    """An axis of a batch divided over all devices, the first one or that after `before` others."""
    return NamedSharding(mesh, PartitionSpec(*[None] * before, AXES))


def param_sharding(shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """How a parameter lies: divided over `model` along its longest axis that can be, the last of equals; else whole."""
    model = mesh.shape["model"]
    axes = [axis for axis, size in enumerate(shape) if size % model == 0]
    if model == 1 or not axes or np.prod(shape) < DIVIDED_FROM:
        return replicated(mesh)
    axis = max(axes, key=lambda axis: (shape[axis], axis))
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "model"))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises UserError where the mesh does not divide the batch."""
    if batch_size % mesh.size:
        near = max(batch_size // mesh.size, 1) * mesh.size
        raise UserError(f"a batch of {batch_size} images cannot be divided over {mesh.size} devices; try {near}")


def shard_batch(batch: dict, mesh: Mesh) -> dict:
    """This process' rows of a batch as global arrays, divided along their first axis over all devices.

    What is on the devices already stays as it is.
    """

    def shard(local):
        return (
            local
            if isinstance(local, jax.Array)
            else jax.make_array_from_process_local_data(batch_sharding(mesh), local)
        )

    return jax.tree.map(shard, batch)


def put_global(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """An array that every process has whole, laid out over the devices of all."""
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def gather(tree, mesh: Mesh):
    """The arrays of `tree` as numpy arrays, whole, on every process."""
    return jax.device_get(jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(tree))


def describe_layout(parts: dict, mesh: Mesh) -> str:
    """A table of what the state's parts hold and how they lie on the devices; `parts` are trees by name."""
    data, model = mesh.shape.values()
    processes = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    lines = [
        f"{mesh.size} devices{processes}: {data} (data) x {model} (model)",
        f"{'':18}{'numbers':>14}{'MiB':>10}{'MiB a device':>14}   arrays: divided over model, whole",
    ]
    for name, tree in parts.items():
        leaves = jax.tree.leaves(tree)
        held = sum(np.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)
        numbers, size = sum(leaf.size for leaf in leaves), sum(leaf.nbytes for leaf in leaves)
        here = sum(not leaf.sharding.is_fully_replicated for leaf in leaves)
        lines.append(
            f"{name:18}{numbers:>14,}{size / 2**20:>10.2f}{held / 2**20:>14.2f}   {here}, {len(leaves) - here}"
        )
    return "\n".join(lines)
