"""A network that learns membership from all sorted posteriors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from securitynet.evidence import MembershipEvidence
from securitynet.membership import _attack_mlp
from securitynet.registry import Access, method

if TYPE_CHECKING:
    from securitynet.datasets.images import AuditData
    from securitynet.targets.context import Context
    from securitynet.targets.target import Target


@method(
    "mia.mlp",
    access=Access.SCORES,
    paper="Shokri et al., S&P 2017, arXiv 1610.05820; Nasr et al., S&P 2019 (partial knowledge)",
    cost="one query a sample; all score attacks share one forward pass",
    soundness=_attack_mlp.SOUNDNESS,
    variants=({}, {"knowledge": "shadow"}),
    is_seeded=True,
    needs=("membership",),
    uses=("references",),
)
@dataclass(frozen=True, kw_only=True)
class Mlp(_attack_mlp.Learning):
    """A network that learns membership from all sorted posteriors.

    Score: the log odds of a network of one hidden layer of 32 units. It sees the log posteriors in
    falling order, log(1 - the largest) and whether the label is right, standardised, and learns in
    150 steps of 500 samples (Adam); nothing is chosen by its success. ``knowledge=partial``: it
    learns from the half of members and non-members that is known and scores the rest.
    ``knowledge=shadow``: it learns from the references on images of one parity of index and scores
    those of the other.
    """

    def __call__(self, target: Target, data: AuditData, context: Context) -> MembershipEvidence:
        """Score ``data.audit``; higher = member.

        Raises:
            RefusedError: If the knowledge it needs is not there, or the references are unsound.
        """
        attack = _attack_mlp.AttackMLP("mia.mlp", None, self.knowledge, context.seed)
        return attack(target, data, context)
