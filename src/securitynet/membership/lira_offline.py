"""LiRA with references that never saw the sample: is the target surer of it than they are?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from securitynet.evidence import MembershipEvidence
from securitynet.membership import _gaussians, _scores
from securitynet.membership._knowledge import references_of
from securitynet.membership._nulls import with_nulls
from securitynet.registry import Access, method, option

if TYPE_CHECKING:
    from securitynet.datasets.images import AuditData
    from securitynet.targets.context import Context
    from securitynet.targets.target import Target


@method(
    "mia.lira_offline",
    access=Access.SCORES,
    paper="Carlini et al., S&P 2022, arXiv 2112.03570, section V-C (offline attack)",
    cost="one query a sample; one pass of every reference, shared by all models of the data set",
    soundness="Every reference must be OUT of every sample it speaks for; others are refused. The "
    "figure counts only if both controls hold 0.5.",
    needs=("references",),
)
@dataclass(frozen=True, kw_only=True)
class LiraOffline:
    """LiRA, offline: how far above its OUT references is the target's scaled logit?

    Score: log P[Z < phi] - log P[Z > phi] with Z ~ N(mu_out, s_out^2): the one-sided p-value
    1 - Phi((phi - mu_out) / s_out) as log odds, so that neither end ties. phi is that of
    ``mia.logit``; mu_out is its mean over the references of the sample; s_out^2 is the sample's own
    variance, or below ``own_variance`` references the mean of all samples' variances.
    """

    own_variance: int = option(
        _gaussians.OWN_VARIANCE,
        "References from which on every sample has its own variance.",
        low=2,
    )

    def __call__(self, target: Target, data: AuditData, context: Context) -> MembershipEvidence:
        """Score ``data.audit``; higher = member.

        Raises:
            RefusedError: If there are no references, or a sample has none that never saw it.
        """
        references, labels = references_of(context, "mia.lira_offline"), data.audit.labels
        out = _gaussians.fit(references.gather(_scores.scaled_logit, labels), self.own_variance)

        def score(log_p: _scores.Floats) -> _scores.Floats:
            return _gaussians.log_odds_above(_scores.scaled_logit(log_p, labels), out)

        return with_nulls(score, target.log_scores(data.audit), references, context.rng)
