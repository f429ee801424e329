"""A model exported to ONNX gets the figures of the weights that it was exported from."""

import json

import numpy as np
import pytest

import securitynet as sn
from securitynet.catalogue.cards import load_card
from securitynet.datasets.library import load_dataset
from securitynet.targets import engine
from securitynet.targets.build import load_module

pytest.importorskip("onnxruntime")

ALIKE = 1e-3
CARD = {"name": "linear", "dataset": "digits", "num_classes": 10}
METHODS = ["membership", "steal.knockoff"]
QUICK = ["steal.knockoff.epochs=1", "steal.knockoff.n_seeds=2"]


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    monkeypatch.setattr(engine, "has_native_bf16", lambda device: False)


def exported(card, folder, onnx_bytes):
    """Write a card's network, a sequence of layers, as ONNX beside a card of its own."""
    module, spec = load_module(card)[0], card.input
    data = onnx_bytes.of_layers(list(module), (spec.channels, spec.height, spec.width))
    (folder / "model.onnx").write_bytes(data)
    record = {**card.to_json(), "id": "local/exported", "provider": "local", "name": "exported"}
    record |= {"architecture": "onnx", "weights": {"path": "model.onnx"}}
    (folder / "card.json").write_text(json.dumps(record))
    return load_card(folder / "card.json")


def differences(records, others):
    """Return |difference| by method and measure."""
    found = {}
    by_name = {(r.method, str(r.config)): r for r in records}
    for other in others:
        record = by_name[other.method, str(other.config)]
        assert record.status == other.status == "ok", (record.error, other.error)
        assert record.measures.keys() == other.measures.keys()
        for name, measure in record.measures.items():
            value = other.measures[name].value
            assert (measure.value is None) == (value is None)
            gap = 0.0 if value is None else abs(measure.value - value)
            found[f"{other.method} {other.config} {name}"] = gap
    return found


@pytest.fixture
def digits_card(tmp_path):
    """Return the card of a linear classifier of the digits, by least squares."""
    import torch
    from safetensors.torch import save_file

    train = load_dataset("digits").train
    design = np.c_[train.pixels().reshape(len(train), -1) / 255, np.ones(len(train))]
    found = np.linalg.lstsq(design, np.eye(10)[train.labels] * 10, rcond=1e-4)[0].T
    tensors = {"1.weight": torch.tensor(found[:, :-1]), "1.bias": torch.tensor(found[:, -1])}
    folder = tmp_path / "digits"
    folder.mkdir()
    save_file({k: v.float().contiguous() for k, v in tensors.items()}, folder / "w.safetensors")
    record = {
        **CARD,
        "architecture": ["flatten", {"linear": [64, 10]}],
        "input": {"channels": 1, "height": 8, "width": 8, "mean": [0.1], "std": [0.9]},
        "weights": {"path": "w.safetensors"},
    }
    (folder / "card.json").write_text(json.dumps(record))
    return load_card(folder / "card.json")


def test_figures_agree_and_what_needs_gradients_is_refused(digits_card, tmp_path, onnx_bytes):
    other = exported(digits_card, tmp_path, onnx_bytes)
    records = sn.evaluate(METHODS, digits_card, options=QUICK)
    others = sn.evaluate([*METHODS, "backdoor.neural_cleanse"], other, options=QUICK)
    (refused,) = [r for r in others if r.method == "backdoor.neural_cleanse"]
    assert refused.status == "refused" and "access" in refused.flags
    assert "backdoor.neural_cleanse needs gradients; an ONNX model gives" in refused.error
    kept = [record for record in others if record is not refused]
    found = differences(records, kept)
    assert len(found) > 40
    for name, gap in found.items():  # a rounding of 1e-6 in what it learns moves a surrogate a bit
        assert gap <= (0.02 if name.startswith("steal.") else ALIKE), (name, gap)
    for record in kept:
        assert record.environment["provider"] == "CPUExecutionProvider"
        assert record.environment["precision"] == "as-exported"
        assert "fp32-fallback" not in record.flags and record.details["parity"] is None
        assert record.queries == next(r for r in records if r.method == record.method).queries


@pytest.mark.public
def test_a_public_network_exported_gives_the_same_figures(
    public_data, public_models, tmp_path, onnx_bytes, monkeypatch
):
    from securitynet.catalogue.database import find_card

    monkeypatch.setenv("SECURITYNET_DATA", str(public_data))
    monkeypatch.setenv("SECURITYNET_MIRROR", str(public_models))
    card = find_card("community/oval-cifar-base")
    other = exported(card, tmp_path, onnx_bytes)
    pair = [sn.evaluate("membership", it, limit=500, force=True) for it in (card, other)]
    found = differences(*pair)
    assert len(found) > 40 and not {name: gap for name, gap in found.items() if gap > ALIKE}
