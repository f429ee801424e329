"""Results as tables in the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from securitynet.records import Evaluation, Measure
from securitynet.reports.layout import INDENT, Layout, Row, fit, wrapped
from securitynet.reports.sections import (
    Group,
    Section,
    about_model,
    common_flags,
    grouped,
    sections,
    troubles_by_reason,
)
from securitynet.reports.verdicts import verdicts
from securitynet.reports.wording import (
    NBSP,
    Labeller,
    by_model,
    cell,
    figure,
    flag_text,
    labeller,
    name_of,
    p_value,
    sample_size,
    sentence,
    shown,
    split_label,
)

__all__ = ["grouped", "print_tables"]

STYLES = {"bad": "bold red", "good": "green", "none": "", "unknown": "yellow"}
HEADING = "bold underline"
WIDEST_TEXT = 100
"""Sentences in longer lines are hard to read."""
HOISTABLE = ("n", "budget", "floor_agreement")
LEAST = (
    "n", "budget", "trigger_l1", "tpr_at_fpr_0.1pct", "fpr", "null", "accuracy",
    "floor_agreement", "infected_label", "attack_success", "tpr", "tpr_at_fpr_1pct", "left_out",
    "agreement",
)  # fmt: skip
"""Columns that give way where there is no room, first to go first."""


def print_tables(records: Sequence[Evaluation], console: Console, *, by: str = "model") -> None:
    """Print one section a threat, then the verdicts and what the flags mean.

    No line is wider than the terminal. Where there is no room, options stand below their
    method, intervals below their values, and the least important columns are left out; those
    are named. A pipe or a file has no width: there nothing is folded and nothing left out.

    Args:
        records: What to show.
        console: Where; its width, colours and ``NO_COLOR`` are obeyed.
        by: ``model`` for one row a record; ``method`` or ``origin`` for medians over models.

    Raises:
        UsageError: If ``by`` is none of these.
    """
    page = _Page(console, _room(console))
    if not records:
        page.text("no results")
    elif by != "model":
        _print_groups(grouped(records, by), by, page)
    else:
        label = labeller(records)
        for section in sections(records):
            _print_section(section, label, page)
        _print_verdicts(records, label, page)
        _print_flags(records, page)


def _room(console: Console) -> int | None:
    """Return the width to keep; where nobody set one, rich would assume 80."""
    has_width = console.is_terminal or console.is_jupyter or "COLUMNS" in os.environ
    return console.width if has_width else None


@dataclass(frozen=True)
class _Page:
    """A console that is given lines which already fit."""

    console: Console
    width: int | None

    def lines(self, lines: Iterable[str], style: str = "") -> None:
        for line in lines:
            self.console.print(Text(line, style=style), soft_wrap=True)

    def text(self, text: str, style: str = "", *, indent: int = 0, hang: int = 0) -> None:
        width = None if self.width is None else min(self.width, WIDEST_TEXT)
        if text:
            self.lines(wrapped(text, width, indent=indent, hang=hang), style)

    def heading(self, title: str, remark: str = "") -> None:
        text = Text(title, style=HEADING)
        whole = f"{title}  {remark}"
        if not remark or (self.width is not None and len(whole) > self.width):
            self.text(title, HEADING)
            self.text(remark, "dim")
            return
        self.console.print(text.append(f"  {remark}", "not underline not bold dim"), soft_wrap=True)

    def note_dropped(self, layout: Layout) -> None:
        if layout.dropped:
            names = ", ".join(layout.dropped)
            text = f"(no room here for {names}: a wider terminal shows all)"
            self.text(text, "dim", indent=INDENT, hang=INDENT)


def _print_section(section: Section, label: Labeller, page: _Page) -> None:
    page.heading(section.title, "95% intervals in brackets" if section.records else "")
    rows = {record.key: _row(record, section, label) for record in section.records}
    models = by_model((*section.records, *section.troubles))
    groups = [[rows[r.key] for r in mine if r.status == "ok"] for mine in models.values()]
    heads = {**{name: name_of(name) for name in section.names}, "n": "n"}
    layout = fit("method", heads, groups, page.width, hoistable=HOISTABLE, least=LEAST)
    if rows:
        page.lines(layout.header(), "dim")
        page.note_dropped(layout)
    for name, mine in models.items():
        _print_model_title(name, page)
        page.text(_about(mine, section.threat, layout, rows), "dim", indent=INDENT, hang=INDENT)
        _print_model(mine, rows, layout, label, page)
    page.lines([""])


def _row(record: Evaluation, section: Section, label: Labeller) -> Row:
    cells = {name: cell(record, name) for name in section.names}
    return Row(*split_label(label(record)), {**cells, "n": sample_size(record)})


def _print_model_title(name: tuple[str, str], page: _Page) -> None:
    page.text(f"{shown(name[0])} on {shown(name[1])}", "bold", hang=INDENT)


def _about(
    records: Sequence[Evaluation], threat: str, layout: Layout, rows: Mapping[str, Row]
) -> str:
    """Return what is the same for all rows of a model, to be said once."""
    facts = dict(about_model(records, threat))
    first = next((rows[record.key] for record in records if record.key in rows), None)
    if first is not None:
        facts |= {name_of(name): first.cells[name] for name in layout.hoisted[::-1]}
    return ", ".join(f"{name} {text}".replace(" ", NBSP) for name, text in facts.items())


def _print_model(
    records: Sequence[Evaluation],
    rows: Mapping[str, Row],
    layout: Layout,
    label: Labeller,
    page: _Page,
) -> None:
    joint = common_flags(records)
    if joint:
        page.text(f"all flagged {_flag_names(joint)}", "yellow", indent=INDENT, hang=INDENT)
    for record in records:
        if record.status == "ok":
            page.lines(layout.lines(rows[record.key], page.width))
            own = [flag for flag in record.flags if flag not in joint]
            if own:
                page.text(f"flagged {_flag_names(own)}", "yellow", indent=4, hang=4)
    for (status, reason), names in troubles_by_reason(records, label).items():
        text = f"{', '.join(dict.fromkeys(names))}: {status}: {reason}"
        page.text(text, "red", indent=INDENT, hang=4)


def _flag_names(flags: Sequence[str]) -> str:
    return ", ".join(map(shown, flags))


def _print_groups(groups: Sequence[Group], by: str, page: _Page) -> None:
    for section in dict.fromkeys(group.section for group in groups):
        mine = [group for group in groups if group.section == section]
        names = list(dict.fromkeys(name for group in mine for name in group.measures))
        heads = {name: name_of(name) for name in names}
        heads["models"] = "models"
        heads |= {"left_out": "left out"} if any(group.n_left_out for group in mine) else {}
        rows = [_group_row(group) for group in mine]
        layout = fit(by, heads, [rows], page.width, least=LEAST)
        page.heading(section, "median over models, [smallest, largest]")
        page.lines(layout.header(), "dim")
        page.note_dropped(layout)
        for row in rows:
            page.lines(layout.lines(row, page.width))
        page.lines([""])


def _group_row(group: Group) -> Row:
    cells = {name: _summary(name, measure) for name, measure in group.measures.items()}
    cells |= {"models": str(group.n_models), "left_out": str(group.n_left_out)}
    return Row(*split_label(group.name), cells)


def _summary(name: str, measure: Measure) -> str:
    if name != "p_value" or measure.value is None:
        return figure(measure)
    ends = [p_value(Measure(end)) for end in (measure.low, measure.high)]
    return f"{p_value(measure)} [{', '.join(ends)}]"


def _print_verdicts(records: Sequence[Evaluation], label: Labeller, page: _Page) -> None:
    page.heading("Verdicts")
    for name, mine in by_model(records).items():
        _print_model_title(name, page)
        titles: dict[tuple[str, str], list[str]] = {}
        for verdict in verdicts(mine, label):  # what is refused is refused for one reason
            titles.setdefault((verdict.sentence, verdict.tone), []).append(verdict.title)
        for (text, tone), threats in titles.items():
            page.text(f"{', '.join(threats)}: {text}", STYLES[tone], indent=INDENT, hang=4)
    page.lines([""])


def _print_flags(records: Sequence[Evaluation], page: _Page) -> None:
    for flag in sorted({flag for record in records for flag in record.flags}):
        page.text(f"{sentence(flag)}: {flag_text(flag)}", "dim", hang=INDENT)
