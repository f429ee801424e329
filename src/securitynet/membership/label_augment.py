"""Robustness to shifts, flips and rotations, by labels alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from securitynet.evidence import MembershipEvidence
from securitynet.membership._subset import FEWEST, draw
from securitynet.registry import Access, method, option

if TYPE_CHECKING:
    from securitynet.datasets.images import AuditData
    from securitynet.membership._label_queries import Change
    from securitynet.targets.context import Context
    from securitynet.targets.target import Target


@method(
    "mia.label_augment",
    access=Access.LABELS,
    paper="Choquette-Choo, Tramer, Carlini & Papernot, ICML 2021, arXiv 2007.14321, section 3.3; "
    "the mean of the answers instead of a network on them",
    cost="changed copies x samples queries: 12 of each by default where images may be flipped "
    "(12,000 queries, about 8 s for ResNet-20 on two cores), else 7",
    soundness="Needs no reference and no training: nothing can leak membership into the score.",
    is_seeded=True,
)
@dataclass(frozen=True, kw_only=True)
class LabelAugment:
    """Robustness to augmentation: how often are shifted, flipped and turned copies right?

    Score: the share of copies whose label is y. Copies are the image itself, it moved by ``shift``
    pixels to each of four sides, all of these flipped where the data set's classes allow that, and
    it turned by ``degrees`` to either side. Not scored are samples beyond a random part, balanced
    by class.
    """

    shift: int = option(1, "Pixels by which copies are moved.", low=1, high=16)
    degrees: float = option(5.0, "Degrees by which copies are turned.", low=0, high=180)
    samples: int = option(1000, "Samples that are scored, drawn at random.", low=FEWEST)

    def __call__(self, target: Target, data: AuditData, context: Context) -> MembershipEvidence:
        """Score a part of ``data.audit``; higher = member."""
        from securitynet.membership._label_queries import share_correct

        index = draw(data.audit, self.samples, context.rng)
        images = data.audit if index is None else data.audit.take(index)
        copies = self.copies(data.is_mirrored)
        what = f"{len(copies)} copies a sample, {len(copies) * len(images):,} queries"
        scores = share_correct(target, images, copies, lambda done: context.progress(done, what))
        return MembershipEvidence(scores, index=index)

    def copies(self, is_mirrored: bool) -> list[Change]:
        """Return the changes, each of which makes one copy of every image."""
        from securitynet.membership._label_queries import flip, rotation, shift

        d = self.shift
        moves = [shift(*by) for by in ((0, 0), (d, 0), (-d, 0), (0, d), (0, -d))]
        flipped = [lambda pixels, move=move: flip(move(pixels)) for move in moves]
        turns = [rotation(self.degrees), rotation(-self.degrees)] if self.degrees else []
        return [*moves, *(flipped if is_mirrored else []), *turns]
