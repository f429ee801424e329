"""Volumes from the npz file to all three threats, with MedMNIST's own networks, only narrower."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from securitynet.catalogue.cards import InputSpec, load_card
from securitynet.cli.app import run_command
from securitynet.datasets.images import make_audit
from securitynet.datasets.library import load_dataset
from securitynet.errors import UsageError
from securitynet.runs.plan import Audits, Settings, choose_methods, make_group
from securitynet.runs.store import Store
from securitynet.targets.build import build_module, load_target
from securitynet.targets.target import as_pixels
from securitynet.training.backdoors import Trigger
from securitynet.training.selftrained import TrainingPlan, train_models
from securitynet.training.trainer import Recipe, fit

SIDES = (4, 6, 6)
N_CLASSES = 4
OPTIONS = (
    "-o", "steal.knockoff.n_seeds=1", "-o", "steal.knockoff.epochs=1",
    "-o", "backdoor.strip.n_overlays=4", "-o", "backdoor.neural_cleanse.n_steps=12",
    "-o", "backdoor.neural_cleanse.n_checked=20", "-o", "backdoor.neural_cleanse.n_judged=20",
)  # fmt: skip


@pytest.fixture
def volumes(tmp_path, monkeypatch):
    """Write volumes in noise, whose class is how bright they are, in MedMNIST's layout."""
    monkeypatch.setenv("SECURITYNET_DATA", str(tmp_path / "data"))
    rng, arrays = np.random.default_rng(0), {}
    for split, n in (("train", 128), ("test", 136)):
        labels = np.arange(n) % N_CLASSES
        pixels = rng.integers(0, 100, (n, *SIDES)) + 40 * labels[:, None, None, None]
        arrays[f"{split}_images"] = pixels.astype(np.uint8)
        arrays[f"{split}_labels"] = labels.astype(np.uint8)[:, None]
    folder = tmp_path / "data" / "slabs3d"
    folder.mkdir(parents=True)
    np.savez_compressed(folder / "slabs3d.npz", **arrays)
    return "slabs3d"


@pytest.fixture
def card_of(tmp_path, volumes):
    """Return a function that trains a narrow network of a kind and writes its card."""

    def card_of(convolution="acs", sides=SIDES, epochs=6, **changes):
        depth, height, width = sides
        options = {"convolution": convolution, "width": 4}
        record = {
            "id": f"test/{convolution}",
            "provider": "test",
            "name": convolution,
            "dataset": volumes,
            "num_classes": N_CLASSES,
            "architecture": {"name": "securitynet/cifar_stem_resnet18", "options": options},
            "input": {"channels": 3, "height": height, "width": width, "depth": depth},
            "weights": {"path": f"{convolution}.pth", "format": "torch-zip", "state_key": "net"},
        }
        path = tmp_path / f"{convolution}.json"
        path.write_text(json.dumps({**record, **changes}))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = build_module(load_card(path))
        if epochs:
            train(module, load_dataset(volumes).train, epochs)
        torch.save({"net": module.state_dict()}, tmp_path / f"{convolution}.pth")
        return path

    return card_of


def train(module, images, epochs):
    class AsRgb(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self, pixels):
            return self.module(pixels.expand(-1, 3, *SIDES))

    recipe = Recipe(epochs=epochs, batch_size=16, is_augmented=False)
    fit(AsRgb(), images.pixels(), images.labels, recipe=recipe, seed=0, device=torch.device("cpu"))


def test_a_run_tries_all_three_threats_on_a_model_of_volumes(card_of, tmp_path):
    store = tmp_path / "store"
    asked = ["run", "membership,stealing,backdoor", str(card_of("acs")), *OPTIONS]
    assert run_command([*asked, "--store", str(store)]) == 0
    records = list(Store(store).records())
    assert {record.status for record in records} == {"ok"}
    measures = {}
    for record in records:
        measures |= {f"{record.method}.{k}": v for k, v in record.measures.items()}
        assert record.details["gate"]["accuracy"] > 0.6
        assert not record.details["preflight"]
    assert measures["mia.loss.test_accuracy"].n == 128
    assert measures["steal.knockoff.agreement"].value > 0.5
    assert 0 < measures["backdoor.neural_cleanse.trigger_l1"].value <= np.prod(SIDES)
    assert 0 <= measures["backdoor.strip.auroc"].value <= 1
    report = tmp_path / "report.html"
    assert run_command(["report", "--store", str(store), "--html", str(report)]) == 0
    assert re.search(r"slice [1-4] of 4", report.read_text())


@pytest.mark.parametrize("convolution", ["2.5d", "3d"])
def test_fast_answers_on_volumes_are_the_plain_ones(convolution, card_of, volumes):
    target = load_target(load_card(card_of(convolution)))
    audit = make_audit(load_dataset(volumes))
    parity = target.check_parity(audit.test.take(slice(40)), audit.test.take(slice(40, 80)))
    assert parity.label_agreement == 1 and parity.precision != "fp32-plain"
    folded = [module for module in target.module().modules() if isinstance(module, _BatchNorm)]
    assert not folded, "BatchNorm of volumes is folded as that of pictures"
    with torch.inference_mode():
        plain = target.engine.plain(as_pixels(audit.test.pixels()))
    np.testing.assert_array_equal(target.labels(audit.test), plain.argmax(1).numpy())


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("slabs3d", {"sides": (8, 8, 8)}, "classifies volumes of 8x8x8, slabs3d holds volumes"),
        ("digits", {"num_classes": 10}, "volumes of 4x6x6, digits holds pictures of 8x8"),
    ],
)
def test_other_sides_are_refused(name, changes, words, card_of):
    card = load_card(card_of(epochs=0, **changes))
    with pytest.raises(UsageError, match=words):
        make_group(card, choose_methods(["mia.loss"]), Settings(data=name), Audits())


def test_pictures_models_refuse_volumes(card_of, volumes):
    card = load_card(card_of(epochs=0))
    flat = replace(card, input=InputSpec(3, 8, 8), architecture="securitynet/cifar_stem_resnet18")
    with pytest.raises(UsageError, match="pictures of 8x8, slabs3d holds volumes of 4x6x6"):
        make_group(flat, choose_methods(["mia.loss"]), Settings(), Audits())


def test_models_of_volumes_can_be_trained_with_a_backdoor(volumes, tmp_path):
    recipe = Recipe(epochs=8, batch_size=16, is_flipped=False)
    plan = TrainingPlan(
        "slabs", "securitynet/cnn_small", recipe, trigger=Trigger(target=1), poison_rate=0.2
    )
    for path in train_models(plan, load_dataset(volumes), tmp_path, lambda *_: None):
        card = load_card(path)
        assert card.input.sides == SIDES and card.claim("test_accuracy").value > 0.6
    assert load_card(tmp_path / "slabs" / "card.json").training["backdoor"]["attack_success"] > 0.5
