"""Judging stolen copies: raw agreement does not show theft, so the floor stands beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securitynet.evidence import StealingEvidence, Surrogate
from securitynet.metrics.agreement import (
    excess_share,
    mean_share,
    paired_gain,
    under_budget_curve,
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
    errors that the copies repeat, class and all; unknown for a target that never errs.

    Of several budgets ``budget_auc`` is the area under agreement over the log budget (the area
    under the budget curve of active learning), and ``excess_budget_auc`` its excess over the
    floors' area. Where the thief chooses its queries, ``random_agreement`` is that of random ones
    and ``selection_gain`` what the choice adds, paired over images and seeds. Without a floor there
    is no excess; then the null ``constant_agreement`` is what the best answer that ignores the
    image would agree.

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
        **_areas(evidence, budgets),
    }
    last = _at(evidence, budgets[-1])
    kl = [copy.kl for copy in last if copy.kl is not None]
    details = {
        "curve": [
            {"budget": budget, **{name: asdict(m) for name, m in point.items()}}
            for budget, point in zip(budgets, curve, strict=True)
        ],
        "kl": float(np.mean(kl)) if kl else None,
        "n_seeds": len(last),
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
    seeds: dict[int, list[int]] = {}
    for copy in evidence.surrogates:
        seeds.setdefault(copy.budget, []).append(copy.seed)
    if len(set(map(tuple, seeds.values()))) > 1:
        raise ValueError("a stealing method must return the same seeds at every budget")


def _areas(evidence: StealingEvidence, budgets: Sequence[int]) -> dict[str, Measure]:
    """Return the area under agreement over the log budget and its excess; of one budget none."""
    if len(budgets) < 2:
        return {}
    by_budget, target = [_at(evidence, budget) for budget in budgets], evidence.target_labels
    hits = [_hits([copy.labels for copy in copies], target) for copies in by_budget]
    known = [_agreement(copies, "floor_labels", target) for copies in by_budget]
    floors = [floor for floor in known if floor is not None]
    agree = under_budget_curve(hits, budgets)
    floor = under_budget_curve(floors, budgets) if floors else None
    return {"budget_auc": mean_share(agree), "excess_budget_auc": _excess(agree, floor)}


def _at(evidence: StealingEvidence, budget: int) -> list[Surrogate]:
    return [copy for copy in evidence.surrogates if copy.budget == budget]


def _at_budget(evidence: StealingEvidence, truth: Labels, budget: int) -> dict[str, Measure]:
    copies, target = _at(evidence, budget), evidence.target_labels
    agree = _hits([copy.labels for copy in copies], target)
    floor = _agreement(copies, "floor_labels", target)
    point = {
        "accuracy": mean_share(_hits([copy.labels for copy in copies], truth)),
        "agreement": mean_share(agree),
        "floor_agreement": Measure(None, n=len(truth)) if floor is None else mean_share(floor),
        "excess_agreement": _excess(agree, floor),
        "error_agreement": mean_share(agree[:, target != truth]),
    }
    control = _agreement(copies, "random_labels", target)
    if control is not None:
        point["random_agreement"] = mean_share(control)
        point["selection_gain"] = paired_gain(agree, control)
    return point


def _excess(agree: Floats, floor: Floats | None) -> Measure:
    return Measure(None, n=agree.shape[1]) if floor is None else excess_share(agree, floor)


def _agreement(copies: Sequence[Surrogate], name: str, target: Labels) -> Floats | None:
    """Return where some answers of the copies equal the target's; ``None`` if there are none."""
    known = [answers for copy in copies if (answers := getattr(copy, name)) is not None]
    return _hits(known, target) if known else None


def _hits(answers: Sequence[Labels], reference: Labels) -> Floats:
    """Return where each copy's labels equal the reference, float64 ``[seeds, images]``."""
    return np.asarray(np.stack(answers) == reference, dtype=np.float64)
