"""The entropy of the posteriors over the classes, negated; ignores the true label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from securitynet.evidence import MembershipEvidence
from securitynet.membership import _scores
from securitynet.registry import Access, method

if TYPE_CHECKING:
    from securitynet.datasets.images import AuditData
    from securitynet.targets.context import Context
    from securitynet.targets.target import Target


@method(
    "mia.entropy",
    access=Access.SCORES,
    paper="Salem et al., NDSS 2019, arXiv 1806.01246; Song & Mittal, USENIX Security 2021",
    cost="one query a sample; all score attacks share one forward pass",
    soundness="Needs no reference and no training: nothing can leak membership into the score.",
)
@dataclass(frozen=True, kw_only=True)
class Entropy:
    """The entropy of the posteriors over the classes, negated; ignores the true label.

    Score: sum_i p_i log p_i.
    """

    def __call__(self, target: Target, data: AuditData, context: Context) -> MembershipEvidence:
        """Score ``data.audit``; higher = member."""
        return MembershipEvidence(_scores.neg_entropy(target.log_scores(data.audit)))
