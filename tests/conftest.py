"""What all tests share: one thread each, their own cache and store, the public data if present."""

import importlib.util
import logging
import os
import signal
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

# Before anything imports torch or numpy: two workers with two threads each only wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what runs in the background deaf to ctrl-C; the tests of it need to hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest

ROOT = Path(__file__).resolve().parent.parent
DECODED = ROOT / ".pytest_cache" / "decoded"  # ignored by git, kept between runs


def _folder(variable, default):
    named = os.environ.get(variable)
    return Path(named.split(os.pathsep)[0]) if named else ROOT.parent / "shared" / default


@pytest.fixture(autouse=True)
def own_logging():
    """Take back what a command run in this process did to the log, ``-q`` above all."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture(scope="session")
def public_data():
    """Return the folder of public images; skip by name where it is not."""
    folder = _folder("SECURITYNET_DATA", "data")
    if not (folder / "cifar10").is_dir():
        pytest.skip("the public images (SECURITYNET_DATA or ../shared/data) are not here")
    return folder


@pytest.fixture(scope="session")
def public_models():
    """Return the folder of public checkpoints; skip by name where it is not."""
    folder = _folder("SECURITYNET_MIRROR", "models")
    if not (folder / "models.json").is_file():
        pytest.skip("the public checkpoints (SECURITYNET_MIRROR or ../shared/models) are not here")
    return folder


@pytest.fixture(scope="session")
def public_cache(tmp_path_factory):
    """Return a cache for public tests: decoded images outlive the run, a model's outputs do not.

    Outputs kept between runs would hide a change that breaks the forward pass.
    """
    cache = tmp_path_factory.mktemp("public-cache")
    DECODED.mkdir(parents=True, exist_ok=True)  # both workers may be first
    (cache / "datasets").symlink_to(DECODED, target_is_directory=True)
    return cache


@pytest.fixture(scope="session")
def onnx_bytes():
    """Return the module that writes ONNX models byte by byte."""
    path = Path(__file__).with_name("onnx_bytes.py")
    spec = importlib.util.spec_from_file_location("onnx_bytes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def loopback(monkeypatch):
    """Return a function that serves with a handler on this machine until the test ends."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running = []

    def start(handler):
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch, request):
    """Point cache and store into the test's own folder; hide the machine's data and mirrors."""
    is_public = request.node.get_closest_marker("public")
    cache = request.getfixturevalue("public_cache") if is_public else tmp_path / "cache"
    monkeypatch.setenv("SECURITYNET_CACHE", str(cache))
    monkeypatch.setenv("SECURITYNET_STORE", str(tmp_path / "store"))
    if not is_public:
        monkeypatch.delenv("SECURITYNET_DATA", raising=False)
        monkeypatch.delenv("SECURITYNET_MIRROR", raising=False)
