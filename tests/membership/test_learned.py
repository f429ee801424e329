"""Attacks that learn from known membership or from shadow models."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from securitynet.errors import RefusedError
from securitynet.membership import _attack_mlp
from securitynet.membership.class_pvalue import log_odds_of_rank
from securitynet.registry import get_method

MLPS = ("mlp", "mlp_top3")
LEARNED = [(name, {"knowledge": how}) for name in MLPS for how in ("partial", "shadow")]


def rank_oracle(value, known):
    """Midrank over n + 1 by counting, between and at known values."""
    known = sorted(known)

    def share(at):
        return (sum(k < at for k in known) + (sum(k == at for k in known) + 1) / 2) / (
            len(known) + 1
        )

    if value in known:
        return share(value)
    low, high = max(k for k in known if k < value), min(k for k in known if k > value)
    return share(low) + (share(high) - share(low)) * (value - low) / (high - low)


def test_class_pvalue_equals_the_oracle():
    rng = np.random.default_rng(0)
    known = np.round(rng.normal(size=50), 1)  # with ties
    values = rng.uniform(known.min(), known.max(), 40)
    values[:10] = known[:10]
    got = log_odds_of_rank(values, known)
    for value, score in zip(values, got, strict=True):
        u = rank_oracle(value, known)
        assert score == pytest.approx(np.log(u) - np.log(1 - u), abs=1e-6)


def test_class_pvalue_is_uniform_for_non_members():
    rng = np.random.default_rng(1)
    u = expit(log_odds_of_rank(rng.normal(size=20_000), rng.normal(size=5000)))
    np.testing.assert_allclose(np.quantile(u, [0.05, 0.5, 0.95]), [0.05, 0.5, 0.95], atol=0.02)


def test_class_pvalue_does_not_tie_beyond_the_known():
    known = np.linspace(-1, 1, 30)
    values = np.array([-500.0, -40, -2, -1, 1, 2, 40, 500])
    scores = log_odds_of_rank(values, known)
    assert (np.diff(scores) > 0).all() and np.isfinite(scores).all()
    np.testing.assert_allclose(scores, -scores[::-1], atol=1e-9)
    assert log_odds_of_rank(np.zeros(3), np.zeros(30)).tolist() == [0, 0, 0]


def test_class_pvalue_takes_out_what_differs_between_classes(world):
    made = world(n=4000, n_classes=2, seed=1, gain=1.0, spread=0.5)
    shift = 8.0 * made.labels  # one class is far easier than the other
    fresh = made.phi + shift
    rest = -np.logaddexp(0, fresh)
    made.target.log_p = np.where(
        np.arange(2) == made.labels[:, None], (rest + fresh)[:, None], rest[:, None]
    )
    pooled, per_class = (made.auc(made.run(n).scores)[0] for n in ("logit", "class_pvalue"))
    assert per_class > pooled + 0.03
    assert abs(per_class - norm.cdf(1 / np.sqrt(2 * 1.25))) < 0.03


def test_small_classes_borrow_from_all(world):
    made = world(n=300, n_classes=50, seed=2)  # three known non-members a class
    assert np.isfinite(made.run("class_pvalue").scores).all()


@pytest.mark.parametrize(("name", "config"), LEARNED)
def test_networks_find_what_is_there(world, name, config):
    made = world(n=3000, seed=3, gain=1.5, spread=1.0)
    found, error = made.auc(made.run(name, **config).scores)
    best = norm.cdf(1.5 / np.sqrt(2 * 2))
    assert best - 4 * error - 0.02 < found < best + 4 * error


@pytest.mark.parametrize(("name", "config"), LEARNED)
def test_networks_find_a_perfect_memoriser_and_repeat_themselves(world, name, config):
    made = world(n=400, seed=4, gain=30.0, spread=1.0)
    first, again = (made.run(name, **config).scores for _ in range(2))
    assert made.auc(first)[0] == 1.0
    np.testing.assert_array_equal(first, again)


def test_the_log_odds_are_those_of_the_posterior():
    """One sigmoid, not two, and gradients that start from zero: the slope is the true one."""
    rng = np.random.default_rng(5)
    is_member = rng.random(20_000) < 0.5
    x = rng.normal(np.where(is_member, 1.0, -1.0))[:, None]
    fresh = np.linspace(-2, 2, 9)[:, None]
    got = _attack_mlp.learn(x, is_member, 0)(fresh)
    # log N(x; 1, 1) / N(x; -1, 1) = 2 x, a little less by the weight decay
    np.testing.assert_allclose(got, 2 * fresh[:, 0], rtol=0.25, atol=0.25)


def test_members_are_the_positives():
    is_member = np.repeat([True, False], 200)
    x = np.where(is_member, 1.0, -1.0)[:, None] + np.random.default_rng(0).normal(size=(400, 1))
    scores = _attack_mlp.learn(x, is_member, 0)(x)
    assert scores[is_member].mean() > scores[~is_member].mean() + 1


def test_the_number_of_classes_is_the_models_not_the_batchs():
    log_p = np.log(np.full((4, 7), 1 / 7))
    for labels in ([0, 0, 0, 0], [0, 6, 1, 2]):
        assert _attack_mlp.features(log_p, np.array(labels), None).shape == (4, 7 + 2)
        assert _attack_mlp.features(log_p, np.array(labels), 3).shape == (4, 3 + 2)
    two = _attack_mlp.features(np.log(np.array([[0.9, 0.1]])), np.array([0]), 3)
    np.testing.assert_allclose(two, [[np.log(0.9), np.log(0.1), np.log(0.1), 1]])


def test_what_is_unknown_changes_nothing(world):
    """Only known samples teach: noise in the others' answers leaves other scores alone."""
    made = world(n=400, seed=6)
    made.references = None
    known = made.folds()[0]
    method = get_method("mia.mlp").configure()
    before = method(made.target, made.data, made.context(known=known)).scores
    changed = made.target.log_p.copy()
    first = np.flatnonzero(known < 0)[0]
    changed[first] = np.log(1 / 5)
    target = replace(made.target, log_p=changed)
    after = method(target, made.data, made.context(known=known)).scores
    others = np.arange(400) != first
    np.testing.assert_array_equal(before[others], after[others])
    assert before[first] != after[first]


def test_no_image_is_scored_by_a_network_that_learned_from_it(world, monkeypatch):
    made = world(n=400, seed=7)
    taught = []

    def learn(x, is_member, seed):
        taught.append({tuple(row) for row in x})
        return lambda rows: np.full(len(rows), float(len(taught)))

    monkeypatch.setattr(_attack_mlp, "learn", learn)
    x, _, indices = _attack_mlp.shadow_rows(made.references, None, np.random.default_rng(7))
    method = get_method("mia.mlp").configure(knowledge="shadow")
    method(made.target, made.data, made.context())
    assert len(taught) == 2
    for side in (0, 1):  # network of one side: nothing of an image of that side
        assert not taught[side] & {tuple(row) for row in x[indices % 2 == side]}
        assert taught[side] <= {tuple(row) for row in x[indices % 2 != side]}


def test_shadow_rows_are_balanced(world):
    made = world(n=400, seed=8)
    x, is_member, indices = _attack_mlp.shadow_rows(made.references, 3, np.random.default_rng(0))
    assert is_member.mean() == 0.5 and len(x) == len(indices) > 1500


@pytest.mark.parametrize(("name", "config"), LEARNED)
def test_unsound_references_are_refused_whatever_is_known(world, name, config):
    with pytest.raises(RefusedError, match="never saw"):
        world(n=200, kind="all-in").run(name, **config)


@pytest.mark.parametrize("name", ["mlp", "mlp_top3", "class_pvalue", "quantile"])
def test_too_little_knowledge_is_refused(world, name):
    made = world(n=200)
    method = get_method(f"mia.{name}").configure()
    for known in (None, np.full(200, -1, np.int8)):
        with pytest.raises(RefusedError, match="20 members and 20 non-members"):
            method(made.target, made.data, made.context(known=known))


def test_shadow_knowledge_needs_references_and_no_membership(world):
    entry = get_method("mia.mlp")
    assert entry.needs_of({}) == ("membership",)
    assert entry.needs_of({"knowledge": "shadow"}) == ("references",)
    made = world(n=200)
    made.references = None
    assert made.run("mlp").target_free is None
    with pytest.raises(RefusedError, match="train references"):
        made.run("mlp", knowledge="shadow")


def test_the_quantile_regression_learns_from_non_members_only(world):
    made = world(n=600, seed=9)
    known = made.folds()[0]
    method = get_method("mia.quantile").configure()
    before = method(made.target, made.data, made.context(known=known)).scores
    changed = made.target.log_p.copy()
    changed[known == 1] = np.log(1 / 5)
    target = replace(made.target, log_p=changed)
    after = method(target, made.data, made.context(known=known)).scores
    np.testing.assert_array_equal(before[known != 1], after[known != 1])
