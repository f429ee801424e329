"""Intervals for shares."""

from __future__ import annotations

from securitynet.records import Measure


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
