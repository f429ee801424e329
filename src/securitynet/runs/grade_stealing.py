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
) -> tuple[dict[str, Measure], tuple[str, ...], dict[str, Any]]:
    """Judge the surrogates of one run.

    Every figure is a mean over seeds at the largest budget, with the interval of
    :mod:`securitynet.metrics.agreement`. ``error_agreement`` is the share of the target's own
    errors that the copies repeat, class and all; unknown for a target that never errs. Where the
    thief chooses its queries, ``random_agreement`` is that of random ones and ``selection_gain``
    what the choice adds, paired over images and seeds.

    Args:
        evidence: Predictions of target, surrogates and floors on the evaluation images.
        truth: True labels, int64 ``[m]``.

    Returns:
        Measures at the largest budget, flags, and the whole curve in the details.

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
    return measures, tuple(flags), details


def _check(evidence: StealingEvidence, n: int) -> None:
    if not evidence.surrogates:
        raise ValueError("a stealing method must return at least one surrogate")
    answers = [evidence.target_labels]
    for copy in evidence.surrogates:
        answers += [copy.labels, copy.floor_labels]
        answers += [] if copy.random_labels is None else [copy.random_labels]
    if n == 0 or any(np.shape(labels) != (n,) for labels in answers):
        raise ValueError(f"a stealing method must return one label for each of {n} images")
    if len({copy.random_labels is None for copy in evidence.surrogates}) > 1:
        raise ValueError("a stealing method must return a random control for every copy or none")


def _at_budget(evidence: StealingEvidence, truth: Labels, budget: int) -> dict[str, Measure]:
    copies = [copy for copy in evidence.surrogates if copy.budget == budget]
    target = evidence.target_labels
    agree = _hits([copy.labels for copy in copies], target)
    floor = _hits([copy.floor_labels for copy in copies], target)
    point = {
        "accuracy": mean_share(_hits([copy.labels for copy in copies], truth)),
        "agreement": mean_share(agree),
        "floor_agreement": mean_share(floor),
        "excess_agreement": excess_share(agree, floor),
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
