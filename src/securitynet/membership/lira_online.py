"""LiRA with references on both sides: does the target behave like those that saw the sample?"""

from __future__ import annotations

from dataclasses import dataclass, replace
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

UNLIKE = "references-unlike-target"
"""Flag of a target that answers unlike any reference, be it IN or OUT."""


@method(
    "mia.lira_online",
    access=Access.SCORES,
    paper="Carlini et al., S&P 2022, arXiv 2112.03570, section V-B (online attack)",
    cost="one query a sample; one pass of every reference, which must be trained for these samples",
    soundness="Every sample must be IN about half of the references, by a coin flip for each; "
    "otherwise the side it is on gives the answer away, and the pair is refused. The figure counts "
    "only if both controls hold 0.5. References that were trained otherwise than the target fit it "
    "badly and find less than the offline attack: flagged `references-unlike-target`.",
    version=2,
    needs=("in_references",),
)
@dataclass(frozen=True, kw_only=True)
class LiraOnline:
    """LiRA, online: is the target more like the references that saw the sample?

    Score: log N(phi; mu_in, s_in^2) - log N(phi; mu_out, s_out^2), with phi that of ``mia.logit``
    and each side's mean and variance over the sample's references of that side; below
    ``own_variance`` references a side's variance is the mean of all samples' variances. Where most
    samples lie more than two standard deviations from both Gaussians, the ratio is one of tails.
    """

    own_variance: int = option(
        _gaussians.OWN_VARIANCE,
        "References from which on every sample has its own variance.",
        low=2,
    )

    def __call__(self, target: Target, data: AuditData, context: Context) -> MembershipEvidence:
        """Score ``data.audit``; higher = member.

        Raises:
            RefusedError: If a sample has no reference on one of the sides.
        """
        references, labels = references_of(context, "mia.lira_online"), data.audit.labels
        inside, outside = (
            _gaussians.fit(references.gather(_scores.scaled_logit, labels, side), self.own_variance)
            for side in ("in", "out")
        )

        def score(log_p: _scores.Floats) -> _scores.Floats:
            phi = _scores.scaled_logit(log_p, labels)
            return _gaussians.log_likelihood_ratio(phi, inside, outside)

        log_p = target.log_scores(data.audit)
        phi = _scores.scaled_logit(log_p, labels)
        flags = (UNLIKE,) if _gaussians.is_unlike(phi, inside, outside) else ()
        return replace(with_nulls(score, log_p, references, context.rng), flags=flags)
