"""Pictures of the evidence, drawn as static SVG and PNG: no script, no request, fit for print."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from securitynet.files.atomic import write_atomic
from securitynet.records import Evaluation
from securitynet.reports.canvas import (
    INK,
    PALE,
    PALETTE,
    add_legend,
    name_axes,
    new_figure,
    safe,
    to_png,
    to_svg,
)
from securitynet.reports.triggers import Tile, trigger_tiles
from securitynet.reports.wording import (
    Labeller,
    by_model,
    class_name,
    family,
    labeller,
    number,
    plain,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ReadArray = Callable[[str], NDArray[Any]]
MOST_CURVES, MOST_HISTOGRAMS, MOST_STEALING, MOST_BARS = 5, 3, 2, 40
LOWEST_RATE = 1e-3
SERIES = {
    "agreement": ("agreement with the target", PALETTE[0], "o"),
    "floor_agreement": ("floor: agreement without asking", PALETTE[1], "s"),
    "accuracy": ("accuracy of the copy", PALETTE[2], "^"),
}
COUNT_NAMES = {
    "members": "members (training images)",
    "nonmembers": "non-members",
    "clean": "clean inputs",
    "triggered": "triggered inputs",
}


@dataclass(frozen=True)
class Picture:
    """One picture of a model's records.

    Attributes:
        name: File name without ending, unique within the model.
        caption: What it shows and how to read it.
        content: A figure, or PNG tiles one a class.
    """

    name: str
    caption: str
    content: Figure | tuple[Tile, ...]


def _floats(values: Any) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)  # None becomes NaN and is not drawn


def _auc(record: Evaluation) -> float:
    measure = record.measures.get("auc") or record.measures.get("auroc")
    return -1.0 if measure is None or measure.value is None else measure.value


def roc(records: Sequence[Evaluation], label: Labeller) -> Figure | None:
    """Draw ROC curves with pointwise bands, on linear and on logarithmic axes.

    Args:
        records: Records with ``details["roc"]``; only those with the largest AUC are drawn.
        label: Names a record's method.
    """
    drawn = sorted((r for r in records if r.details.get("roc")), key=_auc, reverse=True)
    if not drawn:
        return None
    figure, axes = new_figure(2, width=9.2, height=3.9)
    for record, colour in zip(drawn[:MOST_CURVES], PALETTE, strict=False):
        name = f"{label(record)}, {number(_auc(record))}" if _auc(record) >= 0 else label(record)
        for axis in axes:
            _curve(axis, record.details["roc"], colour, safe(name))
    rates = np.geomspace(LOWEST_RATE / 10, 1, 100)
    for axis in axes:
        axis.plot(rates, rates, color=PALE, linestyle=(0, (3, 2)), linewidth=1.1, label="chance")
    axes[0].set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes[1].set(xscale="log", yscale="log", xlim=(LOWEST_RATE, 1), ylim=(LOWEST_RATE, 1))
    axes[1].set_aspect("equal")
    name_axes(axes[0], title="ROC", x="false positive rate", y="true positive rate")
    name_axes(axes[1], title="Low false positive rates (log axes)", x="false positive rate")
    add_legend(axes[0], loc="lower right", title="AUC", title_fontsize=8.5)
    axes[0].get_legend().get_title().set_color(INK)
    return figure


def _curve(axis: Any, curve: dict[str, Any], colour: str, name: str) -> None:
    points = {key: _floats(curve[key]) for key in ("fpr", "tpr", "low", "high") if key in curve}
    axis.step(points["fpr"], points["tpr"], where="post", color=colour, linewidth=1.4, label=name)
    if {"low", "high"} <= set(points):
        band = {"step": "post", "color": colour, "alpha": 0.12, "linewidth": 0}
        axis.fill_between(points["fpr"], points["low"], points["high"], **band)


def histograms(records: Sequence[Evaluation], label: Labeller) -> Figure | None:
    """Draw the score distributions of both groups, for up to three records."""
    drawn = [r for r in records if r.details.get("histogram")][:MOST_HISTOGRAMS]
    if not drawn:
        return None
    figure, axes = new_figure(len(drawn), width=1.6 + 2.9 * len(drawn), height=2.7)
    for axis, record in zip(axes, drawn, strict=True):
        content = dict(record.details["histogram"])
        edges = _floats(content.pop("edges"))
        for (name, shares), colour in zip(sorted(content.items()), PALETTE, strict=False):
            shown = COUNT_NAMES.get(name, name)
            axis.stairs(_floats(shares), edges, fill=True, alpha=0.35, color=colour, label=shown)
            axis.stairs(_floats(shares), edges, color=colour, linewidth=1.1)
        _threshold(axis, record)
        axis.grid(visible=False, axis="x")
        name_axes(axis, title=label(record), x="score", y="share" if axis is axes[0] else "")
    handles, names = axes[0].get_legend_handles_labels()
    _figure_legend(figure, handles, names, n_columns=3)
    return figure


def _threshold(axis: Any, record: Evaluation) -> None:
    threshold = record.details.get("threshold")
    if isinstance(threshold, int | float):
        axis.axvline(threshold, color=INK, linestyle=(0, (3, 2)), linewidth=1.1, label="threshold")


def stealing(records: Sequence[Evaluation], label: Labeller) -> Figure | None:
    """Draw agreement, floor and accuracy against the query budget, with intervals.

    With one budget only there is no curve: each record is a row of dots.
    """
    drawn = [record for record in records if record.details.get("curve")]
    if not drawn:
        return None
    if max(len(record.details["curve"]) for record in drawn) == 1:
        return _stealing_dots(drawn, label)
    drawn = drawn[:MOST_STEALING]
    figure, axes = new_figure(len(drawn), width=1.2 + 4.0 * len(drawn), height=3.6)
    for axis, record in zip(axes, drawn, strict=True):
        curve = record.details["curve"]
        budgets = [point["budget"] for point in curve]
        for name, (title, colour, marker) in SERIES.items():
            _bars(axis, budgets, [point.get(name) for point in curve], colour, marker, title)
        axis.set_xscale("log")
        axis.set_xticks(budgets, [f"{budget:,}" for budget in budgets])
        axis.minorticks_off()
        axis.set_ylim(top=1.02)
        y = "share of evaluation images" if axis is axes[0] else ""
        name_axes(axis, title=label(record), x="queries (log axis)", y=y)
    _legend_below(figure, axes[0])
    return figure


def _bars(
    axis: Any, xs: Sequence[float], points: Sequence[Any], colour: str, marker: str, title: str
) -> None:
    middle, low, high = (
        _floats([(point or {}).get(end) for point in points]) for end in ("value", "low", "high")
    )
    reach = np.nan_to_num(np.maximum([middle - low, high - middle], 0.0))
    style = {"marker": marker, "markersize": 5, "capsize": 2.5, "linewidth": 1.4}
    axis.errorbar(xs, middle, reach, color=colour, label=title, **style)


def _stealing_dots(records: Sequence[Evaluation], label: Labeller) -> Figure:
    figure, axes = new_figure(1, width=8.0, height=1.5 + 0.55 * len(records))
    axis = axes[0]
    for i, (name, (title, colour, marker)) in enumerate(SERIES.items()):
        points = [record.details["curve"][0].get(name) or {} for record in records]
        ends = ("value", "low", "high")
        middle, low, high = (_floats([point.get(end) for point in points]) for end in ends)
        reach = np.nan_to_num(np.maximum([middle - low, high - middle], 0.0))
        rows = np.arange(len(records)) + 0.18 * (i - 1)
        axis.errorbar(middle, rows, xerr=reach, fmt=marker, color=colour, markersize=6,
                      capsize=2.5, linewidth=1.4, label=title)  # fmt: skip
    names = [f"{label(r)}, {r.details['curve'][0]['budget']:,} queries" for r in records]
    axis.set_yticks(range(len(records)), [safe(name) for name in names])
    axis.set_ylim(len(records) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    name_axes(axis, x="share of evaluation images")
    _legend_below(figure, axis)
    return figure


def _legend_below(figure: Figure, axis: Any) -> None:
    handles, names = axis.get_legend_handles_labels()
    _figure_legend(figure, handles, names, n_columns=len(names))


def _figure_legend(figure: Figure, handles: Any, names: Any, *, n_columns: int) -> None:
    place: Any = "outside lower center"
    figure.legend(
        handles, names, loc=place, ncols=n_columns, fontsize=8.5, frameon=False, labelcolor=INK
    )


def trigger_norms(record: Evaluation) -> Figure | None:
    """Draw the size of the smallest trigger of each class; the infected label stands out."""
    norms = _floats(record.details.get("norms") or [])
    if not np.isfinite(norms).any():
        return None
    infected = record.measures.get("infected_label")
    label = -1 if infected is None or infected.value is None else int(infected.value)
    figure, axes = new_figure(1, width=min(4.0 + 0.45 * len(norms), 9.2), height=2.9)
    axis = axes[0]
    colours = [PALETTE[1] if k == label else PALETTE[0] for k in range(len(norms))]
    axis.bar(range(len(norms)), norms, color=colours, width=0.75)
    median = float(np.nanmedian(norms))
    axis.axhline(median, color=INK, linestyle=(0, (3, 2)), linewidth=1.0, label="median")
    axis.grid(visible=False, axis="x")
    names = record.details.get("classes") or []
    if len(norms) <= MOST_BARS and len(names) == len(norms):
        is_long = max(len(str(name)) for name in names) > 3
        turned = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if is_long else {}
        axis.set_xticks(range(len(norms)), [safe(name, 18) for name in names], **turned)
    name_axes(axis, x="class", y="mask L1 norm (pixels)")
    add_legend(axis, loc="best")
    return figure


def pictures(
    records: Sequence[Evaluation], read_array: ReadArray, label: Labeller | None = None
) -> Iterator[Picture]:
    """Yield the pictures of one model's records, in the order of a report.

    Args:
        records: Records of one model on one data set, of any status.
        read_array: Gives the array of a blob's sha256.
        label: Names a record's method; made from ``records`` if left out.
    """
    label = label or labeller(records)
    fine = [record for record in records if record.status == "ok"]
    mia = [record for record in fine if family(record) == "mia"]
    yield from _drawn("membership-roc", _roc_caption(mia), roc(mia, label))
    caption = "Scores of members and non-members: the less they overlap, the more the model leaks."
    yield from _drawn("membership-scores", caption, histograms(_telling(mia), label))
    caption = (
        "What a copy reaches for its queries. Only the distance between agreement and floor is "
        "gained by asking the target."
    )
    steal = [record for record in fine if family(record) == "steal"]
    yield from _drawn("stealing", caption, stealing(steal, label))
    for i, record in enumerate(r for r in fine if family(r) == "backdoor"):
        yield from _backdoor(record, f"-{i + 1}" if i else "", read_array, label)


def _drawn(name: str, caption: str, content: Figure | tuple[Tile, ...] | None) -> Iterator[Picture]:
    if content:
        yield Picture(name, caption, content)


def _roc_caption(records: Sequence[Evaluation]) -> str:
    n = sum(1 for record in records if record.details.get("roc"))
    chosen = f" The {MOST_CURVES} with the largest AUC of {n} attacks." if n > MOST_CURVES else ""
    return f"Membership inference with pointwise 95% bands.{chosen}"


def _backdoor(
    record: Evaluation, suffix: str, read_array: ReadArray, label: Labeller
) -> Iterator[Picture]:
    name = label(record)
    caption = (
        f"{name}: size of the smallest trigger found for each class; the most suspicious, "
        f"{class_name(record)}, stands out in colour."
    )
    yield from _drawn(f"trigger-norms{suffix}", caption, trigger_norms(record))
    caption = f"{name}: reversed triggers, the mask (left) and the pattern seen through it (right)."
    yield from _drawn(f"trigger{suffix}", caption, trigger_tiles(record, read_array))
    caption = f"{name}: scores of clean and triggered inputs."
    yield from _drawn(f"detector-scores{suffix}", caption, histograms([record], label))


def _telling(records: Sequence[Evaluation]) -> list[Evaluation]:
    """Put the records with the largest AUC first; 0/1 scores have no distribution to see."""
    continuous = [record for record in records if record.method != "mia.correctness"]
    return sorted(continuous, key=_auc, reverse=True)


def write_plots(records: Sequence[Evaluation], read_array: ReadArray, folder: Path) -> None:
    """Write every picture as SVG and PNG, one folder a model and data set.

    Args:
        records: What to draw.
        read_array: Gives the array of a blob's sha256.
        folder: Where the folders go; made if absent.
    """
    label = labeller(records)
    for (model, dataset), mine in by_model(records).items():
        place = folder / _folder_name(model, dataset)
        for picture in pictures(mine, read_array, label):
            if isinstance(picture.content, tuple):
                for tile in picture.content:
                    _write(place / f"{picture.name}-{tile.label:03d}.png", tile.png)
            else:
                _write(place / f"{picture.name}.svg", to_svg(picture.content).encode())
                _write(place / f"{picture.name}.png", to_png(picture.content))


def _folder_name(model: str, dataset: str) -> str:
    """Return a harmless name, with a digest because two ids may look alike after cleaning."""
    digest = sha256(f"{plain(model)}\n{plain(dataset)}".encode()).hexdigest()[:8]
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "-", model).strip("-")[-60:]
    return f"{cleaned}-{digest}"


def _write(path: Path, data: bytes) -> None:
    write_atomic(path, lambda file: file.write(data))
