"""What the part of a batch that lies on one device has to know of the whole: sums over all of it, its place in it.

Inside `jax.shard_map` a network and a loss see the rows of one device alone. What they say of the batch goes through
here, so that the numbers are the same on any number of devices. Anywhere else the batch is whole and so is the sum.
"""

import jax
import jax.numpy as jnp
from jax import lax


def total(tree):
    """The sum of each leaf over the devices that share the batch."""
    axes = _axes()
    return lax.psum(tree, axes) if axes else tree


def gathered(tree):
    """Each leaf [B] with the rows of all devices that share the batch."""
    axes = _axes()
    return lax.all_gather(tree, axes, tiled=True) if axes else tree


def rows(count: int) -> int:
    """Rows of the whole batch, of which `count` are here."""
    axes = _axes()
    return count * lax.axis_size(axes) if axes else count


def row_keys(key: jax.Array, count: int) -> jax.Array:
    """A key for each of the `count` rows here, [count]; it depends on the row's place in the whole batch alone."""
    axes = _axes()
    first = lax.axis_index(axes) * count if axes else 0
    return jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(count))


def _axes() -> tuple[str, ...]:
    mesh = jax.sharding.get_abstract_mesh()
    # A sum over one device is none, but XLA's CPU backend would call for it all the same.
    return tuple(axis for axis in mesh.axis_names if axis in mesh.manual_axes and mesh.shape[axis] > 1)
