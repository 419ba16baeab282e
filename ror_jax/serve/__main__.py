"""Serves a model: a page that reads photographs, and the same as JSON.

python -m ror_jax.serve                                # with the default pretrained model
python -m ror_jax.serve --model=models/quickstart --host=0.0.0.0 --port=80     # for everyone who can reach this machine

Nothing that is uploaded is kept. Exit status: 1, it could not start, for the reason given; 2, wrong arguments; 130 or
143, it was ended by Ctrl-C or SIGTERM.
"""

import argparse
import contextlib
import ipaddress
import os
import signal
import socket
import sys
import threading
from pathlib import Path

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's own chatter

import numpy as np

from input_pipeline.errors import InputError
from input_pipeline.process import prepare_process
from input_pipeline.transforms import Crop
from ror_jax.errors import UserError
from ror_jax.predict.model import BATCH, VIEWS, Model
from ror_jax.predict.options import add_model_options, face_filter, open_model
from ror_jax.startup import on_sigterm

GRACE = 5  # seconds that requests have to end when the server is told to


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ror_jax.serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="default 8000; 0: any that is free")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="default 127.0.0.1: this machine alone")
    parser.add_argument(
        "--name", action="append", default=[], help="by which people address a server before this one; may be repeated"
    )
    add_model_options(parser)
    options = parser.parse_args(arguments)
    prepare_process()
    try:
        with on_sigterm(lambda *_: sys.exit(128 + signal.SIGTERM)):
            serve(options)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def serve(options: argparse.Namespace) -> None:
    """Serves until a signal ends it."""
    try:
        import uvicorn

        from ror_jax.serve.app import create_app
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name.partition('.')[0]} is not installed: pip install -e '.[serve]'") from error
    keep = face_filter(options)
    with bind(options.host, options.port) as listening:  # what is wrong with the address should be told first
        address, port = listening.getsockname()[:2]
        local = ipaddress.ip_address(address).is_loopback
        model = open_model(options)
        hosts = {"localhost", address, options.host.lower()} if local else ()
        names = {name.lower() for name in options.name}
        app = create_app(model, describe(model.folder), options.detector, keep, hosts, names)
        warm_up(model)
        listening.listen()
        if not local:
            print(f"Anyone who can reach {options.host} can use it: there is no password and no encryption.")
        shown = f"[{options.host}]" if ":" in options.host else options.host
        print(f"Listening on http://{shown}:{port}", flush=True)
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=GRACE)
        try:
            uvicorn.Server(config).run([listening])
        finally:
            leave()


def leave() -> None:
    """Ends the process at once where a thread still decodes or reads, for which Python would wait."""
    ending = sys.exc_info()[1]
    for thread in threading.enumerate():
        if thread.name.startswith(("photographs", "network")):
            thread.join(timeout=1)  # seconds
            if thread.is_alive():
                os._exit(ending.code if isinstance(ending, SystemExit) else 128 + signal.SIGINT)


def describe(folder: Path) -> str:
    """What a model's folder says of it to people, Markdown; nothing where nothing is there."""
    with contextlib.suppress(OSError):
        return (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    return ""


def bind(host: str, port: int) -> socket.socket:
    """A socket at that address, which does not listen yet; raises UserError where that is impossible."""
    if not 0 <= port < 2**16:
        raise UserError(f"--port is {port}; it must be in 0 ... {2**16 - 1}")
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise UserError(
            f"nothing can listen on --host={host} --port={port}: {error.strerror}; choose another --port or --host"
        ) from error
    return listening


def warm_up(model: Model) -> None:
    """Compiles what the network needs for every number of faces, so that no request has to wait for that."""
    size = model.card["preprocessing"]["size"]
    crop = Crop(np.zeros((size, size, 3), np.uint8), np.eye(2, 3))
    for faces in (2**n for n in range(BATCH.bit_length())):
        for views in VIEWS:
            model.read([crop] * faces, views)


if __name__ == "__main__":
    main()
