"""Words and figures: how a measure, a flag and a method are written, in every output alike."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from securitynet.records import Evaluation, Measure, canonical_json

FAMILIES = {
    "mia": "Membership inference",
    "steal": "Model stealing",
    "backdoor": "Backdoor detection",
}
FLAGS = {
    "accuracy-gate": "Measured accuracy is off the published one: preprocessing, class order or images differ. The run was forced; read every figure with that in mind.",
    "access": "The method needs more than there is: an ONNX model gives scores only, and a defence may give less.",
    "unverified-bytes": "No published checksum vouches for the weights' bytes: the file was believed as it came. The record names its sha256.",
    "no-claim": "Nobody published an accuracy to compare the measured one with.",
    "chance-level": "The model is no better than guessing on these images, so attacks on it mean little.",
    "null-failed": "A control without any effect is not at its null value: the figure is not ranked.",
    "one-control": "The attack learns, and without references the control that never asks the target is missing: the figure is not ranked. `securitynet train references` makes them.",
    "references-unlike-target": "The target answers unlike any reference, so the online attack finds little: train the references as the target was (`securitynet train references --kind online` takes its recipe and `--network`).",
    "untuned-noise": "There is no reference to set the noise by: a middling one is used.",
    "constant-scores": "Every sample got the same score: the attack says nothing.",
    "constant-target": "The target gives one label to every image.",
    "train-queries": "The thief asked about images that the target was trained on, whose answers are memorised: not what a thief with images of its own gets.",
    "ood-queries": "The thief asked about images of another data set. They have no true labels, so there is no floor and no excess; `constant_agreement` is what the best constant answer agrees.",
    "queries": "The query images do not fit: the model takes other ones, or they are evaluation images too.",
    "few-nonmembers": "Too few non-members: figures at low false positive rates are coarse or cannot be estimated.",
    "no-known-trigger": "No trigger is known for this model: a standard patch was tried as a control, and its AUROC should not lie above 0.5.",
    "backdoor-suspected": "p < 0.01: one class stands out as an infected one would: by a far smaller trigger, or a far larger margin.",
    "weak-trigger": "The reversed trigger works on fewer than 75% of held-out images.",
    "fp32-fallback": "Fast inference differed from plain fp32 and was given up for a slower, exact path.",
    "trigger-not-reached": "For some class no trigger reached the wanted success: that class could not be judged.",
    "class-not-reached": "For some class no image was found that the model assigns to it: it has no margin to compare.",
    "not-converged": "Twice the steps lifted the margins by more than 15%: raise n_steps.",
    "coarse-threshold": "Too few calibration images for the wanted false positive rate: the threshold is coarse.",
    "near-duplicates-kept": "Some test images nearly repeat training images; their published list (ciFAIR) is not at hand or does not fit this copy.",
    "unsound-references": "Some sample has no reference that provably never saw it.",
    "block-size": "The block hides the whole image: lower its size.",
    "few-images": "Too few images for this method: raise --limit.",
    "few-classes": "Too few classes: no one of them can stand out.",
    "not-finite": "The model puts out NaN or infinity.",
    "class-count": "The model has another number of classes than its card says.",
    "preflight": "Refused before the run: the model does not work on these images as its card says.",
    "worker-died": "The process was killed, most likely for memory.",
    "jpeg-compressed": "The images are JPEG copies of a lossless data set.",
    "resized-images": "The images had several sizes and were resized.",
    "resized-256": "Every image was resized to 256 pixels, shorter side, and cut to a square.",
    "subset": "Only a fixed draw of the training images is used, balanced by class (their number follows).",
    "imagenet-proxy": "A model of ImageNet's 1000 classes, asked for the ten of Imagenette only: a proxy, not comparable with figures on ImageNet.",
    "other-size": "This copy of the data set has another number of images than the published one (train+test follows).",
    "skipped-images": "Some image files could not be read and were left out (their number follows).",
    "input-statistics": "The first BatchNorm sees inputs spread unlike in training: the normalisation in the card is likely wrong.",
    "wrapped-outputs": "The model returns a tuple or dict; one part of it is taken for the logits.",
    "edits-input": "The model edits its input in place; it gets a copy.",
    "outputs-softmax": "The model already returns posteriors; its logits are their logarithms.",
}
DEFENCE = " defence"
"""A circumstance that is always named: without it the figure would pass for the bare model's."""
UNEXPLAINED = "Set by the method itself; its documentation explains it."
MEASURES = {
    "auc": "AUC",
    "tpr_at_fpr_1pct": "TPR@1%FPR",
    "tpr_at_fpr_0.1pct": "TPR@0.1%FPR",
    "balanced_accuracy": "balanced acc.",
    "null": "null AUC",
    "target_free_auc": "target-free AUC",
    "random_target_auc": "random-target AUC",
    "floor_agreement": "floor",
    "excess_agreement": "excess",
    "error_agreement": "error agreement",
    "random_agreement": "random choice",
    "selection_gain": "gain of choice",
    "constant_agreement": "constant answer",
    "budget_auc": "budget AUC",
    "excess_budget_auc": "excess budget AUC",
    "p_value": "p",
    "infected_label": "class",
    "trigger_l1": "trigger L1",
    "attack_success": "ASR",
    "auroc": "AUROC",
    "tpr": "TPR",
    "fpr": "FPR",
}
NULL_VALUES = (0.0, 0.5, 1.0)
"""Rounding must not move the end of an interval onto one of these."""
NBSP = "\u00a0"
LONGEST_SHOWN = 240
"""Characters of an id, a name or an error that are shown; the rest is in the record."""
HUGE = 1e7
_FIGURE = re.compile(r"(?:[-<\d.,]+ )?\[[-<\d.,]+, [-<\d.,]+\]|\b[np] [=<] (?=[<\d])")
_BRACKET = re.compile(r" (?=\[)")


def plain(text: object) -> str:
    """Return text without characters that act instead of being seen.

    Control characters (terminal escapes, line breaks), bidirectional overrides and lone
    surrogates become U+FFFD; letters of all scripts stay.
    """
    text = str(text)
    if text.isprintable():
        return text
    acting = {"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"}
    return "".join("�" if unicodedata.category(c) in acting else c for c in text)


def shown(text: object, length: int = LONGEST_SHOWN) -> str:
    """Return :func:`plain` text of at most ``length`` characters, its end kept.

    A record may come from a stranger: a name of a megabyte must not fill the page.
    """
    text = str(text)
    return shortened(plain(text[-length - 1 :]), length)


def sentence(text: object, length: int = 4 * LONGEST_SHOWN) -> str:
    """Return :func:`plain` text of at most ``length`` characters, its beginning kept."""
    text = plain(str(text)[: length + 1])
    return text if len(text) <= length else f"{text[: length - 1]}…"


def unbroken(text: str) -> str:
    """Return text with no-break spaces inside its figures: ``0.834 [0.81, 0.86]``, ``n = 900``."""
    return _FIGURE.sub(lambda found: found[0].replace(" ", NBSP), text)


def split_figure(text: str) -> tuple[str, str]:
    """Split ``0.834 [0.81, 0.86]`` into value and interval, the latter empty if there is none."""
    value, *interval = _BRACKET.split(text, maxsplit=1)
    return value, interval[0] if interval else ""


def name_of(measure: str) -> str:
    """Return the name of a measure as people write it."""
    return MEASURES.get(measure, measure.replace("_", " "))


def flag_text(flag: str) -> str:
    """Return what a flag means, one sentence."""
    return FLAGS.get(flag.split(":", 1)[0], UNEXPLAINED)


def figure(measure: Measure | None) -> str:
    """Return ``0.834 [0.81, 0.86]``, the value alone without an interval, a dash if unknown."""
    if measure is None or measure.value is None:
        return "-"
    interval = interval_text(measure.low, measure.high)
    return f"{number(measure.value)} {interval}" if interval else number(measure.value)


def interval_text(low: float | None, high: float | None) -> str:
    """Return ``[0.81, 0.86]``; with a third digit where two would mislead; empty if unknown."""
    if low is None or high is None:
        return ""
    if max(abs(low), abs(high)) >= 10:
        return f"[{number(low)}, {number(high)}]"
    ends = (low, high)
    is_tight = round(high - low, 9) < 0.05 or any(
        0 < abs(e - n) < 0.005 for e in ends for n in NULL_VALUES
    )
    return f"[{low:.3f}, {high:.3f}]" if is_tight else f"[{low:.2f}, {high:.2f}]"


def number(value: float) -> str:
    """Return three decimals for shares, fewer for larger numbers; whole numbers without."""
    if abs(value) >= HUGE:
        return f"{value:.3g}"
    if float(value).is_integer() and abs(value) >= 2:
        return f"{value:,.0f}"
    size = abs(value)
    digits = 3 if size < 10 else 1 if size < 1000 else 0
    return f"{value:,.{digits}f}"


def p_value(measure: Measure | None) -> str:
    """Return a p-value, small ones as a bound."""
    if measure is None or measure.value is None:
        return "-"
    if measure.value < 0.001:
        return "<0.001"
    return f"{measure.value:.3f}" if measure.value < 0.1 else f"{measure.value:.2f}"


def cell(record: Evaluation, name: str) -> str:
    """Return the text of one measure of a record; ``null`` is its most telling null."""
    if name == "null":
        return figure(worst_null(record))
    measure = record.measures.get(name) or record.nulls.get(name)
    if name == "p_value":
        return p_value(measure)
    if name == "infected_label":
        return class_name(record)
    value = None if measure is None else measure.value
    if name == "budget":
        return count(value)
    return pixels(value) if name == "trigger_l1" else figure(measure)


def count(value: float | None) -> str:
    """Return a whole number with thousands apart, a dash if unknown."""
    return "-" if value is None else f"{value:,.0f}" if abs(value) < HUGE else number(value)


def pixels(norm: float | None) -> str:
    """Return the L1 norm of a mask in pixels, one decimal for all, so that classes compare."""
    return "-" if norm is None else f"{norm:,.1f}" if abs(norm) < HUGE else number(norm)


def worst_null(record: Evaluation) -> Measure | None:
    """Return the null that lies farthest from 0.5, or ``None`` without nulls."""
    known = [null for null in record.nulls.values() if null.value is not None]
    return max(known, key=lambda null: abs((null.value or 0.0) - 0.5), default=None)


def class_name(record: Evaluation) -> str:
    """Return the infected label and the class's name where it has one, e.g. ``3 (cat)``."""
    measure = record.measures.get("infected_label")
    if measure is None or measure.value is None:
        return "-"
    label = count(measure.value)
    name = nth_class(record, int(measure.value))
    return label if name in ("", label) else f"{label} ({name})"


def nth_class(record: Evaluation, k: int) -> str:
    """Return the name of a class as the data set has it, empty if unknown."""
    classes: Any = record.details.get("classes")
    is_known = isinstance(classes, list | tuple) and 0 <= k < len(classes)
    return shown(classes[k], 24) if is_known else ""


def shortened(text: str, length: int) -> str:
    """Return text of at most ``length`` characters, its end kept."""
    return text if len(text) <= length else f"…{text[1 - length :]}"


def sample_size(record: Evaluation) -> str:
    """Return the number of samples behind a record's AUC, else the largest behind its figures.

    An attack that is dear scores a part of the samples, though accuracies rest on all of them.
    """
    scored = [record.measures[name] for name in ("auc", "auroc") if name in record.measures]
    sizes = [measure.n for measure in scored or record.measures.values() if measure.n]
    return count(max(sizes)) if sizes else "-"


def family(record: Evaluation) -> str:
    """Return the prefix of a record's method: ``mia``, ``steal``, ``backdoor`` or another."""
    return record.method.split(".", 1)[0]


def by_model(records: Iterable[Evaluation]) -> dict[tuple[str, str], list[Evaluation]]:
    """Group records by (model, data set), in order of their ids."""
    groups: dict[tuple[str, str], list[Evaluation]] = defaultdict(list)
    for record in records:
        groups[record.model, record.dataset].append(record)
    return dict(sorted(groups.items()))


Labeller = Callable[[Evaluation], str]


def labeller(records: Sequence[Evaluation]) -> Labeller:
    """Return a function that names a record's method with the options that tell it apart.

    Only options whose values differ among ``records`` of the same method are shown, and seeds,
    limits and versions likewise: ``mia.modified_entropy (per_class)``,
    ``steal.knockoff (response=hard, limit 1,000)``.
    """
    seen: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for record in records:
        for name, value in (*record.config.items(), *_circumstances(record).items()):
            seen[record.method][name].add(canonical_json(value))

    def label(record: Evaluation) -> str:
        values = seen[record.method]
        parts = [
            _option(name, value)
            for name, value in record.config.items()
            if len(values[name]) > 1 and value is not False
        ]
        circumstances = _circumstances(record).items()
        parts += [
            text
            for name, text in circumstances
            if text and (len(values[name]) > 1 or name == DEFENCE)
        ]
        extra = f" ({', '.join(parts)})" if parts else ""
        return shown(record.method + extra)

    return label


def _circumstances(record: Evaluation) -> dict[str, str]:
    """Return what else may tell two records of a method apart; no option's name has a space."""
    others = dict(record.conditions)
    defence = others.pop("defence", "")
    return {
        " seed": f"seed {record.seed}",
        " limit": "" if record.limit is None else f"limit {record.limit:,}",
        " version": f"version {record.version}",
        DEFENCE: "" if not defence else f"behind {defence}",
        " references": " ".join(f"{what} {known[:8]}" for what, known in sorted(others.items())),
    }


def _option(name: str, value: object) -> str:
    if value is True:
        return name
    listed = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"{name}={listed}"


def split_label(label: str) -> tuple[str, tuple[str, ...]]:
    """Split what :func:`labeller` returns into the method's id and its options."""
    name, _, options = label.partition(" (")
    return name, tuple(options.removesuffix(")").split(", ")) if options else ()
