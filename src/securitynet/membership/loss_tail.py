"""The tail of the loss: how many non-members are worse off than nearly every member?"""

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
    "mia.loss_tail",
    access=Access.SCORES,
    paper="Dodd, Krco, Shilov & de Montjoye, 2025, arXiv 2510.19773: the TNR of the loss attack",
    cost="one query a sample; all score attacks share one forward pass",
    soundness="Needs no reference and no training. It says how vulnerable a model is, not which "
    "sample is a member: the risk that LiRA would find is read off the non-members' tail, and the "
    "paper's evidence for that is a correlation over models. A split whose test images are harder "
    "than its training images raises it too.",
)
@dataclass(frozen=True, kw_only=True)
class LossTail:
    """The tail of the loss: how many non-members have a loss that almost no member has?

    Score: log p_y, as ``mia.loss``. The figure is its true-negative rate at false-negative rates of
    1% and 0.1%: the share of non-members below the members' 1% or 0.1% quantile. Samples that
    training has moved from the tail to the head are missing there among the members, which
    foretells what LiRA finds without training one reference.
    """

    def __call__(self, target: Target, data: AuditData, context: Context) -> MembershipEvidence:
        """Score ``data.audit``; higher = member."""
        log_p = target.log_scores(data.audit)
        return MembershipEvidence(
            _scores.log_likelihood(log_p, data.audit.labels), fnrs=(0.01, 0.001)
        )
