from math import comb

import numpy as np
import pytest

from securitynet.metrics.intervals import clopper_pearson, difference, proportion


def tail(k, n, p):
    """P(X >= k) for a binomial, term by term."""
    return sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))


@pytest.mark.parametrize(("k", "n"), [(1, 10), (5, 10), (3, 40), (39, 40)])
def test_clopper_pearson_solves_the_binomial_tails(k, n):
    low, high = clopper_pearson(k, n)
    assert tail(k, n, low) == pytest.approx(0.025, rel=1e-9)
    assert 1 - tail(k + 1, n, high) == pytest.approx(0.025, rel=1e-9)


def test_clopper_pearson_at_its_ends():
    assert clopper_pearson(0, 20) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    assert clopper_pearson(20, 20) == (pytest.approx(0.025 ** (1 / 20)), 1.0)
    wide, narrow = clopper_pearson(5, 20, 0.99), clopper_pearson(5, 20, 0.8)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    for k, n in ((-1, 3), (4, 3), (0, 0)):
        with pytest.raises(ValueError, match="successes"):
            clopper_pearson(k, n)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.9])
def test_clopper_pearson_covers_at_least_95_percent(share):
    n = 60
    bounds = np.array([clopper_pearson(k, n) for k in range(n + 1)])
    drawn = np.random.default_rng(1).binomial(n, share, 4000)
    covered = (bounds[drawn, 0] <= share) & (share <= bounds[drawn, 1])
    assert covered.mean() >= 0.945


def test_proportion():
    measure = proportion(3, 4)
    assert (measure.value, measure.n) == (0.75, 4)
    assert (measure.low, measure.high) == clopper_pearson(3, 4)
    assert proportion(0, 0).value is None


@pytest.mark.parametrize(("first", "second"), [(0.99, 0.9), (0.5, 0.5), (0.999, 0.99)])
def test_difference_covers(first, second):
    rng = np.random.default_rng(2)
    covered = 0
    for k, other in zip(rng.binomial(200, first, 800), rng.binomial(150, second, 800), strict=True):
        measure = difference(int(k), 200, int(other), 150)
        covered += measure.low <= first - second <= measure.high
    assert covered / 800 >= 0.935


def test_difference_keeps_its_width_and_range():
    for k, other in ((50, 50), (50, 0), (0, 50), (0, 0)):
        measure = difference(k, 50, other, 50)
        assert measure.value == (k - other) / 50 and measure.n == 100
        assert -1 <= measure.low <= measure.value <= measure.high <= 1
        assert measure.high - measure.low > 0.05
    forth, back = difference(40, 50, 10, 60), difference(10, 60, 40, 50)
    assert (forth.value, forth.low) == pytest.approx((-back.value, -back.high))
