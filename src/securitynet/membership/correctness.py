"""The gap attack: a sample that is classified correctly is called a member."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from securitynet.evidence import MembershipEvidence
from securitynet.registry import Access, method

if TYPE_CHECKING:
    from securitynet.datasets.images import AuditData
    from securitynet.targets.context import Context
    from securitynet.targets.target import Target


@method(
    "mia.correctness",
    access=Access.LABELS,
    paper="Yeom et al., CSF 2018, arXiv 1709.01604, section 3.1; the gap attack",
    cost="one query a sample; all score attacks share one forward pass",
    soundness="Needs no reference and no training: nothing can leak membership into the score.",
)
@dataclass(frozen=True, kw_only=True)
class Correctness:
    """The gap attack: a sample that is classified correctly is called a member.

    Score: 1[argmax p = y]. Its AUC is (1 + train accuracy - test accuracy) / 2 by construction.
    """

    def __call__(self, target: Target, data: AuditData, context: Context) -> MembershipEvidence:
        """Score ``data.audit``; higher = member."""
        labels = target.labels(data.audit)
        return MembershipEvidence((labels == data.audit.labels).astype(float))
