"""Is one of K classes too far from the others? Statistics with a null that knows K."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MAD_TO_SIGMA = 1.4826
MIN_SPREAD = 0.15
"""Least standard deviation of log norms that is believed.

The classes of a clean model are not equally easy to reach: over the public CIFAR-10 ResNets and
models of digits the spread lies between 0.06 and 0.17, and that of nine numbers is itself
uncertain. A smaller one is luck and would turn the easiest class into an alarm. It only ever
raises p-values.
"""
MIN_ROOT_SPREAD = 0.03
"""Least standard deviation of cube roots of margins that is believed, as a share of their median.

It is that of margins which differ by 9% of their mean: the classes of clean digit models and of
public CIFAR-10 and MNIST models differ by 9% to 20% and more.
"""
MIN_CLASSES = 4
_NULL_NUMBERS = 20_000_000
_MAX_DRAWS = 200_000
_CHUNK = 2_000_000


def anomaly_index(norms: Floats) -> float:
    """Return the anomaly index of the smallest norm, as the paper defines it.

    (median - smallest) / (1.4826 MAD) with the true median, one-sided (Wang et al., S&P 2019,
    section IV-C). "Above 2" is no test: under no backdoor a third of all models with 10 classes
    and nearly all with 100 exceed it. Use :func:`p_value`.

    Args:
        norms: L1 norms of the masks, float64 ``[K]``.

    Returns:
        The index, at least 0; the spread is bounded from below so that it stays finite.
    """
    median = float(np.median(norms))
    spread = MAD_TO_SIGMA * float(np.median(np.abs(norms - median)))
    return (median - float(norms.min())) / max(spread, 1e-6 * max(median, 1.0))


def n_trimmed(n_classes: int) -> int:
    """Return how many of the largest norms are left out: a tenth of the classes.

    A class that no small trigger reaches, or whose search went astray, has a norm far above the
    others; kept in, it would widen their spread and hide a class far below them.
    """
    return n_classes // 10


def deviates(log_norms: Floats, min_spread: float = MIN_SPREAD) -> Floats:
    """Return how far each class lies below the others, in their own spread.

    Externally studentised (leave-one-out) deviates: (mean of the others - own) / (standard
    deviation of the others x sqrt(1 + 1/n)), the others being all but the class itself and the
    :func:`n_trimmed` largest of the rest. An outlier does not inflate the spread it is measured
    with, and one-sided tests on the largest deviate are the most powerful against a single
    outlier (Barnett & Lewis, Outliers in Statistical Data, 1994, section 6.3).

    Args:
        log_norms: float64 ``[..., K]`` with K >= 4.
        min_spread: Least standard deviation of the others that is believed.

    Returns:
        float64 ``[..., K]``, larger = more suspicious.
    """
    n_kept = log_norms.shape[-1] - n_trimmed(log_norms.shape[-1])
    centred = log_norms - np.median(log_norms, axis=-1, keepdims=True)
    ordered = np.sort(centred, axis=-1)
    # What is left out with a class: itself, or the largest kept one in place of a trimmed class.
    own = np.minimum(centred, ordered[..., n_kept - 1 : n_kept])
    kept, n_others = ordered[..., :n_kept], n_kept - 1
    mean = (kept.sum(-1, keepdims=True) - own) / n_others
    square = (kept**2).sum(-1, keepdims=True) - own**2
    variance = np.maximum(square - n_others * mean**2, 0) / (n_others - 1)
    spread = np.maximum(np.sqrt(variance), min_spread)
    return np.asarray((mean - centred) / (spread * np.sqrt(1 + 1 / n_others)))


def excesses(margins: Floats) -> Floats:
    """Return how far each class's margin lies above the others', in their own spread.

    The :func:`deviates` of minus the cube roots: the cube root of a gamma variate is normal to
    within a percent whatever its shape (Wilson & Hilferty, PNAS 1931), so the null for normal
    values holds for gamma ones. Like the norms of :func:`deviates`, a tenth of the margins on the
    far side, the smallest, is left out.

    Args:
        margins: Positive, float64 ``[..., K]`` with K >= 4.

    Returns:
        float64 ``[..., K]``, larger = more suspicious; margins in other units give the same.
    """
    roots = np.cbrt(margins)
    return deviates(-roots / np.median(roots, axis=-1, keepdims=True), MIN_ROOT_SPREAD)


def gamma_p_value(values: Floats) -> float:
    """Return the p-value of the largest of K values as its paper computes it.

    1 - F(largest)^K, F the gamma distribution (from 0) with the greatest likelihood for the K - 1
    others (Wang et al., S&P 2024). It is no p-value: the others were chosen for being smaller, so
    F is too narrow. Of clean models with 10 classes and gamma statistics, a quarter have one
    below 0.05. Use :func:`excesses` and :func:`p_value`.

    Args:
        values: Positive, float64 ``[K]``, K >= 3.
    """
    from scipy.stats import gamma

    others = np.delete(values, values.argmax())
    if others.min() == others.max():
        return float(values.max() <= others.max())
    shape, start, scale = gamma.fit(others, floc=0)
    log_cdf = gamma.logcdf(values.max(), shape, start, scale)
    return float(-np.expm1(len(values) * log_cdf))


@cache
def null_statistics(n_classes: int) -> Floats:
    """Draw the statistic for clean models: K independent normal log norms, largest deviate.

    The statistic does not depend on mean and variance of the log norms, so the standard normal
    stands for all: no spread is raised here, so that :data:`MIN_SPREAD` makes real models less
    suspicious and never the null. Seeded and cached: the same K always gives the same null.

    Returns:
        Sorted float64 ``[N]``: N = 200,000, fewer above 100 classes.
    """
    rng = np.random.default_rng(n_classes)
    n_draws = min(_MAX_DRAWS, _NULL_NUMBERS // n_classes)
    rows = max(1, _CHUNK // n_classes)
    parts = []
    for start in range(0, n_draws, rows):
        drawn = rng.standard_normal((min(rows, n_draws - start), n_classes))
        parts.append(deviates(drawn, min_spread=0.0).max(-1))
    return np.sort(np.concatenate(parts))


def p_value(statistic: float, n_classes: int) -> float:
    """Return the probability of a statistic at least as large for a clean model of K classes.

    Args:
        statistic: Largest of :func:`deviates`.
        n_classes: K, at least 4.

    Returns:
        (r + 1) / (N + 1), r of N null draws being at least as large.
    """
    null = null_statistics(n_classes)
    n_larger = len(null) - int(np.searchsorted(null, statistic, side="left"))
    return (n_larger + 1) / (len(null) + 1)
