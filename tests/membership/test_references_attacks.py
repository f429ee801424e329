"""Attacks with references against slow oracles and against theory."""

import numpy as np
import pytest
from mpmath import mp, mpf
from mpmath import ncdf as slow_cdf
from scipy.special import log_softmax
from scipy.stats import norm

from securitynet.errors import RefusedError
from securitynet.membership import _gaussians, _scores
from securitynet.membership.rmia import share_below

mp.dps = 60


def speaking(world, side="out"):
    """Return, sample by sample, the rows of the references that may speak for it."""
    speakers = world.references.speakers(side)
    return [np.flatnonzero(column) for column in speakers.T]


def lira_oracle(world):
    """One-sided, one shared variance: the mean of the variances within samples."""
    rows, phi = speaking(world), world.reference_phi
    within = [np.var([phi[r, i] for r in mine], ddof=1) for i, mine in enumerate(rows)]
    spread = mpf(float(np.mean(within)) ** 0.5)
    scores = []
    for i, mine in enumerate(rows):
        z = (mpf(world.phi[i]) - mpf(float(np.mean([phi[r, i] for r in mine])))) / spread
        scores.append(float(mp.log(slow_cdf(z)) - mp.log(slow_cdf(-z))))
    return scores


def rmia_oracle(world, a, gamma):
    """Pair by pair, as the paper writes it."""
    rows, labels, n = speaking(world), world.labels, len(world.labels)
    ratios = []
    for i in range(n):
        p = [np.exp(world.references.answers(r)[i, labels[i]]) for r in rows[i]]
        p_x = 0.5 * ((1 + a) * sum(p) / len(p) + (1 - a))
        ratios.append(np.exp(world.target.log_p[i, labels[i]]) / p_x)
    return [
        sum(ratios[i] / ratios[j] > gamma for j in range(n) if j != i) / (n - 1) for i in range(n)
    ]


def test_lira_offline_equals_the_oracle(world):
    made = world(n=60, seed=1)
    np.testing.assert_allclose(made.run("lira_offline").scores, lira_oracle(made), atol=1e-6)


def test_lira_online_equals_the_oracle(world):
    made = world(n=60, seed=2, kind="half", n_references=8)
    scores = made.run("lira_online").scores
    sides = {}
    for side in ("in", "out"):
        rows = speaking(made, side)
        values = [[made.reference_phi[r, i] for r in mine] for i, mine in enumerate(rows)]
        spread = np.mean([np.var(row, ddof=1) for row in values]) ** 0.5
        sides[side] = [(np.mean(row), spread) for row in values]
    for i, got in enumerate(scores):
        expected = norm.logpdf(made.phi[i], *sides["in"][i]) - norm.logpdf(
            made.phi[i], *sides["out"][i]
        )
        assert got == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("a", "gamma"), [(0.3, 1.0), (0.6, 2.0), (1.0, 1.0)])
def test_rmia_equals_the_pairwise_oracle(world, a, gamma):
    made = world(n=80, seed=3)
    got = made.run("rmia", a=a, gamma=gamma).scores
    np.testing.assert_allclose(got, rmia_oracle(made, a, gamma), atol=1e-12)


@pytest.mark.parametrize("score", ["loss", "logit", "confidence"])
def test_difficulty_equals_the_oracle(world, score):
    made = world(n=60, seed=4)
    value = {
        "loss": lambda p: float(mp.log(p)),
        "logit": lambda p: float(mp.log(p / (1 - p))),
        "confidence": float,
    }[score]
    got = made.run("difficulty", score=score).scores
    for i, mine in enumerate(speaking(made)):
        models = [made.target.log_p, *(made.references.answers(r) for r in mine)]
        own, *others = (value(mp.exp(mpf(float(log_p[i, made.labels[i]])))) for log_p in models)
        assert got[i] == pytest.approx(own - sum(others) / len(others), abs=1e-6)


@pytest.mark.parametrize("own_variance", [2, 64])
def test_the_variance_is_that_within_samples(own_variance):
    rng = np.random.default_rng(0)
    centre = rng.normal(0, 50, 400)  # difficulty: far larger than any model's own noise
    values = centre + rng.normal(0, 2.0, (16, 400))
    fitted = _gaussians.fit(values, own_variance)
    assert fitted.spread.mean() == pytest.approx(2.0, rel=0.05)
    assert (np.ptp(fitted.spread) > 0) == (own_variance == 2)
    assert values.std() > 40  # what the variance of the wrong array would be


def test_one_reference_has_no_variance_and_still_orders():
    fitted = _gaussians.fit(np.array([[0.0, 3.0, 1.0]]))
    z = _gaussians.log_odds_above(np.array([1.0, 5.0, 0.0]), fitted)
    assert z.argsort().tolist() == [2, 0, 1] and np.isfinite(z).all()


def test_the_extremes_never_tie():
    z = np.linspace(-60, 60, 2001)
    scores = _gaussians.log_odds_above(z, _gaussians.Gaussians(np.zeros(2001), np.ones(2001)))
    assert (np.diff(scores) > 0).all() and np.isfinite(scores).all()
    with np.errstate(divide="ignore"):
        assert (np.diff(norm.cdf(z)) == 0).mean() > 0.5  # the plain p-value ties


def test_two_sided_density_loses_what_one_sided_finds(world):
    made = world(n=4000, seed=5, gain=1.0, n_references=8)
    out = _gaussians.fit(made.references.gather(_scores.scaled_logit, made.labels))
    two_sided = -norm.logpdf(made.phi, out.mean, out.spread)
    one_sided = made.auc(made.run("lira_offline").scores)[0]
    assert one_sided > made.auc(two_sided)[0] + 0.05


def test_share_below_leaves_the_sample_itself_out():
    assert share_below(np.arange(5.0), np.arange(5.0)).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert share_below(np.zeros(4), np.zeros(4)).tolist() == [0, 0, 0, 0]


# theory


def calibrated(gain, noise, m):
    return norm.cdf(gain / np.sqrt(2 * noise**2 * (1 + 1 / m)))


@pytest.mark.parametrize(
    ("name", "config"),
    [("difficulty", {"score": "logit"}), ("lira_offline", {}), ("quantile", {})],
)
def test_calibration_reaches_what_theory_allows(world, name, config):
    made = world(n=6000, seed=6, gain=1.0, spread=3.0, noise=1.0, n_references=8)
    value, error = made.auc(made.run(name, **config).scores)
    assert abs(value - calibrated(1.0, 1.0, 4)) < 3 * error + 0.005
    raw, raw_error = made.auc(made.run("logit").scores)
    assert abs(raw - norm.cdf(1 / np.sqrt(2 * (1 + 9)))) < 3 * raw_error
    assert value > raw + 0.1


@pytest.mark.parametrize("name", ["rmia", "difficulty"])
def test_the_others_beat_the_raw_score_too(world, name):
    made = world(n=4000, seed=7, spread=3.0)
    assert made.auc(made.run(name).scores)[0] > made.auc(made.run("loss").scores)[0] + 0.03


def test_online_reaches_what_theory_allows(world):
    # many references: the ratio of two Gaussians one gain apart ranks as phi - difficulty does
    made = world(n=4000, seed=8, kind="half", n_references=64)
    value, error = made.auc(made.run("lira_online").scores)
    assert abs(value - norm.cdf(1 / np.sqrt(2))) < 3 * error + 0.01


def test_a_target_unlike_its_references_is_flagged(world):
    """One trained as the references were is like them, whatever it remembers; another is not."""
    for gain in (0.0, 1.0, 2.0):
        alike = world(n=1000, seed=11, gain=gain, kind="half", n_references=8)
        assert alike.run("lira_online").flags == ()
    alike.target.log_p = log_softmax(6 * alike.target.log_p, axis=1)
    assert alike.run("lira_online").flags == ("references-unlike-target",)


@pytest.mark.parametrize("name", ["lira_offline", "rmia", "difficulty", "quantile"])
def test_a_perfect_memoriser_is_found_out(world, name):
    made = world(n=400, seed=9, gain=60.0, level=-4.0, spread=0.5, noise=0.3)
    assert made.auc(made.run(name).scores)[0] == 1.0


@pytest.mark.parametrize("name", ["lira_offline", "rmia", "difficulty", "quantile"])
def test_references_that_saw_the_samples_are_refused(world, name):
    made = world(n=200, kind="all-in")
    with pytest.raises(RefusedError, match="never saw"):
        made.run(name)
    made.references = None
    with pytest.raises(RefusedError, match="train references"):
        made.run(name)


def test_online_refuses_references_that_saw_nothing(world):
    with pytest.raises(RefusedError, match="coin flip"):
        world(n=200).run("lira_online")


def test_who_speaks_does_not_tell_who_is_a_member(world):
    """Members have twice as many OUT references here; used as they come, they give it away."""
    made = world(n=6000, seed=10, gain=0.0, spread=0.0)
    out, labels = made.references.is_out, made.labels
    assert out[:, made.is_member].all() and not out[:, ~made.is_member].all()
    speakers = made.references.speakers()
    assert (speakers & ~out).sum() == 0 and set(speakers.sum(0)) == {3}
    inside, outside = speakers[:, made.is_member], speakers[:, ~made.is_member]
    np.testing.assert_allclose(inside.mean(1), outside.mean(1), atol=0.03)
    patterns = {tuple(column) for column in outside.T}
    assert {tuple(column) for column in inside.T} == patterns
    gathered = made.references.gather(_scores.scaled_logit, labels)
    assert gathered.shape == (3, 6000)
    mean_of_all = np.where(out, made.reference_phi, 0).sum(0) / out.sum(0)
    spread = np.abs(mean_of_all - mean_of_all.mean())
    fair = np.abs(gathered.mean(0) - gathered.mean())
    assert abs(made.auc(spread)[0] - 0.5) > 0.05 > abs(made.auc(fair)[0] - 0.5)
