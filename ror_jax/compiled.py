"""Where compiled programs are kept."""

import os
from pathlib import Path

import jax


def keep_compiled(cache_dir: str | Path) -> None:
    """Lets JAX keep compiled programs in the folder xla of `cache_dir`, unless JAX_COMPILATION_CACHE_DIR names one."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(Path(cache_dir).expanduser() / "xla"))
