"""The accuracy gate: is this the model that was published, on the images that were published?"""

import numpy as np
import pytest
from scipy.stats import binom

from securitynet.catalogue.cards import Claim
from securitynet.targets.preflight import accuracy_gate


class Answering:
    """A target that gives known labels."""

    def __init__(self, card, labels):
        self.card, self.given, self.num_classes = card, labels, card.num_classes

    def labels(self, images):
        assert len(images) == len(self.given)
        return self.given


def claim_of(value, n=None):
    return Claim("test_accuracy", value, "a paper", n)


@pytest.fixture
def gate(card_of, audit_of):
    """Return a function that judges a model with so many right answers."""

    def gate(n_right, n, claim=None, *, n_classes=10, labels=None, notes=()):
        labels = np.arange(n) % n_classes if labels is None else np.asarray(labels)
        given = np.where(np.arange(n) < n_right, labels, (labels + 1) % n_classes)
        card = card_of(n_classes, claims=() if claim is None else (claim,))
        audit = audit_of(labels, n_classes=n_classes, notes=notes)
        return accuracy_gate(Answering(card, given), audit)

    return gate


@pytest.mark.parametrize("points", [0.0, 0.9, -0.9, 1.0, -1.0])
def test_within_a_point_of_the_claim_is_fine(points, gate):
    found = gate(8500 + round(100 * points), 10_000, claim_of(0.85, 10_000), notes=("other",))
    assert found.refusal is None and found.flags == ()
    assert (found.n, found.claimed) == (10_000, 0.85)
    assert found.accuracy == pytest.approx(0.85 + points / 100)


@pytest.mark.parametrize("points", [0.5, -0.5, 0.6, -0.6])
def test_on_exactly_the_images_of_the_claim_half_a_point_is_the_limit(points, gate):
    n_right = 8500 + round(100 * points)
    is_refused = gate(n_right, 10_000, claim_of(0.85, 10_000)).refusal is not None
    assert is_refused == (abs(points) > 0.5)
    assert gate(n_right, 10_000, claim_of(0.85, 10_000), notes=("jpeg",)).refusal is None


@pytest.mark.parametrize("points", [1.1, -1.1, 30.0 - 20.0, -40.0])
def test_more_than_a_point_off_is_refused(points, gate):
    found = gate(8500 + round(100 * points), 10_000, claim_of(0.85, 10_000))
    assert found.flags == ("accuracy-gate",)
    for part in (f"{abs(points):.1f} points off", "published 0.850", "10,000 test images"):
        assert part in found.refusal
    assert "wrong preprocessing, class order or altered images" in found.refusal


def test_the_claim_may_be_of_more_images_than_are_used(gate):
    """1.96 standard errors of 400 draws at 0.85 are 3.5 points."""
    for n_claimed in (10_000, None):
        assert gate(340 - 16, 400, claim_of(0.85, n_claimed)).refusal is None
        assert gate(340 - 19, 400, claim_of(0.85, n_claimed)).flags == ("accuracy-gate",)
    assert gate(340 - 16, 400, claim_of(0.85, 400)).flags == ("accuracy-gate",)


def test_a_sound_model_is_hardly_ever_refused_on_a_sample(gate):
    """Over all samples of a model that is exactly as claimed, at most 5% may be refused."""
    for n, claimed in ((100, 0.917), (500, 0.917), (2000, 0.6)):
        refused = [k for k in range(n + 1) if gate(k, n, claim_of(claimed, 10_000)).refusal]
        assert sum(binom.pmf(k, n, claimed) for k in refused) < 0.05


def test_a_wrong_model_is_caught_on_a_sample(gate):
    """A model ten points below its claim is refused on nearly every sample of 500."""
    refused = [k for k in range(501) if gate(k, 500, claim_of(0.917, 10_000)).refusal]
    assert sum(binom.pmf(k, 500, 0.817) for k in refused) > 0.99


def test_without_a_claim_the_record_says_so(gate):
    found = gate(700, 1000)
    assert found.flags == ("no-claim",) and found.refusal is None and found.claimed is None


def test_a_claim_of_something_else_is_no_claim(gate):
    assert gate(700, 1000, Claim("robust_accuracy", 0.3, "a paper")).flags == ("no-claim",)


@pytest.mark.parametrize("n_right", [0, 80, 100, 115])
def test_chance_level_is_refused(n_right, gate):
    found = gate(n_right, 1000)
    assert "chance-level" in found.flags and "no better than chance" in found.refusal


def test_better_than_chance_is_not(gate):
    assert gate(130, 1000).refusal is None


def test_naming_the_most_frequent_class_is_chance(gate):
    labels = np.repeat([0, 1, 2], [800, 100, 100])
    assert "chance-level" in gate(800, 1000, labels=labels, n_classes=3).flags
    assert "chance-level" not in gate(850, 1000, labels=labels, n_classes=3).flags


def test_chance_and_claim_are_both_flagged(gate):
    found = gate(100, 1000, claim_of(0.9, 1000))
    assert found.flags == ("chance-level", "accuracy-gate") and "80.0 points off" in found.refusal


def test_jpeg_copies_are_named_as_the_cause(gate):
    found = gate(820, 1000, claim_of(0.917, 10_000), notes=("jpeg-compressed",))
    assert "JPEG-compressed copies of a lossless data set" in found.refusal


@pytest.mark.public
def test_a_public_model_on_jpeg_copies_is_refused(public_models, public_data, monkeypatch):
    from securitynet.catalogue.database import find_card
    from securitynet.datasets.images import make_audit
    from securitynet.datasets.library import load_dataset
    from securitynet.targets.build import load_target

    monkeypatch.setenv("SECURITYNET_MIRROR", str(public_models))
    monkeypatch.setenv("SECURITYNET_DATA", str(public_data))
    audit = make_audit(load_dataset("cifar10"), limit=1000)
    found = accuracy_gate(load_target(find_card("community/akamaster-resnet20")), audit)
    assert "accuracy-gate" in found.flags and 0.79 < found.accuracy < 0.86
    assert "published 0.917" in found.refusal and "JPEG-compressed" in found.refusal
