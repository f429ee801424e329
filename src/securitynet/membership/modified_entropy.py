"""Modified entropy, global and per class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from securitynet.evidence import MembershipEvidence
from securitynet.membership import _scores
from securitynet.registry import Access, method, option

if TYPE_CHECKING:
    from securitynet.datasets.images import AuditData
    from securitynet.targets.context import Context
    from securitynet.targets.target import Target


@method(
    "mia.modified_entropy",
    access=Access.SCORES,
    paper="Song & Mittal, USENIX Security 2021, arXiv 2003.10595, equation 8",
    cost="one query a sample; all score attacks share one forward pass",
    soundness="Needs no reference and no training: nothing can leak membership into the score.",
    variants=({}, {"per_class": True}),
)
@dataclass(frozen=True, kw_only=True)
class ModifiedEntropy:
    """Modified entropy: entropy that knows the true label, negated.

    Score: (1 - p_y) log p_y + sum_{i != y} p_i log(1 - p_i). With ``per_class`` the score is its
    mid-rank among all audited samples of its class, which stands for the paper's class-wise
    thresholds: it needs no membership, and every class has as many members as non-members.
    """

    per_class: bool = option(False, "Compare samples within their class only.")

    def __call__(self, target: Target, data: AuditData, context: Context) -> MembershipEvidence:
        """Score ``data.audit``; higher = member."""
        labels = data.audit.labels
        scores = _scores.neg_modified_entropy(target.log_scores(data.audit), labels)
        return MembershipEvidence(_scores.class_ranks(scores, labels) if self.per_class else scores)
