"""What all tests share: their own cache and store, and the public data where present."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _folder(variable, default):
    named = os.environ.get(variable)
    return Path(named.split(os.pathsep)[0]) if named else ROOT.parent / "shared" / default


@pytest.fixture(scope="session")
def public_data():
    folder = _folder("SECURITYNET_DATA", "data")
    if not (folder / "cifar10").is_dir():
        pytest.skip("the public images (SECURITYNET_DATA or ../shared/data) are not here")
    return folder


@pytest.fixture(scope="session")
def public_models():
    folder = _folder("SECURITYNET_MIRROR", "models")
    if not (folder / "models.json").is_file():
        pytest.skip("the public checkpoints (SECURITYNET_MIRROR or ../shared/models) are not here")
    return folder


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch, request):
    is_public = request.node.get_closest_marker("public")
    shared = ROOT / ".pytest_cache" / "public-cache"
    monkeypatch.setenv("SECURITYNET_CACHE", str(shared if is_public else tmp_path / "cache"))
    monkeypatch.setenv("SECURITYNET_STORE", str(tmp_path / "store"))
    if not is_public:
        monkeypatch.delenv("SECURITYNET_DATA", raising=False)
        monkeypatch.delenv("SECURITYNET_MIRROR", raising=False)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    os.environ.setdefault("OMP_NUM_THREADS", "1")
