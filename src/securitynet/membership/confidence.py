"""The posterior of the true class."""

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
    "mia.confidence",
    access=Access.SCORES,
    paper="Yeom et al., CSF 2018, arXiv 1709.01604; Salem et al., NDSS 2019, arXiv 1806.01246",
    cost="one query a sample; all score attacks share one forward pass",
    soundness="Needs no reference and no training: nothing can leak membership into the score.",
)
@dataclass(frozen=True, kw_only=True)
class Confidence:
    """The posterior of the true class.

    Score: p_y - 1, which orders as p_y does but keeps the digits of posteriors that round to 1;
    AUC and TPR are those of ``mia.loss``, a monotone transform of it.
    """

    def __call__(self, target: Target, data: AuditData, context: Context) -> MembershipEvidence:
        """Score ``data.audit``; higher = member."""
        log_p = target.log_scores(data.audit)
        return MembershipEvidence(_scores.confidence(log_p, data.audit.labels))
