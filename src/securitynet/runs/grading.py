"""The judge: turns raw evidence into measures, nulls and flags. Methods never do this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securitynet.datasets.images import Audit
from securitynet.evidence import (
    Evidence,
    InputEvidence,
    MembershipEvidence,
    StealingEvidence,
    TriggerEvidence,
)
from securitynet.metrics.intervals import proportion
from securitynet.metrics.roc import (
    Z95,
    auc_delong,
    balanced_accuracy,
    common_edges,
    histogram,
    roc_curve,
    tpr_at_fpr,
)
from securitynet.records import Measure
from securitynet.runs.grade_stealing import grade_stealing

SUSPICION = 0.01
WORKING_TRIGGER = 0.75


@dataclass(frozen=True)
class Graded:
    """The judged evidence of one job.

    Attributes:
        measures: Figures by name.
        nulls: What they would be without any effect.
        flags: Reasons to read them with care.
        details: Curves for drawing, JSON values.
        arrays: Per-sample evidence for the store's blobs.
    """

    measures: Mapping[str, Measure]
    nulls: Mapping[str, Measure] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def grade(
    evidence: Evidence, audit: Audit, target_labels: NDArray[np.int64] | None = None
) -> Graded:
    """Judge a method's evidence.

    Args:
        evidence: What the method returned.
        audit: The data with the membership that only the harness knows.
        target_labels: The target's predictions on ``audit.data.audit``; for membership only.

    Raises:
        TypeError: If the evidence is of no known kind.
        ValueError: If its shape does not fit the data.
    """
    if isinstance(evidence, MembershipEvidence):
        return _membership(evidence, audit, target_labels)
    if isinstance(evidence, StealingEvidence):
        measures, flags, details = grade_stealing(evidence, audit.data.evaluation.labels)
        return Graded(measures, flags=flags, details=details)
    if isinstance(evidence, TriggerEvidence):
        return _triggers(evidence, audit)
    if isinstance(evidence, InputEvidence):
        return _inputs(evidence)
    raise TypeError(f"a method must return evidence, not {type(evidence).__name__}")


def _membership(
    evidence: MembershipEvidence, audit: Audit, target_labels: NDArray[np.int64] | None
) -> Graded:
    scores = np.asarray(evidence.scores, dtype=np.float64)
    if scores.shape != audit.is_member.shape or np.isnan(scores).any():
        raise ValueError("a membership method must return one score a sample, none of them NaN")
    inside, outside = scores[audit.is_member], scores[~audit.is_member]
    measures = {
        "auc": auc_delong(inside, outside),
        "tpr_at_fpr_1pct": tpr_at_fpr(inside, outside, 0.01),
        "tpr_at_fpr_0.1pct": tpr_at_fpr(inside, outside, 0.001),
        "balanced_accuracy": balanced_accuracy(inside, outside),
        **_accuracies(audit, target_labels),
    }
    nulls, null_flags = _nulls(evidence, audit.is_member)
    flags = [*evidence.flags, *null_flags]
    flags += ["constant-scores"] if np.ptp(scores) == 0 else []
    flags += ["few-nonmembers"] if len(outside) < 1000 else []
    edges = common_edges(inside, outside)
    details = {
        "roc": roc_curve(inside, outside).to_json(),
        "histogram": {
            "edges": edges.tolist(),
            "members": histogram(inside, edges),
            "nonmembers": histogram(outside, edges),
        },
        "n_members": len(inside),
        "n_nonmembers": len(outside),
    }
    return Graded(
        measures, nulls, tuple(flags), details, {"scores": scores, "is_member": audit.is_member}
    )


def _accuracies(audit: Audit, target_labels: NDArray[np.int64] | None) -> dict[str, Measure]:
    if target_labels is None:
        return {}
    right = target_labels == audit.data.audit.labels
    train, test = right[audit.is_member], right[~audit.is_member]
    gap = train.mean() - test.mean()
    error = np.sqrt(train.var() / len(train) + test.var() / len(test))
    return {
        "train_accuracy": proportion(int(train.sum()), len(train)),
        "test_accuracy": proportion(int(test.sum()), len(test)),
        "gap": Measure(gap, gap - Z95 * error, gap + Z95 * error, len(right)),
    }


def _nulls(
    evidence: MembershipEvidence, is_member: NDArray[np.bool_]
) -> tuple[dict[str, Measure], list[str]]:
    given = {
        "target_free_auc": evidence.target_free,
        "random_target_auc": evidence.random_target,
    }
    nulls = {
        name: auc_delong(scores[is_member], scores[~is_member])
        for name, scores in given.items()
        if scores is not None
    }
    failed = [m for m in nulls.values() if not (m.low or 0.0) <= 0.5 <= (m.high or 1.0)]
    return nulls, ["null-failed"] if failed else []


def _triggers(evidence: TriggerEvidence, audit: Audit) -> Graded:
    label, n = int(evidence.infected_label), evidence.n_images
    success = float(evidence.attack_success[label])
    measures = {
        "p_value": Measure(evidence.p_value),
        "statistic": Measure(evidence.statistic, n=len(evidence.norms)),
        "infected_label": Measure(label),
        "trigger_l1": Measure(float(evidence.norms[label])),
        "attack_success": proportion(round(success * n), n),
    }
    flags = list(evidence.flags)
    if evidence.p_value < SUSPICION:
        flags.append("backdoor-suspected")
        flags += ["weak-trigger"] if success < WORKING_TRIGGER else []
    details = {
        "norms": [float(norm) for norm in evidence.norms],
        "attack_success": [float(share) for share in evidence.attack_success],
        "classes": list(audit.data.classes),
        **evidence.details,
    }
    pictures = {"masks": evidence.masks, "patterns": evidence.patterns}
    arrays = {name: array for name, array in pictures.items() if array is not None}
    return Graded(measures, flags=tuple(flags), details=details, arrays=arrays)


def _inputs(evidence: InputEvidence) -> Graded:
    clean, triggered = evidence.clean_scores, evidence.triggered_scores
    measures = {
        "auroc": auc_delong(triggered, clean),
        "tpr": proportion(int((triggered > evidence.threshold).sum()), len(triggered)),
        "fpr": proportion(int((clean > evidence.threshold).sum()), len(clean)),
    }
    edges = common_edges(clean, triggered)
    details = {
        "roc": roc_curve(triggered, clean).to_json(),
        "histogram": {
            "edges": edges.tolist(),
            "clean": histogram(clean, edges),
            "triggered": histogram(triggered, edges),
        },
        "threshold": float(evidence.threshold),
        **evidence.details,
    }
    arrays = {"clean_scores": clean, "triggered_scores": triggered}
    return Graded(measures, flags=evidence.flags, details=details, arrays=arrays)
