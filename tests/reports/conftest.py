"""Realistic records: graded by the real judge from simulated evidence, no torch needed."""

from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import pytest

from securitynet.metrics.roc import (
    auc_delong,
    balanced_accuracy,
    common_edges,
    histogram,
    roc_curve,
    tpr_at_fpr,
)
from securitynet.records import Evaluation, Measure

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
ENVIRONMENT = {"securitynet": "0.1.0", "torch": "2.10.0", "device": "cpu", "precision": "fp32"}


def make_record(model="provider/net", method="mia.loss", status="ok", **values):
    """One record; its key follows from what is asked for."""
    base = {
        "version": 1,
        "config": {},
        "weights_sha256": sha256(model.encode(errors="replace")).hexdigest(),
        "origin": "benchmark",
        "dataset": "cifar10",
        "seed": 0,
        "environment": ENVIRONMENT,
        "seconds": 1.25,
        "queries": 2000,
    } | values
    key = sha256(ascii((model, method, sorted(map(str, base.items())))).encode()).hexdigest()
    return Evaluation(key=key, model=model, method=method, status=status, **base)


def _curves(positives, negatives, names):
    edges = common_edges(positives, negatives)
    shares = {names[0]: histogram(positives, edges), names[1]: histogram(negatives, edges)}
    return {
        "roc": roc_curve(positives, negatives).to_json(),
        "histogram": {"edges": edges.tolist(), **shares},
    }


def membership(rng, model, method, shift, *, n=1000, config=None, **values):
    inside, outside = rng.normal(shift, 1.2, n), rng.normal(0, 1, n)
    measures = {
        "auc": auc_delong(inside, outside),
        "tpr_at_fpr_1pct": tpr_at_fpr(inside, outside, 0.01),
        "tpr_at_fpr_0.1pct": tpr_at_fpr(inside, outside, 0.001),
        "balanced_accuracy": balanced_accuracy(inside, outside),
        "train_accuracy": Measure(0.998, 0.991, 1.0, n),
        "test_accuracy": Measure(0.912, 0.893, 0.928, n),
        "gap": Measure(0.086, 0.069, 0.104, n),
    }
    details = _curves(inside, outside, ("members", "nonmembers"))
    return make_record(
        model, method, measures=measures, details=details, config=config or {}, **values
    )


def _share(value, n=500, width=0.03):
    return Measure(value, value - width, value + width, n)


def theft(model, response, gain, budgets=(100, 1000, 10000)):
    curve = []
    for i, budget in enumerate(budgets):
        floor = 0.62 + 0.08 * i
        agreement = floor + gain * (1 - floor) * (i + 1) / len(budgets)
        curve.append(
            {
                "budget": budget,
                "accuracy": _share(agreement - 0.02),
                "agreement": _share(agreement),
                "floor_agreement": _share(floor),
                "excess_agreement": _share((agreement - floor) / (1 - floor), width=0.06),
                "error_agreement": Measure(None),
            }
        )
    last = {name: point for name, point in curve[-1].items() if name != "budget"}
    measures = last | {"budget": Measure(budgets[-1]), "target_accuracy": _share(0.912)}
    plain_curve = [
        {k: v if k == "budget" else vars(v) for k, v in point.items()} for point in curve
    ]
    details = {"curve": plain_curve, "kl": None, "n_seeds": 3}
    config = {"response": response, "budgets": list(budgets), "augment": False}
    return make_record(
        model, "steal.knockoff", measures=measures, details=details, config=config, queries=30000
    )


def triggers(rng, model, arrays, *, p, infected=3, side=32, n_classes=10):
    masks = (rng.random((n_classes, side, side)) * 0.06).astype(np.float32)
    patterns = rng.random((n_classes, side, side, 3)).astype(np.float32)
    if p < 0.01:
        masks[infected] = 0.0
        masks[infected, -4:, -4:] = 0.9
    norms = masks.sum(axis=(1, 2)).astype(float)
    blobs = {}
    for name, array in (("masks", masks), ("patterns", patterns)):
        blobs[name] = sha256(array.tobytes()).hexdigest()
        arrays[blobs[name]] = array
    measures = {
        "p_value": Measure(p),
        "statistic": Measure(2.1, n=n_classes),
        "infected_label": Measure(infected),
        "trigger_l1": Measure(norms[infected]),
        "attack_success": Measure(0.97, 0.93, 0.99, 200),
    }
    details = {"norms": norms.tolist(), "attack_success": [0.97] * n_classes, "classes": CLASSES}
    flags = ("backdoor-suspected",) if p < 0.01 else ()
    return make_record(
        model, "backdoor.neural_cleanse", measures=measures, details=details, flags=flags,
        blobs=blobs, seconds=41.3, queries=None,
    )  # fmt: skip


def detector(rng, model, shift, flags=("no-known-trigger",)):
    clean, triggered = rng.normal(0, 1, 200), rng.normal(shift, 1, 200)
    measures = {
        "auroc": auc_delong(triggered, clean),
        "tpr": Measure(0.4, 0.33, 0.47, 200),
        "fpr": Measure(0.01, 0.001, 0.036, 200),
    }
    details = _curves(triggered, clean, ("triggered", "clean")) | {"threshold": 2.2}
    return make_record(model, "backdoor.strip", measures=measures, details=details, flags=flags)


ATTACKS = {"mia.loss": 1.0, "mia.confidence": 0.9, "mia.entropy": 0.6, "mia.correctness": 0.3,
           "mia.logit": 1.05, "mia.margin": 0.95}  # fmt: skip


def audit(rng, model, arrays, *, leak, gain, p, origin="benchmark"):
    """About ten records of one model, as a run of all three threats leaves them."""
    records = [membership(rng, model, name, leak * s) for name, s in ATTACKS.items()]
    for per_class in (False, True):
        config = {"per_class": per_class}
        method = "mia.modified_entropy"
        records.append(membership(rng, model, method, leak * 1.1, config=config))
    records[0] = replace(
        records[0],
        nulls={
            "target_free_auc": Measure(0.503, 0.47, 0.53, 2000),
            "random_target_auc": Measure(0.49, 0.46, 0.52, 2000),
        },
    )
    records += [theft(model, "soft", gain), theft(model, "hard", gain * 0.7)]
    records += [triggers(rng, model, arrays, p=p), detector(rng, model, 3.0 if p < 0.01 else 0.0)]
    return [replace(record, origin=origin) for record in records]


@pytest.fixture(scope="session")
def make():
    """What makes records by hand: ``make.record(...)``, ``make.membership(rng, ...)``, ..."""
    return SimpleNamespace(
        record=make_record, membership=membership, theft=theft, triggers=triggers, detector=detector
    )


@pytest.fixture(scope="session")
def demo():
    """Six models, about twelve records each, and the reader of their arrays."""
    rng, arrays = np.random.default_rng(7), {}
    records = []
    for i, (name, leak, gain, p) in enumerate(
        [
            ("pytorchcv/resnet20_cifar10", 0.9, 0.4, 0.41),
            ("timm/resnet18.a1_in1k", 0.25, 0.3, 0.77),
            ("self/digits-overfitted", 1.6, 0.5, 0.12),
            ("self/digits-regularised", 0.0, 0.02, 0.63),
            ("self/digits-badnets", 0.5, 0.4, 0.0002),
            ("self/digits-badnets-twin", 0.5, 0.4, 0.034),
        ]
    ):
        origin = "self-trained" if i >= 2 else "benchmark"
        records += audit(rng, name, arrays, leak=leak, gain=gain, p=p, origin=origin)
    refusal = "accuracy 0.412 on 1,000 test images, 0.93 claimed; check the card, or --force"
    flags = ("accuracy-gate",)
    records.append(make_record("timm/odd", status="refused", error=refusal, flags=flags))
    return records, arrays.__getitem__
