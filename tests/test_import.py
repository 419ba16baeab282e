"""Importing the package leaves the process as its host wants it."""

import pathlib
import subprocess
import sys

PROGRAM = """
import importlib, logging, os, pkgutil, signal, sys
import cv2, jax, matplotlib, numpy as np
from PIL import Image

def state():
    return {
        "OpenCV's threads": cv2.getNumThreads(),
        "environment": dict(os.environ),
        "Pillow's limit": Image.MAX_IMAGE_PIXELS,
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "numpy": np.geterr(),
        "JAX's cache": (jax.config.jax_compilation_cache_dir, jax.config.jax_enable_x64),
        "logging": (logging.root.level, logging.root.handlers),
        "hooks": (sys.excepthook, sys.unraisablehook),
    }

cv2.setNumThreads(3)
before = state()
for package in ("input_pipeline", "ror_jax"):
    importlib.import_module(package)
    for module in pkgutil.walk_packages([package], f"{package}."):
        importlib.import_module(module.name)
after = state()
assert after == before, (before, after)
"""


def test_importing_everything_changes_nothing_of_the_host_process():
    root = pathlib.Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
