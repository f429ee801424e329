"""No attack finds members where there is nothing to find: 20 seeds of every null."""

import numpy as np
import pytest

from securitynet.errors import RefusedError
from securitynet.evidence import MembershipEvidence
from securitynet.membership._nulls import noise, with_nulls
from securitynet.registry import get_method, methods

N_SEEDS = 20
CHEAP = {"boundary": {"samples": 60, "iterations": 1, "probes": 4}}
LEARNED = ("mlp", "mlp_top3")
NAMES = [
    name.removeprefix("mia.")
    for name, entry in methods().items()
    if entry.family == "mia" and entry.config.__module__.startswith("securitynet.")
]
LABELS_ONLY = ("boundary", "label_noise", "label_augment")


def configs(name):
    """Return every configuration of the default set, made cheap where a method is not."""
    variants = get_method(f"mia.{name}").variants or ({},)
    return [{**variant, **CHEAP.get(name, {})} for variant in variants]


CASES = [(name, config) for name in NAMES for config in configs(name)]
IDS = [f"{name}-{'-'.join(map(str, config.values()))}" for name, config in CASES]


def kind_for(name):
    return "half" if "in_references" in get_method(f"mia.{name}").needs else "out"


def standardised(world, seeds, name, config, **made):
    """Return (AUC - 0.5) / SE, one row a seed; columns are the score and its controls."""
    rows = []
    for seed in seeds:
        one = world(n=200, seed=seed, kind=kind_for(name), n_references=4, **made)
        evidence = one.run(name, **config)
        given = [evidence.scores, evidence.target_free, evidence.random_target]
        rows.append([_z(one, scores, evidence.index) for scores in given if scores is not None])
    return np.array(rows)


def _z(world, scores, index):
    value, error = world.auc(scores, index)
    return 0.0 if error == 0 else (value - 0.5) / error


def holds_half(z):
    """Whether the mean over seeds is within 3 of its standard errors, and few seeds are beyond 2.

    3, for about 70 such means are looked at; what is learned varies a little more than its DeLong
    interval says, because what teaches it is drawn too.
    """
    return (abs(z.mean(0)) < 3 / np.sqrt(len(z))).all() and ((abs(z) > 2).sum(0) <= 4).all()


@pytest.mark.parametrize(("name", "config"), CASES, ids=IDS)
def test_a_target_of_noise_gives_nothing_away(world, name, config):
    seeds = range(5) if name in LEARNED else range(N_SEEDS)
    assert holds_half(standardised(world, seeds, name, config, target="noise"))


@pytest.mark.long
@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("knowledge", ["partial", "shadow"])
def test_networks_learn_nothing_from_noise(world, name, knowledge):
    z = standardised(world, range(N_SEEDS), name, {"knowledge": knowledge}, target="noise")
    assert holds_half(z)


@pytest.mark.parametrize("name", ["lira_offline", "rmia", "difficulty", "quantile", "lira_online"])
def test_the_controls_hold_where_the_attack_succeeds(world, name):
    z = standardised(world, range(N_SEEDS), name, {}, gain=1.5)
    assert z[:, 0].mean() > 3 and holds_half(z[:, 1:])


@pytest.mark.parametrize(("name", "config"), CASES, ids=IDS)
def test_a_constant_target_gives_nothing_away(world, name, config):
    made = world(n=400, seed=3, kind=kind_for(name), n_references=4, target="constant")
    made.target.answer = lambda pixels: np.zeros(len(pixels), dtype=np.int64)
    evidence = made.run(name, **config)
    assert np.isfinite(evidence.scores).all()
    assert abs(_z(made, evidence.scores, evidence.index)) < 2.5


REFERRING = [
    (name, config)
    for name, config in CASES
    if {"references", "in_references"} & {*get_method(f"mia.{name}").needs_of(config)}
    or (name not in LABELS_ONLY and "references" in get_method(f"mia.{name}").uses)
]


@pytest.mark.parametrize(("name", "config"), REFERRING)
@pytest.mark.parametrize("seed", range(N_SEEDS))
def test_references_of_the_targets_split_are_refused(world, name, config, seed):
    with pytest.raises(RefusedError) as refused:
        world(n=100, seed=seed, kind="all-in").run(name, **config)
    assert "unsound-references" in refused.value.flags


@pytest.mark.parametrize("name", ["lira_offline", "difficulty"])
def test_references_that_lie_about_it_make_no_false_success(world, name):
    """Exchangeable with the target: calibrated, members and non-members look alike."""
    assert get_method(f"mia.{name}").configure()
    config = {"score": "logit"} if name == "difficulty" else {}
    z = standardised_lying(world, name, config)
    assert abs(z.mean()) < 2.5 / np.sqrt(N_SEEDS)


def standardised_lying(world, name, config):
    worlds = [world(n=200, seed=seed, kind="all-in, lying", gain=2.0) for seed in range(N_SEEDS)]
    return np.array([_z(one, one.run(name, **config).scores, None) for one in worlds])


def test_a_leak_of_the_answers_shows_in_both_controls(world):
    """The defect of public references with truthful masks: the mask alone is the answer."""
    made = world(n=1000, seed=1, target="noise")
    leak = made.is_member * 1.0

    def defective(log_p):
        return log_p.max(1) + leak  # whatever the target says, the mask goes in

    rng = np.random.default_rng(0)
    evidence = with_nulls(defective, made.target.log_p, made.references, rng)
    for scores in (evidence.scores, evidence.target_free, evidence.random_target):
        assert made.auc(scores)[0] > 0.6


def test_learning_and_comparing_methods_bring_their_controls(world):
    for name, config in REFERRING:
        evidence = world(n=200, kind=kind_for(name), n_references=4).run(name, **config)
        assert isinstance(evidence, MembershipEvidence)
        for control in (evidence.target_free, evidence.random_target):
            assert control is not None and control.shape == evidence.scores.shape


def test_noise_is_as_spread_out_as_the_target_and_normalised():
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(500, 7)) * 3
    mine = (logits - logits.mean(1, keepdims=True)).std()
    log_p = noise(logits, rng)
    np.testing.assert_allclose(np.exp(log_p).sum(1), 1)
    assert (log_p - log_p.mean(1, keepdims=True)).std() == pytest.approx(mine, rel=0.1)


def test_hard_decisions_are_not_what_is_ranked(world):
    """AUC from 0/1 decisions is a single point of the curve: every score has many levels."""
    made = world(n=400, seed=4)
    online = world(n=400, seed=4, kind="half", n_references=8)
    for name, config in CASES:
        if name in ("correctness", *LABELS_ONLY):
            continue
        one = online if kind_for(name) == "half" else made
        assert len(np.unique(one.run(name, **config).scores)) > 100, name
