"""A chart as plain data: what is drawn, not how; :mod:`svg` and :mod:`paper` draw it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
"""From Okabe & Ito's palette, told apart by colour-blind readers."""
MOST_TICKS = 6
NICE_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)

Points = tuple[tuple[float, float], ...]
Marker = Literal["", "circle", "square", "triangle", "dot"]
INK = -1
"""Colour of a line that is no series of its own: the page's ink."""


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        name: What is measured, with its unit.
        low: Value at its beginning.
        high: Value at its end.
        is_log: Whether it is logarithmic; both ends are then positive.
        ticks: Positions with their labels; computed if empty.

    Raises:
        ValueError: If the ends are no axis.
    """

    name: str
    low: float
    high: float
    is_log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()

    def __post_init__(self) -> None:
        """Check the ends, so that drawing cannot fail."""
        is_axis = math.isfinite(self.high - self.low) and self.low < self.high
        if not is_axis or (self.is_log and self.low <= 0):
            raise ValueError(f"no axis from {self.low} to {self.high}")

    def share(self, value: float) -> float:
        """Return where a value lies: 0 at the beginning, 1 at the end, never beyond."""
        low, high, middle = self.low, self.high, value
        if self.is_log:
            low, high, middle = math.log(low), math.log(high), math.log(max(value, low))
        return min(max((middle - low) / (high - low), 0.0), 1.0)

    def marks(self) -> tuple[tuple[float, str], ...]:
        """Return the ticks that are drawn."""
        if self.ticks:
            return self.ticks
        return _decades(self.low, self.high) if self.is_log else _steps(self.low, self.high)

    def is_crowded(self, width: float, letter: float) -> bool:
        """Return whether labels touch on an axis of that width, given a usual letter's width."""
        marks = sorted(
            (self.share(value) * width, len(text) * letter) for value, text in self.marks()
        )
        return any(
            place + size / 2 + letter > other - other_size / 2
            for (place, size), (other, other_size) in pairwise(marks)
        )


@dataclass(frozen=True)
class Line:
    """A line through points, or the points alone.

    Attributes:
        points: (x, y) in the axes' units, all finite.
        colour: Index into the palette, or :data:`INK`.
        name: Entry of the legend; empty = none.
        is_dashed: Whether it is dashed.
        is_joined: Whether the points are joined.
        marker: Drawn at every point.
    """

    points: Points
    colour: int
    name: str = ""
    is_dashed: bool = False
    is_joined: bool = True
    marker: Marker = ""


@dataclass(frozen=True)
class Area:
    """A filled polygon.

    Attributes:
        points: Its corners in the axes' units, all finite.
        colour: Index into the palette.
        name: Entry of the legend; empty = none.
        opacity: 0 to 1.
    """

    points: Points
    colour: int
    name: str = ""
    opacity: float = 0.15


@dataclass(frozen=True)
class Chart:
    """One pair of axes with what is drawn on them, areas below lines.

    Attributes:
        title: Heading.
        x: Horizontal axis.
        y: Vertical axis.
        areas: Filled, in order.
        lines: Drawn over them, in order.
        height: Height of the plot in pixels of the page; all are equally wide.

    Raises:
        ValueError: If a point is not finite.
    """

    title: str
    x: Axis
    y: Axis
    areas: tuple[Area, ...] = ()
    lines: tuple[Line, ...] = ()
    height: int = 220

    def __post_init__(self) -> None:
        """Check the points, so that drawing cannot fail."""
        points = [point for mark in self.marks for point in mark.points]
        if not all(math.isfinite(x) and math.isfinite(y) for x, y in points):
            raise ValueError(f"a point of {self.title!r} is not finite")

    @property
    def marks(self) -> list[Area | Line]:
        """All that is drawn, in order."""
        return [*self.areas, *self.lines]

    @property
    def named(self) -> list[Area | Line]:
        """The entries of the legend."""
        return [mark for mark in self.marks if mark.name]

    @property
    def description(self) -> str:
        """What is drawn, in one sentence, for those who do not see it."""
        names = [mark.name for mark in self.named]
        shown = f" Shown: {'; '.join(names)}." if names else ""
        return f"{self.title}: {self.y.name} against {self.x.name}.{shown}"


def band(xs: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> Points:
    """Return the polygon between two curves over the same positions."""
    return (*zip(xs, lows, strict=True), *reversed(list(zip(xs, highs, strict=True))))


def steps(xs: Sequence[float], ys: Sequence[float]) -> Points:
    """Return the corners of a curve that keeps each value until the next position."""
    corners: list[tuple[float, float]] = []
    for x, y in zip(xs, ys, strict=True):
        if corners:
            corners.append((x, corners[-1][1]))
        corners.append((x, y))
    return tuple(corners)


def stairs(edges: Sequence[float], heights: Sequence[float], base: float) -> Points:
    """Return the outline of a histogram that stands on ``base``; one more edge than heights."""
    points = [(edges[0], base)]
    for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
        points += [(left, height), (right, height)]
    return (*points, (edges[-1], base))


def spread(
    values: Iterable[float], limits: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Return the ends of a linear axis that holds all values with a little room.

    Args:
        values: Finite values; without any the axis is 0 to 1.
        limits: The axis does not go beyond these, save for a hair that keeps a mark whole.
    """
    known = [float(value) for value in values]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    room = 0.08 * (high - low) or 0.05 * max(abs(high), 1e-6)
    low, high = low - room, high + room
    if limits:
        hair = 0.01 * (high - low)
        low, high = max(low, limits[0] - hair), min(high, limits[1] + hair)
    return low, high


def _steps(low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Return round values at equal distances."""
    rough = (high - low) / (MOST_TICKS - 1)
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(nice * size for nice in NICE_STEPS if nice * size >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    digits += 0 if math.isclose(step * 10**digits, round(step * 10**digits)) else 1
    is_huge = max(abs(low), abs(high)) >= 1e7
    style = ".3g" if is_huge else f",.{digits}f"
    return tuple((k * step, f"{k * step + 0.0:{style}}") for k in range(first, last + 1))


def _decades(low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Return powers of ten, every second or third where there are many."""
    first = math.ceil(math.log10(low) - 1e-9)
    last = math.floor(math.log10(high) + 1e-9)
    stride = max(1, math.ceil((last - first + 1) / MOST_TICKS))
    powers = range(last, first - 1, -stride)
    return tuple((10.0**k, f"{10.0**k:,.{max(0, -k)}f}" if k > -5 else f"1e{k}") for k in powers)
