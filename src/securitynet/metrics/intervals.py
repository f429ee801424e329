"""Intervals for shares and for differences of shares. None has zero width at 0 or 1."""

from __future__ import annotations

import math

from securitynet.records import Measure

Z95 = 1.959963984540054


def clopper_pearson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact binomial interval of k successes in n trials.

    Source: Clopper & Pearson, Biometrika 26 (1934).

    Raises:
        ValueError: Unless 0 <= k <= n and n >= 1.
    """
    from scipy.special import betaincinv

    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"{k} successes in {n} trials")
    tail = (1 - level) / 2
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - tail))
    return low, high


def proportion(k: int, n: int) -> Measure:
    """Return the share k / n with its Clopper-Pearson interval; unknown if n is 0."""
    if n == 0:
        return Measure(None, n=0)
    low, high = clopper_pearson(int(k), n)
    return Measure(k / n, low, high, n)


def difference(k: int, n: int, other_k: int, other_n: int) -> Measure:
    """Return k / n - other_k / other_n of two independent groups, with its interval.

    Each side's own Clopper-Pearson bounds are joined by squares, so that the interval keeps its
    width where both shares are 0 or 1, and stays within [-1, 1]. ``n`` counts both groups.

    Source: Newcombe, Statistics in Medicine 17 (1998), method 10, with exact single bounds.

    Raises:
        ValueError: If a group is empty or has more successes than trials.
    """
    (low, high), (other_low, other_high) = clopper_pearson(k, n), clopper_pearson(other_k, other_n)
    first, second = k / n, other_k / other_n
    value = first - second
    below = math.hypot(first - low, other_high - second)
    above = math.hypot(high - first, second - other_low)
    return Measure(value, max(-1.0, value - below), min(1.0, value + above), n + other_n)
