"""Charts as SVG: small, drawn in a millisecond, legible at any width and on a dark page."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape

from securitynet.reports.charts import INK, PALETTE, Area, Axis, Chart, Line, Marker
from securitynet.reports.layout import wrapped

WIDTH = 440
SIZE, LETTER = 12, 6.7
"""Height of the text and the width of a usual letter of it, in pixels."""
LEGEND_ROW, SWATCH = 17, 24
DARK = ("#4fa8e0", "#f08c45", "#2dc79b", "#e2a2c6", "#9ad4f5")
"""The palette on a dark page."""
PENS = (("#24303b", "#8a97a3", "#dfe4e8", PALETTE), ("#dfe5ea", "#8a97a3", "#323d48", DARK))
"""Text, axes, grid and series: on a light page and on a dark one."""


def to_svg(chart: Chart, *, is_adaptive: bool = False) -> str:
    """Return a chart as an SVG element with its text as text; equal for equal charts.

    Args:
        chart: What to draw.
        is_adaptive: Whether its colours follow the reader's light or dark page.
    """
    frame = _Frame.of(chart)
    inner = [*_grid(chart, frame), *_marks(chart, frame), *_names(chart, frame)]
    inner += _legend(chart, frame)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {frame.height}" '
        f'width="{WIDTH}" height="{frame.height}" role="img">'
    )
    title = f"<title>{escape(chart.description)}</title>"
    return "\n".join([head, title, _style(is_adaptive), *inner, "</svg>\n"])


def svg_uri(chart: Chart) -> str:
    """Return a chart as a data URI: as an image, its text can never act in the page."""
    data = to_svg(chart, is_adaptive=True).encode()
    return f"data:image/svg+xml;base64,{base64.b64encode(data).decode()}"


def _style(is_adaptive: bool) -> str:
    font = 'font:12px system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif'
    rules = [
        f"text{{{font}}}.t{{font-weight:600}}.e{{text-anchor:end}}.m{{text-anchor:middle}}",
        ".l{fill:none;stroke-width:1.6;stroke-linejoin:round}.d{stroke-dasharray:4 3}",
        _colours(*PENS[0]),
    ]
    if is_adaptive:
        rules.append(f"@media (prefers-color-scheme:dark){{{_colours(*PENS[1])}}}")
    return f"<style>{''.join(rules)}</style>"


def _colours(text: str, axis: str, grid: str, palette: tuple[str, ...]) -> str:
    series = [f".s{k}{{stroke:{colour}}}.f{k}{{fill:{colour}}}" for k, colour in enumerate(palette)]
    ink = f"text,.f{INK}{{fill:{text}}}.s{INK}{{stroke:{text}}}"
    return f"{ink}.x{{stroke:{axis}}}.g{{stroke:{grid}}}{''.join(series)}"


@dataclass(frozen=True)
class _Frame:
    """Where the plot lies in the picture, in pixels."""

    left: float
    top: float
    right: float
    bottom: float
    turned: float
    legend: tuple[tuple[Line | Area, tuple[str, ...]], ...]

    @classmethod
    def of(cls, chart: Chart) -> _Frame:
        widest = max((len(text) for _, text in chart.y.marks()), default=0)
        left = 30 + widest * LETTER
        top = 30.0
        right = WIDTH - 14.0
        return cls(
            left, top, right, top + chart.height, _turn(chart.x, right - left), _entries(chart)
        )

    @property
    def height(self) -> int:
        rows = sum(len(lines) for _, lines in self.legend)
        return math.ceil(self.bottom + 44 + self.turned + LEGEND_ROW * rows)

    def place(self, chart: Chart, x: float, y: float) -> tuple[float, float]:
        across, up = chart.x.share(x), chart.y.share(y)
        return (
            self.left + across * (self.right - self.left),
            self.bottom - up * (self.bottom - self.top),
        )


def _turn(axis: Axis, width: float) -> float:
    """Return how far turned labels reach down; 0 where they stand side by side."""
    if not axis.is_crowded(width, LETTER):
        return 0.0
    longest = max(len(text) for _, text in axis.marks()) * LETTER
    return longest * math.sin(math.radians(35))


def _entries(chart: Chart) -> tuple[tuple[Line | Area, tuple[str, ...]], ...]:
    room = int((WIDTH - SWATCH - 24) / LETTER)
    return tuple((mark, tuple(wrapped(mark.name, room))) for mark in chart.named)


def _grid(chart: Chart, frame: _Frame) -> Iterator[str]:
    for value, text in chart.y.marks():
        _, y = frame.place(chart, chart.x.low, value)
        yield _path([(frame.left, y), (frame.right, y)], "l g", "stroke-width:.8")
        yield _text(text, frame.left - 6, y + 4, "e")
    for value, text in chart.x.marks():
        x, _ = frame.place(chart, value, chart.y.low)
        yield _path([(x, frame.bottom), (x, frame.bottom + 4)], "l x", "stroke-width:1")
        if frame.turned:
            turn = f' transform="rotate(-35 {_number(x + 4)} {_number(frame.bottom + 14)})"'
            yield _text(text, x + 4, frame.bottom + 14, "e", turn)
        else:
            yield _text(text, x, frame.bottom + 17, "m")
    corner = [(frame.left, frame.top), (frame.left, frame.bottom), (frame.right, frame.bottom)]
    yield _path(corner, "l x", "stroke-width:1")


def _marks(chart: Chart, frame: _Frame) -> Iterator[str]:
    for area in chart.areas:
        points = [frame.place(chart, *point) for point in area.points]
        yield _path(points, f"f{area.colour}", f"fill-opacity:{area.opacity:g}", "Z")
    for line in chart.lines:
        points = [frame.place(chart, *point) for point in line.points]
        if line.is_joined:
            yield _path(points, f"l s{line.colour}{' d' if line.is_dashed else ''}")
        if line.marker:
            yield from (_marker(line.marker, x, y, line.colour) for x, y in points)


def _names(chart: Chart, frame: _Frame) -> Iterator[str]:
    yield _text(chart.title, 8, 17, "t")
    middle = (frame.left + frame.right) / 2
    yield _text(chart.x.name, middle, frame.bottom + 35 + frame.turned, "m")
    height = (frame.top + frame.bottom) / 2
    turn = f' transform="rotate(-90 14 {_number(height)})"'
    yield _text(chart.y.name, 14, height, "m", turn)


def _legend(chart: Chart, frame: _Frame) -> Iterator[str]:
    y = frame.bottom + 54 + frame.turned
    left = 12.0
    for mark, lines in frame.legend:
        yield _swatch(mark, left, y)
        for line in lines:
            yield _text(line, left + SWATCH + 6, y + 4)
            y += LEGEND_ROW


def _swatch(mark: Line | Area, x: float, y: float) -> str:
    if isinstance(mark, Area):
        corners = [(x, y - 5), (x + SWATCH, y - 5), (x + SWATCH, y + 5), (x, y + 5)]
        return _path(corners, f"f{mark.colour}", f"fill-opacity:{max(mark.opacity, 0.35):g}", "Z")
    drawn = _marker(mark.marker, x + SWATCH / 2, y, mark.colour) if mark.marker else ""
    if mark.is_joined:
        style = f"l s{mark.colour}{' d' if mark.is_dashed else ''}"
        drawn = _path([(x, y), (x + SWATCH, y)], style) + drawn
    return drawn


def _marker(marker: Marker, x: float, y: float, colour: int) -> str:
    if marker == "circle":
        return f'<circle class="f{colour}" cx="{_number(x)}" cy="{_number(y)}" r="3.5"/>'
    if marker == "dot":  # one of very many
        return (
            f'<circle class="f{colour}" cx="{_number(x)}" cy="{_number(y)}" r="2" '
            'fill-opacity=".35"/>'
        )
    corners = {
        "square": [(-3.2, -3.2), (3.2, -3.2), (3.2, 3.2), (-3.2, 3.2)],
        "triangle": [(-3.8, 3.2), (3.8, 3.2), (0.0, -4.2)],
    }[marker]
    return _path([(x + dx, y + dy) for dx, dy in corners], f"f{colour}", "", "Z")


def _text(text: str, x: float, y: float, style: str = "", more: str = "") -> str:
    name = f' class="{style}"' if style else ""
    return f'<text{name} x="{_number(x)}" y="{_number(y)}"{more}>{escape(text)}</text>'


def _path(points: Iterable[tuple[float, float]], style: str, css: str = "", end: str = "") -> str:
    look = f' style="{css}"' if css else ""
    return f'<path class="{style}"{look} d="{_commands(points)}{end}"/>'


def _commands(points: Iterable[tuple[float, float]]) -> str:
    """Return path commands to a tenth of a pixel, the shortest for each move."""
    parts: list[str] = []
    last = (0, 0)
    for x, y in points:
        place = round(10 * x), round(10 * y)
        across, down = place[0] - last[0], place[1] - last[1]
        if not parts:
            parts.append(f"M{_tenths(across)} {_tenths(down)}")
        elif across and down:
            parts.append(f"l{_tenths(across)} {_tenths(down)}")
        elif across or down:
            parts.append(f"h{_tenths(across)}" if across else f"v{_tenths(down)}")
        last = place
    return "".join(parts)


def _tenths(value: int) -> str:
    text = f"{abs(value) // 10 or ''}{f'.{abs(value) % 10}' if value % 10 else ''}" or "0"
    return f"-{text}" if value < 0 else text


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
