"""The two controls beside every learned or reference-based score: what it is without the target.

The target is replaced once by the mean of the references, which knows how hard a sample is but not
whether the target was trained on it, and once by noise. Whoever still tells members apart then has
found a difference between the two splits, or a leak of the answers, and not the target's memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from securitynet.evidence import MembershipEvidence

if TYPE_CHECKING:
    from securitynet.targets.references import References

Floats = NDArray[np.float64]


def with_nulls(
    score: Callable[[Floats], Floats],
    log_p: Floats,
    references: References | None,
    rng: np.random.Generator,
) -> MembershipEvidence:
    """Score the target, and both controls in its place.

    Args:
        score: The whole attack as a function of the target's log posteriors ``[n, K]``; whatever it
            learns is learned anew for each control.
        log_p: The target's log posteriors, float64 ``[n, K]``.
        references: For the target-free control; without them there is none.
        rng: Draws the noise.
    """
    free = None if references is None else score(references.mean_log_p())
    return MembershipEvidence(score(log_p), free, score(noise(log_p, rng)))


def noise(log_p: Floats, rng: np.random.Generator) -> Floats:
    """Return log posteriors of Gaussian logits as spread out as the target's, ``[n, K]``."""
    spread = float((log_p - log_p.mean(1, keepdims=True)).std()) or 1.0
    logits = rng.normal(0.0, spread, log_p.shape)
    top = logits.max(1, keepdims=True)
    return np.asarray(logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True)))
