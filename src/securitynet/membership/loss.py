"""The cross-entropy loss, negated."""

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
    "mia.loss",
    access=Access.SCORES,
    paper="Yeom et al., CSF 2018, arXiv 1709.01604, section 3.2",
    cost="one query a sample; all score attacks share one forward pass",
    soundness="Needs no reference and no training: nothing can leak membership into the score.",
)
@dataclass(frozen=True, kw_only=True)
class Loss:
    """The cross-entropy loss, negated.

    Score: log p_y, exact where p_y rounds to 1: overfitted samples do not tie at a loss of 0.
    """

    def __call__(self, target: Target, data: AuditData, context: Context) -> MembershipEvidence:
        """Score ``data.audit``; higher = member."""
        log_p = target.log_scores(data.audit)
        return MembershipEvidence(_scores.log_likelihood(log_p, data.audit.labels))
