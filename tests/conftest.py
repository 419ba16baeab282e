import atexit
import functools
import gc
import http.server
import os
import shutil
import tempfile
import threading
from pathlib import Path

import pytest

# Compiling costs more than running here: it is done without optimization, once for all processes of a session. The
# processes that tests start inherit this.
QUICK = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)
os.environ["XLA_FLAGS"] = " ".join([*QUICK, os.environ.get("XLA_FLAGS", "")])
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="ror_jax_tests_")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
gc.set_threshold(100_000, 20, 20)  # tracing leaves millions of objects and little garbage

SHARED = Path(os.environ.get("ROR_JAX_SHARED", Path(__file__).parents[2] / "shared"))


# A process of `pytest -n 2 --dist loadfile` takes a file at a time: those that take longest come first.
LONGEST = ("test_mesh", "test_studies", "test_loop", "test_run", "test_kill", "test_convert_torchvision", "test_main")


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session")
def shared():
    """A function that returns the path of a file or folder that is no part of this repository, or skips the test."""

    def find(name):
        if not (SHARED / name).exists():
            pytest.skip(f"there is no {SHARED / name}; ROR_JAX_SHARED may name another folder than ../shared")
        return SHARED / name

    return find


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A web server of the files in `tmp_path / "web"`. Yields its address and, as they come, the paths of requests."""
    (tmp_path / "web").mkdir()
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code="-", size="-"):
            requests.append(self.path)

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = functools.partial(Handler, directory=tmp_path / "web")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory):
    """A function that makes the settings of a run of a few seconds on a few drawn faces; settings by dotted name."""
    from ror_jax.config import default_config  # and with it JAX, which reads the variables above

    cache = str(tmp_path_factory.mktemp("cache"))

    def make(**changes):
        config = default_config()
        config.name, config.cache_dir = "tiny", cache
        config.dataset.name, config.dataset.people, config.dataset.pictures_per_person = "rendered_faces", 30, 2
        config.dataset.resolution = config.image_size = config.resize = 16
        config.model.name, config.model.blocks_per_group, config.model.widths = "ror3_8", (1, 1), (4, 8)
        config.task.name = "age_group"
        config.batch_size = config.test_batch_size = 8
        config.epochs, config.optimizer.decay_epochs = 2, (1,)
        for name, value in changes.items():
            *path, last = name.split("__")
            target = config
            for part in path:
                target = target[part]
            target[last] = value
        return config

    return make
