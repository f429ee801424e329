from math import erf

import numpy as np
import pytest

from securitynet.metrics import roc


def slow_auc(positives, negatives):
    """The definition: over all pairs, a tie counts half."""
    wins = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    return wins / (len(positives) * len(negatives))


def slow_delong(positives, negatives):
    """DeLong's variance from the O(nm) kernel matrix."""
    kernel = np.array([[(p > n) + 0.5 * (p == n) for n in negatives] for p in positives])
    rows, columns = kernel.mean(1), kernel.mean(0)
    return np.sqrt(rows.var(ddof=1) / len(rows) + columns.var(ddof=1) / len(columns))


@pytest.mark.parametrize("n_values", [3, 20, 10**6])  # heavy ties, some, none
def test_auc_and_delong_equal_their_definitions(n_values):
    rng = np.random.default_rng(n_values)
    positives = rng.integers(0, n_values, 61) + n_values // 4
    negatives = rng.integers(0, n_values, 43)
    measure = roc.auc_delong(positives, negatives)
    assert measure.value == pytest.approx(slow_auc(positives, negatives), abs=1e-12)
    assert roc.auc(positives, negatives) == measure.value
    slow = slow_delong(positives, negatives)
    assert roc.delong_standard_error(positives, negatives) == pytest.approx(slow, abs=1e-12)
    assert measure.low < measure.value < measure.high and measure.n == 104


def test_delong_matches_the_bootstrap():
    rng = np.random.default_rng(3)
    positives = np.round(rng.normal(0.7, 1.3, 300), 1)  # rounded: ties
    negatives = np.round(rng.normal(0.0, 1.0, 200), 1)
    draws = [
        roc.auc(rng.choice(positives, len(positives)), rng.choice(negatives, len(negatives)))
        for _ in range(2000)
    ]
    error = roc.delong_standard_error(positives, negatives)
    assert np.std(draws, ddof=1) == pytest.approx(error, rel=0.1)
    measure = roc.auc_delong(positives, negatives)
    assert np.quantile(draws, [0.025, 0.975]) == pytest.approx(
        [measure.low, measure.high], abs=0.01
    )


def test_delong_interval_covers_the_analytic_gaussian_auc():
    distance = 0.5
    truth = 0.5 * (1 + erf(distance / 2))  # Phi(d / sqrt 2)
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(600):
        measure = roc.auc_delong(rng.normal(distance, 1, 150), rng.normal(0, 1, 150))
        covered += measure.low <= truth <= measure.high
    assert 0.925 <= covered / 600 <= 0.975
    large = roc.auc_delong(rng.normal(distance, 1, 50_000), rng.normal(0, 1, 50_000))
    assert large.value == pytest.approx(truth, abs=0.006)


@pytest.mark.parametrize("sign", [1, -1])
def test_separated_groups_have_an_interval_with_width(sign):
    measure = roc.auc_delong(sign * (np.arange(100) + 1000), sign * np.arange(40))
    assert measure.value == (sign + 1) / 2
    assert measure.high - measure.low == pytest.approx(1 - 0.025 ** (1 / 40))
    assert 0 <= measure.low < measure.high <= 1


def test_constant_scores_are_half_with_width():
    measure = roc.auc_delong(np.ones(50), np.ones(50))
    assert measure.value == 0.5
    assert measure.low < 0.5 < measure.high and measure.high - measure.low < 0.1


def test_auc_ignores_monotone_transforms_and_ranks_infinities():
    rng = np.random.default_rng(1)
    positives, negatives = rng.normal(1, 1, 80), rng.normal(0, 1, 90)
    plain = roc.auc_delong(positives, negatives)
    assert roc.auc_delong(np.exp(positives), np.exp(negatives)) == plain
    assert roc.auc_delong(negatives, positives).value == pytest.approx(1 - plain.value)
    assert roc.auc(np.array([np.inf, 1.0]), np.array([-np.inf, np.inf])) == (0.5 + 3) / 4 - 0.25


@pytest.mark.parametrize("bad", [np.array([1.0]), np.array([1.0, np.nan])])
@pytest.mark.parametrize(
    "figure", [roc.auc_delong, roc.balanced_accuracy, roc.roc_curve, roc.delong_standard_error]
)
def test_nan_and_single_samples_are_refused(figure, bad):
    good = np.arange(10.0)
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(ValueError, match="two samples a side"):
            figure(*pair)


def slow_tpr(positives, negatives, fpr):
    """The largest TPR over every threshold whose FPR does not exceed the target."""
    best = 0.0
    for threshold in [np.inf, *positives, *negatives, -np.inf]:
        if np.mean(negatives > threshold) <= fpr + 1e-12:
            best = max(best, np.mean(positives > threshold))
    return best


@pytest.mark.parametrize("n_values", [4, 30, 10**6])
@pytest.mark.parametrize("fpr", [0.01, 0.05, 0.3])
def test_tpr_at_fpr_is_the_largest_allowed(n_values, fpr):
    rng = np.random.default_rng(n_values)
    positives = rng.integers(0, n_values, 200) + n_values // 5
    negatives = rng.integers(0, n_values, 150)
    measure = roc.tpr_at_fpr(positives, negatives, fpr)
    assert measure.value == pytest.approx(slow_tpr(positives, negatives, fpr))
    assert measure.low <= measure.value <= measure.high and measure.n == 200


def test_tpr_is_conservative_with_ties():
    # 3 of 100 negatives share the top score: 1% cannot be held by any threshold that takes them
    negatives = np.array([9.0] * 3 + [0.0] * 97)
    positives = np.array([9.0] * 50 + [0.0] * 50)
    assert roc.tpr_at_fpr(positives, negatives, 0.01).value == 0.0
    assert roc.tpr_at_fpr(positives, negatives, 0.03).value == 0.5
    assert roc.tpr_at_fpr(np.ones(100), np.ones(100), 0.5).value == 0.0


def test_tpr_is_unknown_below_one_false_positive():
    scores = np.arange(2000.0)
    assert roc.tpr_at_fpr(scores, scores[:999], 0.001).value is None
    assert roc.tpr_at_fpr(scores, scores[:999], 0.001).low is None
    assert roc.tpr_at_fpr(scores, scores[:1000], 0.001).value is not None
    assert not roc.is_estimable(999, 0.001) and roc.is_estimable(1000, 0.001)
    # 0.29 * 100 is 28.999999999999996 in binary: 29 false positives are allowed all the same
    assert roc.tpr_at_fpr(scores[:100], scores[:100], 0.29).value == 0.29
    for rate in (0.0, 1.0, -0.1):
        with pytest.raises(ValueError, match="false positive rate"):
            roc.tpr_at_fpr(scores, scores, rate)


def test_tpr_of_noise_is_the_fpr():
    rng = np.random.default_rng(5)
    measure = roc.tpr_at_fpr(rng.normal(size=20_000), rng.normal(size=20_000), 0.01)
    assert measure.value == pytest.approx(0.01, abs=0.004)


def test_balanced_accuracy_of_noise_is_half_unlike_the_best_threshold():
    rng = np.random.default_rng(0)
    fair, optimistic = [], []
    for _ in range(200):
        positives, negatives = rng.normal(size=60), rng.normal(size=60)
        fair.append(roc.balanced_accuracy(positives, negatives).value)
        curve = roc.roc_curve(positives, negatives)
        optimistic.append(np.max(1 + curve.tpr - curve.fpr) / 2)
    assert np.mean(fair) == pytest.approx(0.5, abs=0.01)
    assert np.mean(optimistic) > 0.55


def test_balanced_accuracy_of_gaussians_is_phi_of_half_the_distance():
    rng = np.random.default_rng(2)
    measure = roc.balanced_accuracy(rng.normal(2, 1, 20_000), rng.normal(0, 1, 20_000))
    assert measure.value == pytest.approx(0.5 * (1 + erf(1 / np.sqrt(2))), abs=0.01)
    assert measure.low < measure.value < measure.high and measure.n == 40_000


def test_balanced_accuracy_at_its_ends():
    perfect = roc.balanced_accuracy(np.arange(50) + 100, np.arange(50))
    # the fold's best threshold may miss its neighbour by one sample, never by more
    assert perfect.value >= 0.98 and perfect.low < perfect.value
    constant = roc.balanced_accuracy(np.ones(50), np.ones(50))
    assert constant.value == 0.5 and constant.low < 0.5 < constant.high
    two = roc.balanced_accuracy(np.array([1.0, 2.0]), np.array([0.0, 0.5]))
    assert 0 <= two.low <= two.value <= two.high <= 1


def test_curve_is_a_monotone_subset_of_the_exact_roc():
    rng = np.random.default_rng(4)
    positives = np.round(rng.normal(0.5, 1, 700), 1)
    negatives = np.round(rng.normal(0, 1, 500), 1)
    curve = roc.roc_curve(positives, negatives)
    exact = {
        (np.mean(negatives > cut), np.mean(positives > cut))
        for cut in [*negatives, *positives, -np.inf]
    }
    assert set(zip(curve.fpr, curve.tpr, strict=True)) <= exact
    assert (curve.fpr[-1], curve.tpr[-1]) == (1.0, 1.0)
    assert (np.diff(curve.fpr) > 0).all() and (np.diff(curve.tpr) >= 0).all()
    assert (curve.low <= curve.tpr).all() and (curve.tpr <= curve.high).all()


def test_curve_has_few_points_but_the_low_ones():
    rng = np.random.default_rng(4)
    curve = roc.roc_curve(rng.normal(1, 1, 5000), rng.normal(0, 1, 5000))
    assert len(curve.fpr) <= 200 and curve.fpr[0] == 0 and curve.fpr[1] == 1 / 5000
    at = int(np.searchsorted(curve.fpr, 0.01))
    tpr = roc.tpr_at_fpr(rng.normal(1, 1, 5000), rng.normal(0, 1, 5000), 0.01).value
    assert curve.tpr[at] == pytest.approx(tpr, abs=0.03)
    assert set(curve.to_json()) == {"fpr", "tpr", "low", "high"}
    assert all(type(x) is float for x in curve.to_json()["tpr"])


def test_histogram_counts_everything_once():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=1000), np.array([-np.inf, np.inf, 0.0, 100.0])
    edges = roc.common_edges(first, second)
    assert len(edges) == 41 and np.isfinite(edges).all()
    assert sum(roc.histogram(first, edges)) == pytest.approx(1, abs=1e-4)
    bars = roc.histogram(second, edges)
    assert bars[0] == 0.25 and bars[-1] == 0.5 and sum(bars) == 1
    assert np.isfinite(roc.common_edges(np.full(3, np.inf), np.full(3, np.inf))).all()
    constant = roc.common_edges(np.ones(3), np.ones(3))
    assert constant[0] < 1 < constant[-1]
