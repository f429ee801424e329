"""STRIP: a triggered input keeps its label under strong perturbation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from securitynet.errors import RefusedError
from securitynet.evidence import InputEvidence
from securitynet.registry import Access, method, option
from securitynet.training.backdoors import Trigger

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from securitynet.datasets.images import AuditData, Images
    from securitynet.targets.context import Context
    from securitynet.targets.target import Target

MIN_SCORED = 20
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
        bank, calibration, clean, others = self._parts(
            data.clean.take(context.rng.permutation(len(data.clean))),
            None if trigger is None else trigger.target,
        )
        triggered = used.apply(others.pixels())
        scorer = _Scorer(target, bank.pixels(), context)
        reference = scorer.scores(calibration.pixels(), "calibration images", 0.0)
        threshold, is_resolved = conformal_threshold(reference, self.false_rejection)
        flags = [] if trigger else ["no-known-trigger"]
        flags += [] if is_resolved else ["coarse-threshold"]
        return InputEvidence(
            clean_scores=scorer.scores(clean.pixels(), "clean inputs", 1 / 3),
            triggered_scores=scorer.scores(triggered, "triggered inputs", 2 / 3),
            threshold=threshold,
            flags=tuple(flags),
            details={
                "trigger": used.to_json(),
                "attack_success": float((target.labels(triggered) == used.target).mean()),
                "false_rejection": self.false_rejection,
                "n_calibration": len(calibration),
                "n_overlays": len(bank),
            },
        )

    def _parts(
        self, images: Images, target_class: int | None
    ) -> tuple[Images, Images, Images, Images]:
        """Cut into bank, calibration, clean and to-be-triggered images, all disjoint.

        The last are of other classes than the target class: a trigger changes nothing there.
        """
        bank, rest = images.take(slice(self.n_overlays)), images.take(slice(self.n_overlays, None))
        size = min(self.n_scored, len(rest) // 3)
        others = rest.take(slice(2 * size, None))
        if target_class is not None:
            others = others.take(others.labels != target_class)
        if min(size, len(others)) < MIN_SCORED:
            raise RefusedError(
                f"{len(images)} clean images are too few for {self.n_overlays} overlays and "
                f"three parts of {MIN_SCORED}",
                where="backdoor.strip",
                hint="raise --limit or lower -o backdoor.strip.n_overlays",
                flags=["few-images"],
            )
        calibration, clean = rest.take(slice(size)), rest.take(slice(size, 2 * size))
        return bank, calibration, clean, others.take(slice(size))


def conformal_threshold(
    reference: NDArray[np.float64], false_rejection: float
) -> tuple[float, bool]:
    """Return the threshold that a fresh clean input exceeds with at most this probability.

    The ceil((n + 1)(1 - rate))-th smallest of n calibration scores: for exchangeable clean
    inputs the rate holds exactly, without assuming normal scores as the paper does.

    Args:
        reference: Scores of calibration images, ``[n]``.
        false_rejection: The rate.

    Returns:
        The threshold, and whether n is large enough for the rate; if not, the threshold is the
        largest score and the rate 1/(n + 1).
    """
    rank = int(np.ceil((len(reference) + 1) * (1 - false_rejection) - 1e-9))
    is_resolved = rank <= len(reference)
    return float(np.sort(reference)[min(rank, len(reference)) - 1]), is_resolved


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
