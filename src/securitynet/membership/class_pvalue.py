"""The p-value of a sample's scaled logit among known non-members of its class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from securitynet.evidence import MembershipEvidence
from securitynet.membership import _scores
from securitynet.membership._knowledge import FEW, known_of
from securitynet.membership._nulls import with_nulls
from securitynet.registry import Access, method

if TYPE_CHECKING:
    from securitynet.datasets.images import AuditData
    from securitynet.targets.context import Context
    from securitynet.targets.target import Target

Floats = _scores.Floats


@method(
    "mia.class_pvalue",
    access=Access.SCORES,
    paper="Ye et al., CCS 2022, arXiv 2111.09679, section 4.2 (attack P, per class); midranks and "
    "tails are ours",
    cost="one query a sample; all score attacks share one forward pass",
    soundness="The adversary knows half of the non-members; only samples that are not known are "
    "scored, then the halves change places. The figure counts only if the controls hold 0.5.",
    needs=("membership",),
    uses=("references",),
)
@dataclass(frozen=True, kw_only=True)
class ClassPvalue:
    """The p-value of the scaled logit phi under the known non-members of the sample's class.

    Score: log u - log(1 - u), where 1 - u is the p-value of phi: u is the midrank of phi among the
    class's known non-members divided by their number plus one, linear between them. Beyond the
    largest, 1 - u falls exponentially by the class's standard deviation, and likewise u below the
    smallest, so that the most exposed samples do not tie. Classes of fewer than 20 known
    non-members take those of all classes.
    """

    def __call__(self, target: Target, data: AuditData, context: Context) -> MembershipEvidence:
        """Score ``data.audit``; higher = member.

        Raises:
            RefusedError: If too few non-members are known, or the references are unsound.
        """
        labels = data.audit.labels
        is_known = known_of(context, "mia.class_pvalue") == 0

        def score(log_p: Floats) -> Floats:
            phi = _scores.scaled_logit(log_p, labels)
            u = np.empty(len(phi))
            for label in np.unique(labels):
                mine = labels == label
                held = is_known & mine if (is_known & mine).sum() >= FEW else is_known
                u[mine] = log_odds_of_rank(phi[mine], phi[held])
            return u

        return with_nulls(score, target.log_scores(data.audit), context.references, context.rng)


def log_odds_of_rank(values: Floats, known: Floats) -> Floats:
    """Return log u - log(1 - u) of values, u being their smoothed midrank among known values.

    Args:
        values: float64 ``[n]``.
        known: float64 ``[m]``, at least one.
    """
    knots, counts = np.unique(known, return_counts=True)
    u = (np.cumsum(counts) - (counts - 1) / 2) / (len(known) + 1)
    inner = np.interp(values, knots, u)
    scale = known.std() or 1.0
    above = np.maximum(values - knots[-1], 0) / scale
    below = np.maximum(knots[0] - values, 0) / scale
    log_u, log_rest = np.log(inner) - below, np.log1p(-inner) - above
    # beyond the known, the other side has what the exponential leaves
    log_u[above > 0] = np.log1p(-np.exp(log_rest[above > 0]))
    log_rest[below > 0] = np.log1p(-np.exp(log_u[below > 0]))
    return np.asarray(log_u - log_rest)
