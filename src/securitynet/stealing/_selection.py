"""Which images of a pool a thief asks next, by what its own copy answers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]


def most_uncertain(log_p: Floats, n: int) -> Positions:
    """Return the positions of the ``n`` answers of largest entropy, the largest first.

    Args:
        log_p: The copy's log posteriors, ``[m, K]``.
        n: How many, at most m.
    """
    p = np.exp(log_p)
    entropy = -(p * np.where(p > 0, log_p, 0.0)).sum(1)
    return np.argsort(-entropy, kind="stable")[:n]


def farthest_first(points: Floats, centres: Floats, n: int) -> Positions:
    """Return the positions of ``n`` points chosen greedily, each the farthest from all before.

    The greedy k-center of Sener & Savarese, ICLR 2018, algorithm 1: at most twice the radius of
    the best cover.

    Args:
        points: What may be chosen, ``[m, d]``.
        centres: What is chosen already, ``[c, d]``, at least one.
        n: How many, at most m.
    """
    squares = (points**2).sum(1)
    reach = np.full(len(points), np.inf)
    for centre in centres:
        reach = np.minimum(reach, _squared(points, squares, centre))
    chosen = np.empty(n, dtype=np.int64)
    for i in range(n):
        chosen[i] = reach.argmax()
        reach = np.minimum(reach, _squared(points, squares, points[chosen[i]]))
        reach[chosen[i]] = -np.inf  # where all points coincide, none is chosen twice
    return chosen


def _squared(points: Floats, squares: Floats, centre: Floats) -> Floats:
    """Return squared distances, never below zero."""
    return np.asarray(np.maximum(squares - 2 * (points @ centre) + centre @ centre, 0.0))
