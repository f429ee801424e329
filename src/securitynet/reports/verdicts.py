"""Plain-language verdicts, from intervals against their nulls: never from a point estimate.

A threat is called real if the interval of the strongest attack lies beyond its null. The strongest
of several attacks is a maximum, so its interval is widened for the number of attacks tried
(Bonferroni); p-values of several detectors are multiplied likewise.

A threat is called not measurable only if a meaningful effect is excluded, by the plain interval of
every attack: an AUC of 0.55, a TPR of 0.05 at 1% FPR, an excess agreement of 0.1. What lies between
is inconclusive: a wide interval shows nothing. A detector's large p-value excludes nothing either,
so "no backdoor found" is no praise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

import numpy as np

from securitynet.metrics.intervals import clopper_pearson
from securitynet.records import Evaluation, Measure
from securitynet.reports.wording import (
    FAMILIES,
    Labeller,
    class_name,
    count,
    family,
    figure,
    labeller,
    number,
    p_value,
    sentence,
)

Tone = Literal["bad", "good", "none", "unknown"]
SUSPICION = 0.01
MEANINGFUL_AUC = 0.55
MEANINGFUL_TPR = 0.05
MEANINGFUL_GAIN = 0.1
"""Effects below these would hardly matter to anybody; see the module's text."""
RATE = 0.01
UNRANKED = {"null-failed", "constant-scores", "one-control"}
CAVEATS = (
    "accuracy-gate", "chance-level", "constant-target", "not-converged", "train-queries",
    "trigger-not-reached", "weak-trigger",
)  # fmt: skip
"""Flags under which the absence of an effect shows nothing."""
BADLY_ARMED = ("references-unlike-target",)
"""Flags under which one attack finds little; others beside it may find what it did not."""


@dataclass(frozen=True)
class Verdict:
    """What the records of one model say about one threat.

    Attributes:
        threat: Prefix of the methods: ``mia``, ``steal`` or ``backdoor``.
        tone: ``bad`` (the threat is real), ``good`` (a meaningful effect is excluded), ``none``
            (looked for and not found, which excludes nothing) or ``unknown``.
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
        reasons = dict.fromkeys(f"{r.status}: {sentence(r.error or 'no reason')}" for r in records)
        text = f"Not evaluated ({'; '.join(reasons)})."
        return Verdict(threat, "unknown", "Not evaluated", "", text)
    verdict = _with_caveats(Verdict(threat, *judge(fine, label)), fine)
    n_missing = len(records) - len(fine)
    if not n_missing:
        return verdict
    more = f" {n_missing} of {len(records)} runs gave no figure."
    return replace(verdict, sentence=verdict.sentence + more)


def _with_caveats(verdict: Verdict, records: Sequence[Evaluation]) -> Verdict:
    flags = [flag for flag in CAVEATS if any(flag in record.flags for record in records)]
    flags += [flag for flag in BADLY_ARMED if all(flag in record.flags for record in records)]
    if not flags:
        return verdict
    if verdict.tone not in ("good", "none"):
        text = f"{verdict.sentence} Read with care: {', '.join(flags)}."
        return replace(verdict, sentence=text)
    finding = verdict.sentence[0].lower() + verdict.sentence[1:]
    text = f"Inconclusive because of {', '.join(flags)}; apart from that, {finding}"
    return replace(verdict, tone="unknown", word="Inconclusive", sentence=text)


def widened(
    measure: Measure, n_tries: int, *, is_share: bool = False, n_seeds: int | None = None
) -> tuple[float, float]:
    """Return the ends of a 95% interval that holds for the best of several tries.

    Args:
        measure: A figure with its 95% interval.
        n_tries: Number of figures it was chosen from.
        is_share: Whether the interval is symmetric on the logit scale, as DeLong's here.
        n_seeds: Number of repetitions, if the interval rests on Student's quantile for them; it
            is then widened as if it did so alone, which is a little too much.

    Raises:
        ValueError: If the figure or an end is unknown.
    """
    if measure.value is None or measure.low is None or measure.high is None:
        raise ValueError("an unknown interval cannot be widened")
    factor = _factor(n_tries, n_seeds)
    parts = np.array([measure.low, measure.value, measure.high])
    if not is_share:
        low, high = parts[1] + factor * (parts[[0, 2]] - parts[1])
        return float(low), float(high)
    parts = np.clip(parts, 1e-9, 1 - 1e-9)
    low, middle, high = np.log(parts / (1 - parts))
    ends = 1 / (1 + np.exp(-(middle + factor * (np.array([low, high]) - middle))))
    return float(ends[0]), float(ends[1])


def _factor(n_tries: int, n_seeds: int | None) -> float:
    levels = 1 - 0.025 / max(n_tries, 1), 0.975
    if n_seeds is None or n_seeds < 2:
        wide, plain = map(NormalDist().inv_cdf, levels)
    else:
        from scipy.special import stdtrit

        wide, plain = (float(stdtrit(n_seeds - 1, level)) for level in levels)
    return wide / plain


def _known(record: Evaluation, name: str) -> bool:
    measure = record.measures.get(name)
    return measure is not None and None not in (measure.value, measure.low, measure.high)


def _high(records: Sequence[Evaluation], name: str) -> float:
    """Return the largest upper end: no attack's figure is beyond it, at the plain level."""
    return max(record.measures[name].high or 0.0 for record in records)


def _membership(records: Sequence[Evaluation], label: Labeller) -> tuple[Tone, str, str, str]:
    ranked = [r for r in records if _known(r, "auc") and not UNRANKED & set(r.flags)]
    if not ranked:
        text = "No attack gave a figure that can be ranked (controls failed or scores constant)."
        return "unknown", "No usable figure", "", text
    ends = {r.key: widened(r.measures["auc"], len(ranked), is_share=True) for r in ranked}
    best = max(ranked, key=lambda record: ends[record.key][0])
    auc = best.measures["auc"]
    size = f", n = {auc.n:,}" if auc.n else ""
    choice = f"the strongest of {len(ranked)} attacks, " if len(ranked) > 1 else ""
    text = f"AUC {figure(auc)} ({choice}{label(best)}{size}); a coin gives 0.5"
    key = f"AUC {figure(auc)}"
    tail = _tail(ranked, label)
    if ends[best.key][0] > 0.5:
        degree = " slightly" if (auc.value or 0.0) < MEANINGFUL_AUC else ""
        word = f"Leaks{degree}"
        return "bad", word, key, f"Leaks its training set{degree}: {text}. {tail}"
    if any(_beats_guessing(record, len(ranked)) for record in ranked):
        found = figure(_most_found(ranked).measures["tpr_at_fpr_1pct"])
        sure = f"Leaks a few training images. {tail} {text}."
        return "bad", "Leaks a few images", f"TPR {found}", sure
    return _no_leak(ranked, ends, key, text, tail)


def _no_leak(
    ranked: Sequence[Evaluation],
    ends: dict[str, tuple[float, float]],
    key: str,
    text: str,
    tail: str,
) -> tuple[Tone, str, str, str]:
    """Tell apart: a leak is excluded, the figures stand on their heads, nothing is shown."""
    reversed_ = [record for record in ranked if ends[record.key][1] < 0.5]
    if reversed_:
        worst = figure(min((r.measures["auc"] for r in reversed_), key=lambda m: m.high or 0.0))
        why = f"but with AUC {worst} an attack is surely worse than a coin"
        moral = "The two groups differ by something else than training, or are swapped."
        return "unknown", "Inconclusive", key, f"Inconclusive: {text}, {why}. {moral}"
    high = _high(ranked, "auc")
    rated = [record for record in ranked if _known(record, "tpr_at_fpr_1pct")]
    rate = _high(rated, "tpr_at_fpr_1pct") if rated else 1.0
    if high < MEANINGFUL_AUC and rate < MEANINGFUL_TPR:
        limits = f"an AUC beyond {number(max(high, 0.5))} or a TPR beyond {number(rate)} at 1% FPR"
        sure = f"No leak measurable: {text}. For these attacks {limits} is excluded."
        return "good", "No leak measurable", key, sure
    if any((record.measures["auc"].low or 0.0) > 0.5 for record in ranked):
        why = f"but the best of {len(ranked)} attacks can reach this without a leak"
    else:
        why = f"but a leak is not excluded (AUC up to {number(high)}): more images would tell"
    return "unknown", "Inconclusive", key, f"Inconclusive: {text}, {why}. {tail}"


def _beats_guessing(record: Evaluation, n_tries: int = 1) -> bool:
    """Whether more members are found at 1% FPR than that FPR, which is an estimate itself.

    Both are bounded exactly: the threshold lies between two non-members, so its true FPR is known
    as well as their number allows.
    """
    tpr, auc = record.measures.get("tpr_at_fpr_1pct"), record.measures["auc"]
    if tpr is None or tpr.value is None or not tpr.n or not auc.n or auc.n <= tpr.n:
        return False
    n_outside, level = auc.n - tpr.n, 1 - 0.05 / n_tries
    low, _ = clopper_pearson(round(tpr.value * tpr.n), tpr.n, level)
    _, alarms = clopper_pearson(int(RATE * n_outside + 1e-9), n_outside, level)
    return low > alarms


def _most_found(records: Sequence[Evaluation]) -> Evaluation:
    """Return the record whose TPR at 1% FPR is highest by its lower end."""

    def low(record: Evaluation) -> float:
        measure = record.measures.get("tpr_at_fpr_1pct", Measure(None))
        return -1.0 if measure.low is None else measure.low

    return max(records, key=low)


def _tail(ranked: Sequence[Evaluation], label: Labeller) -> str:
    """Say what is found at 1% FPR, and whether that is more than guessing finds."""
    rated = [record for record in ranked if _known(record, "tpr_at_fpr_1pct")]
    if not rated:
        return "There are too few non-members to say what is found at 1% false accusations."
    best = _most_found(rated)
    share = f"{figure(best.measures['tpr_at_fpr_1pct'])} of the training images"
    if _beats_guessing(best, len(ranked)):
        return f"At 1% false accusations {label(best)} finds a share of {share}."
    return (
        f"At 1% false accusations no attack is surely better than guessing, which finds 0.01 "
        f"(best: {share}, {label(best)})."
    )


def _stealing(records: Sequence[Evaluation], label: Labeller) -> tuple[Tone, str, str, str]:
    known = [record for record in records if _known(record, "excess_agreement")]
    if not known:
        text = "No excess over the floor is known, and agreement alone does not show theft."
        return "unknown", "No usable figure", "", text
    lows = {record.key: _lowest_gain(record, len(known)) for record in known}
    best = _strongest(known, lows)
    measures, excess = best.measures, best.measures["excess_agreement"]
    budget = measures.get("budget", Measure(None)).value
    queries = f" after {count(budget)} queries" if budget is not None else ""
    text = (
        f"excess agreement {figure(excess)} (zero without theft; {label(best)}). "
        f"The copy agrees {figure(measures.get('agreement'))}{queries}; "
        f"the same recipe that never asked, the floor, {figure(measures.get('floor_agreement'))}."
    )
    key = f"excess {figure(excess)}"
    if lows[best.key] > 0:
        if (excess.value or 0.0) < MEANINGFUL_GAIN:
            return "bad", "Helps a thief slightly", key, f"Helps a thief slightly: {text}"
        return "bad", "Can be copied", key, f"Can be copied: {text}"
    high = _high(known, "excess_agreement")
    if high < MEANINGFUL_GAIN:
        sure = f"A gain beyond {number(max(high, 0.0))} is excluded for these attacks and budgets."
        return "good", "No gain measurable", key, f"No gain measurable: {text} {sure}"
    if (excess.low or 0.0) > 0:
        why = f"But the best of {len(known)} attacks can reach this by chance."
    else:
        why = f"That excludes neither no gain nor one of {number(high)}; more copies would tell."
    return "unknown", "Inconclusive", key, f"Inconclusive: {text} {why}"


def _strongest(known: Sequence[Evaluation], lows: dict[str, float]) -> Evaluation:
    """Return the theft that shows most; where none shows a gain, the one that leaves most open."""
    by_low = max(known, key=lambda record: lows[record.key])
    by_plain_low = max(known, key=lambda record: record.measures["excess_agreement"].low or 0.0)
    if lows[by_low.key] > 0:
        return by_low
    if (by_plain_low.measures["excess_agreement"].low or 0.0) > 0:
        return by_plain_low
    return max(known, key=lambda record: record.measures["excess_agreement"].high or 0.0)


def _lowest_gain(record: Evaluation, n_tries: int) -> float:
    n_seeds = record.details.get("n_seeds")
    n_copies = n_seeds if isinstance(n_seeds, int) else None
    return widened(record.measures["excess_agreement"], n_tries, n_seeds=n_copies)[0]


def _backdoor(records: Sequence[Evaluation], label: Labeller) -> tuple[Tone, str, str, str]:
    tests = [r for r in records if r.measures.get("p_value", Measure(None)).value is not None]
    if not tests:
        return "unknown", "Model not tested", "", _inputs_only(records, label)
    worst = min(tests, key=_p_of)
    joint = min(1.0, _p_of(worst) * len(tests))
    times = f", times {len(tests)} tests" if len(tests) > 1 else ""
    key = f"p {_equals(Measure(joint))}"
    where = f"{key}{times} for class {class_name(worst)} ({label(worst)})"
    if joint >= SUSPICION:
        why = "A trigger of another kind than the test looks for would not show."
        text = f"No backdoor found: {where}, the most suspicious. {why}"
        return "none", "No backdoor found", key, text
    if "weak-trigger" in worst.flags:
        return "unknown", "Odd class, weak trigger", key, f"Unclear: {where}, but {_reach(worst)}."
    return "bad", "Backdoor suspected", key, f"Backdoor suspected: {where}; {_reach(worst)}."


def _p_of(record: Evaluation) -> float:
    value = record.measures["p_value"].value
    return 1.0 if value is None else value


def _reach(record: Evaluation) -> str:
    success, norm = (record.measures.get(name) for name in ("attack_success", "trigger_l1"))
    if norm is not None and norm.value is None:
        return "the test shows no trigger that could be tried"
    if success is None or success.value is None:
        return "its reversed trigger was not tried on held-out images"
    share = f"a share of {figure(success)} of held-out images"
    return f"its reversed trigger turns {share} to that class"


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
