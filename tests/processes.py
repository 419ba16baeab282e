"""Programs in processes of their own. They begin with the libraries imported, which takes seconds otherwise."""

import atexit
import multiprocessing
import os
import pathlib
import runpy
import sys
import tempfile
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection

ROOT = pathlib.Path(__file__).parents[1]
SECONDS = 300  # that a program may take
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["ror_jax.runs.studies", "ror_jax.serve.app", "absl.app"])


def environment(devices: int = 1) -> dict[str, str]:
    """The variables of a process that has so many devices, simulated by the CPU."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    return os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}


class Process:
    """What `python -m MODULE ARGUMENTS` starts in the folder `cwd`: as `subprocess.Popen` with pipes of text.

    `stdout` can be read line by line while it runs.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        devices: int = 1,
        variables: Mapping[str, str] | None = None,
        cwd: pathlib.Path = ROOT,
    ):
        reader, writer = _FORKS.Pipe(duplex=False)
        self._errors = tempfile.NamedTemporaryFile("r")  # noqa: SIM115 (it is removed with this object)
        told = environment(devices) | dict(variables or {})
        program = (module, list(map(str, arguments)), told, str(cwd), writer, self._errors.name)
        self._process = _FORKS.Process(target=_run, args=program)
        self._process.start()
        writer.close()
        self.stdout = os.fdopen(os.dup(reader.fileno()))
        reader.close()
        self.pid, self.kill = self._process.pid, self._process.kill

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float = SECONDS) -> tuple[str, str]:
        """Waits for the end; returns what it wrote since to stdout, and all it wrote to stderr."""
        timer = threading.Timer(timeout, self.kill)
        timer.start()
        words = "" if self.stdout.closed else self.stdout.read()
        self._process.join()
        timer.cancel()
        self._errors.seek(0)
        return words, self._errors.read()


def _run(module: str, arguments: list[str], variables: dict[str, str], cwd: str, stdout: Connection, stderr: str):
    """The new process."""
    os.dup2(stdout.fileno(), 1)
    os.dup2(os.open(stderr, os.O_WRONLY), 2)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    sys.argv = [module, *arguments]
    sys.path.insert(0, cwd)
    import jax

    jax.config.update("jax_platforms", variables["JAX_PLATFORMS"])
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
