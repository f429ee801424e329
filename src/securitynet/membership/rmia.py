"""RMIA: does the sample gain more from the target than other samples do?"""

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


@method(
    "mia.rmia",
    access=Access.SCORES,
    paper="Zarifzadeh, Liu & Shokri, ICML 2024, arXiv 2312.03262, section 3 and appendix B.2.2 "
    "(offline)",
    cost="one query a sample; one pass of every reference, shared by all models of the data set",
    soundness="Every reference must be OUT of every sample it speaks for; others are refused. The "
    "population is the audit itself, so no knowledge of membership goes in. The figure counts only "
    "if both controls hold 0.5.",
    needs=("references",),
)
@dataclass(frozen=True, kw_only=True)
class Rmia:
    """RMIA, offline: what share of the population gains less from the target than the sample?

    Score: the share of z != x with r_x / r_z > gamma, where r_x = p_y(x | target) / p(x) and p(x)
    = ((1 + a) p_out + 1 - a) / 2, p_out being the mean of p_y over the sample's OUT references. The
    population z is all other audited samples: they have OUT references too, and who among them is
    a member is not asked. Computed by sorting log r, not pair by pair. With gamma = 1 the order is
    that of r_x.
    """

    a: float = option(0.3, "How near p(x) is to p_out; 0 = halfway to 1.", low=0, high=1)
    gamma: float = option(1.0, "By which factor x must gain more than z.", low=1)

    def __call__(self, target: Target, data: AuditData, context: Context) -> MembershipEvidence:
        """Score ``data.audit``; higher = member.

        Raises:
            RefusedError: If there are no references, or a sample has none that never saw it.
        """
        references, labels = references_of(context, "mia.rmia"), data.audit.labels
        p_out = np.exp(references.gather(_scores.log_likelihood, labels)).mean(0)
        log_p_x = np.log(((1 + self.a) * p_out + (1 - self.a)) / 2)

        def score(log_p: _scores.Floats) -> _scores.Floats:
            log_r = _scores.log_likelihood(log_p, labels) - log_p_x
            return share_below(log_r, log_r - np.log(self.gamma))

        return with_nulls(score, target.log_scores(data.audit), references, context.rng)


def share_below(population: _scores.Floats, limits: _scores.Floats) -> _scores.Floats:
    """Return for each limit the share of the *other* samples that lie below it, ``[n]``.

    Limit i is at most sample i, which so never counts itself.
    """
    below = np.searchsorted(np.sort(population), limits, side="left")
    return np.asarray(below / max(len(population) - 1, 1), dtype=np.float64)
