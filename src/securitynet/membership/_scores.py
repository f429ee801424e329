"""The score formulas, in log space and float64. Ties matter at 0.1% FPR."""

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


def neg_entropy(log_p: Floats) -> Floats:
    """Return sum_i p_i log p_i, float64 ``[n]``; 0 log 0 = 0."""
    p = np.exp(log_p)
    return np.asarray(np.where(p > 0, p * np.where(p > 0, log_p, 0.0), 0.0).sum(1))


def neg_modified_entropy(log_p: Floats, labels: Labels) -> Floats:
    """Return (1 - p_y) log p_y + sum_{i != y} p_i log(1 - p_i), float64 ``[n]``.

    Source: Song & Mittal, USENIX Security 2021, equation 8 (negated: higher = member).
    """
    rows = np.arange(len(labels))
    p = np.exp(log_p)
    # 1 - p_i of a wrong class is p_y plus the rest: log1p(-p_i) loses digits where p_i nears 1.
    rest = np.log1p(-np.minimum(p, 0.5))
    large, classes = np.nonzero(p >= 0.5)
    rest[large, classes] = others(log_p[large], classes)
    terms = p * np.maximum(rest, -1e300)
    terms[rows, labels] = 0.0
    return np.asarray(np.exp(others(log_p, labels)) * true_class(log_p, labels) + terms.sum(1))


def class_ranks(scores: Floats, labels: Labels) -> Floats:
    """Return each score's mid-rank within its class, in (0, 1); needs no membership knowledge."""
    ranks = np.empty(len(scores))
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        _, inverse, counts = np.unique(scores[mine], return_inverse=True, return_counts=True)
        middle = np.cumsum(counts) - (counts - 1) / 2
        ranks[mine] = middle[inverse] / (len(mine) + 1)
    return ranks
