"""Robustness to noise, by labels alone: members keep their label under more noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from securitynet.evidence import MembershipEvidence
from securitynet.membership._subset import FEWEST, draw
from securitynet.metrics.roc import auc
from securitynet.registry import Access, method, option

if TYPE_CHECKING:
    from securitynet.datasets.images import AuditData, Images
    from securitynet.targets.context import Context
    from securitynet.targets.references import References
    from securitynet.targets.target import Target

SIGMAS = (0.01, 0.02, 0.04, 0.08, 0.16)
UNTUNED = 0.04
N_TUNING = 300  # proxy images of either kind
N_TUNING_COPIES = 8


@method(
    "mia.label_noise",
    access=Access.LABELS,
    paper="Choquette-Choo, Tramer, Carlini & Papernot, ICML 2021, arXiv 2007.14321, section 3.4 "
    "(noise robustness)",
    cost="copies x samples queries: 25,000 by default, about 15 s for ResNet-20 on two cores; with "
    "references 24,000 queries of one of them to set the noise",
    soundness="Needs no reference; where there is one, it is asked which noise tells its own "
    "training images apart, and the audited labels are never used. Without one the noise is not "
    "tuned and the figure is flagged `untuned-noise`.",
    is_seeded=True,
    uses=("references",),
)
@dataclass(frozen=True, kw_only=True)
class LabelNoise:
    """Robustness to noise: how often is the sample labelled correctly when noise is added?

    Score: the share of ``n_copies`` copies x + N(0, sigma^2), cut to the pixel range, whose label
    is y. sigma is the one of 0.01, 0.02, 0.04, 0.08 and 0.16 with the largest AUC on a reference
    whose training images are known. Not scored are samples beyond a random part, balanced by
    class.
    """

    n_copies: int = option(25, "Noisy copies a sample.", low=1)
    sigma: float = option(
        0.0, "Standard deviation of the noise, the pixel range being 1; 0 = tuned.", low=0, high=1
    )
    samples: int = option(1000, "Samples that are scored, drawn at random.", low=FEWEST)

    def __call__(self, target: Target, data: AuditData, context: Context) -> MembershipEvidence:
        """Score a part of ``data.audit``; higher = member."""
        index = draw(data.audit, self.samples, context.rng)
        images = data.audit if index is None else data.audit.take(index)
        sigma, flags = self._noise(data.audit, context)
        what = f"noise of {sigma:g}, {len(images) * self.n_copies:,} queries"
        scores = _robustness(
            target, images, sigma, self.n_copies, context.seed,
            lambda share: context.progress(share, what),
        )  # fmt: skip
        return MembershipEvidence(scores, index=index, flags=flags)

    def _noise(self, images: Images, context: Context) -> tuple[float, tuple[str, ...]]:
        if self.sigma > 0:
            return self.sigma, ()
        references = context.references
        if references is None or references.model is None or not len(references):
            return UNTUNED, ("untuned-noise",)
        context.progress(0.0, "setting the noise on a reference")
        return tuned(references, references.model(0), images, context), ()


def tuned(references: References, proxy: Target, images: Images, context: Context) -> float:
    """Return the noise that best tells the training images of reference 0 from others.

    Args:
        references: Know what reference 0 was trained on.
        proxy: Reference 0.
        images: Any images of the same source.
        context: Its seed draws images and noise.
    """
    shadow = references.shadow(0)
    sides = [
        context.rng.permutation(shadow.indices[shadow.is_member == side])[:N_TUNING]
        for side in (True, False)
    ]
    chosen = replace(images, indices=np.concatenate(sides))
    success = []
    for sigma in SIGMAS:
        scores = _robustness(proxy, chosen, sigma, N_TUNING_COPIES, context.seed)
        success.append(auc(scores[: len(sides[0])], scores[len(sides[0]) :]))
    return SIGMAS[int(np.argmax(success))]


def _robustness(
    target: Target, images: Images, sigma: float, n_copies: int, seed: int, *progress: Any
) -> Any:
    import torch

    from securitynet.membership._label_queries import gaussian_noise, share_correct

    change = gaussian_noise(sigma, torch.Generator().manual_seed(seed))
    return share_correct(target, images, [change] * n_copies, *progress)
