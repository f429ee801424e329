"""The score formulas, in log space and float64. Ties matter at 0.1% FPR.

``log_p`` is float64 ``[n, K]``, natural log of the posteriors; ``labels`` int64 ``[n]``.

A softmax gives log p of a confident sample as -log(1 + e) with e the odds of the rest; from e =
1e-16 on that is 0, and overfitted networks put a large share of their samples there. The odds of
the rest are still exact in the *other* classes' log posteriors, so :func:`sharpen` takes the
largest log posterior of a row from them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def true_class(log_p: Floats, labels: Labels) -> Floats:
    """Return log p_y, float64 ``[n]``."""
    return np.asarray(log_p[np.arange(len(labels)), labels])


def others(log_p: Floats, labels: Labels) -> Floats:
    """Return log(1 - p_y) as the logsumexp of the other classes: exact where p_y is near 1."""
    rest = log_p.copy()
    rest[np.arange(len(labels)), labels] = -np.inf
    top = rest.max(1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray((top + np.log(np.exp(rest - top).sum(1, keepdims=True)))[:, 0])


def sharpen(log_p: Floats) -> Floats:
    """Return ``log_p`` with log p > log 1/2 replaced by log1p(-sum of the others), ``[n, K]``."""
    sharp = np.array(log_p, dtype=np.float64)
    rows = np.flatnonzero(sharp.max(1) > -np.log(2))
    top = sharp[rows].argmax(1)
    sharp[rows, top] = np.log1p(-np.exp(np.minimum(others(sharp[rows], top), -np.log(2))))
    return sharp


def log_likelihood(log_p: Floats, labels: Labels) -> Floats:
    """Return log p_y with all digits near p_y = 1, float64 ``[n]``, at most 0."""
    return true_class(sharpen(log_p), labels)


def confidence(log_p: Floats, labels: Labels) -> Floats:
    """Return p_y - 1, float64 ``[n]``: the order of p_y, with the digits that p_y = 1 loses."""
    return np.expm1(log_likelihood(log_p, labels))


def scaled_logit(log_p: Floats, labels: Labels) -> Floats:
    """Return log p_y - log(1 - p_y) = z_y - logsumexp_{i != y} z_i, float64 ``[n]``."""
    return log_likelihood(log_p, labels) - others(log_p, labels)


def neg_entropy(log_p: Floats) -> Floats:
    """Return sum_i p_i log p_i over the classes, float64 ``[n]``; 0 log 0 = 0."""
    sharp = sharpen(log_p)
    p = np.exp(sharp)
    return np.asarray((p * np.where(p > 0, sharp, 0.0)).sum(1))


def neg_modified_entropy(log_p: Floats, labels: Labels) -> Floats:
    """Return (1 - p_y) log p_y + sum_{i != y} p_i log(1 - p_i), float64 ``[n]``.

    Source: Song & Mittal, USENIX Security 2021, arXiv 2003.10595 (negated: higher = member).
    """
    rows = np.arange(len(labels))
    p = np.exp(log_p)
    # 1 - p_i of a wrong class is p_y plus the rest: log1p(-p_i) loses digits where p_i nears 1.
    rest = np.log1p(-np.minimum(p, 0.5))
    large, classes = np.nonzero(p >= 0.5)
    rest[large, classes] = others(log_p[large], classes)
    terms = p * np.maximum(rest, -1e300)
    terms[rows, labels] = 0.0
    first = np.exp(others(log_p, labels)) * log_likelihood(log_p, labels)
    return np.asarray(first + terms.sum(1))


def class_ranks(scores: Floats, labels: Labels) -> Floats:
    """Return each score's mid-rank within its class, in (0, 1), float64 ``[n]``.

    Ranks are among all audited samples of the class, members and non-members alike, so they need
    no knowledge of membership; the audit has as many of one as of the other in every class.
    """
    ranks = np.empty(len(scores))
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        _, inverse, counts = np.unique(scores[mine], return_inverse=True, return_counts=True)
        middle = np.cumsum(counts) - (counts - 1) / 2
        ranks[mine] = middle[inverse] / (len(mine) + 1)
    return ranks
