"""Several processes as one run: how they find each other, and how they agree.

All of them run the same program on parts of each batch. What they decide for themselves, such as that a signal came or
a file cannot be read, they must tell each other: a process that goes another way leaves the others waiting.
"""

import contextlib
import hashlib
import os
import socket
import sys

import jax
import numpy as np
from jax.experimental import multihost_utils

from input_pipeline.errors import InputError
from ror_jax.errors import UserError
from ror_jax.startup import check_devices

PATIENCE = 30  # seconds that a process which leaves waits for the others; then all are ended
MAX_MESSAGE_BYTES = 1000  # bytes of a message that processes pass on


def initialize(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins the other processes; call it before anything else of JAX.

    Without arguments they find each other where JAX knows how: on TPU pods, under SLURM and Open MPI. Elsewhere the
    process is alone. What others than the first print is dropped; their errors are not.

    Args:
      coordinator: host and port of the first process, for all to reach.
      num_processes: how many there are.
      process_id: which of them this is, 0 being the first.

    Raises:
      UserError: some of the arguments are missing, or make no sense; or there are no devices.
    """
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    missing = [f"--{name}" for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise UserError(f"{', '.join(missing)}: give all of --{', --'.join(given)}, or none of them")
    if coordinator is not None:
        host, _, port = coordinator.rpartition(":")
        try:
            socket.getaddrinfo(host, int(port))
        except (OSError, ValueError, OverflowError) as error:
            raise UserError(
                f"--coordinator={coordinator}: it must be HOST:PORT of the first process: {error}"
            ) from error
        print(f"Process {process_id} of {num_processes} waits for the others at {coordinator}, 5 minutes.", flush=True)
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM away from the training loop
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id, shutdown_timeout_seconds=PATIENCE)
    except (ValueError, TypeError, IndexError) as error:
        if "coordinator_address should be defined" not in str(error):
            raise UserError(f"where the other processes are makes no sense: {error}") from error
    except RuntimeError as error:
        words = str(error).splitlines()[0]
        raise UserError(f"the processes did not find each other: {words}") from error
    check_devices()
    if not is_first():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (for good)


def is_first() -> bool:
    """Whether this is the process that writes what people read."""
    return jax.process_index() == 0


def largest(*numbers: float) -> list[float]:
    """The largest of each of the numbers over all processes, which must all call this at the same place."""
    if jax.process_count() == 1:
        return list(numbers)
    return multihost_utils.process_allgather(np.array(numbers, np.float32)).max(0).tolist()


def check_same(what: str, text: str) -> None:
    """Raises UserError on all processes if `text`, which tells `what` of each, is not the same on all of them."""
    if jax.process_count() == 1:
        return
    digests = multihost_utils.process_allgather(np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8))
    others = np.flatnonzero((digests != digests[0]).any(1))
    if len(others):
        raise UserError(f"process {', '.join(map(str, others))} has not {what} of process 0: start all with the same")


@contextlib.contextmanager
def all_or_none():
    """If what is inside fails on one process, all fail, with its words. Inside, processes must not wait for each other.

    Raises:
      UserError: a process had an error of a kind that the user can mend.
    """
    words, failed = "", None
    try:
        yield
    except (InputError, OSError) as error:
        words, failed = str(error) or type(error).__name__, error
    if jax.process_count() > 1:
        message = np.frombuffer(words.encode()[:MAX_MESSAGE_BYTES].ljust(MAX_MESSAGE_BYTES, b"\0"), np.uint8)
        for number, row in enumerate(multihost_utils.process_allgather(message)):
            said = row.tobytes().rstrip(b"\0").decode(errors="ignore")
            if said and not failed:
                failed = UserError(f"process {number}: {said}")
    if failed:
        raise failed
