"""Results as tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from securitynet.records import Evaluation
from securitynet.reports.sections import ABOUT_MODEL, Group, Section, grouped, sections
from securitynet.reports.verdicts import verdicts
from securitynet.reports.wording import (
    Labeller,
    by_model,
    cell,
    figure,
    flag_text,
    labeller,
    name_of,
    p_value,
    plain,
    sample_size,
)

__all__ = ["grouped", "print_tables"]

STYLES = {"bad": "bold red", "good": "green", "unknown": "yellow"}
NARROWEST_METHOD = 16


def print_tables(records: Sequence[Evaluation], console: Console, *, by: str = "model") -> None:
    """Print one section a threat, then the verdicts and what the flags mean.

    Intervals stand beside their figures where the console is wide enough, below them if not.

    Args:
        records: What to show.
        console: Where; its width, colours and ``NO_COLOR`` are obeyed.
        by: ``model`` for one row a record; ``method`` or ``origin`` for medians over models.

    Raises:
        UsageError: If ``by`` is none of these.
    """
    if not records:
        console.print("no results")
        return
    if by != "model":
        _print_groups(grouped(records, by), by, console)
        return
    label = labeller(records)
    for section in sections(records):
        _print_section(section, label, console)
    _print_verdicts(records, label, console)
    _print_flags(records, console)


def _print_section(section: Section, label: Labeller, console: Console) -> None:
    console.print(f"[bold underline]{section.title}[/] [dim]95% intervals[/]", highlight=False)
    heads = ["method", *map(name_of, section.names), "n"]
    rows = {
        record.key: [
            f"  {label(record)}",
            *(cell(record, name) for name in section.names),
            sample_size(record),
        ]
        for record in section.records
    }
    widths = _widths(heads, list(rows.values()), console.width)
    console.print(_grid([heads], widths, "dim"))
    for (model, dataset), mine in by_model((*section.records, *section.troubles)).items():
        title = f"[bold]{escape(plain(model))}[/] on {escape(plain(dataset))}"
        console.print(title + _about(mine, section.threat), highlight=False)
        fine = [record for record in mine if record.status == "ok"]
        for record in fine:
            console.print(_grid([rows[record.key]], widths, ""))
            if record.flags:
                flags = escape(plain(", ".join(record.flags)))
                console.print(f"    [yellow]{flags}[/]", highlight=False)
        for record in mine:
            if record.status != "ok":
                reason = f"{label(record)}: {record.status}: {plain(record.error or 'no reason')}"
                console.print(Text(f"  {reason}", style="red"))
    console.print()


def _about(records: Sequence[Evaluation], threat: str) -> str:
    """Return what the records say of the target itself, once for all rows."""
    parts = []
    for name in ABOUT_MODEL[threat]:
        known = [r.measures[name] for r in records if name in r.measures]
        if known and known[0].value is not None:
            parts.append(f"{name_of(name)} {figure(known[0])}")
    return f" [dim]{', '.join(parts)}[/]" if parts else ""


def _widths(heads: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return column widths; intervals go below their values if a line does not fit."""
    widest = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    if sum(widest) + 2 * (len(widest) - 1) <= room:
        return widest
    columns = zip(heads, *rows, strict=True)
    folded = [max(map(_longest_part, column)) for column in columns]
    left = room - sum(folded[1:]) - 2 * (len(folded) - 1)
    return [min(max(left, NARROWEST_METHOD), widest[0]), *folded[1:]]


def _longest_part(text: str) -> int:
    return max(map(len, _folded(text).split("\n")))


def _folded(text: str) -> str:
    """Break ``0.834 [0.81, 0.86]`` before its interval."""
    return text.replace(" [", "\n[")


def _grid(rows: Sequence[Sequence[str]], widths: Sequence[int], style: str) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False, style=style)
    for i, width in enumerate(widths):
        table.add_column(
            width=width, justify="right" if i else "left", overflow="fold", no_wrap=False
        )
    for row in rows:
        parts = [
            text if i == 0 or len(text) <= width else _folded(text)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        table.add_row(*map(Text, parts))
    return table


def _print_groups(groups: Sequence[Group], by: str, console: Console) -> None:
    for section in dict.fromkeys(group.section for group in groups):
        mine = [group for group in groups if group.section == section]
        names = list(dict.fromkeys(name for group in mine for name in group.measures))
        heads = [by, *map(name_of, names), "models", "left out"]
        rows = [
            [
                group.name,
                *(_summary(group, name) for name in names),
                str(group.n_models),
                str(group.n_left_out),
            ]
            for group in mine
        ]
        title = f"[bold underline]{section}[/] [dim]median [[min, max] over models[/]"
        console.print(title, highlight=False)
        widths = _widths(heads, rows, console.width)
        console.print(_grid([heads], widths, "dim"))
        console.print(_grid(rows, widths, ""))
        console.print()


def _summary(group: Group, name: str) -> str:
    measure = group.measures[name]
    if name != "p_value" or measure.value is None:
        return figure(measure)
    ends = [p_value(type(measure)(end)) for end in (measure.low, measure.high)]
    return f"{p_value(measure)} [{', '.join(ends)}]"


def _print_verdicts(records: Sequence[Evaluation], label: Labeller, console: Console) -> None:
    console.print("[bold underline]Verdicts[/]")
    for (model, dataset), mine in by_model(records).items():
        title = f"[bold]{escape(plain(model))}[/] on {escape(plain(dataset))}"
        console.print(title, highlight=False)
        for verdict in verdicts(mine, label):
            console.print(Text(f"  {verdict.sentence}", style=STYLES[verdict.tone]))
    console.print()


def _print_flags(records: Sequence[Evaluation], console: Console) -> None:
    for flag in sorted({flag for record in records for flag in record.flags}):
        console.print(Text(f"{plain(flag)}: {flag_text(flag)}", style="dim"))
