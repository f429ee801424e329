"""Charts as PNG for papers and slides, drawn by matplotlib."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from securitynet.reports.charts import INK, PALETTE, Area, Axis, Chart, Line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEXT, PALE, GRID = "#24303b", "#8a97a3", "#dfe4e8"
MARKERS = {"": "", "circle": "o", "square": "s", "triangle": "^", "dot": "."}
DOTS_AN_INCH = 200
PLOT_WIDTH, LETTER = 4.0, 0.085
"""Inches: what is left of the width beside the labels, and a usual letter of a label."""


def to_png(chart: Chart) -> bytes:
    """Return a chart as PNG on white, 200 dots an inch.

    Nothing global is touched: no pyplot, no rcParams.
    """
    buffer = io.BytesIO()
    _figure(chart).savefig(buffer, format="png", dpi=DOTS_AN_INCH, facecolor="white")
    return buffer.getvalue()


def _figure(chart: Chart) -> Figure:
    from matplotlib.figure import Figure

    size = 4.6, (chart.height + 90 + 17 * len(chart.named)) / 96
    figure = Figure(figsize=size, layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(PALE)
    axis.tick_params(colors=TEXT, labelsize=8.5, color=PALE)
    axis.grid(axis="y", color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    for area in chart.areas:
        _fill(axis, area)
    for line in chart.lines:
        _draw(axis, line)
    _set_axes(axis, chart)
    if chart.named:
        place: Any = "outside lower left"
        figure.legend(loc=place, fontsize=8.5, frameon=False, labelcolor=TEXT)
    return figure


def _fill(axis: Any, area: Area) -> None:
    xs, ys = zip(*area.points, strict=True)
    colour, label = PALETTE[area.colour], _literal(area.name) or None
    axis.fill(xs, ys, color=colour, alpha=area.opacity, linewidth=0, label=label)


def _draw(axis: Any, line: Line) -> None:
    xs, ys = zip(*line.points, strict=True)
    dashes: Any = (0, (3, 2)) if line.is_dashed else "-"
    axis.plot(
        xs, ys, color=TEXT if line.colour == INK else PALETTE[line.colour], linewidth=1.3,
        linestyle=dashes if line.is_joined else "", marker=MARKERS[line.marker], markersize=4.5,
        label=_literal(line.name) or None, alpha=0.35 if line.marker == "dot" else 1,
    )  # fmt: skip


def _set_axes(axis: Any, chart: Chart) -> None:
    axis.set_title(_literal(chart.title), loc="left", fontsize=10, color=TEXT, fontweight="bold")
    _set_axis(axis.set_xscale, axis.set_xlim, axis.set_xticks, axis.set_xlabel, chart.x)
    _set_axis(axis.set_yscale, axis.set_ylim, axis.set_yticks, axis.set_ylabel, chart.y)
    axis.minorticks_off()
    if chart.x.is_crowded(PLOT_WIDTH, LETTER):
        axis.set_xticks(*_unzipped(chart.x), rotation=35, ha="right", rotation_mode="anchor")


def _set_axis(scale: Any, limits: Any, ticks: Any, name: Any, axis: Axis) -> None:
    scale("log" if axis.is_log else "linear")
    limits(axis.low, axis.high)
    ticks(*_unzipped(axis))
    name(axis.name, fontsize=9, color=TEXT)


def _unzipped(axis: Axis) -> tuple[list[float], list[str]]:
    marks = axis.marks()
    return [value for value, _ in marks], [_literal(text) for _, text in marks]


def _literal(text: str) -> str:
    """Return text that matplotlib draws as it is: no mathematics."""
    return text.replace("$", r"\$")
