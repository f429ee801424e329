"""Judging stolen copies: raw agreement does not show theft, so the floor stands beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securitynet.evidence import StealingEvidence, Surrogate
from securitynet.metrics.intervals import proportion
from securitynet.metrics.roc import Z95
from securitynet.records import Measure

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]


def grade_stealing(
    evidence: StealingEvidence, truth: Labels
) -> tuple[dict[str, Measure], tuple[str, ...], dict[str, Any]]:
    """Judge the surrogates of one run.

    Every figure is a mean over seeds; its interval joins the sampling error over evaluation
    images and the spread over seeds: half width = sqrt((z SE_images)^2 + (t_{s-1} sd / sqrt s)^2).

    Args:
        evidence: Predictions of target, surrogates and floors on the evaluation images.
        truth: True labels, int64 ``[m]``.

    Returns:
        Measures at the largest budget, flags, and the whole curve in the details.

    Raises:
        ValueError: If there is no surrogate.
    """
    budgets = sorted({copy.budget for copy in evidence.surrogates})
    if not budgets:
        raise ValueError("a stealing method must return at least one surrogate")
    curve = [_at_budget(evidence, truth, budget) for budget in budgets]
    right = evidence.target_labels == truth
    measures = {
        **curve[-1],
        "target_accuracy": proportion(int(right.sum()), len(truth)),
        "budget": Measure(budgets[-1]),
    }
    last = [copy for copy in evidence.surrogates if copy.budget == budgets[-1]]
    kl = [copy.kl for copy in last if copy.kl is not None]
    details = {
        "curve": [
            {"budget": budget, **{name: asdict(m) for name, m in point.items()}}
            for budget, point in zip(budgets, curve, strict=True)
        ],
        "kl": float(np.mean(kl)) if kl else None,
        "n_seeds": len(last),
        "area_log_budget": _area(budgets, [point["agreement"].value or 0.0 for point in curve]),
    }
    flags = list(evidence.flags)
    flags += ["constant-target"] if np.ptp(evidence.target_labels) == 0 else []
    return measures, tuple(flags), details


def _at_budget(evidence: StealingEvidence, truth: Labels, budget: int) -> dict[str, Measure]:
    copies = [copy for copy in evidence.surrogates if copy.budget == budget]
    target = evidence.target_labels
    agree = _stack(copies, target)
    floor = np.stack([copy.floor_labels == target for copy in copies]).astype(float)
    errs = target != truth
    points = {
        "accuracy": _mean(_stack(copies, truth)),
        "agreement": _mean(agree),
        "floor_agreement": _mean(floor),
        "excess_agreement": _excess(agree, floor),
        "error_agreement": _mean(agree[:, errs]) if errs.any() else Measure(None, n=0),
    }
    return points


def _stack(copies: Sequence[Surrogate], reference: Labels) -> Floats:
    return np.stack([copy.labels == reference for copy in copies]).astype(float)


def _mean(hits: Floats) -> Measure:
    """Mean of a [seeds, images] indicator with the joint interval."""
    value = float(hits.mean())
    width = _half_width(hits.mean(0), hits.mean(1))
    return Measure(value, max(0.0, value - width), min(1.0, value + width), hits.shape[1])


def _excess(agree: Floats, floor: Floats) -> Measure:
    """(agreement - floor) / (1 - floor), by the delta method, paired over images and seeds."""
    base = float(floor.mean())
    n = agree.shape[1]
    if base >= 1.0:
        return Measure(None, n=n)
    value = float((agree.mean() - base) / (1 - base))
    # d value = (d agreement - (1 - value) d floor) / (1 - floor)
    influence = (agree - (1 - value) * floor) / (1 - base)
    width = _half_width(influence.mean(0), influence.mean(1))
    return Measure(value, value - width, min(1.0, value + width), n)


def _half_width(by_image: Floats, by_seed: Floats) -> float:
    from scipy.stats import t

    images = (
        Z95 * float(by_image.std(ddof=1)) / np.sqrt(len(by_image)) if len(by_image) > 1 else 0.0
    )
    if len(by_seed) < 2:
        return float(images)
    spread = float(t.ppf(0.975, len(by_seed) - 1)) * by_seed.std(ddof=1) / np.sqrt(len(by_seed))
    return float(np.hypot(images, spread))


def _area(budgets: Sequence[int], agreement: Sequence[float]) -> float | None:
    """Mean agreement over the log-budget axis, ``None`` for a single budget."""
    if len(budgets) < 2:
        return None
    x = np.log(budgets)
    return float(np.trapezoid(agreement, x) / (x[-1] - x[0]))
