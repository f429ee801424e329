import json
from dataclasses import replace

import numpy as np
import pytest

from securitynet.errors import IntegrityError, ResourceError
from securitynet.records import Evaluation, Measure
from securitynet.runs.store import Store


def record(key="ab" + "0" * 62, status="ok", value=0.5):
    return Evaluation(
        key=key, method="mia.loss", version=1, config={}, model="m", weights_sha256="w",
        origin="other", dataset="d", seed=0, status=status, measures={"auc": Measure(value)},
    )  # fmt: skip


def test_first_writer_wins_and_failures_are_replaced(tmp_path):
    store = Store(tmp_path)
    assert store.put(record(status="failed"))
    assert store.put(record(value=0.6))
    assert not store.put(record(value=0.7))
    assert store.get(record().key).measures["auc"].value == 0.6
    assert list(store.keys()) == [record().key]


def test_arrays_are_kept_by_content(tmp_path):
    store = Store(tmp_path)
    array = np.arange(5.0)
    store.put(record(), {"scores": array})
    sha256 = store.get(record().key).blobs["scores"]
    assert np.array_equal(store.read_array(sha256), array)
    path = next(tmp_path.rglob("*.npz"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="damaged"):
        store.read_array(sha256)
    assert len(store.problems()) == 1


def test_damaged_record_is_named(tmp_path):
    store = Store(tmp_path)
    store.put(record())
    path = next(tmp_path.rglob("*.json"))
    path.write_text("{")
    with pytest.raises(IntegrityError, match=path.name):
        store.get(record().key)


def test_garbage_is_collected_and_records_are_not(tmp_path):
    store = Store(tmp_path)
    store.put(record(), {"scores": np.zeros(3)})
    store.put(replace(record(), key="cd" + "0" * 62), {"scores": np.ones(3)})
    next(tmp_path.rglob("cd*.json")).unlink()
    (tmp_path / "results" / "ab" / ".x.tmp").write_text("half")
    assert store.collect_garbage() == 2
    assert store.problems() == [] and len(list(store.keys())) == 1


def test_read_only_store_is_an_environment_error(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ResourceError, match="cannot write"):
        Store(blocked).put(record())


def test_records_are_plain_json(tmp_path):
    store = Store(tmp_path)
    store.put(record())
    assert json.loads(next(tmp_path.rglob("*.json")).read_text())["status"] == "ok"
