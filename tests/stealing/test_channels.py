"""What a thief learns behind each response channel."""

import numpy as np
import pytest
from stealing_victims import FAST, N_POOL, Fixed, audit_data, target

from securitynet.defences.channels import parse_defence
from securitynet.registry import get_method
from securitynet.targets.context import Context

SOFT = Fixed(scale=0.5)


def learned(trainings, channel, method="steal.knockoff", **options):
    """Return the evidence, what the copy behind a channel was trained on, and the bare answers."""
    victim = target(SOFT)
    given = {**FAST, "n_seeds": 1, "budgets": (N_POOL - 1,), **options}
    attack = get_method(method).configure(**given)
    evidence = attack(victim.defended(parse_defence(channel)), audit_data(), Context())
    return evidence, trainings[0], victim.scores(audit_data().queries)[: N_POOL - 1]


def test_of_the_largest_posteriors_the_rest_is_spread(trainings):
    _, taught, bare = learned(trainings, "top:2")
    order = np.argsort(-bare, axis=1)
    kept, hidden = (
        np.take_along_axis(answers, columns, 1)
        for answers, columns in ((taught, order[:, :2]), (taught, order[:, 2:]))
    )
    assert kept == pytest.approx(np.take_along_axis(bare, order[:, :2], 1))
    assert hidden == pytest.approx(np.repeat((1 - kept.sum(1, keepdims=True)) / 2, 2, axis=1))


def test_a_temperature_is_learned_as_answered(trainings):
    _, taught, bare = learned(trainings, "temperature:4")
    softened = bare**0.25
    assert taught == pytest.approx(softened / softened.sum(1, keepdims=True))


@pytest.mark.parametrize("digits", [0, 1, 2])
def test_rounded_answers_weigh_alike(digits, trainings):
    evidence, taught, bare = learned(trainings, f"round:{digits}")
    assert taught.sum(1) == pytest.approx(1.0)
    assert np.array_equal(evidence.target_labels, target(SOFT).labels(audit_data().evaluation))
    rounded = np.round(bare, digits)
    has_any = rounded.sum(1) > 0
    sums = rounded[has_any].sum(1, keepdims=True)
    assert digits == 0 or np.abs(sums - 1).max() > 0.005  # there was something to normalise
    assert taught[has_any] == pytest.approx(rounded[has_any] / sums, abs=1e-9)
    assert taught[~has_any] == pytest.approx(0.25)  # nothing answered: nothing known


def test_bare_answers_are_learned_bit_by_bit(trainings):
    given = {**FAST, "n_seeds": 1}
    victim, data = target(), audit_data()
    get_method("steal.knockoff").configure(**given)(victim, data, Context())
    assert np.array_equal(trainings[0], victim.scores(data.queries))


@pytest.mark.parametrize("channel", ["label", "top1", "round:1", "temperature:4", "noise:1"])
@pytest.mark.parametrize("method", ["steal.knockoff", "steal.active"])
def test_labels_come_through_every_channel(method, channel, trainings):
    evidence, taught, _ = learned(trainings, channel, method, response="hard")
    trainings.clear()
    bare, plain, _ = learned(trainings, "round:12", method, response="hard")
    assert np.array_equal(taught, plain)
    assert np.array_equal(evidence.target_labels, bare.target_labels)


def test_the_divergence_from_rounded_answers_is_that_of_shares():
    victim = target(Fixed(scale=0.0, bias=(2.0, 1.0, 0.0, 0.0))).defended(parse_defence("round:0"))
    attack = get_method("steal.knockoff").configure(**{**FAST, "n_seeds": 1})
    (copy,) = attack(victim, audit_data(), Context()).surrogates
    assert 0 <= copy.kl < 0.01  # one class is answered, and learned
