import json
import pickle

import pytest

from securitynet.errors import IntegrityError, UsageError, unknown_id
from securitynet.records import Evaluation, Job, Measure, canonical_json, fingerprint


def job(**changes):
    values = {
        "method": "mia.loss",
        "version": 1,
        "config": {"per_class": False},
        "model": "community/a",
        "model_fingerprint": "m" * 64,
        "weights_sha256": "w" * 64,
        "origin": "benchmark",
        "dataset": "cifar10",
        "data_fingerprint": "d" * 64,
    }
    return Job(**{**values, **changes})


def test_key_ignores_aliases_and_nothing_else():
    same = [job(model="other/alias"), job(dataset="/some/folder"), job(origin="other")]
    assert {item.key for item in same} == {job().key}
    changed = [
        job(method="mia.entropy"),
        job(version=2),
        job(config={"per_class": True}),
        job(model_fingerprint="x"),
        job(weights_sha256="x"),
        job(data_fingerprint="x"),
        job(limit=10),
        job(seed=1),
        job(is_forced=True),
    ]
    assert len({item.key for item in [*changed, job()]}) == len(changed) + 1


def test_canonical_json_has_one_text_per_value():
    assert canonical_json({"b": 1, "a": (1, 2)}) == canonical_json({"a": [1, 2], "b": 1})
    assert fingerprint("ä") == fingerprint("ä")
    with pytest.raises(ValueError):
        canonical_json(float("nan"))


def test_measure_turns_nan_into_unknown():
    measure = Measure(float("nan"), float("-inf"), 0.5, 3)
    assert (measure.value, measure.low, measure.high, measure.n) == (None, None, 0.5, 3)


def test_record_survives_json():
    record = Evaluation.of(
        job(),
        "ok",
        measures={"auc": Measure(0.6, 0.5, 0.7, 100)},
        flags=("no-claim",),
        details={"roc": {"fpr": [0.0, 1.0]}},
    )
    text = json.dumps(record.to_json(), allow_nan=False)
    assert Evaluation.from_json(json.loads(text)) == record
    with pytest.raises(ValueError, match="not an evaluation record"):
        Evaluation.from_json({"key": "only"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "fine"), ("status", None), ("method", 3), ("version", "1"), ("version", True),
        ("config", []), ("flags", [1]), ("measures", {"auc": 0.5}), ("details", None),
        ("environment", "linux"), ("blobs", {"scores": 7}), ("seconds", "long"), ("seed", 0.5),
        ("queries", "many"), ("measures", {"auc": {"value": "high"}}), ("error", 5),
    ],
)  # fmt: skip
def test_a_record_of_another_type_is_damaged(name, value):
    record = {**Evaluation.of(job(), "ok").to_json(), name: value}
    with pytest.raises(ValueError):
        Evaluation.from_json(record)


@pytest.mark.parametrize("name", ["queries", "seconds", "error", "limit", "data_fingerprint"])
def test_what_a_record_does_not_know_is_null(name):
    record = {**Evaluation.of(job(), "ok").to_json(), name: None}
    assert Evaluation.from_json(record).to_json() == record


def test_errors_are_one_line_and_cross_processes():
    error = IntegrityError("bad\nbytes", where="file.pth", hint="get it again", flags=["x"])
    assert str(error) == "file.pth: bad bytes; get it again"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.flags) == (IntegrityError, str(error), ("x",))


def test_unknown_id_suggests():
    error = unknown_id("model", "resnet2", ["a/resnet20", "b/vgg"], listing="securitynet list")
    assert isinstance(error, UsageError)
    assert "did you mean a/resnet20" in str(error)
