"""A network that learns membership from the three largest posteriors."""

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
    "mia.mlp_top3",
    access=Access.SCORES,
    paper="Salem et al., NDSS 2019, arXiv 1806.01246, adversary 1 (three largest posteriors)",
    cost="one query a sample; all score attacks share one forward pass",
    soundness=_attack_mlp.SOUNDNESS,
    variants=({}, {"knowledge": "shadow"}),
    is_seeded=True,
    needs=("membership",),
    uses=("references",),
)
@dataclass(frozen=True, kw_only=True)
class MlpTop3(_attack_mlp.Learning):
    """A network that learns membership from the three largest posteriors.

    Score: the log odds of a network of one hidden layer of 32 units. It sees the three largest log
    posteriors in falling order, log(1 - the largest) and whether the label is right, and learns as
    ``mia.mlp`` does, from the same ``knowledge``.
    """

    def __call__(self, target: Target, data: AuditData, context: Context) -> MembershipEvidence:
        """Score ``data.audit``; higher = member.

        Raises:
            RefusedError: If the knowledge it needs is not there, or the references are unsound.
        """
        attack = _attack_mlp.AttackMLP("mia.mlp_top3", 3, self.knowledge, context.seed)
        return attack(target, data, context)
