import numpy as np
import pytest

from securitynet.backdoor._inputs import conformal_threshold, disjoint_parts
from securitynet.backdoor.strip import Strip, superimpose
from securitynet.errors import RefusedError, UsageError
from securitynet.registry import Access, get_method
from securitynet.targets.context import Context
from securitynet.training.backdoors import Trigger

TRIGGER = Trigger(target=3, pattern="white")


@pytest.fixture
def run(planted_target, planted_images, audit_data):
    def run(strength, trigger=TRIGGER, n=500, seed=0, **options):
        target = planted_target(strength, Access.SCORES)
        context = Context(seed=seed, trigger=trigger)
        return target, Strip(**options)(target, audit_data(planted_images(n)), context)

    return run


def auroc(evidence):
    above = evidence.triggered_scores[:, None] > evidence.clean_scores
    equal = evidence.triggered_scores[:, None] == evidence.clean_scores
    return float((above + equal / 2).mean())


def test_triggered_inputs_score_higher(run):
    _, evidence = run(400.0)
    assert auroc(evidence) > 0.95
    assert evidence.details["attack_success"] > 0.95
    assert (evidence.triggered_scores > evidence.threshold).mean() > 0.5
    assert evidence.flags == () or evidence.flags == ("coarse-threshold",)


def test_clean_model_and_unknown_trigger_are_the_null(run):
    _, evidence = run(0.0, trigger=None)
    assert 0.35 < auroc(evidence) < 0.65
    assert "no-known-trigger" in evidence.flags


def test_queries_are_counted(run):
    target, evidence = run(0.0, n_overlays=4, n_scored=30)
    assert target.queries == 4 * 90 + 30
    assert len(evidence.clean_scores) == len(evidence.triggered_scores) == 30


def test_score_is_minus_the_mean_entropy_over_classes(planted_target, planted_images, audit_data):
    target = planted_target(0.0, Access.SCORES)
    images = planted_images(200)
    evidence = Strip(n_overlays=5, n_scored=20)(target, audit_data(images), Context(seed=2))
    order = Context(seed=2).rng.permutation(200)
    bank, clean = images.pixels()[order[:5]], images.pixels()[order[25:45]]
    for image, score in zip(clean, evidence.clean_scores, strict=True):
        entropies = []
        for overlay in bank:
            mixed = np.clip(image.astype(int) + overlay, 0, 255).astype(np.uint8)
            p = target.scores(mixed[None])[0]
            entropies.append(-sum(q * np.log(q) for q in p if q > 0))
        assert score == pytest.approx(-np.mean(entropies), abs=1e-5)


def test_scores_lie_between_minus_log_k_and_zero(run):
    _, evidence = run(400.0)
    for scores in (evidence.clean_scores, evidence.triggered_scores):
        assert (scores <= 1e-9).all() and (scores >= -np.log(10) - 1e-6).all()


@pytest.mark.parametrize("known", [None, TRIGGER.target])
def test_parts_are_disjoint(planted_images, known):
    images = planted_images(400)
    parts = disjoint_parts(images, 32, 200, known, "backdoor.strip")
    every = (parts.bank, parts.calibration, parts.clean, parts.others)
    taken = np.concatenate([part.indices for part in every])
    assert len(taken) == len(np.unique(taken))
    assert len(parts.bank) == 32
    if known is not None:
        assert (parts.others.labels != known).all()


def test_threshold_comes_from_calibration_images_alone(
    planted_target, planted_images, audit_data, monkeypatch
):
    seen = []
    from securitynet.backdoor import strip

    def spy(reference, rate):
        seen.append(reference)
        return conformal_threshold(reference, rate)

    monkeypatch.setattr(strip, "conformal_threshold", spy)
    target = planted_target(400.0, Access.SCORES)
    evidence = Strip()(target, audit_data(planted_images(500)), Context(trigger=TRIGGER))
    (reference,) = seen
    assert evidence.threshold in reference
    judged = np.concatenate([evidence.clean_scores, evidence.triggered_scores])
    assert evidence.threshold not in judged


def test_conformal_threshold_keeps_the_false_rejection_rate():
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(2000):
        threshold, is_resolved = conformal_threshold(rng.normal(size=99), 0.05)
        assert is_resolved
        rates.append((rng.normal(size=100) > threshold).mean())
    assert np.mean(rates) == pytest.approx(0.05, abs=0.003)


def test_too_few_calibration_images_give_the_largest_score():
    scores = np.array([1.0, 5.0, 3.0])
    assert conformal_threshold(scores, 0.01) == (5.0, False)
    assert conformal_threshold(scores, 0.5) == (3.0, True)


def test_superimpose_saturates_and_leaves_its_inputs():
    pixels = np.full((2, 4, 4, 1), 200, dtype=np.uint8)
    overlays = np.full((3, 4, 4, 1), 100, dtype=np.uint8)
    assert (superimpose(pixels, overlays) == 255).all()
    assert superimpose(pixels, overlays // 10).shape == (2, 3, 4, 4, 1)
    assert (superimpose(pixels, overlays // 10) == 210).all()
    assert (pixels == 200).all() and (overlays == 100).all()


def test_seed_changes_the_draw(run):
    first, again, other = (run(0.0, seed=seed)[1].clean_scores for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_too_few_images_are_refused(run):
    with pytest.raises(RefusedError, match="too few"):
        run(0.0, n=60)


@pytest.mark.parametrize(
    "options", [{"n_overlays": 1}, {"n_scored": 3}, {"false_rejection": 0.0}, {"n_passes": 2}]
)
def test_options_are_checked(options):
    with pytest.raises(UsageError):
        get_method("backdoor.strip").configure(**options)
