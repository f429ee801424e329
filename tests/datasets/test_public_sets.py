"""The real CIFAR-10 and MNIST, where they are on this machine."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from securitynet.datasets.images import make_audit
from securitynet.datasets.library import load_dataset

pytestmark = pytest.mark.public


@pytest.fixture
def named(public_data, monkeypatch):
    monkeypatch.setenv("SECURITYNET_DATA", str(public_data))
    return load_dataset


def is_jpeg(folder) -> bool:
    file = pq.ParquetFile(folder / "test.parquet")
    column = next(file.iter_batches(batch_size=1)).column(0)
    return column.field("bytes")[0].as_py().startswith(b"\xff\xd8")


def test_cifar10(named, public_data):
    found = named("cifar10")
    assert (len(found.train), len(found.test), found.train.shape) == (50_000, 10_000, (32, 32, 3))
    assert np.bincount(found.train.labels).tolist() == [5000] * 10
    assert np.bincount(found.test.labels).tolist() == [1000] * 10
    assert found.classes[0] == "airplane"
    first = found.test.pixels(0, 500).astype(float)
    assert 100 < first.mean() < 140  # the published mean is 0.473 of 255
    assert found.notes == (("jpeg-compressed",) if is_jpeg(public_data / "cifar10") else ())


def test_mnist(named):
    found = named("mnist")
    assert (len(found.train), len(found.test), found.train.shape) == (60_000, 10_000, (28, 28, 1))
    assert found.notes == ()
    assert np.bincount(found.test.labels)[:3].tolist() == [980, 1135, 1032]
    assert abs(found.train.pixels().mean() / 255 - 0.1307) < 0.0005  # the published mean


def test_audit_of_cifar10(named):
    audit = make_audit(named("cifar10"))
    assert len(audit.data.audit) == 20_000
    assert audit.is_member.sum() == 10_000
    assert len(audit.data.queries) == len(audit.data.evaluation) == 5000
