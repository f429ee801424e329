"""Judging stolen copies: raw agreement does not show theft, so the floor stands beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securitynet.evidence import StealingEvidence
from securitynet.metrics.agreement import (
    area_log_budget,
    excess_share,
    mean_share,
    paired_gain,
)
from securitynet.metrics.intervals import proportion
from securitynet.records import Measure

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]


def grade_stealing(
    evidence: StealingEvidence, truth: Labels
) -> tuple[dict[str, Measure], dict[str, Measure], tuple[str, ...], dict[str, Any]]:
    """Judge the surrogates of one run.

    Every figure is a mean over seeds at the largest budget, with the interval of
    :mod:`securitynet.metrics.agreement`. ``error_agreement`` is the share of the target's own
    errors that the copies repeat, class and all; unknown for a target that never errs. Where the
    thief chooses its queries, ``random_agreement`` is that of random ones and ``selection_gain``
    what the choice adds, paired over images and seeds. Without a floor there is no excess; then
    the null ``constant_agreement`` is what the best answer that ignores the image would agree.

    Args:
        evidence: Predictions of target, surrogates and floors on the evaluation images.
        truth: True labels, int64 ``[m]``.

    Returns:
        Measures at the largest budget, nulls, flags, and the whole curve in the details.

    Raises:
        ValueError: If there is no surrogate or predictions do not fit the evaluation images.
    """
    _check(evidence, len(truth))
    budgets = sorted({copy.budget for copy in evidence.surrogates})
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
        "area_log_budget": area_log_budget(
            budgets, [point["agreement"].value or 0.0 for point in curve]
        ),
    }
    flags = list(evidence.flags)
    flags += ["constant-target"] if np.ptp(evidence.target_labels) == 0 else []
    has_floor = evidence.surrogates[0].floor_labels is not None
    nulls = {} if has_floor else {"constant_agreement": _best_constant(evidence.target_labels)}
    return measures, nulls, tuple(flags), details


def _best_constant(labels: Labels) -> Measure:
    return proportion(int(np.bincount(labels).max()), len(labels))


def _check(evidence: StealingEvidence, n: int) -> None:
    if not evidence.surrogates:
        raise ValueError("a stealing method must return at least one surrogate")
    answers = [evidence.target_labels]
    for copy in evidence.surrogates:
        controls = (copy.floor_labels, copy.random_labels)
        answers += [copy.labels, *(labels for labels in controls if labels is not None)]
    if n == 0 or any(np.shape(labels) != (n,) for labels in answers):
        raise ValueError(f"a stealing method must return one label for each of {n} images")
    for control in ("floor_labels", "random_labels"):
        if len({getattr(copy, control) is None for copy in evidence.surrogates}) > 1:
            raise ValueError(f"a stealing method must return {control} for every copy or none")


def _at_budget(evidence: StealingEvidence, truth: Labels, budget: int) -> dict[str, Measure]:
    copies = [copy for copy in evidence.surrogates if copy.budget == budget]
    target = evidence.target_labels
    agree = _hits([copy.labels for copy in copies], target)
    floors = [copy.floor_labels for copy in copies if copy.floor_labels is not None]
    floor = _hits(floors, target) if floors else None
    unknown = Measure(None, n=len(truth))
    point = {
        "accuracy": mean_share(_hits([copy.labels for copy in copies], truth)),
        "agreement": mean_share(agree),
        "floor_agreement": unknown if floor is None else mean_share(floor),
        "excess_agreement": unknown if floor is None else excess_share(agree, floor),
        "error_agreement": mean_share(agree[:, target != truth]),
    }
    by_chance = [copy.random_labels for copy in copies if copy.random_labels is not None]
    if by_chance:
        control = _hits(by_chance, target)
        point["random_agreement"] = mean_share(control)
        point["selection_gain"] = paired_gain(agree, control)
    return point


def _hits(answers: Sequence[Labels], reference: Labels) -> Floats:
    """Return where each copy's labels equal the reference, float64 ``[seeds, images]``."""
    return np.asarray(np.stack(answers) == reference, dtype=np.float64)
