"""Paper and pens of the figures: size, colours, safe text, and figures as SVG and PNG bytes."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

from securitynet.reports.wording import plain, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
"""From Okabe & Ito's palette, told apart by colour-blind readers and on white and black."""
INK, GRID, PALE = "#24303b", "#cfd6dc", "#8a97a3"
DARK_INK, DARK_GRID = "#dfe5ea", "#3a4651"
FONTS = ["system-ui", "Segoe UI", "Helvetica", "Arial", "DejaVu Sans", "sans-serif"]
NIGHT = (
    "<style>@media (prefers-color-scheme: dark) {"
    f' [style*="fill: {INK}"] {{ fill: {DARK_INK} !important }}'
    f' [style*="stroke: {INK}"] {{ stroke: {DARK_INK} !important }}'
    f' [style*="stroke: {GRID}"] {{ stroke: {DARK_GRID} !important }}'
    " }</style>"
)
"""Lets ink and grid follow the reader's light or dark page; the figure itself is transparent."""


def new_figure(n_columns: int, *, width: float, height: float) -> tuple[Figure, list[Any]]:
    """Return an empty figure and its axes, side by side; sizes in inches.

    Nothing global is touched: no pyplot, no rcParams.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = list(figure.subplots(1, n_columns, squeeze=False)[0])
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(PALE)
        axis.tick_params(colors=INK, labelsize=9, color=PALE)
        axis.grid(color=GRID, linewidth=0.6)
        axis.set_axisbelow(True)
    return figure, axes


def name_axes(axis: Any, *, title: str = "", x: str = "", y: str = "") -> None:
    """Set title and axis names; the title stands left, as text does."""
    axis.set_title(safe(title), loc="left", fontsize=10.5, color=INK, fontweight="bold")
    axis.set_xlabel(x, fontsize=9.5, color=INK)
    axis.set_ylabel(y, fontsize=9.5, color=INK)


def add_legend(axis: Any, **placing: Any) -> None:
    """Add a frameless legend in the figure's ink."""
    axis.legend(fontsize=8.5, frameon=False, labelcolor=INK, **placing)


def safe(text: object, length: int = 60) -> str:
    """Return text that matplotlib draws as it is: no mathematics, nothing invisible."""
    return shortened(plain(text), length).replace("$", r"\$")


def to_svg(figure: Figure) -> str:
    """Return a figure as an SVG element with its text as text, equal for equal figures."""
    from matplotlib import rc_context

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "securitynet", "font.family": "sans-serif"}
    buffer = io.StringIO()
    with rc_context(style):  # restored at once; the SVG writer takes these from nowhere else
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace("'DejaVu Sans'", ", ".join(f"'{f}'" for f in FONTS))
    head = text.index(">") + 1
    return text[:head] + NIGHT + text[head:]


def to_png(figure: Figure) -> bytes:
    """Return a figure as PNG on white, 160 dots an inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, facecolor="white")
    return buffer.getvalue()


def svg_uri(figure: Figure) -> str:
    """Return a figure as a data URI: as an image, its text can never act in the page."""
    return f"data:image/svg+xml;base64,{base64.b64encode(to_svg(figure).encode()).decode()}"


def png_uri(data: bytes) -> str:
    """Return a PNG as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
