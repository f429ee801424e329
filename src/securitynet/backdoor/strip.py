"""STRIP: a triggered input keeps its label under strong perturbation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from securitynet.backdoor._inputs import MIN_SCORED, conformal_threshold, disjoint_parts
from securitynet.evidence import InputEvidence
from securitynet.registry import Access, method, option
from securitynet.training.backdoors import Trigger

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from securitynet.datasets.images import AuditData
    from securitynet.targets.context import Context
    from securitynet.targets.target import Target

_BATCH = 1024  # superimposed images put together at a time


@method(
    "backdoor.strip",
    access=Access.SCORES,
    paper="Gao et al., ACSAC 2019, arXiv 1902.06531, section 4",
    cost="overlays x (calibration + clean + triggered inputs) queries: 19,200 by default, about "
    "15 s for ResNet-20 on two cores",
    soundness="Overlays, calibration, clean and triggered inputs are four disjoint parts of the "
    "clean images, so the threshold never saw what it judges. Where no trigger is known, a "
    "standard patch that the model never saw stands in as a control and is flagged: its AUROC "
    "should not lie above 0.5 (below is usual, for a foreign patch makes answers less sure).",
    is_seeded=True,
)
@dataclass(frozen=True, kw_only=True)
class Strip:
    """STRIP: does an input keep its label when other images are laid over it?

    Each input is superimposed (saturating sum) with images of a held-out bank; its score is the
    mean entropy of the predictions, negated. The threshold is set on other clean images at a
    stated false-rejection rate.
    """

    n_overlays: int = option(32, "Overlays an input.", low=2)
    n_scored: int = option(200, "Inputs of each kind, and calibration images.", low=MIN_SCORED)
    false_rejection: float = option(0.01, "Share of clean inputs rejected.", low=0.001, high=0.5)

    def __call__(self, target: Target, data: AuditData, context: Context) -> InputEvidence:
        """Score clean and triggered inputs.

        Raises:
            RefusedError: If there are too few clean images.
        """
        trigger = context.trigger if isinstance(context.trigger, Trigger) else None
        used = trigger or Trigger()
        parts = disjoint_parts(
            data.clean.take(context.rng.permutation(len(data.clean))),
            self.n_overlays,
            self.n_scored,
            None if trigger is None else trigger.target,
            "backdoor.strip",
        )
        triggered = used.apply(parts.others.pixels())
        scorer = _Scorer(target, parts.bank.pixels(), context)
        reference = scorer.scores(parts.calibration.pixels(), "calibration images", 0.0)
        threshold, is_resolved = conformal_threshold(reference, self.false_rejection)
        flags = [] if trigger else ["no-known-trigger"]
        flags += [] if is_resolved else ["coarse-threshold"]
        return InputEvidence(
            clean_scores=scorer.scores(parts.clean.pixels(), "clean inputs", 1 / 3),
            triggered_scores=scorer.scores(triggered, "triggered inputs", 2 / 3),
            threshold=threshold,
            flags=tuple(flags),
            details={
                "trigger": used.to_json(),
                "attack_success": float((target.labels(triggered) == used.target).mean()),
                "false_rejection": self.false_rejection,
                "n_calibration": len(reference),
                "n_overlays": len(parts.bank),
            },
        )


@dataclass(frozen=True)
class _Scorer:
    target: Target
    bank: NDArray[np.uint8]
    context: Context

    def scores(self, pixels: NDArray[np.uint8], what: str, share: float) -> NDArray[np.float64]:
        """Return minus the mean entropy over overlays, in nats, float64 ``[n]``."""
        self.context.progress(share, f"scoring {what}")
        step = max(1, _BATCH // len(self.bank))
        parts = [self._some(pixels[i : i + step]) for i in range(0, len(pixels), step)]
        return np.concatenate(parts)

    def _some(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        mixed = superimpose(pixels, self.bank).reshape(-1, *pixels.shape[1:])
        log_p = self.target.log_scores(mixed)
        entropy = -(np.exp(log_p) * np.maximum(log_p, -1e3)).sum(1)  # 0 log 0 = 0
        return -np.asarray(entropy.reshape(len(pixels), len(self.bank)).mean(1))


def superimpose(pixels: NDArray[np.uint8], overlays: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Add every overlay to every image, saturating at white.

    Args:
        pixels: uint8 ``[n, H, W, C]``, or volumes ``[n, D, H, W, C]``.
        overlays: uint8 ``[m, H, W, C]``, or volumes.

    Returns:
        uint8 ``[n, m, H, W, C]``, or ``[n, m, D, H, W, C]``.
    """
    summed = pixels[:, None].astype(np.uint16) + overlays[None]
    return np.asarray(np.minimum(summed, 255), dtype=np.uint8)
