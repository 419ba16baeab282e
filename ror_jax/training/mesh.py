"""Devices as a mesh with the axis `data`, and what lies where on it."""

from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ror_jax.errors import UserError


def create_mesh(data: int = -1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh over all of `devices`, -1, or over so many; unless given, they are those of all processes.

    Raises:
      UserError: there are not so many devices.
    """
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    data = count if data == -1 else data
    if not 1 <= data <= count:
        raise UserError(f"mesh.data is {data}; it must be between 1 and {count}, the number of devices")
    return jax.make_mesh((data,), ("data",), axis_types=(AxisType.Auto,), devices=devices[:data])


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises UserError where the mesh does not divide the batch."""
    if batch_size % mesh.shape["data"]:
        near = max(batch_size // mesh.shape["data"], 1) * mesh.shape["data"]
        raise UserError(
            f"a batch of {batch_size} images cannot be divided over {mesh.shape['data']} devices; try {near}"
        )


def shard_batch(batch: dict, mesh: Mesh) -> dict:
    """This process' rows of a batch as global arrays, divided along their first axis over `data`.

    What is on the devices already stays as it is.
    """
    sharding = NamedSharding(mesh, PartitionSpec("data"))

    def shard(rows):
        return rows if isinstance(rows, jax.Array) else jax.make_array_from_process_local_data(sharding, rows)

    return jax.tree.map(shard, batch)
