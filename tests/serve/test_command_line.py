"""The server's command line, as a person would type it."""

import json
import re
import signal
import socket
import sys
import urllib.request

import jax
import pytest
import uvicorn
from fake_model import FakeModel
from processes import Process
from starlette.testclient import TestClient

from ror_jax.serve import __main__ as program


@pytest.fixture
def run(capsys, tmp_path):
    """`run(argument, ...)`: runs the program in this process; its exit status, or None, and what it says."""
    handler, cache = signal.getsignal(signal.SIGTERM), jax.config.jax_compilation_cache_dir

    def run(*arguments):
        try:
            program.main([*arguments, f"--cache_dir={tmp_path}"])
            status = None
        except SystemExit as left:
            status = left.code
        said = "".join(capsys.readouterr())
        return (1, status) if isinstance(status, str) else (status, said)

    yield run
    assert signal.getsignal(signal.SIGTERM) == handler
    jax.config.update("jax_compilation_cache_dir", cache)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model=/nowhere"], "error: no model in /nowhere"),
        (["--model=/nowhere", "--port=70000"], "error: --port is 70000; it must be in 0 ... 65535"),
        (["--model=/nowhere", "--host=192.0.2.1"], "error: nothing can listen on --host=192.0.2.1"),
        (["--model=/nowhere", "--host=no.such.host.invalid"], "error: nothing can listen on --host=no.such.host"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, words, run):
    status, said = run(*arguments)
    assert status == 1 and said.startswith(words) and "\n" not in said


def test_a_port_in_use(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, said = run("--model=/nowhere", f"--port={port}")
    assert status == 1 and said.startswith(
        f"error: nothing can listen on --host=127.0.0.1 --port={port}: Address already"
    )


def test_a_port_that_is_no_number(run):
    status, said = run("--model=/nowhere", "--port=http")
    assert status == 2 and "invalid int value: 'http'" in said


@pytest.mark.parametrize("package", ["fastapi", "python_multipart", "uvicorn"])
def test_what_is_not_installed_is_told(package, run, monkeypatch):
    for module in [name for name in sys.modules if name.startswith(("ror_jax.serve.", package))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    assert run("--model=/nowhere") == (1, f"error: {package} is not installed: pip install -e '.[serve]'")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_serves_until_a_signal_comes(number, status, exported, faces, tmp_path):
    """It says where, answers, and leaves without a word."""
    process = Process("ror_jax.serve", f"--model={exported}", "--port=0", f"--cache_dir={tmp_path}")
    try:
        address = re.fullmatch(r"Listening on (http://127\.0\.0\.1:\d+)\n", process.stdout.readline())[1]
        with urllib.request.urlopen(f"{address}/health") as answer:
            assert json.load(answer)["model"] == "random"
        process.send_signal(number)
        assert process.communicate() == ("", "") and process.returncode == status
    finally:
        process.kill()


@pytest.mark.parametrize(("host", "names"), [("0.0.0.0", ()), ("127.0.0.1", {"localhost", "127.0.0.1"})])
def test_who_can_reach_it(host, names, run, tmp_path, monkeypatch):
    """It warns of an address that others can reach; at others it answers to its own names alone. It is warm by then."""
    model, apps = FakeModel(), []
    model.folder = tmp_path
    (tmp_path / "README.md").write_text("# What it is")
    monkeypatch.setattr(program, "open_model", lambda _: model)
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: apps.append(server.config.app))
    _, said = run("--model=/nowhere", f"--host={host}", "--port=0")
    *warning, address = said.splitlines()
    assert re.fullmatch(rf"Listening on http://{host}:[1-9]\d+", address)
    assert [line.startswith("Anyone who can reach 0.0.0.0 can use it") for line in warning] == [True] * (not names)
    assert apps[0].user_middleware[0].kwargs["hosts"] == names
    with TestClient(apps[0], base_url="http://localhost") as client:
        assert client.get("/model").json()["description"] == "# What it is"
    assert set(model.calls) == {(2**n, views) for n in range(6) for views in ("single", "flip")}
