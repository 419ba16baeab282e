"""Whether a checkpoint is what was written: checksums of its tensors, and a record that says what they should be."""

import json
import re
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from orbax.checkpoint import v1 as orbax


class Damaged(Exception):
    """A checkpoint cannot be used. Its argument says which one, and why."""


@jax.jit
def checksums(tree) -> jax.Array:
    """A checksum of each leaf, uint32 [leaves]: the sum over its elements of a hash of place and bits.

    All is mod 2^32, so that neither the order of the sum nor the number of devices matters. For each place the hash
    (the finalizer of MurmurHash3) maps all bits one to one: a change of one element always changes the sum, and that of
    several with all but one chance in 2^32.
    """

    def checksum(leaf: jax.Array) -> jax.Array:
        bits = leaf.view(f"uint{8 * leaf.dtype.itemsize}").astype(jnp.uint32)
        place = jnp.zeros(leaf.shape, jnp.uint32)
        for axis, size in enumerate(leaf.shape):  # not a reshaped range: each device can do its own part of this
            place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
        mixed = bits * (2 * place + 1) + place
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            mixed = (mixed ^ mixed >> shift) * jnp.uint32(factor)
        return jnp.sum(mixed ^ mixed >> 16, dtype=jnp.uint32)

    return jnp.stack([checksum(leaf) for leaf in jax.tree.leaves(tree)])


def describe_tensors(tree, sums: jax.Array | None = None) -> dict[str, dict]:
    """Shape and dtype of every leaf by dotted name, and its checksum if given."""
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="."): {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    if sums is not None:
        for leaf, checksum in zip(leaves.values(), jax.device_get(sums).tolist(), strict=True):
            leaf["checksum"] = checksum
    return leaves


def differing_tensors(found: dict[str, dict], wanted: dict[str, dict]) -> list[str]:
    """Which tensors of a checkpoint have another shape or dtype than those of the model, or are in one only."""

    def form(tensors: dict, name: str) -> str:
        return f"{tensors[name]['dtype']} {tuple(tensors[name]['shape'])}" if name in tensors else "none"

    return [
        f"{name} (checkpoint {form(found, name)}, model {form(wanted, name)})"
        for name in wanted | found
        if form(found, name) != form(wanted, name)
    ]


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its checksum, as `read_record` wants it."""
    return {"record": record, "crc32": _crc32(record)}


def read_record(path: Path) -> dict[str, Any]:
    """What was written beside the state in the folder `path`, which is called like its step.

    Raises:
      Damaged: it is not there, or not the one that was written.
    """
    try:
        metadata = orbax.metadata(path).custom_metadata or {}
        record = metadata.get("record")
        if not metadata:
            raise ValueError("without a record, as an older version of this program wrote it")
        if metadata.get("crc32") != _crc32(record) or record["step"] != int(path.name):
            raise ValueError("its record is not the one that was written")
    except Exception as error:  # Orbax has many ways to say that a file is damaged
        raise Damaged(f"the checkpoint {path} is damaged: {reason(error)}") from error
    return record


def check_tensors(path: Path, state, record: dict[str, Any]) -> None:
    """Raises Damaged unless the checksums of `state`, read from `path`, are those of its record."""
    found = describe_tensors(state, checksums(state))
    changed = [name for name in found if found[name] != record["tensors"][name]]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise Damaged(f"the checkpoint {path} is damaged: wrong checksum of {', '.join(changed[:3])}{more}")


def reason(error: BaseException) -> str:
    """The gist of an exception in a line; TensorStore's go on for pages, and say it last."""
    while error.__cause__:
        error = error.__cause__
    words = getattr(error, "strerror", None) or re.split(r" \[\w+(\[\d+\])?=", str(error))[0].rpartition(": ")[2]
    return f"{' '.join(words.split())[:200]} ({type(error).__name__})"


def _crc32(record: dict | None) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())
