"""Maximum margins against their exact values, the p-value against clean models, the bounds."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.stats import gamma

from securitynet.backdoor import _anomaly, _margins
from securitynet.backdoor._margins import Ascent, largest_margins, margins_of
from securitynet.backdoor.mm_bd import MmBd
from securitynet.errors import AccessError, RefusedError, UsageError
from securitynet.registry import Access, get_method
from securitynet.targets.context import Context

INFECTED = 3
CPU = torch.device("cpu")


@pytest.fixture
def run(planted_target):
    def run(strength=0.0, module=None, seed=0, access=Access.GRADIENTS, **options):
        target = planted_target(strength, access, module)
        return target, MmBd(**options)(target, None, Context(seed=seed))

    return run


class Biased(torch.nn.Module):
    """Ten classes read off ten pixels, some of them handicapped."""

    def __init__(self, handicaps):
        super().__init__()
        self.register_buffer("handicaps", torch.tensor(handicaps))

    def forward(self, inputs):
        return 10 * inputs.flatten(1)[:, :10] - self.handicaps


def exact_margin(weights, offset, k):
    """Maximise t over x in [0, 1] and t with t <= f_k(x) - f_j(x) for all j != k."""
    others = np.delete(np.arange(len(weights)), k)
    rows = np.c_[weights[others] - weights[k], np.ones(len(others))]
    n_pixels = weights.shape[1]
    cost = np.r_[np.zeros(n_pixels), -1.0]
    bounds = [(0, 1)] * n_pixels + [(None, None)]
    found = linprog(cost, A_ub=rows, b_ub=offset[k] - offset[others], bounds=bounds)
    assert found.status == 0
    return -found.fun


def test_the_margins_of_a_linear_model_are_those_of_linear_programming(planted_target):
    """The exact maximum is known here: what is found never exceeds it and comes close."""
    module = planted_target(0.0, Access.GRADIENTS).module()
    with torch.no_grad():
        base = module(torch.zeros(1, 1, 8, 8))
        units = torch.eye(64).reshape(64, 1, 8, 8)
        weights = (module(units) - base).double().numpy().T
    exact = [exact_margin(weights, base[0].double().numpy(), k) for k in range(10)]
    found = largest_margins(module, (1, 8, 8), 10, Ascent(3, 300), 0, CPU, lambda share: None)
    best = found.margins.max(1)
    assert (best <= np.array(exact) * (1 + 1e-5)).all()
    assert (best >= 0.97 * np.array(exact)).all()
    assert np.argmax(best) == np.argmax(exact)


def test_margins_agree_with_the_slow_definition():
    logits = np.random.default_rng(0).normal(0, 3, (50, 7)).astype(np.float32)
    goals = np.random.default_rng(1).integers(0, 7, 50)
    expected = [
        row[goal] - max(value for j, value in enumerate(row) if j != goal)
        for row, goal in zip(logits.astype(float), goals, strict=True)
    ]
    found = margins_of(torch.from_numpy(logits), torch.from_numpy(goals))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_a_logit_far_below_all_others_is_still_another():
    """Masking the own logit by a large negative number makes it the largest of the others here."""
    logits = torch.tensor([[-2000.0, -3500.0, -4000.0]])
    assert margins_of(logits, torch.tensor([0])).item() == 1500


def test_a_planted_class_stands_out(run):
    _, evidence = run(100.0)
    assert evidence.infected_label == INFECTED and evidence.p_value < 0.01
    assert evidence.margins.argmax() == INFECTED
    assert evidence.statistic == max(evidence.details["excesses"])
    assert evidence.flags == ()


def test_its_clean_twin_does_not(run):
    assert run(0.0)[1].p_value > 0.05


def test_no_trigger_is_claimed(run):
    evidence = run(0.0)[1]
    assert evidence.norms is evidence.attack_success is evidence.masks is evidence.patterns is None


def test_the_statistic_is_of_the_best_restart(run):
    evidence = run(100.0, n_steps=20)[1]
    by_restart = np.array(evidence.details["margins_by_restart"])
    assert by_restart.shape == (10, 3)
    assert np.array_equal(evidence.margins, by_restart.max(1))
    assert evidence.details["excesses"] == pytest.approx(_anomaly.excesses(evidence.margins))


def test_every_image_asked_is_an_image_and_every_one_is_counted(run):
    asked = []

    class Watching(Biased):
        def forward(self, inputs):
            asked.append(len(inputs))
            assert 0 <= inputs.min() and inputs.max() <= 1
            return super().forward(inputs)

    target, _ = run(module=Watching([0.0] * 10), n_steps=20, n_restarts=2)
    rehearsed = sum(asked) - target.queries
    assert target.queries == 10 * 2 * 21 + 10 * 11 and 0 <= rehearsed <= 16


def test_the_best_image_counts_not_the_last(planted_target):
    """A step that overshoots must not lose what was reached before."""

    class Ridge(torch.nn.Module):
        def forward(self, inputs):
            height = -(inputs.mean((1, 2, 3)) - 0.5).abs()
            others = torch.full((len(inputs), 3), -1.0)
            return torch.cat([10 * height[:, None], others], 1)

    found = largest_margins(Ridge(), (1, 8, 8), 4, Ascent(1, 6), 0, CPU, lambda share: None)
    assert found.margins[0, 0] > 0.5


def test_starts_in_parts_find_the_same_as_in_one_batch(planted_target, monkeypatch):
    module = planted_target(100.0, Access.GRADIENTS).module()

    def margins():
        found = largest_margins(module, (1, 8, 8), 10, Ascent(3, 30), 0, CPU, lambda share: None)
        return found.margins

    together = margins()
    monkeypatch.setattr(_margins, "MAX_PIXELS", 7 * 64)
    np.testing.assert_allclose(margins(), together, rtol=1e-3)


def test_seed_changes_the_starts(run):
    first, again, other = (run(100.0, seed=seed, n_steps=10)[1].margins for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_more_restarts_keep_those_before(run):
    few, many = (
        np.array(run(0.0, n_restarts=n, n_steps=10)[1].details["margins_by_restart"])
        for n in (2, 4)
    )
    np.testing.assert_allclose(many[:, :2], few, rtol=1e-3)


def test_a_search_cut_short_is_flagged(run):
    evidence = run(100.0, n_steps=5)[1]
    assert "not-converged" in evidence.flags
    whole = run(100.0)[1]
    assert (
        np.median(whole.details["doubling_gains"])
        < 0.05
        < np.median(evidence.details["doubling_gains"])
    )


def test_a_class_that_no_image_reaches_is_left_out(run):
    handicaps = [0.0, 1.0, 2.0, 3.0, 99.0, 1.0, 2.0, 3.0, 2.0, 1.0]
    evidence = run(module=Biased(handicaps))[1]
    assert evidence.flags == ("class-not-reached",)
    assert evidence.margins[4] < 0 and np.isnan(evidence.details["excesses"][4])
    rest = np.delete(evidence.margins, 4)
    assert evidence.p_value == _anomaly.p_value(_anomaly.excesses(rest).max(), 9)


def test_too_few_classes_are_refused(run):
    constant = Biased([0.0] + [99.0] * 9)
    with pytest.raises(RefusedError, match="the model has 1 of 10") as refusal:
        run(module=constant)
    assert refusal.value.flags == ("few-classes",)


def test_needs_gradients(run):
    with pytest.raises(AccessError):
        run(access=Access.LOGITS)


@pytest.mark.parametrize("options", [{"n_restarts": 0}, {"n_steps": 4}, {"n_images": 3}])
def test_options_are_checked(options):
    with pytest.raises(UsageError):
        get_method("backdoor.mm_bd").configure(**options)


def test_progress_only_rises(planted_target):
    shares = []
    context = Context(progress=lambda share, what: shares.append(share))
    MmBd(n_steps=10)(planted_target(0.0, Access.GRADIENTS), None, context)
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)


# --- the p-value


def slow_excess(margins, i):
    """Leave-one-out, the tenth of the others with the smallest margins left out, cube roots."""
    others = np.sort(np.cbrt(np.delete(margins, i)))[len(margins) // 10 :]
    own = np.cbrt(margins[i])
    return (own - others.mean()) / (others.std(ddof=1) * np.sqrt(1 + 1 / len(others)))


@pytest.mark.parametrize("n_classes", [4, 10, 25])
def test_excesses_agree_with_the_definition(n_classes):
    margins = np.random.default_rng(0).gamma(3, 10, n_classes)
    expected = [slow_excess(margins, i) for i in range(n_classes)]
    np.testing.assert_allclose(_anomaly.excesses(margins), expected, rtol=1e-8)


def test_excesses_ignore_the_scale_of_the_logits():
    margins = np.random.default_rng(1).gamma(20, 1, 10)
    np.testing.assert_allclose(_anomaly.excesses(margins), _anomaly.excesses(1000 * margins))
    tight = 100 + np.arange(10.0)  # raised to the least spread that is believed: in any unit
    for scale in (1e-3, 1e3):
        np.testing.assert_allclose(_anomaly.excesses(tight), _anomaly.excesses(scale * tight))


def test_only_large_margins_are_suspicious():
    """A two-sided deviation would call the class that is hard to reach infected."""
    margins = np.array([20.0, 21, 22, 23, 24, 25, 26, 27, 28, 1])
    excesses = _anomaly.excesses(margins)
    assert excesses.argmax() == 8 and excesses[9] < 0
    assert _anomaly.p_value(excesses.max(), 10) > 0.2


def test_a_class_hard_to_reach_does_not_hide_the_infected_one():
    margins = np.array([20.0, 21, 22, 23, 24, 25, 26, 27, 60, 20.5])
    alone = _anomaly.excesses(margins).max()
    margins[9] = 0.1
    assert _anomaly.excesses(margins).max() == pytest.approx(alone, rel=0.05)


@pytest.mark.parametrize("shape", [1, 4, 25, 100])
@pytest.mark.parametrize("n_classes", [4, 10, 43])
def test_p_value_is_uniform_for_clean_models(n_classes, shape):
    """Whatever the shape of the gamma distribution that the margins of a clean model follow."""
    margins = np.random.default_rng(7).gamma(shape, 10, (20_000, n_classes))
    statistics = _anomaly.deviates(-np.cbrt(margins), min_spread=0.0).max(-1)
    p = np.array([_anomaly.p_value(statistic, n_classes) for statistic in statistics])
    assert 0.04 < np.mean(p < 0.05) < 0.06
    assert np.mean(p < 0.01) == pytest.approx(0.01, abs=0.003)
    assert np.mean(p < 0.5) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("shape", [25, 100])
def test_the_least_spread_only_ever_raises_p_values(shape):
    margins = np.random.default_rng(8).gamma(shape, 10, (2000, 10))
    free = _anomaly.deviates(-np.cbrt(margins), min_spread=0.0).max(-1)
    assert (_anomaly.excesses(margins).max(-1) <= free + 1e-9).all()


def test_the_papers_p_value_flags_a_quarter_of_clean_models():
    rng = np.random.default_rng(9)
    p = np.array([_anomaly.gamma_p_value(rng.gamma(25, 10, 10)) for _ in range(400)])
    assert 0.2 < np.mean(p < 0.05) < 0.33


def test_the_papers_p_value_is_that_of_its_formula(run):
    margins = np.random.default_rng(10).gamma(25, 10, 10)
    null = np.sort(margins)[:-1]
    shape, _, scale = gamma.fit(null, floc=0)
    expected = 1 - gamma.cdf(margins.max(), shape, scale=scale) ** 10
    assert _anomaly.gamma_p_value(margins) == pytest.approx(expected)
    evidence = run(100.0, n_steps=20)[1]
    assert evidence.details["gamma_p_value"] == _anomaly.gamma_p_value(evidence.margins)


def test_equal_margins_are_no_evidence():
    assert _anomaly.p_value(_anomaly.excesses(np.full(10, 6.9)).max(), 10) > 0.99
    assert _anomaly.gamma_p_value(np.full(10, 6.9)) == 1
