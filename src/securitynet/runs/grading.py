"""The judge: turns raw evidence into measures, nulls and flags. Methods never do this."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securitynet.datasets.images import Audit
from securitynet.errors import RefusedError
from securitynet.evidence import (
    Evidence,
    InputEvidence,
    MembershipEvidence,
    StealingEvidence,
    TriggerEvidence,
)
from securitynet.metrics.intervals import difference, proportion
from securitynet.metrics.roc import (
    FEW_NONMEMBERS,
    auc_delong,
    balanced_accuracy,
    common_edges,
    histogram,
    is_estimable,
    roc_curve,
    tpr_at_fpr,
)
from securitynet.records import Measure
from securitynet.runs.grade_stealing import grade_stealing

SUSPICION = 0.01
WORKING_TRIGGER = 0.75
LOWEST_FPR = 0.001
HALF = 0.5
N_EXPOSED = 12
EXPOSED_SIDE = 112
"""Larger images are kept at a fraction of their rows and columns, for a picture of this side."""

Floats = NDArray[np.float64]


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
        RefusedError: If less than two members or non-members were scored.
        TypeError: If the evidence is of no known kind.
        ValueError: If its shape does not fit the data.
    """
    if isinstance(evidence, MembershipEvidence):
        return _membership(evidence, audit, target_labels)
    if isinstance(evidence, StealingEvidence):
        return Graded(*grade_stealing(evidence, audit.data.evaluation.labels))
    if isinstance(evidence, TriggerEvidence):
        return _triggers(evidence, audit)
    if isinstance(evidence, InputEvidence):
        return _inputs(evidence)
    raise TypeError(f"a method must return evidence, not {type(evidence).__name__}")


def _membership(
    evidence: MembershipEvidence, audit: Audit, target_labels: NDArray[np.int64] | None
) -> Graded:
    is_member = audit.is_member if evidence.index is None else audit.is_member[evidence.index]
    inside, outside = _sides(evidence.scores, is_member)
    _check_sides(inside, outside)
    measures = {
        "auc": auc_delong(inside, outside),
        "tpr_at_fpr_1pct": tpr_at_fpr(inside, outside, 0.01),
        "tpr_at_fpr_0.1pct": tpr_at_fpr(inside, outside, LOWEST_FPR),
        "balanced_accuracy": balanced_accuracy(inside, outside),
        **_tails(inside, outside, evidence.fnrs),
        **_accuracies(audit, target_labels),
    }
    nulls = _nulls(evidence, is_member)
    flags = [*evidence.flags, *_constant(inside, outside)]
    flags += [] if all(map(_holds_half, nulls.values())) else ["null-failed"]
    flags += [] if is_estimable(len(outside), LOWEST_FPR) else [FEW_NONMEMBERS]
    details = {
        **_curves(inside, outside, ("members", "nonmembers")),
        "n_members": len(inside),
        "n_nonmembers": len(outside),
    }
    scores = np.asarray(evidence.scores, dtype=np.float64)
    index = np.arange(len(is_member)) if evidence.index is None else evidence.index
    arrays = {"scores": scores, "is_member": is_member, "index": index}
    if "null-failed" not in flags and (measures["auc"].low or 0.0) > HALF:
        details["exposed"], arrays["exposed"] = _exposed(scores, is_member, index, audit)
    return Graded(measures, nulls, _once(flags), details, arrays)


def _exposed(
    scores: Floats, is_member: NDArray[np.bool_], index: NDArray[np.int64], audit: Audit
) -> tuple[list[dict[str, int | str]], NDArray[np.uint8]]:
    """Return the members that rank highest, with how many non-members score as high."""
    members = np.flatnonzero(is_member)
    top = members[np.argsort(-scores[members], kind="stable")[:N_EXPOSED]]
    outside = np.sort(scores[~is_member])
    n_above = len(outside) - np.searchsorted(outside, scores[top], side="left")
    images = audit.data.audit.take(index[top])
    pixels = images.pixels()
    pixels = pixels if pixels.ndim == 4 else pixels[:, pixels.shape[1] // 2]  # a volume's middle
    facts: list[dict[str, int | str]] = [
        {"position": int(p), "class": audit.data.classes[label], "n_above": int(n)}
        for p, label, n in zip(index[top], images.labels, n_above, strict=True)
    ]
    step = max(1, -(-max(pixels.shape[1:3]) // EXPOSED_SIDE))
    return facts, pixels[:, ::step, ::step]


def _sides(scores: Floats, is_member: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return the scores of members and of non-members."""
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != is_member.shape or np.isnan(scores).any():
        raise ValueError("a membership method must return one score a sample, none of them NaN")
    return scores[is_member], scores[~is_member]


def _check_sides(inside: Floats, outside: Floats) -> None:
    """Refuse a figure from less than two samples a side, as a small part drawn by chance may be."""
    if min(len(inside), len(outside)) < 2:
        raise RefusedError(
            f"{len(inside)} members and {len(outside)} non-members were scored: too few to judge",
            hint="raise the method's option `samples`, or --limit",
            flags=[FEW_NONMEMBERS] if len(outside) < 2 else [],
        )


def _tails(inside: Floats, outside: Floats, fnrs: tuple[float, ...]) -> dict[str, Measure]:
    """Return the share of non-members scoring below all but a share ``fnr`` of the members."""
    found = {}
    for fnr in fnrs:
        threshold = np.sort(inside)[int(fnr * len(inside))]  # at most that share lies below it
        below = int((outside < threshold).sum())
        found[f"tnr_at_fnr_{100 * fnr:g}pct"] = proportion(below, len(outside))
    return found


def _accuracies(audit: Audit, target_labels: NDArray[np.int64] | None) -> dict[str, Measure]:
    if target_labels is None:
        return {}
    if target_labels.shape != audit.is_member.shape:
        raise ValueError("target_labels must hold one label a sample of the audit")
    right = target_labels == audit.data.audit.labels
    train, test = right[audit.is_member], right[~audit.is_member]
    hits, other_hits = int(train.sum()), int(test.sum())
    return {
        "train_accuracy": proportion(hits, len(train)),
        "test_accuracy": proportion(other_hits, len(test)),
        "gap": difference(hits, len(train), other_hits, len(test)),
    }


def _nulls(evidence: MembershipEvidence, is_member: NDArray[np.bool_]) -> dict[str, Measure]:
    given = {
        "target_free_auc": evidence.target_free,
        "random_target_auc": evidence.random_target,
    }
    return {
        name: auc_delong(*_sides(scores, is_member))
        for name, scores in given.items()
        if scores is not None
    }


def _holds_half(null: Measure) -> bool:
    """Whether a control's interval holds 0.5; an unknown one shows nothing, so it does not."""
    return null.low is not None and null.high is not None and null.low <= 0.5 <= null.high


def _constant(*groups: Floats) -> list[str]:
    joint = np.concatenate(groups)
    return ["constant-scores"] if joint.min() == joint.max() else []


def _once(flags: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(flags))


def _curves(positives: Floats, negatives: Floats, names: tuple[str, str]) -> dict[str, Any]:
    edges = common_edges(positives, negatives)
    return {
        "roc": roc_curve(positives, negatives).to_json(),
        "histogram": {
            "edges": edges.tolist(),
            names[0]: histogram(positives, edges),
            names[1]: histogram(negatives, edges),
        },
    }


def _triggers(evidence: TriggerEvidence, audit: Audit) -> Graded:
    label, n_classes = int(evidence.infected_label), len(audit.data.classes)
    if not 0 <= label < n_classes:
        raise ValueError(f"infected label {label} of {n_classes} classes")
    found = {
        "norms": evidence.norms,
        "attack_success": evidence.attack_success,
        "margins": evidence.margins,
    }
    known = {name: values for name, values in found.items() if values is not None}
    if any(np.shape(values) != (n_classes,) for values in known.values()):
        raise ValueError(f"a detector must return one number a class in {', '.join(known)}")
    success = _success(evidence)
    measures = {
        "p_value": Measure(evidence.p_value),
        "statistic": Measure(evidence.statistic, n=n_classes),
        "infected_label": Measure(label),
        "trigger_l1": Measure(None if evidence.norms is None else float(evidence.norms[label])),
        "attack_success": success,
    }
    flags = list(evidence.flags)
    if evidence.p_value < SUSPICION:
        is_weak = success.value is not None and success.value < WORKING_TRIGGER
        flags += ["backdoor-suspected", *(["weak-trigger"] if is_weak else [])]
    details = {**known, "classes": list(audit.data.classes), **evidence.details}
    pictures = {"masks": evidence.masks, "patterns": evidence.patterns}
    arrays = {name: array for name, array in pictures.items() if array is not None}
    return Graded(measures, flags=_once(flags), details=_plain(details), arrays=arrays)


def _success(evidence: TriggerEvidence) -> Measure:
    """Return the share of held-out images that the suspected trigger turns, if it was tried."""
    if evidence.attack_success is None:
        return Measure(None, n=0)
    n, share = evidence.n_images, float(evidence.attack_success[evidence.infected_label])
    is_judged = n > 0 and math.isfinite(share)
    return proportion(round(share * n), n) if is_judged else Measure(None, n=0)


def _inputs(evidence: InputEvidence) -> Graded:
    clean = np.asarray(evidence.clean_scores, dtype=np.float64)
    triggered = np.asarray(evidence.triggered_scores, dtype=np.float64)
    measures = {
        "auroc": auc_delong(triggered, clean),
        "tpr": proportion(int((triggered > evidence.threshold).sum()), len(triggered)),
        "fpr": proportion(int((clean > evidence.threshold).sum()), len(clean)),
    }
    details = {
        **_curves(triggered, clean, ("triggered", "clean")),
        "threshold": evidence.threshold,
        **evidence.details,
    }
    flags = _once([*evidence.flags, *_constant(clean, triggered)])
    arrays = {"clean_scores": clean, "triggered_scores": triggered}
    return Graded(measures, flags=flags, details=_plain(details), arrays=arrays)


def _plain(value: Any) -> Any:
    """Return a detector's details as JSON values: no numpy; NaN and infinities are ``None``."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
