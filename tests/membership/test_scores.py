"""Every score against a slow oracle, on posteriors that span 1e-300 to 1 - 1e-300."""

import math
from dataclasses import dataclass
from decimal import Decimal, getcontext

import numpy as np
import pytest

from securitynet.datasets.images import AuditData, Images
from securitynet.membership import _scores
from securitynet.metrics.roc import auc, tpr_at_fpr
from securitynet.registry import Access, get_method, methods
from securitynet.targets.context import Context

getcontext().prec = 400  # 1 - 1e-300 is a number here
SCORES = ("confidence", "loss", "logit", "entropy", "modified_entropy")


@dataclass
class FakeTarget:
    """Answers with given logits, in the target's own arithmetic."""

    outputs: np.ndarray

    def log_scores(self, images):
        shifted = self.outputs - self.outputs.max(1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))

    def labels(self, images):
        return self.outputs.argmax(1)


def audit_of(labels):
    pixels = np.zeros((len(labels), 2, 2, 1), np.uint8)
    images = Images(pixels, np.asarray(labels, np.int64), np.arange(len(labels)), "fake")
    return AuditData(images, images, images, images, 3, ("a", "b", "c"))


def score(name, logits, labels, **config):
    method = get_method(f"mia.{name}").configure(**config)
    return method(FakeTarget(np.asarray(logits, float)), audit_of(labels), Context()).scores


def exact_posteriors(logits):
    odds = [Decimal(float(z)).exp() for z in logits]
    return [one / sum(odds) for one in odds]


def oracle(name, logits, label):
    """The formula of the paper, in 400 digits."""
    p = exact_posteriors(logits)
    rest = sum(q for i, q in enumerate(p) if i != label)
    if name == "confidence":
        return float(p[label] - 1)
    if name == "loss":
        return float(p[label].ln())
    if name == "logit":
        return float(p[label].ln() - rest.ln())
    if name == "entropy":
        return float(sum(q * q.ln() for q in p))
    terms = ((1 - q).ln() * q for i, q in enumerate(p) if i != label)
    return float(rest * p[label].ln() + sum(terms))


def fixtures(n=60, n_classes=3, seed=0):
    """Logits from flat to 300 nats apart, right and wrong."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, n_classes)) * np.geomspace(0.1, 150, n)[:, None]
    return logits, rng.integers(0, n_classes, n)


@pytest.mark.parametrize("name", SCORES)
def test_scores_equal_the_oracle(name):
    logits, labels = fixtures()
    got = score(name, logits, labels)
    expected = [oracle(name, z, y) for z, y in zip(logits, labels, strict=True)]
    # relative: absolute 1e-6 would pass any score that rounds the confident samples to 0
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-305)
    assert got.dtype == np.float64 and got.shape == (60,)


@pytest.mark.parametrize("name", SCORES)
def test_scores_equal_the_plain_float64_formula_where_it_is_safe(name):
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(size=(200, 7)), rng.integers(0, 7, 200)
    got = score(name, logits, labels)
    for z, y, value in zip(logits, labels, got, strict=True):
        p = [math.exp(one) / sum(map(math.exp, z)) for one in z]
        plain = {
            "confidence": p[y] - 1,
            "loss": math.log(p[y]),
            "logit": z[y] - math.log(sum(math.exp(one) for i, one in enumerate(z) if i != y)),
            "entropy": sum(q * math.log(q) for q in p),
            "modified_entropy": (1 - p[y]) * math.log(p[y])
            + sum(q * math.log(1 - q) for i, q in enumerate(p) if i != y),
        }
        assert value == pytest.approx(plain[name], abs=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_overfitted_samples_do_not_tie(name):
    # all of these have p_y = 1 in float64 and log p_y = 0 in a plain softmax
    gaps = np.linspace(38, 300, 500)
    logits = np.stack([gaps, np.zeros(500), np.zeros(500)], axis=1)
    assert (np.diff(score(name, logits, np.zeros(500, int))) > 0).all()


@pytest.mark.parametrize("name", ["confidence", "logit"])
def test_confidence_logit_and_loss_rank_alike(name):
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 10, 4000)
    logits = rng.normal(size=(4000, 10))
    logits[np.arange(4000), labels] += rng.normal(30, 10, 4000)
    is_member = rng.random(4000) < 0.5
    logits[is_member, labels[is_member]] += 5
    loss, other = score("loss", logits, labels), score(name, logits, labels)
    order = np.argsort(loss, kind="stable")
    assert (np.diff(other[order]) >= 0).all()
    for figure in (auc, lambda *sides: tpr_at_fpr(*sides, 0.001).value):
        assert figure(other[is_member], other[~is_member]) == figure(
            loss[is_member], loss[~is_member]
        )


def test_logit_is_the_difference_of_logits():
    logits, labels = fixtures()
    rows = np.arange(60)
    rest = logits.copy()
    rest[rows, labels] = -np.inf
    top = rest.max(1)
    expected = logits[rows, labels] - top - np.log(np.exp(rest - top[:, None]).sum(1))
    np.testing.assert_allclose(score("logit", logits, labels), expected, rtol=1e-9)
    assert np.abs(expected).max() > 200  # far beyond where 1 - p_y underflows


def test_entropy_is_over_classes_not_over_samples():
    # sample 0 is certain, sample 1 is not; over the sample axis both columns look alike
    logits = np.array([[9.0, 0, 0], [0.0, 0, 0]])
    certain, flat = score("entropy", logits, [0, 0])
    assert certain > flat and flat == pytest.approx(-math.log(3))
    alone = score("entropy", logits[:1], [0])
    assert alone[0] == certain  # other samples change nothing


@pytest.mark.parametrize("name", SCORES)
def test_other_samples_change_nothing(name):
    logits, labels = fixtures()
    parts = [score(name, logits[i : i + 7], labels[i : i + 7]) for i in range(0, 60, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), score(name, logits, labels))


@pytest.mark.parametrize("name", [*SCORES, "correctness"])
def test_higher_means_member(name):
    """Members get more of their class's logit: a flipped sign would show as an AUC below .5."""
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 2000)
    is_member = np.arange(2000) % 2 == 0
    logits = rng.normal(size=(2000, 3))
    logits[np.arange(2000), labels] += np.where(is_member, 3.0, 1.0)
    for config in get_method(f"mia.{name}").variants:
        scores = score(name, logits, labels, **config)
        assert auc(scores[is_member], scores[~is_member]) > 0.6


def test_modified_entropy_punishes_confident_mistakes_entropy_does_not():
    logits = np.array([[8.0, 0, 0], [8.0, 0, 0]])
    right, wrong = score("modified_entropy", logits, [0, 1])
    assert right > -0.01 and wrong < -5
    assert np.ptp(score("entropy", logits, [0, 1])) == 0


def test_one_hot_posteriors_stay_ordered_and_never_nan():
    log_p = np.array([[0.0, -np.inf, -np.inf], [-np.inf, 0.0, -np.inf]])
    labels = np.array([0, 0])
    for formula in (_scores.log_likelihood, _scores.confidence, _scores.scaled_logit):
        right, wrong = formula(log_p, labels)
        assert right > wrong and not np.isnan([right, wrong]).any()
    right, wrong = _scores.neg_modified_entropy(log_p, labels)
    assert right == 0 and wrong == -np.inf
    assert _scores.neg_entropy(log_p).tolist() == [0, 0]


def test_sharpen_leaves_its_input_and_flat_rows_alone():
    logits, _ = fixtures()
    log_p = FakeTarget(logits).log_scores(None)
    before = log_p.copy()
    sharp = _scores.sharpen(log_p)
    np.testing.assert_array_equal(log_p, before)
    np.testing.assert_allclose(sharp, log_p, atol=1e-12)
    assert (sharp <= 0).all()
    tie = np.log(np.array([[0.5, 0.5, 1e-300]]))
    np.testing.assert_allclose(_scores.sharpen(tie), tie)


def test_per_class_is_the_mid_rank_within_the_class():
    rng = np.random.default_rng(6)
    logits = np.round(rng.normal(size=(90, 3)))  # rounded: ties
    labels = rng.integers(0, 3, 90)
    plain = score("modified_entropy", logits, labels)
    ranked = score("modified_entropy", logits, labels, per_class=True)
    for i in range(90):
        mine = [plain[j] for j in range(90) if labels[j] == labels[i]]
        rank = sum(s < plain[i] for s in mine) + (sum(s == plain[i] for s in mine) + 1) / 2
        assert ranked[i] == pytest.approx(rank / (len(mine) + 1))


def test_per_class_removes_differences_between_classes():
    # classes 0 and 1 differ in confidence far more than members and non-members do
    rng = np.random.default_rng(7)
    labels = np.repeat([0, 1], 1000)
    is_member = np.tile([True, False], 1000)
    logits = rng.normal(size=(2000, 3)) * 0.2
    logits[np.arange(2000), labels] += np.where(labels == 0, 1.0, 6.0) + 0.3 * is_member
    plain, ranked = (
        score("modified_entropy", logits, labels, per_class=flag) for flag in (False, True)
    )
    assert auc(ranked[is_member], ranked[~is_member]) > 0.05 + auc(
        plain[is_member], plain[~is_member]
    )


def test_correctness_uses_labels_only():
    class LabelsOnly:
        def labels(self, images):
            return np.array([0, 1, 2, 0])

    method = get_method("mia.correctness")
    assert method.access == Access.LABELS
    evidence = method.configure()(LabelsOnly(), audit_of([0, 1, 0, 1]), Context())
    assert evidence.scores.tolist() == [1, 1, 0, 0]


def test_all_are_registered_with_their_source():
    known = methods()
    for name in (*SCORES, "correctness"):
        assert "20" in known[f"mia.{name}"].paper
    assert known["mia.modified_entropy"].variants == ({}, {"per_class": True})
    assert {known[f"mia.{name}"].access for name in SCORES} == {Access.SCORES}
