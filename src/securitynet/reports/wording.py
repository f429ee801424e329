"""Figures as text, and the plain-language verdicts: from intervals and nulls, never from points."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from securitynet.records import Evaluation, Measure

FAMILIES = {
    "mia": "Membership inference",
    "steal": "Model stealing",
    "backdoor": "Backdoor detection",
}
FLAGS = {
    "accuracy-gate": "Measured accuracy is off the published one: preprocessing, class order or "
    "images differ. The run was forced; read every figure with that in mind.",
    "no-claim": "Nobody published an accuracy to compare with.",
    "chance-level": "The model is no better than guessing on these images.",
    "null-failed": "A control without any effect is not at its null value: the figure is not ranked.",
    "constant-scores": "Every sample got the same score: the attack says nothing.",
    "constant-target": "The target gives one label to every image.",
    "few-nonmembers": "Fewer than 1,000 non-members: figures at low false positive rates are coarse "
    "or cannot be estimated.",
    "no-known-trigger": "No trigger is known for this model: a standard patch was tried as a "
    "control, and an AUROC near 0.5 is what a clean model gives.",
    "backdoor-suspected": "p < 0.01: one class is reached by a far smaller trigger than the others.",
    "weak-trigger": "The reversed trigger works on fewer than 75% of held-out images.",
    "fp32-fallback": "Fast inference differed from plain fp32, so plain fp32 was used.",
    "outputs-softmax": "The model already returns posteriors.",
}


def figure(measure: Measure | None, digits: int = 3) -> str:
    """Return ``0.834 [0.812, 0.856]``, or a dash for the unknown."""
    if measure is None or measure.value is None:
        return "-"
    value = number(measure.value, digits)
    if measure.low is None or measure.high is None:
        return value
    return f"{value} [{number(measure.low, digits)}, {number(measure.high, digits)}]"


def number(value: float, digits: int = 3) -> str:
    """Return a rounded number; whole numbers without decimals."""
    if float(value).is_integer() and abs(value) >= 2:
        return f"{value:,.0f}"
    return f"{value:.{digits}f}"


def p_value(measure: Measure | None) -> str:
    """Return a p-value, small ones as a bound."""
    if measure is None or measure.value is None:
        return "-"
    return "<0.001" if measure.value < 0.001 else f"{measure.value:.3f}"


def settings(record: Evaluation) -> str:
    """Return a method's name with what tells its variants apart."""
    shown = {
        name: value
        for name, value in record.config.items()
        if (name == "response") or (name == "per_class" and value)
    }
    extra = ", ".join(str(v) if k == "response" else k for k, v in shown.items())
    return f"{record.method} ({extra})" if extra else record.method


def family(record: Evaluation) -> str:
    """Return the threat a record belongs to."""
    return FAMILIES.get(record.method.split(".")[0], "Other")


def by_model(records: Iterable[Evaluation]) -> list[tuple[str, list[Evaluation]]]:
    """Group records by model, in order of their ids."""
    ordered = sorted(records, key=lambda record: record.model)
    return [(name, list(group)) for name, group in groupby(ordered, key=lambda r: r.model)]


def verdicts(records: Sequence[Evaluation]) -> list[tuple[str, str, str]]:
    """Return (threat, tone, sentence) for one model; tone is ``bad``, ``good`` or ``unknown``."""
    found = []
    for prefix, judge in (("mia", _membership), ("steal", _stealing), ("backdoor", _backdoor)):
        mine = [r for r in records if r.method.startswith(prefix + ".")]
        if mine:
            tone, sentence = judge([r for r in mine if r.status == "ok"])
            if tone == "unknown" and mine[0].error:
                sentence = f"Not evaluated: {mine[0].error}"
            found.append((FAMILIES[prefix], tone, sentence))
    return found


def _membership(records: Sequence[Evaluation]) -> tuple[str, str]:
    ranked = [r for r in records if "null-failed" not in r.flags and r.measures["auc"].value]
    if not ranked:
        return "unknown", "Not evaluated."
    best = max(ranked, key=lambda r: r.measures["auc"].low or 0.0)
    auc = best.measures["auc"]
    text = f"AUC {figure(auc)} by {settings(best)}, n = {auc.n:,}; guessing gives 0.5"
    if (auc.low or 0.0) > 0.5:
        return "bad", f"Leaks its training set: {text}."
    return "good", f"No membership leak measurable: {text}."


def _stealing(records: Sequence[Evaluation]) -> tuple[str, str]:
    known = [
        r for r in records if r.measures.get("excess_agreement", Measure(None)).value is not None
    ]
    if not known:
        return "unknown", "Not evaluated."
    best = max(known, key=lambda r: r.measures["excess_agreement"].low or -1.0)
    measures = best.measures
    text = (
        f"a copy agrees {figure(measures['agreement'])} after "
        f"{number(measures['budget'].value or 0)} queries ({settings(best)}); without asking the "
        f"target, the same recipe agrees {figure(measures['floor_agreement'])}"
    )
    if (measures["excess_agreement"].low or 0.0) > 0:
        return "bad", f"Can be copied: {text}."
    return "good", f"Its answers did not help a thief here: {text}."


def _backdoor(records: Sequence[Evaluation]) -> tuple[str, str]:
    tests = [r for r in records if r.measures.get("p_value", Measure(None)).value is not None]
    if not tests:
        return "unknown", "Not evaluated."
    worst = min(tests, key=lambda r: r.measures["p_value"].value or 1.0)
    p, label = worst.measures["p_value"], int(worst.measures["infected_label"].value or 0)
    classes = worst.details.get("classes", [])
    name = f"{label} ({classes[label]})" if label < len(classes) else str(label)
    if "backdoor-suspected" in worst.flags:
        success = figure(worst.measures["attack_success"])
        return "bad", (
            f"Backdoor suspected: p = {p_value(p)} for class {name}; the reversed trigger turns "
            f"{success} of held-out images to it."
        )
    return "good", f"No backdoor found: p = {p_value(p)} for the most suspicious class, {name}."
