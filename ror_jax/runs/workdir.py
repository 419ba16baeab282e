"""The folder of a run, and the settings that it was begun with."""

import contextlib
import fcntl
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from ror_jax.config import default_config
from ror_jax.errors import UserError
from ror_jax.files import replace_json, writing
from ror_jax.saved_settings import FREE, flat_settings, read_settings, write_settings
from ror_jax.training.checkpoint import has_checkpoint
from ror_jax.training.logging import environment


def check_workdir(workdir: Path, config: ConfigDict, *, free: tuple[str, ...] = FREE) -> None:
    """Raises UserError if the folder holds a run with other settings than these; the message lists them.

    Settings whose dotted names begin or end with one of the names `free` may differ.
    """
    path = workdir / "config.json"
    if path.exists():
        # A setting that is newer than the run had its default then.
        before = flat_settings(default_config()) | read_settings(path)
        # Where a stage begins is the folder of the one before it, whose settings are a part of these.
        _compare(workdir, before, flat_settings(config), (*free, "init_from") if config.stages else free)
    elif has_checkpoint(workdir / "checkpoints"):
        raise UserError(
            f"{workdir} holds checkpoints, but no config.json to say of which settings; put that file back, choose"
            " another --workdir, or delete that folder"
        )


def open_workdir(workdir: Path, config: ConfigDict) -> None:
    """Writes `config.json` and `environment.json` into a folder that is `locked`; raises NotWrittenError."""
    write_settings(workdir / "config.json", config)
    replace_json(workdir / "environment.json", environment())


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Makes the folder and holds it for this process alone.

    The file `lock` says who has it; what counts is the kernel's lock on it (flock), which ends with the process,
    however that ends. On a network file system it holds between machines as far as that system's own locks do: NFS
    since Linux 2.6.12 and its like take part; one that keeps locks to each machine lets a second machine in.

    Raises:
      UserError: another process has it.
      NotWrittenError: the folder cannot be written, or its file system knows no locks.
    """
    with contextlib.ExitStack() as stack:
        path = workdir / "lock"
        with writing(path):
            workdir.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("a+", encoding="utf-8", errors="replace"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.readline(500).strip() or "another process"
                raise UserError(
                    f"{holder} is training in {workdir}; wait for it, or choose another --workdir"
                ) from None
            file.truncate(0)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            file.write(f"process {os.getpid()} on {socket.gethostname()} (since {since}: {shlex.join(sys.argv)})\n")
            file.flush()
        yield


def _compare(workdir: Path, before: dict, now: dict, free: tuple[str, ...]) -> None:
    changed = [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not {key.split(".")[0], key.split(".")[-1]} & {*free}
    ]
    if changed:
        raise UserError(
            f"{workdir} holds a run with other settings: {'; '.join(changed)}."
            " Choose another --workdir (in another folder, or with another stage.NAME.name, if this is a stage of a"
            " recipe), or delete that one"
        )
