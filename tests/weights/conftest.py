"""A small model's checkpoint in each of torch's containers, and files written byte by byte."""

import zipfile

import pytest
import torch
from torch import nn


@pytest.fixture(scope="session")
def state():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).state_dict()


@pytest.fixture
def zipped(tmp_path, state):
    path = tmp_path / "zipped.pt"
    torch.save(state, path)
    return path


@pytest.fixture
def legacy(tmp_path, state):
    path = tmp_path / "legacy.pt"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture
def rezip(tmp_path):
    """Write a zip file, stored, of (name, data) pairs."""

    def write(members, *, method=zipfile.ZIP_STORED):
        path = tmp_path / "made.pt"
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, data in members:
                archive.writestr(name, data)
        return path

    return write


@pytest.fixture
def canary(tmp_path):
    """Return a path that a hostile file would make if anything in it ran."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "the hostile file was executed"
