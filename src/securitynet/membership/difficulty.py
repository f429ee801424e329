"""Difficulty calibration: how much better does the target do than models without the sample?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from securitynet.evidence import MembershipEvidence
from securitynet.membership import _scores
from securitynet.membership._knowledge import references_of
from securitynet.membership._nulls import with_nulls
from securitynet.registry import Access, method, option

if TYPE_CHECKING:
    from securitynet.datasets.images import AuditData
    from securitynet.targets.context import Context
    from securitynet.targets.target import Target

SCORES = {
    "loss": _scores.log_likelihood,
    "logit": _scores.scaled_logit,
    "confidence": _scores.confidence,
}


@method(
    "mia.difficulty",
    access=Access.SCORES,
    paper="Watson, Guo, Cormode & Sablayrolles, ICLR 2022, arXiv 2111.08440, section 3",
    cost="one query a sample; one pass of every reference, shared by all models of the data set",
    soundness="Every reference must be OUT of every sample it speaks for; others are refused. The "
    "figure counts only if both controls hold 0.5.",
    needs=("references",),
)
@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """Difficulty calibration: a score minus what models without the sample give it.

    Score: s(target, x) - mean over the sample's OUT references g of s(g, x), with s = log p_y
    (``loss``), phi (``logit``) or p_y (``confidence``).
    """

    score: str = option("loss", "The score that is calibrated.", choices=tuple(SCORES))

    def __call__(self, target: Target, data: AuditData, context: Context) -> MembershipEvidence:
        """Score ``data.audit``; higher = member.

        Raises:
            RefusedError: If there are no references, or a sample has none that never saw it.
        """
        references, labels = references_of(context, "mia.difficulty"), data.audit.labels
        raw = SCORES[self.score]
        expected = references.gather(raw, labels).mean(0)

        def score(log_p: _scores.Floats) -> _scores.Floats:
            return np.asarray(raw(log_p, labels) - expected)

        return with_nulls(score, target.log_scores(data.audit), references, context.rng)
