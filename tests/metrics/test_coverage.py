"""Ninety-five per cent intervals hold the truth about ninety-five times in a hundred."""

import numpy as np
import pytest
from scipy.stats import norm

from securitynet.metrics.intervals import difference, proportion
from securitynet.metrics.roc import auc_delong

SHIFTS = {0.5: 0.0, 0.55: norm.ppf(0.55) * 2**0.5, 0.8: norm.ppf(0.8) * 2**0.5}
"""AUC of two unit Gaussians -> how far apart they are."""


def auc_coverage(auc, n, n_simulations, seed=0):
    rng, hits = np.random.default_rng(seed), 0
    for _ in range(n_simulations):
        found = auc_delong(rng.normal(SHIFTS[auc], 1, n), rng.normal(0, 1, n))
        hits += found.low <= auc <= found.high
    return hits / n_simulations


@pytest.mark.parametrize("auc", SHIFTS)
def test_an_auc_lies_in_its_interval(auc):
    assert 0.93 <= auc_coverage(auc, 300, 600) <= 0.97


@pytest.mark.long
@pytest.mark.parametrize("n", [100, 1000])
@pytest.mark.parametrize("auc", SHIFTS)
def test_an_auc_lies_in_its_interval_as_often_as_promised(auc, n):
    assert 0.94 <= auc_coverage(auc, n, 6000) <= 0.96


def coverage(interval, truth, n_simulations=4000):
    rng = np.random.default_rng(0)
    return np.mean([(f := interval(rng)).low <= truth <= f.high for _ in range(n_simulations)])


@pytest.mark.long
def test_proportions_are_exact_so_never_too_narrow():
    """Clopper-Pearson guarantees 95% and gives more where few outcomes are possible."""
    for p, n in ((0.01, 1000), (0.1, 1000), (0.5, 1000), (0.9, 10_000)):
        held = coverage(lambda rng, n=n, p=p: proportion(int(rng.binomial(n, p)), n), p)
        assert 0.945 <= held <= 0.985, (p, n, held)


@pytest.mark.long
def test_a_gap_lies_in_its_interval():
    def gap(rng):
        hits = (int(rng.binomial(2000, q)) for q in (0.9, 0.8))
        train, test = hits
        return difference(train, 2000, test, 2000)

    assert 0.94 <= coverage(gap, 0.1) <= 0.96


def test_the_measure_of_coverage_notices_intervals_that_are_too_narrow():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(600):
        found = auc_delong(rng.normal(0, 1, 300), rng.normal(0, 1, 300))
        half = (found.high - found.low) / 4  # 67% instead of 95%
        hits += abs(found.value - 0.5) <= half
    assert hits / 600 < 0.8
