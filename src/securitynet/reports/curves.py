"""Evidence as charts: ROC curves, score histograms, stealing budgets, trigger norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securitynet.records import Evaluation
from securitynet.reports.charts import (
    INK,
    PALETTE,
    Area,
    Axis,
    Chart,
    Line,
    Marker,
    band,
    spread,
    stairs,
    steps,
)
from securitynet.reports.wording import (
    Labeller,
    count,
    nth_class,
    number,
    shown,
    split_label,
)

Floats = NDArray[np.float64]
MOST_CURVES, MOST_STEALING, MOST_NAMES, MOST_POINTS = len(PALETTE), 2, 40, 2000
FEW_POINTS = 4
LOWEST_RATES = 1e-5, 1e-2
SQUARE = 340
PEAK = 0.5
"""A histogram with a larger share in one bin shows its tails only on a logarithmic axis."""
SERIES: dict[str, tuple[str, int, Marker]] = {
    "agreement": ("agreement of the copy with the target", 0, "circle"),
    "floor_agreement": ("floor: agreement of a model that never asked", 1, "square"),
    "accuracy": ("accuracy of the copy", 2, "triangle"),
}
"""Name, colour and marker of what a copy reaches; all stand a little beside their budget."""
COUNT_NAMES = {
    "members": "members (training images)",
    "nonmembers": "non-members",
    "clean": "clean inputs",
    "triggered": "triggered inputs",
}


def _floats(values: Any) -> Floats:
    found = np.asarray(values, dtype=np.float64)  # None becomes NaN
    if found.ndim != 1:
        raise ValueError("not a list of numbers")
    return found


def auc_of(record: Evaluation) -> float:
    """Return the AUC (or AUROC) of a record, -1 if unknown."""
    measure = record.measures.get("auc") or record.measures.get("auroc")
    return -1.0 if measure is None or measure.value is None else measure.value


def _curve_key(record: Evaluation) -> str:
    curve = record.details["roc"]
    return repr((curve["fpr"], curve["tpr"]))


def roc(records: Sequence[Evaluation], label: Labeller, *, is_log: bool = False) -> Chart | None:
    """Draw ROC curves with pointwise bands; attacks with one curve share a line.

    Args:
        records: Records with ``details["roc"]``; only those with the largest AUC are drawn.
        label: Names a record's method.
        is_log: Whether the axes are logarithmic, to show what is found at low rates.
    """
    groups: dict[str, list[Evaluation]] = {}
    for record in sorted((r for r in records if r.details.get("roc")), key=auc_of, reverse=True):
        groups.setdefault(_curve_key(record), []).append(record)
    if not groups:
        return None
    drawn = list(groups.values())[:MOST_CURVES]
    curves = [_thinned(group[0].details["roc"]) for group in drawn]
    low = _lowest_rate(curves) if is_log else 0.0
    areas: list[Area] = []
    lines: list[Line] = []
    for k, (group, curve) in enumerate(zip(drawn, curves, strict=True)):
        name = _joint_name(group, label)
        if len(curve["fpr"]) <= FEW_POINTS:
            lines += _operating_points(curve, k, name)
            continue
        areas.append(Area(band(*_held(curve["fpr"], curve["low"], curve["high"])), k, opacity=0.13))
        lines.append(Line(steps(curve["fpr"].tolist(), curve["tpr"].tolist()), k, name))
    chance = Line(((low, low), (1.0, 1.0)), INK, "chance", is_dashed=True)
    return Chart(
        "ROC at low false positive rates, log axes" if is_log else "ROC",
        Axis("false positive rate", low, 1.0, is_log),
        Axis("true positive rate", low, 1.0, is_log),
        tuple(areas),
        (*lines, chance),
        height=SQUARE,
    )


def _operating_points(curve: dict[str, Floats], colour: int, name: str) -> list[Line]:
    """Return a curve of few points as these: between them, an attack with 0/1 scores is none."""
    rows = np.stack([curve[column] for column in ("fpr", "tpr", "low", "high")], axis=1).tolist()
    inner = [row for row in rows if 0 < row[0] < 1]
    whiskers = [Line(((x, low), (x, high)), colour) for x, _, low, high in inner]
    dots = tuple((x, y) for x, y, _, _ in inner)
    return [*whiskers, Line(dots, colour, name, is_joined=False, marker="circle")] if dots else []


def _thinned(curve: dict[str, Any]) -> dict[str, Floats]:
    """Return the finite points of a curve, of very many some; a missing band has no width."""
    fpr = _floats(curve["fpr"])
    names = {"tpr": "tpr", "low": "low", "high": "high"}
    columns = {name: _floats(curve.get(name, curve["tpr"])) for name in names} | {"fpr": fpr}
    kept = np.flatnonzero(np.isfinite(np.stack(list(columns.values()))).all(axis=0))
    if not len(kept):
        raise ValueError("a curve without points")
    if len(kept) > MOST_POINTS:
        kept = kept[np.linspace(0, len(kept) - 1, MOST_POINTS).astype(int)]
    return {name: values[kept] for name, values in columns.items()}


def _lowest_rate(curves: Sequence[dict[str, Floats]]) -> float:
    """Return the power of ten below the smallest rate that the non-members allow."""
    rates = np.concatenate([curve["fpr"][curve["fpr"] > 0] for curve in curves])
    smallest = float(rates.min()) if len(rates) else 1.0
    return float(np.clip(10.0 ** np.floor(np.log10(smallest)), *LOWEST_RATES))


def _held(xs: Floats, lows: Floats, highs: Floats) -> tuple[list[float], list[float], list[float]]:
    """Return the corners of a band whose ends hold until the next position."""
    corners = steps(xs.tolist(), lows.tolist())
    return (
        [x for x, _ in corners],
        [y for _, y in corners],
        [y for _, y in steps(xs.tolist(), highs.tolist())],
    )


def _joint_name(records: Sequence[Evaluation], label: Labeller) -> str:
    first, *others = (label(record) for record in records)
    names = [first, *(name.split(".", 1)[-1] for name in others)]
    value = f": AUC {number(auc_of(records[0]))}" if auc_of(records[0]) >= 0 else ""
    return f"{shown(', '.join(names), 180)}{value}"


def histogram(record: Evaluation, label: Labeller) -> Chart | None:
    """Draw the score distributions of both groups of one record."""
    content = dict(record.details.get("histogram") or {})
    if not content:
        return None
    edges = _floats(content.pop("edges"))
    groups = [(name, _floats(shares)) for name, shares in sorted(content.items())][: len(PALETTE)]
    y = _share_axis(np.concatenate([shares for _, shares in groups]))
    areas, lines = [], []
    for k, (name, shares) in enumerate(groups):
        outline = stairs(edges.tolist(), shares.tolist(), y.low)
        areas.append(Area(outline, k, COUNT_NAMES.get(name, shown(name, 60)), opacity=0.35))
        lines.append(Line(outline, k))
    threshold = record.details.get("threshold")
    if isinstance(threshold, int | float) and np.isfinite(threshold):
        ends = ((float(threshold), y.low), (float(threshold), y.high))
        lines.append(Line(ends, INK, "threshold", is_dashed=True))
    low, high = edges[0], edges[-1]
    if isinstance(threshold, int | float) and np.isfinite(threshold):
        low, high = min(low, threshold), max(high, threshold)
    x = Axis("score", *spread([low, high]))
    return Chart(shown(label(record), 56), x, y, tuple(areas), tuple(lines))


def _share_axis(shares: Floats) -> Axis:
    if not np.isfinite(shares).all() or shares.min() < 0:
        raise ValueError("shares are not numbers from 0 to 1")
    top = float(shares.max())
    if top <= PEAK:
        return Axis("share of images", 0.0, 1.08 * top or 1.0)
    low = 10.0 ** np.floor(np.log10(shares[shares > 0].min()) - 1e-9)
    return Axis("share of images, log axis", max(float(low), 1e-6), 1.5 * top, is_log=True)


def stealing(records: Sequence[Evaluation], label: Labeller) -> list[Chart]:
    """Draw agreement, floor and accuracy against the query budget, with intervals.

    All records share the vertical axis. With one budget there is no curve: then one chart shows
    all records side by side.
    """
    drawn = [record for record in records if record.details.get("curve")]
    points = [point for record in drawn for point in record.details["curve"]]
    if not points:
        return []
    y = Axis("share of evaluation images", *spread(_ends(points), (0.0, 1.0)))
    if max(len(record.details["curve"]) for record in drawn) == 1:
        names = _short_names(drawn, label)
        rows = [(float(i), record.details["curve"][0]) for i, record in enumerate(drawn)]
        x = Axis("attack", -0.6, len(drawn) - 0.4, ticks=tuple(enumerate(names)))
        title = f"Stealing with {count(rows[0][1]['budget'])} queries"
        return [Chart(title, x, y, lines=_series(rows, is_joined=False))]
    return [_budget_chart(record, y, label) for record in drawn[:MOST_STEALING]]


def _budget_chart(record: Evaluation, y: Axis, label: Labeller) -> Chart:
    curve = sorted(record.details["curve"], key=lambda point: float(point["budget"]))
    budgets = [float(point["budget"]) for point in curve if float(point["budget"]) > 0]
    room = (budgets[-1] / budgets[0]) ** 0.06 if len(budgets) > 1 else 2.0
    ticks = tuple((budget, count(budget)) for budget in _apart(budgets))
    x = Axis("queries, log axis", budgets[0] / room, budgets[-1] * room, True, ticks)
    rows = [(float(point["budget"]), point) for point in curve if float(point["budget"]) > 0]
    title = shown(f"{label(record)}", 56)
    return Chart(title, x, y, lines=_series(rows, is_joined=True), height=260)


def _apart(budgets: Sequence[float]) -> list[float]:
    """Return the budgets that have room for a label, first and last before all."""
    width = np.log(budgets[-1] / budgets[0]) if len(budgets) > 1 else 1.0
    kept = [budgets[-1]] if len(budgets) > 1 else []
    for budget in budgets[:-1] or budgets:
        if all(abs(np.log(budget / other)) >= 0.14 * width for other in kept):
            kept.append(budget)
    return sorted({budgets[0], *kept})


def _ends(points: Sequence[dict[str, Any]]) -> list[float]:
    found = [_interval(point, name) for point in points for name in SERIES]
    return [end for ends in found if ends for end in ends]


def _interval(point: dict[str, Any], name: str) -> tuple[float, float, float] | None:
    """Return (low, value, high) of a figure; without an interval all are the value."""
    figure = point.get(name) or {}
    value = figure.get("value")
    if value is None:
        return None
    low, high = figure.get("low"), figure.get("high")
    return (
        float(value if low is None else low),
        float(value),
        float(value if high is None else high),
    )


def _series(rows: Sequence[tuple[float, dict[str, Any]]], *, is_joined: bool) -> tuple[Line, ...]:
    """Return a line a series and one an interval, each a little beside the others."""
    lines = []
    reach = (rows[-1][0] / rows[0][0]) ** 0.015 if is_joined and len(rows) > 1 else 1.03
    for offset, (name, (title, colour, marker)) in zip((0, 1, -1), SERIES.items(), strict=True):
        known = [(x, ends) for x, point in rows if (ends := _interval(point, name))]
        places = [x * reach**offset if is_joined else x + 0.15 * offset for x, _ in known]
        for place, (_, (low, _, high)) in zip(places, known, strict=True):
            lines.append(Line(((place, low), (place, high)), colour))
        dots = tuple((place, ends[1]) for place, (_, ends) in zip(places, known, strict=True))
        if dots:
            lines.append(Line(dots, colour, title, is_joined=is_joined, marker=marker))
    return tuple(lines)


def _short_names(records: Sequence[Evaluation], label: Labeller) -> list[str]:
    """Return what tells records apart: their options, if the method is one and the same."""
    parts = [split_label(label(record)) for record in records]
    is_one = len({name for name, _ in parts}) == 1
    options = [", ".join(given) for _, given in parts]
    names = options if is_one and all(options) else [label(record) for record in records]
    return [shown(name, 28) for name in names]


def trigger_norms(record: Evaluation) -> Chart | None:
    """Draw the size of the smallest trigger of each class; the infected label stands out."""
    return _by_class(record, "norms", "Smallest trigger of each class", "mask L1 norm (pixels)")


def largest_margins(record: Evaluation) -> Chart | None:
    """Draw the largest margin that any image reaches for each class; the infected one stands out.

    Below 0 no image reached the class: its bar has no height.
    """
    return _by_class(record, "margins", "Largest margin of each class", "logit margin", low=0.0)


def _by_class(
    record: Evaluation, evidence: str, title: str, axis: str, low: float | None = None
) -> Chart | None:
    values = _floats(record.details.get(evidence) or [])
    values = values if low is None else np.maximum(values, low)
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return None
    infected = record.measures.get("infected_label")
    label = -1 if infected is None or infected.value is None else int(infected.value)
    areas = _bars(values, label) if len(values) <= MOST_NAMES else _skyline(values, label)
    median = float(np.median(values[known]))
    n = len(values)
    names = [nth_class(record, k) or str(k) for k in range(n)] if n <= MOST_NAMES else []
    ticks = tuple((float(k), shown(name, 14)) for k, name in enumerate(names))
    line = Line(((-0.6, median), (n - 0.4, median)), INK, "median of the classes", is_dashed=True)
    return Chart(
        title,
        Axis("class", -0.6, n - 0.4, ticks=ticks),
        Axis(axis, 0.0, 1.08 * float(values[known].max()) or 1.0),
        areas,
        (line,),
    )


def _bars(norms: Floats, label: int) -> tuple[Area, ...]:
    known = np.flatnonzero(np.isfinite(norms)).tolist()
    return tuple(
        Area(band([k - 0.38, k + 0.38], [0, 0], [norms[k]] * 2), int(k == label), opacity=0.9)
        for k in known
    )


def _skyline(norms: Floats, label: int) -> tuple[Area, ...]:
    """Return one outline for all of many classes and a bar for the infected one."""
    heights = np.nan_to_num(norms, posinf=0.0, neginf=0.0).tolist()
    edges = (np.arange(len(norms) + 1) - 0.5).tolist()
    outline = Area(stairs(edges, heights, 0.0), 0, opacity=0.9)
    if not 0 <= label < len(norms):
        return (outline,)
    half = max(0.5, len(norms) / 400)  # a bar among a thousand must still be seen
    bar = band([label - half, label + half], [0, 0], [heights[label]] * 2)
    return outline, Area(bar, 1, opacity=1.0)
