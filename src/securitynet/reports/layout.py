"""Text that fits a terminal: no word and no number is broken while there is another way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rich.cells import cell_len, chop_cells

from securitynet.reports.wording import NBSP, split_figure, unbroken

GAP = 2
INDENT = 2
LONGEST_OPTION = 30


def wrapped(text: str, width: int | None, *, indent: int = 0, hang: int = 0) -> list[str]:
    """Return text in lines of at most ``width`` terminal cells, broken at spaces.

    A figure and its interval stay together. Only a word longer than a line is broken.

    Args:
        text: One paragraph.
        width: Cells of a line; ``None`` = no limit, which gives one line.
        indent: Blanks before the first line.
        hang: Blanks before the others.
    """
    lines, line = [], " " * indent
    is_empty = True
    for word in _words(text, None if width is None else max(width - max(indent, hang), 1)):
        longer = line + word if is_empty else f"{line} {word}"
        if width is not None and cell_len(longer) > width and not is_empty:
            lines.append(line)
            longer = " " * hang + word
        line, is_empty = longer, False
    return [part.replace(NBSP, " ") for part in [*lines, line]]


def _words(text: str, room: int | None) -> Iterator[str]:
    for word in unbroken(text).split(" "):
        if word and room is not None and cell_len(word) > room:
            yield from (part for tied in word.split(NBSP) for part in chop_cells(tied, room))
        elif word:
            yield word


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: What the row is about, e.g. a method's id.
        options: What tells it apart from rows of the same name.
        cells: Text by column.
    """

    name: str
    options: tuple[str, ...]
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Layout:
    """How the rows of a table fit a width.

    Attributes:
        head: Heading of the first column.
        heads: Heading by column, in order; the columns that are shown.
        is_inline: Whether options stand beside their row's name instead of below.
        is_folded: Whether intervals stand below their values instead of beside.
        is_stacked: Whether every figure has a line of its own.
        hoisted: Columns that are the same within every group, to be said once above it.
        dropped: Headings of columns there was no room for.
        widths: Width by column; the first column's is ``""``.
    """

    head: str
    heads: Mapping[str, str]
    is_inline: bool = True
    is_folded: bool = False
    is_stacked: bool = False
    hoisted: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    widths: Mapping[str, int] = field(default_factory=dict)

    def header(self) -> list[str]:
        """Return the lines of the heading."""
        if self.is_stacked:
            return []
        cells = [head.split(" ") if self.is_folded else [head] for head in self.heads.values()]
        height = max(map(len, cells))
        cells = [[""] * (height - len(parts)) + parts for parts in cells]  # stand at the bottom
        return self._lines([""] * (height - 1) + [self.head], cells)

    def lines(self, row: Row, width: int | None) -> list[str]:
        """Return the lines of a row."""
        if self.is_stacked:
            return self._stacked(row, width)
        cells = [_parts(row.cells[name], self.is_folded) for name in self.heads]
        return self._lines(_name_lines(row, self.is_inline), cells)

    def _lines(self, names: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
        lines = []
        for i in range(max(map(len, [names, *cells]))):
            line = _padded(names[i] if i < len(names) else "", self.widths[""])
            for column, parts in zip(self.heads, cells, strict=True):
                text = parts[i] if i < len(parts) else ""
                line += " " * GAP + _padded(text, self.widths[column], is_right=True)
            lines.append(line.rstrip())
        return lines

    def _stacked(self, row: Row, width: int | None) -> list[str]:
        options = f" ({', '.join(row.options)})" if row.options else ""
        lines = wrapped(row.name + options, width, indent=INDENT, hang=2 * INDENT)
        for name, head in self.heads.items():
            text = f"{head} {row.cells[name]}"
            lines += wrapped(text, width, indent=2 * INDENT, hang=3 * INDENT)
        return lines


def fit(
    head: str,
    heads: Mapping[str, str],
    groups: Sequence[Sequence[Row]],
    width: int | None,
    *,
    hoistable: Sequence[str] = (),
    least: Sequence[str] = (),
) -> Layout:
    """Choose the densest layout that fits.

    In this order: everything on one line a row; columns that are the same within every group
    said once; options below the name; intervals below their values; the least important
    columns left out; a line a figure.

    Args:
        head: Heading of the first column.
        heads: Heading by column, in order.
        groups: Rows, in groups (e.g. one a model).
        width: Cells of a line, ``None`` = no limit.
        hoistable: Columns that may be said once a group, first to go first.
        least: Columns that may be left out, first to go first.
    """
    chosen = Layout(head, heads)
    for chosen in _candidates(Layout(head, heads), groups, hoistable, least):
        chosen = replace(chosen, widths=_widths(chosen, groups))
        if width is None or sum(chosen.widths.values()) + GAP * len(chosen.heads) <= width:
            return chosen
    return replace(Layout(head, heads), is_stacked=True)


def _candidates(
    whole: Layout,
    groups: Sequence[Sequence[Row]],
    hoistable: Sequence[str],
    least: Sequence[str],
) -> Iterator[Layout]:
    same = [name for name in hoistable if name in whole.heads and _is_same(name, groups)]
    for is_inline, is_folded in ((True, False), (False, False), (False, True)):
        for n in range(len(same) + 1):
            found = replace(whole, is_inline=is_inline, is_folded=is_folded)
            found = replace(_without(found, same[:n]), hoisted=tuple(same[:n]))
            yield found
    for name in least:
        if name in found.heads and len(found.heads) > 1:
            dropped = (*found.dropped, whole.heads[name])
            found = replace(_without(found, [name]), dropped=dropped)
            yield found


def _is_same(name: str, groups: Sequence[Sequence[Row]]) -> bool:
    return all(len({row.cells[name] for row in group}) <= 1 for group in groups)


def _without(layout: Layout, names: Sequence[str]) -> Layout:
    heads = {name: head for name, head in layout.heads.items() if name not in names}
    return replace(layout, heads=heads)


def _widths(layout: Layout, groups: Sequence[Sequence[Row]]) -> dict[str, int]:
    rows = [row for group in groups for row in group]
    names = [line for row in rows for line in _name_lines(row, layout.is_inline)]
    widths = {"": max(map(cell_len, [layout.head, *names]))}
    for name, head in layout.heads.items():
        parts = head.split(" ") if layout.is_folded else [head]
        parts += [part for row in rows for part in _parts(row.cells[name], layout.is_folded)]
        widths[name] = max(map(cell_len, parts))
    return widths


def _parts(text: str, is_folded: bool) -> list[str]:
    return [part for part in split_figure(text) if part] if is_folded else [text]


def _name_lines(row: Row, is_inline: bool) -> list[str]:
    blank = " " * INDENT
    options = ", ".join(row.options)
    if is_inline:
        return [f"{blank}{row.name} ({options})" if options else f"{blank}{row.name}"]
    room = max(LONGEST_OPTION, cell_len(row.name)) + INDENT
    below = wrapped(options, room, indent=INDENT, hang=INDENT) if options else []
    return [blank + row.name, *below]


def _padded(text: str, width: int, *, is_right: bool = False) -> str:
    blank = " " * (width - cell_len(text))
    return blank + text if is_right else text + blank
