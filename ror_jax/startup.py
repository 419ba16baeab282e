"""What a program does before anything else of JAX."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from ror_jax.errors import UserError

CACHE_DIR = "~/.cache/ror_jax"  # for prepared data, compiled programs and downloads, unless another is given


def use_devices(cache_dir: str) -> None:
    """Checks that there are devices, and keeps the programs that are compiled for them in `cache_dir`.

    If the variable JAX_COMPILATION_CACHE_DIR names a folder, they are kept there instead. They are not kept if
    `cache_dir` begins with `~` and the user has no home folder.

    Raises:
      UserError: as `check_devices`.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        with contextlib.suppress(UserError):
            jax.config.update("jax_compilation_cache_dir", str(expanded(cache_dir, "cache_dir") / "xla"))
    check_devices()


def check_devices() -> None:
    """Raises UserError where there is no device of the kind that JAX_PLATFORMS asks for."""
    try:
        jax.devices()
    except Exception as error:  # RuntimeError, or an AssertionError without a word
        words = next(iter(str(error).splitlines()), "there is no such device, or no JAX for it")
        asked = jax.config.jax_platforms
        raise UserError(f"JAX finds no device with JAX_PLATFORMS={asked}: {words}; unset it, or say cpu") from error


def expanded(path: str | os.PathLike, setting: str) -> Path:
    """The path with a home folder for `~`; raises UserError where the user of this process has none."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{setting} is {path}, but this user has no home folder; set HOME, or {setting}") from error


@contextlib.contextmanager
def on_sigterm(handler: Callable) -> Iterator[None]:
    """Handles SIGTERM with `handler` inside the block, and as before it afterwards: the caller of `main` may go on."""
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
