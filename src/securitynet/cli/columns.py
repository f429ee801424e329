"""Rows in columns that fit the terminal: a column that has no room is left out, never an id cut.

Plain text, because ``securitynet list`` should be there at once: importing what draws tables takes
longer than everything else that it does.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

GAP = 2
NARROWEST = 24


@dataclass(frozen=True)
class Column:
    """One column of a listing.

    Attributes:
        name: Field of the row.
        title: Heading.
        is_right: Whether its cells stand to the right, as numbers do.
        least: Folded down to this width where there is no room; 0 = never folded.
        rank: 0 = always shown; of the others, the highest is left out first.
    """

    name: str
    title: str
    is_right: bool = False
    least: int = 0
    rank: int = 0


def room() -> int | None:
    """Return the columns of the terminal, ``None`` where stdout is none and nothing is folded."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def heading(text: str) -> str:
    """Return text in bold on a terminal, unless ``NO_COLOR`` forbids it."""
    is_plain = os.environ.get("NO_COLOR") or not sys.stdout.isatty()
    return text if is_plain else f"\x1b[1m{text}\x1b[0m"


def folded(text: str, indent: int, width: int | None) -> str:
    """Return text folded to a terminal's width, all lines but the first indented."""
    if width is None:
        return text
    room = max(width - indent, NARROWEST)
    lines = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
    return ("\n" + " " * indent).join(lines)


def fitting(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None
) -> tuple[list[Column], list[str]]:
    """Lay out rows.

    Args:
        columns: All columns, in order.
        rows: One text a column.
        width: Columns of the terminal, ``None`` = as wide as it takes.

    Returns:
        The columns that have room, and the lines: the heading, then the rows.
    """
    cells = {column: [column.title, *(row[i] for row in rows)] for i, column in enumerate(columns)}
    shown = list(columns)
    while width is not None and _least(shown, cells) > width and any(c.rank for c in shown):
        shown.remove(max(shown, key=lambda column: column.rank))
    widths = _widths(shown, cells, width)
    lines: list[str] = []
    for i in range(len(rows) + 1):
        lines += _folded(shown, [cells[column][i] for column in shown], widths)
    return shown, lines


def _least(columns: Sequence[Column], cells: dict[Column, list[str]]) -> int:
    widths = [min(_widest(cells[c]), c.least or _widest(cells[c])) for c in columns]
    return sum(widths) + GAP * (len(widths) - 1)


def _widths(
    columns: Sequence[Column], cells: dict[Column, list[str]], width: int | None
) -> list[int]:
    """Return the columns' widths; the widest of those that fold gives way first."""
    widths = [_widest(cells[column]) for column in columns]
    while width is not None and sum(widths) + GAP * (len(widths) - 1) > width:
        spare = [widths[i] if 0 < c.least < widths[i] else 0 for i, c in enumerate(columns)]
        if not any(spare):
            break
        widths[spare.index(max(spare))] -= 1
    return widths


def _widest(texts: Sequence[str]) -> int:
    return max(map(_cells, texts))


def _folded(columns: Sequence[Column], row: Sequence[str], widths: Sequence[int]) -> list[str]:
    parts = [
        textwrap.wrap(text, width) if _cells(text) > width else [text]
        for text, width in zip(row, widths, strict=True)
    ]
    lines = []
    for i in range(max(map(len, parts))):
        texts = [part[i] if i < len(part) else "" for part in parts]
        padded = (_padded(*item) for item in zip(columns, texts, widths, strict=True))
        lines.append((" " * GAP).join(padded).rstrip())
    return lines


def _padded(column: Column, text: str, width: int) -> str:
    blank = " " * (width - _cells(text))
    return blank + text if column.is_right else text + blank


def _cells(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
