"""ImageNet's models on Imagenette: ten of a thousand classes, flagged, never mistaken for all."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from securitynet.catalogue.cards import load_card
from securitynet.cli.app import run_command
from securitynet.datasets.imagenet import IMAGENETTE, IMAGENETTE_PART
from securitynet.datasets.library import load_dataset
from securitynet.errors import UsageError
from securitynet.registry import Access
from securitynet.runs.plan import Audits, Settings, choose_methods, make_group
from securitynet.runs.store import Store
from securitynet.runs.work import run_group
from securitynet.targets.build import load_target

LABELS = list(IMAGENETTE_PART.labels)
SIDE = 8


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Write images whose class is a gray level, with noise, and name their folder."""
    monkeypatch.setenv("SECURITYNET_DATA", str(tmp_path / "data"))
    rng = np.random.default_rng(0)
    for i, synset in enumerate(IMAGENETTE):
        folder = tmp_path / "data" / "imagenette2" / "train" / synset
        folder.mkdir(parents=True)
        (tmp_path / "data" / "imagenette2" / "val").mkdir(exist_ok=True)
        for k in range(36):
            pixels = rng.integers(-8, 8, (SIDE, SIDE, 3)) + 16 + 24 * i
            name = f"{synset}_{k}" if k % 2 else f"ILSVRC2012_val_{k:08}"
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}.JPEG", quality=95)
    return tmp_path / "data"


@pytest.fixture
def card_of(tmp_path):
    """Return a function that writes a classifier by gray level with a thousand outputs.

    The 990 other classes have far larger logits: whoever sees them is never right.
    """

    def card_of(n_classes=1000, is_blind=False, layers=(), **changes):
        levels = (16 + 24 * np.arange(10)) / 255
        weight, bias = np.zeros((n_classes, SIDE * SIDE * 3)), np.full(n_classes, 500.0)
        chosen = [label for label in LABELS if label < n_classes]
        bias[chosen] = 0
        if not is_blind:
            weight[chosen] = 400 * levels[: len(chosen), None] / (SIDE * SIDE * 3)
            bias[chosen] = -200 * levels[: len(chosen)] ** 2
        tensors = {"1.weight": torch.tensor(weight).float(), "1.bias": torch.tensor(bias).float()}
        save_file(tensors, tmp_path / "net.safetensors")
        card = {
            "name": "gray",
            "dataset": "imagenet1k",
            "num_classes": n_classes,
            "architecture": ["flatten", {"linear": [SIDE * SIDE * 3, n_classes]}, *layers],
            "input": {"channels": 3, "height": SIDE, "width": SIDE},
            "weights": {"path": "net.safetensors"},
            "claims": [{"metric": "test_accuracy", "value": 0.7, "source": "a table", "n": 50000}],
            **changes,
        }
        (tmp_path / "card.json").write_text(json.dumps(card))
        return load_card(tmp_path / "card.json")

    return card_of


def group_of(card, audits, names=("membership",), options=()):
    choices = choose_methods(names, options)
    return make_group(card, choices, Settings(data="imagenette"), audits)


def records_of(card, tmp_path, names=("membership",), options=()):
    audits, store = Audits(), Store(tmp_path / "store")
    group, told = group_of(card, audits, names, options), []
    run_group(
        group, audits.of(card, Settings(data="imagenette")), store, lambda *_: None, told.append
    )
    return told


def test_run_membership_by_the_command(images, card_of, tmp_path):
    card_of()
    words = ["run", "membership", str(tmp_path / "card.json"), "--data", "imagenette"]
    assert run_command([*words, "--store", str(tmp_path / "store")]) == 0
    store = Store(tmp_path / "store")
    records = [store.get(key) for key in store.keys()]
    assert len(records) == 13 and {record.status for record in records} == {"ok"}
    for record in records:
        assert {"imagenet-proxy", "no-claim", "resized-256"} <= set(record.flags)
        assert record.measures["test_accuracy"].value > 0.9
        assert record.details["gate"]["claimed"] is None
        assert record.details["gate"]["n"] == 180 and "accuracy-gate" not in record.flags


def test_labels_scores_and_gradients_see_ten_classes(images, card_of):
    card = card_of()
    audit = Audits().of(card, Settings(data="imagenette"))
    whole, part = load_target(card), load_target(card, part=audit.part)
    pixels = audit.data.audit.take(slice(16))
    kept = whole.logits(pixels)[:, LABELS]
    np.testing.assert_allclose(part.logits(pixels), kept, rtol=1e-5, atol=1e-3)
    assert (part.labels(pixels) == pixels.labels).mean() > 0.9
    assert not np.isin(whole.labels(pixels), LABELS).any()
    assert part.num_classes == 10 and part.limited(Access.SCORES).num_classes == 10
    np.testing.assert_allclose(part.scores(pixels).sum(1), 1)
    asked = torch.rand(2, 3, SIDE, SIDE, requires_grad=True)
    answer = part.module()(asked)
    assert answer.shape == (2, 10)
    answer.sum().backward()
    assert asked.grad.abs().sum() > 0


def test_posteriors_of_a_thousand_are_noticed_before_ten_are_kept(images, card_of, monkeypatch):
    card = card_of()
    monkeypatch.setattr("securitynet.targets.build.load_module", lambda *_, **__: (net, "0" * 64))
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE * 3, 1000), nn.Softmax(1)).eval()
    target = load_target(card, part=IMAGENETTE_PART)
    pixels = torch.rand(4, 3, SIDE, SIDE)
    assert target.engine.gives_posteriors
    expected = net[:2](pixels)[:, LABELS].softmax(1).detach().numpy()
    np.testing.assert_allclose(target.scores(pixels), expected, rtol=1e-3)


def test_the_part_is_another_model_than_the_whole(images, card_of, tmp_path):
    card = card_of()
    audit = Audits().of(card, Settings(data="imagenette"))
    (job, *_) = group_of(card, Audits()).jobs
    whole = load_target(card, cache=tmp_path / "outputs")
    part = load_target(card, cache=tmp_path / "outputs", part=audit.part)
    assert job.model_fingerprint == part.fingerprint != whole.fingerprint
    assert whole.fingerprint == card.model_fingerprint(whole.weights_sha256)
    pixels = audit.data.audit
    assert whole.logits(pixels).shape[1] == 1000 and part.logits(pixels).shape[1] == 10
    assert len(list((tmp_path / "outputs").rglob("*.npz"))) == 2


def test_chance_level_is_still_refused(images, card_of, tmp_path):
    for record in records_of(card_of(is_blind=True), tmp_path):
        assert record.status == "refused"
        assert "imagenet-proxy" in record.flags


def test_a_head_of_another_size_than_the_card_says_is_refused(images, card_of, tmp_path):
    layers = [{"linear": [1000, 1001]}]
    card = card_of()
    extra = {"2.weight": torch.randn(1001, 1000), "2.bias": torch.zeros(1001)}
    from safetensors.torch import load_file

    save_file({**load_file(tmp_path / "net.safetensors"), **extra}, tmp_path / "net.safetensors")
    card = replace(card, architecture=(*card.architecture, *layers))
    for record in records_of(card, tmp_path):
        assert record.status == "refused" and "its card says 1000 classes" in record.error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_classes": 702}, "tells 702 classes apart, imagenette has 10"),
        ({"dataset": "imagenet21k"}, "tells 1000 classes apart, imagenette has 10"),
        ({"n_classes": 10, "dataset": "imagenette"}, "may have seen images of both splits"),
    ],
)
def test_other_models_are_refused(images, card_of, changes, message):
    with pytest.raises(UsageError, match=message):
        group_of(card_of(**changes), Audits())


def test_models_that_were_trained_here_are_asked_for_all_their_classes(images, card_of):
    card = card_of(n_classes=10, dataset="imagenette", training={"recipe": "mlp"})
    (job, *_) = group_of(card, Audits()).jobs
    assert job.model_fingerprint == card.model_fingerprint(job.weights_sha256)
    assert load_dataset("imagenette").num_classes == card.num_classes


def test_detectors_see_ten_classes(images, card_of, tmp_path):
    options = ["backdoor.strip.n_overlays=2"]
    (record, *_) = records_of(card_of(), tmp_path, ["backdoor.strip"], options)
    assert record.error is None and record.status == "ok" and "imagenet-proxy" in record.flags
