"""A network that learns membership from all sorted posteriors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from securitynet.evidence import MembershipEvidence
from securitynet.membership import _attack_mlp
from securitynet.registry import Access, method, option

if TYPE_CHECKING:
    from securitynet.datasets.images import AuditData
    from securitynet.targets.context import Context
    from securitynet.targets.target import Target


@method(
    "mia.mlp",
    access=Access.SCORES,
    paper="Shokri et al., S&P 2017, arXiv 1610.05820; Nasr et al., S&P 2019 (partial knowledge)",
    cost="one query a sample; all score attacks share one forward pass",
    soundness="What it learns could be a difference between the splits instead of memory, so the "
    "figure counts only if the controls hold 0.5. Only samples that it did not learn from are "
    "scored: with partial knowledge those of unknown membership, with shadow models by networks "
    "that saw none of the same images. Shadow models must be OUT of every audited sample.",
    variants=({}, {"knowledge": "shadow"}),
    is_seeded=True,
    needs=("membership",),
    uses=("references",),
)
@dataclass(frozen=True, kw_only=True)
class Mlp:
    """A network that learns membership from all sorted posteriors.

    Score: the log odds of a network of one hidden layer of 32 units. It sees the log posteriors in
    falling order, log(1 - the largest) and whether the label is right, standardised, and learns in
    150 steps of 500 samples (Adam); nothing is chosen by its success. ``knowledge=partial``: it
    learns from the half of members and non-members that is known and scores the rest.
    ``knowledge=shadow``: it learns from the references on images of one parity of index and scores
    those of the other.
    """

    knowledge: str = option(
        "partial",
        "Learn from half of the audited samples (partial) or from the references (shadow).",
        choices=_attack_mlp.KNOWLEDGE,
    )

    @property
    def needs(self) -> tuple[str, ...]:
        """What this configuration cannot do without."""
        return _attack_mlp.needs_of(self.knowledge)

    def __call__(self, target: Target, data: AuditData, context: Context) -> MembershipEvidence:
        """Score ``data.audit``; higher = member.

        Raises:
            RefusedError: If the knowledge it needs is not there, or the references are unsound.
        """
        attack = _attack_mlp.AttackMLP("mia.mlp", None, self.knowledge, context.seed)
        return attack(target, data, context)
