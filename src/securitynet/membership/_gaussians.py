"""Gaussians of a statistic over references, one a sample: what LiRA is made of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

OWN_VARIANCE = 64
"""References from which on a sample's own variance is estimated (Carlini et al., section VI-B)."""
_TINY = 1e-12
_FAR = 2.0
"""Spreads from both Gaussians; about 4% of a reference's samples lie farther from the others'."""


class Gaussians(NamedTuple):
    """One Gaussian a sample.

    Attributes:
        mean: float64 ``[n]``.
        spread: Standard deviations, float64 ``[n]``, above 0.
    """

    mean: Floats
    spread: Floats


def fit(values: Floats, own_variance: int = OWN_VARIANCE) -> Gaussians:
    """Fit one Gaussian a sample to its values under the references.

    With few references all samples share one variance: the mean of the variances *within* samples.
    The variance of all values together, which some code takes instead, is that of the samples'
    difficulty. A single reference has no variance within samples; there any number orders alike,
    and the spread over samples stands in.

    Args:
        values: The statistic under ``m`` references, float64 ``[m, n]``.
        own_variance: From how many references on each sample has its own variance.
    """
    m = len(values)
    if m == 1:
        spread = np.full(values.shape[1], values.std())
    else:
        variance = values.var(0, ddof=1)
        shared = np.full_like(variance, variance.mean())
        spread = np.sqrt(variance if m >= own_variance else shared)
    return Gaussians(values.mean(0), np.maximum(spread, _TINY))


def log_odds_above(statistic: Floats, gaussians: Gaussians) -> Floats:
    """Return log P[Z < x] - log P[Z > x]: rises in x and never ties where P rounds to 0 or 1."""
    from scipy.special import log_ndtr

    z = (statistic - gaussians.mean) / gaussians.spread
    return np.asarray(log_ndtr(z) - log_ndtr(-z))


def is_unlike(statistic: Floats, inside: Gaussians, outside: Gaussians) -> bool:
    """Whether most samples lie far from both of their Gaussians, so that neither describes them."""
    nearest = np.minimum(*(abs(statistic - side.mean) / side.spread for side in (inside, outside)))
    return bool(np.median(nearest) > _FAR)


def log_likelihood_ratio(statistic: Floats, inside: Gaussians, outside: Gaussians) -> Floats:
    """Return log N(x; inside) - log N(x; outside), float64 ``[n]``."""
    return _log_density(statistic, inside) - _log_density(statistic, outside)


def _log_density(statistic: Floats, gaussians: Gaussians) -> Floats:
    """Return log N(x) up to the constant that every Gaussian shares."""
    z = (statistic - gaussians.mean) / gaussians.spread
    return np.asarray(-0.5 * z**2 - np.log(gaussians.spread))
