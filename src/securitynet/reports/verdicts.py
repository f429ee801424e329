"""Plain-language verdicts, from intervals against their nulls: never from a point estimate.

The strongest of several attacks is a maximum, so its interval is widened for the number of
attacks tried (Bonferroni); p-values of several detectors are multiplied likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

import numpy as np

from securitynet.records import Evaluation, Measure
from securitynet.reports.wording import (
    FAMILIES,
    Labeller,
    class_name,
    family,
    figure,
    labeller,
    number,
    p_value,
    plain,
)

Tone = Literal["bad", "good", "unknown"]
SUSPICION = 0.01
UNRANKED = {"null-failed", "constant-scores"}
CAVEATS = ("accuracy-gate", "chance-level", "constant-target")
"""Flags under which the absence of an effect shows nothing."""


@dataclass(frozen=True)
class Verdict:
    """What the records of one model say about one threat.

    Attributes:
        threat: Prefix of the methods: ``mia``, ``steal`` or ``backdoor``.
        tone: ``bad`` (the threat is real), ``good`` (not measurable) or ``unknown``.
        word: The verdict in at most four words.
        key_figure: The figure it rests on, empty if there is none.
        sentence: The whole verdict.
    """

    threat: str
    tone: Tone
    word: str
    key_figure: str
    sentence: str

    @property
    def title(self) -> str:
        """The threat's name."""
        return FAMILIES[self.threat]


def verdicts(records: Sequence[Evaluation], label: Labeller | None = None) -> list[Verdict]:
    """Judge one model on one data set.

    Args:
        records: The records of that model, of any status.
        label: Names a record's method; made from ``records`` if left out.

    Returns:
        One verdict for each threat that was asked about.
    """
    label = label or labeller(records)
    judges = {"mia": _membership, "steal": _stealing, "backdoor": _backdoor}
    found = []
    for threat, judge in judges.items():
        mine = [record for record in records if family(record) == threat]
        if mine:
            found.append(_judge(threat, mine, judge, label))
    return found


Judge = Callable[[Sequence[Evaluation], Labeller], tuple[Tone, str, str, str]]


def _judge(threat: str, records: Sequence[Evaluation], judge: Judge, label: Labeller) -> Verdict:
    fine = [record for record in records if record.status == "ok"]
    if not fine:
        reasons = dict.fromkeys(f"{r.status}: {plain(r.error or 'no reason')}" for r in records)
        return Verdict(
            threat, "unknown", "Not evaluated", "", f"Not evaluated ({'; '.join(reasons)})."
        )
    verdict = Verdict(threat, *judge(fine, label))
    n_missing = len(records) - len(fine)
    if n_missing:
        more = f" {n_missing} of {len(records)} runs gave no figure."
        verdict = replace(verdict, sentence=verdict.sentence + more)
    return _with_caveats(verdict, fine)


def _with_caveats(verdict: Verdict, records: Sequence[Evaluation]) -> Verdict:
    flags = [flag for flag in CAVEATS if any(flag in record.flags for record in records)]
    if not flags:
        return verdict
    sentence = f"{verdict.sentence} Read with care: {', '.join(flags)}."
    if verdict.tone == "good":
        return replace(verdict, tone="unknown", word="Inconclusive", sentence=sentence)
    return replace(verdict, sentence=sentence)


def widened(measure: Measure, n_tries: int, *, is_share: bool = False) -> tuple[float, float]:
    """Return the ends of a 95% interval that holds for the best of several tries.

    Args:
        measure: A figure with its 95% interval.
        n_tries: Number of figures it was chosen from.
        is_share: Whether the interval is symmetric on the logit scale, as DeLong's here.

    Raises:
        ValueError: If the figure or an end is unknown.
    """
    if measure.value is None or measure.low is None or measure.high is None:
        raise ValueError("an unknown interval cannot be widened")
    normal = NormalDist()
    factor = normal.inv_cdf(1 - 0.025 / max(n_tries, 1)) / normal.inv_cdf(0.975)
    parts = np.array([measure.low, measure.value, measure.high])
    if not is_share:
        low, high = parts[1] + factor * (parts[[0, 2]] - parts[1])
        return float(low), float(high)
    parts = np.clip(parts, 1e-9, 1 - 1e-9)
    low, middle, high = np.log(parts / (1 - parts))
    ends = 1 / (1 + np.exp(-(middle + factor * (np.array([low, high]) - middle))))
    return float(ends[0]), float(ends[1])


def _known(record: Evaluation, name: str) -> bool:
    measure = record.measures.get(name)
    return measure is not None and None not in (measure.value, measure.low, measure.high)


def _membership(records: Sequence[Evaluation], label: Labeller) -> tuple[Tone, str, str, str]:
    ranked = [r for r in records if _known(r, "auc") and not UNRANKED & set(r.flags)]
    if not ranked:
        text = "No attack gave a figure that can be ranked (controls failed or scores constant)."
        return "unknown", "No usable figure", "", text
    best = max(ranked, key=lambda record: record.measures["auc"].low or 0.0)
    auc, n_tries = best.measures["auc"], len(ranked)
    low, high = widened(auc, n_tries, is_share=True)
    size = f", n = {auc.n:,}" if auc.n else ""
    choice = f"the strongest of {n_tries} attacks, " if n_tries > 1 else ""
    text = f"AUC {figure(auc)} ({choice}{label(best)}{size}); a coin gives 0.5"
    key = f"AUC {figure(auc)}"
    if low > 0.5:
        degree = " slightly" if (auc.value or 0.0) < 0.55 else ""
        return "bad", f"Leaks{degree}", key, f"Leaks its training set{degree}: {text}{_tpr(best)}."
    if (auc.low or 0.0) > 0.5:
        chance = f"but the best of {n_tries} attacks can reach this without a leak"
        return "unknown", "Inconclusive", key, f"Inconclusive: {text}, {chance}."
    return (
        "good",
        "No leak measurable",
        key,
        (
            f"No leak of the training set is measurable: {text}. "
            f"A leak beyond AUC {number(max(high, 0.5))} is excluded for these attacks."
        ),
    )


def _tpr(record: Evaluation) -> str:
    measure = record.measures.get("tpr_at_fpr_1pct")
    if measure is None or measure.value is None:
        return ""
    return f". Accusing 1% of the others wrongly, it finds a share of {figure(measure)}"


def _stealing(records: Sequence[Evaluation], label: Labeller) -> tuple[Tone, str, str, str]:
    known = [record for record in records if _known(record, "excess_agreement")]
    if not known:
        text = "No excess over the floor is known, and agreement alone does not show theft."
        return "unknown", "No usable figure", "", text
    best = max(known, key=lambda record: record.measures["excess_agreement"].low or -1.0)
    measures, excess = best.measures, best.measures["excess_agreement"]
    low, _ = widened(excess, len(known))
    budget = measures.get("budget", Measure(None)).value
    queries = f" after {budget:,.0f} queries" if budget is not None else ""
    text = (
        f"excess agreement {figure(excess)} (zero without theft; {label(best)}). "
        f"The copy agrees {figure(measures.get('agreement'))}{queries}; "
        f"the same recipe that never asked, the floor, {figure(measures.get('floor_agreement'))}"
    )
    key = f"excess {figure(excess)}"
    if low > 0:
        return "bad", "Can be copied", key, f"Can be copied: {text}."
    return "good", "Answers did not help", key, f"Its answers did not help a thief here: {text}."


def _backdoor(records: Sequence[Evaluation], label: Labeller) -> tuple[Tone, str, str, str]:
    tests = [r for r in records if r.measures.get("p_value", Measure(None)).value is not None]
    if not tests:
        return "unknown", "Model not tested", "", _inputs_only(records, label)

    def p_of(record: Evaluation) -> float:
        value = record.measures["p_value"].value
        return 1.0 if value is None else value

    worst = min(tests, key=p_of)
    raw = p_of(worst)
    joint = Measure(min(1.0, raw * len(tests)))
    times = f", times {len(tests)} tests" if len(tests) > 1 else ""
    key = f"p {_equals(joint)}"
    where = f"{key}{times} for class {class_name(worst)} ({label(worst)})"
    success = figure(worst.measures.get("attack_success"))
    reach = f"its reversed trigger turns a share of {success} of held-out images to that class"
    if (joint.value or 0.0) >= SUSPICION:
        return "good", "No backdoor found", key, f"No backdoor found: {where}, the most suspicious."
    if "weak-trigger" in worst.flags:
        return "unknown", "Odd class, weak trigger", key, f"Unclear: {where}, but {reach}."
    return "bad", "Backdoor suspected", key, f"Backdoor suspected: {where}; {reach}."


def _equals(measure: Measure) -> str:
    text = p_value(measure)
    return text.replace("<", "< ") if text.startswith("<") else f"= {text}"


def _inputs_only(records: Sequence[Evaluation], label: Labeller) -> str:
    seen = [r for r in records if r.measures.get("auroc", Measure(None)).value is not None]
    if not seen:
        return "No test of the model itself gave a figure."
    record = seen[0]
    what = "a control patch" if "no-known-trigger" in record.flags else "triggered inputs"
    return (
        f"No test of the model itself ran; {label(record)} tells {what} from clean inputs with "
        f"AUROC {figure(record.measures['auroc'])}."
    )
