"""The scaled logit of the true class, LiRA's statistic without references."""

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
    "mia.logit",
    access=Access.SCORES,
    paper="Carlini et al., S&P 2022, arXiv 2112.03570, section IV-C",
    cost="one query a sample; all score attacks share one forward pass",
    soundness="Needs no reference and no training: nothing can leak membership into the score.",
)
@dataclass(frozen=True, kw_only=True)
class Logit:
    """The scaled logit of the true class, LiRA's statistic without references.

    Score: phi = z_y - logsumexp_{i != y} z_i = log(p_y / (1 - p_y)).
    """

    def __call__(self, target: Target, data: AuditData, context: Context) -> MembershipEvidence:
        """Score ``data.audit``; higher = member."""
        log_p, labels = target.log_scores(data.audit), data.audit.labels
        return MembershipEvidence(_scores.scaled_logit(log_p, labels))
