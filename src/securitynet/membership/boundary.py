"""The distance to the decision boundary, by labels alone: members lie farther from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from securitynet.evidence import MembershipEvidence
from securitynet.membership._subset import FEWEST, draw
from securitynet.registry import Access, method, option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from securitynet.datasets.images import AuditData
    from securitynet.targets.context import Context
    from securitynet.targets.target import Target


@method(
    "mia.boundary",
    access=Access.LABELS,
    paper="Choquette-Choo, Tramer, Carlini & Papernot, ICML 2021, arXiv 2007.14321, section 3.2; "
    "Li & Zhang, CCS 2021, arXiv 2007.15528; distance by HopSkipJump, Chen, Jordan & Wainwright, "
    "S&P 2020, arXiv 1904.02144",
    cost="about 2,500 queries a sample of CIFAR's size at 10 iterations: 500,000 by default, about "
    "4 minutes for ResNet-20 on two cores",
    soundness="Needs no reference and no training: nothing can leak membership into the score. The "
    "distance is an upper bound, the looser the fewer the queries; 200 samples show an AUC within "
    "about 0.08.",
    variants=(),
    is_seeded=True,
)
@dataclass(frozen=True, kw_only=True)
class Boundary:
    """The L2 distance to the nearest image found that the target labels otherwise.

    Score: min |x' - x|_2 over the x' with another label than y that HopSkipJump visits, the pixel
    range being 1; 0 for a sample that is misclassified as it is. Not scored are samples beyond a
    random part, balanced by class.
    """

    samples: int = option(200, "Samples that are scored, drawn at random.", low=FEWEST)
    iterations: int = option(10, "Rounds of HopSkipJump.", low=1, high=1000)
    probes: int = option(100, "Probes of the first round; round t has sqrt(t) as many.", low=2)

    def __call__(self, target: Target, data: AuditData, context: Context) -> MembershipEvidence:
        """Score a part of ``data.audit``; higher = member."""
        import torch

        from securitynet.membership._hop_skip_jump import HopSkipJump, n_queries
        from securitynet.targets.target import as_pixels

        index = draw(data.audit, self.samples, context.rng)
        images = data.audit if index is None else data.audit.take(index)
        pixels = as_pixels(images.pixels())
        most = len(images) * n_queries(self.iterations, self.probes, pixels[0].numel())
        what = f"{len(images)} samples, up to about {most:,} queries"
        context.progress(0.0, what)
        n_asked = 0

        def ask(changed: Tensor) -> NDArray[np.int64]:
            nonlocal n_asked
            answer = target.labels(changed)
            n_asked += len(changed)
            context.progress(min(n_asked / most, 1.0), what)
            return answer

        attack = HopSkipJump(
            ask=ask,
            iterations=self.iterations,
            probes=self.probes,
            generator=torch.Generator().manual_seed(context.seed),
        )
        scores = attack.distances(pixels, images.labels)
        return MembershipEvidence(scores, index=index)
