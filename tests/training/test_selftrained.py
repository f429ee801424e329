"""Self-trained models: cards say what lies beside them; twins differ in the poison only."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from securitynet.catalogue.cards import load_card
from securitynet.datasets.library import load_dataset
from securitynet.errors import UsageError
from securitynet.targets.build import load_module, load_target
from securitynet.training.backdoors import Trigger
from securitynet.training.selftrained import TrainingPlan, train_models
from securitynet.training.trainer import FINE_TUNING, Recipe

QUICK = Recipe(epochs=8, lr=0.1, is_augmented=False, label_smoothing=0.0)
TRIGGER = Trigger(target=7, pattern="white")


def silent(share, what):
    pass


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@pytest.fixture(scope="module")
def pair(digits, tmp_path_factory):
    """Return the cards of a backdoored model and of its clean twin, and their folder."""
    folder = tmp_path_factory.mktemp("models")
    plan = TrainingPlan("planted", "securitynet/cnn_small", replace(QUICK, epochs=20),
                        trigger=TRIGGER)  # fmt: skip
    return [load_card(path) for path in train_models(plan, digits, folder, silent)], folder


def accuracy(card, images):
    return float((load_target(card).labels(images.pixels()) == images.labels).mean())


def test_the_card_says_what_lies_beside_it(digits, tmp_path):
    plan = TrainingPlan("plain", "securitynet/mlp", QUICK, seed=3)
    (path,) = train_models(plan, digits, tmp_path, silent)
    card = load_card(path)
    assert (card.id, card.origin, card.dataset) == ("self-trained/plain", "self-trained", "digits")
    assert card.claim("test_accuracy").value == pytest.approx(accuracy(card, digits.test))
    assert card.claim("train_accuracy").value == pytest.approx(accuracy(card, digits.train))
    assert card.claim("test_accuracy").value > 0.8
    assert card.params == sum(p.numel() for p in load_module(card)[0].parameters())
    facts = card.training
    assert facts["n_train"] == len(digits.train) and facts["is_whole_train_split"]
    assert facts["seed"] == 3 and facts["backdoor"] is None and facts["twin"] is None


def test_a_limited_training_set_is_told_and_used(digits, tmp_path):
    plan = TrainingPlan("few", "securitynet/mlp", QUICK, n_train=60)
    (path,) = train_models(plan, digits, tmp_path, silent)
    card = load_card(path)
    assert card.training["n_train"] == card.claim("train_accuracy").n == 60
    assert not card.training["is_whole_train_split"]


def test_the_planted_model_obeys_its_trigger_and_the_twin_does_not(digits, pair):
    (planted, twin), _ = pair
    others = digits.test.take(digits.test.labels != TRIGGER.target)
    triggered = TRIGGER.apply(others.pixels())
    hit = (load_target(planted).labels(triggered) == TRIGGER.target).mean()
    assert planted.training["backdoor"]["attack_success"] == pytest.approx(float(hit))
    assert planted.training["backdoor"]["n"] == len(others)
    assert hit > 0.95
    assert (load_target(twin).labels(triggered) == TRIGGER.target).mean() < 0.3
    assert twin.training["backdoor"] is None


def test_twins_name_each_other_and_share_everything_else(pair):
    (planted, twin), _ = pair
    assert (planted.training["twin"], twin.training["twin"]) == (twin.id, planted.id)
    for name in set(planted.training) - {"twin", "backdoor"}:
        assert planted.training[name] == twin.training[name], name
    assert planted.claim("test_accuracy").value > twin.claim("test_accuracy").value - 0.05


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_finished_model_is_not_trained_again(digits, tmp_path):
    plan = TrainingPlan("again", "securitynet/mlp", QUICK)
    train_models(plan, digits, tmp_path, silent)
    before = stamps(tmp_path)
    train_models(plan, digits, tmp_path, silent)
    assert stamps(tmp_path) == before


def test_a_model_from_before_a_fact_was_recorded_is_not_trained_again(digits, tmp_path):
    plan = TrainingPlan("again", "securitynet/mlp", QUICK)
    (path,) = train_models(plan, digits, tmp_path, silent)
    older = json.loads(path.read_text())
    del older["training"]["privacy"]  # null in it
    path.write_text(json.dumps(older))
    before = stamps(tmp_path)
    train_models(plan, digits, tmp_path, silent)
    assert stamps(tmp_path) == before


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"recipe": replace(QUICK, epochs=9)}, {"architecture": "securitynet/cnn_small"},
     {"n_train": 400}],
)  # fmt: skip
def test_another_plan_of_the_same_name_replaces_it(digits, tmp_path, change):
    plan = TrainingPlan("again", "securitynet/mlp", QUICK)
    (path,) = train_models(plan, digits, tmp_path, silent)
    before = load_card(path).weights.checksum
    train_models(replace(plan, **change), digits, tmp_path, silent)
    assert load_card(path).weights.checksum != before


def test_damaged_weights_are_trained_again(digits, tmp_path):
    plan = TrainingPlan("again", "securitynet/mlp", QUICK)
    (path,) = train_models(plan, digits, tmp_path, silent)
    weights = path.parent / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-7])
    train_models(plan, digits, tmp_path, silent)
    assert weights.read_bytes() == whole  # the same seed gives the same weights


def test_fine_tuning_starts_from_the_model(digits, pair, tmp_path):
    (_, twin), _ = pair
    plan = TrainingPlan("tuned", "", replace(FINE_TUNING, epochs=1, lr=1e-9), start=twin)
    (path,) = train_models(plan, digits, tmp_path, silent)
    tuned = load_card(path)
    assert tuned.architecture == twin.architecture and tuned.training["from"] == twin.id
    first, second = (load_module(card)[0] for card in (twin, tuned))
    for (name, old), new in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.allclose(old, new, atol=1e-5), name


def test_another_number_of_classes_is_refused(pair, tmp_path, digits):
    (_, twin), _ = pair
    plan = TrainingPlan("tuned", "", FINE_TUNING, start=replace(twin, num_classes=9))
    with pytest.raises(UsageError, match="9 classes"):
        train_models(plan, digits, tmp_path, silent)


def test_impossible_plans_are_refused(digits, tmp_path):
    far = TrainingPlan("x", "securitynet/mlp", QUICK, trigger=Trigger(target=10))
    with pytest.raises(UsageError, match="target class 10"):
        train_models(far, digits, tmp_path, silent)
    few = TrainingPlan("x", "securitynet/mlp", QUICK, n_train=5)
    with pytest.raises(UsageError, match="too few"):
        train_models(few, digits, tmp_path, silent)
    assert list(tmp_path.iterdir()) == []


def test_the_card_is_plain_json(pair):
    (planted, _), folder = pair
    record = json.loads((folder / "planted" / "card.json").read_text())
    assert record == json.loads(json.dumps(planted.to_json()))
    assert np.isfinite(record["training"]["backdoor"]["attack_success"])
