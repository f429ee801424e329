"""Results as tables in the terminal."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from securitynet.records import Evaluation, Measure
from securitynet.reports.wording import FAMILIES, FLAGS, figure, p_value, settings, verdicts

COLUMNS = {
    "mia": ("auc", "tpr_at_fpr_1pct", "tpr_at_fpr_0.1pct", "gap"),
    "steal": ("accuracy", "agreement", "floor_agreement", "excess_agreement"),
    "backdoor": ("p_value", "infected_label", "attack_success", "auroc", "tpr", "fpr"),
}
TITLES = {
    "auc": "AUC",
    "tpr_at_fpr_1pct": "TPR@1%FPR",
    "tpr_at_fpr_0.1pct": "TPR@0.1%FPR",
    "floor_agreement": "floor",
    "excess_agreement": "excess",
    "infected_label": "class",
    "attack_success": "ASR",
    "auroc": "AUROC",
}


def print_tables(records: Sequence[Evaluation], console: Console, *, by: str = "model") -> None:
    """Print one section a threat.

    Args:
        records: What to show.
        console: Where.
        by: ``model`` for one row a record; ``method`` or ``origin`` for medians over models.
    """
    for prefix, title in FAMILIES.items():
        mine = [record for record in records if record.method.startswith(prefix + ".")]
        if mine and by == "model":
            _print_family(mine, prefix, title, console)
        elif mine:
            console.print(_grouped(mine, prefix, title, by))
    if by == "model":
        _print_verdicts(records, console)
        _print_flags(records, console)


def _print_family(records: Sequence[Evaluation], prefix: str, title: str, console: Console) -> None:
    fine = [record for record in records if record.status == "ok"]
    names = [n for n in COLUMNS[prefix] if any(n in record.measures for record in fine)]
    table = Table(title=f"{title} (95% intervals)", title_justify="left", box=None, pad_edge=False)
    table.add_column("method", overflow="fold")
    for name in names:
        table.add_column(TITLES.get(name, name), justify="right")
    table.add_column("n", justify="right")
    model = None
    for record in records:
        if record.model != model:
            model = record.model
            table.add_row(f"[bold]{escape(record.model)}[/bold] on {escape(record.dataset)}")
        if record.status == "ok":
            table.add_row("  " + escape(settings(record)), *_cells(record, names))
        else:
            table.add_row(escape(f"  {settings(record)}: {record.status}"))
    console.print(table)
    console.print()


def _cells(record: Evaluation, names: Sequence[str]) -> list[str]:
    cells = [
        p_value(record.measures.get(name)) if name == "p_value" else _short(record, name)
        for name in names
    ]
    sizes = [m.n for m in record.measures.values() if m.n]
    return [*cells, f"{max(sizes):,}" if sizes else "-"]


def _short(record: Evaluation, name: str) -> str:
    """Value and interval; the null of an AUC stands beside it."""
    text = figure(record.measures.get(name))
    null = record.nulls.get("random_target_auc") if name == "auc" else None
    if name == "infected_label" and record.measures.get(name):
        return f"{record.measures[name].value or 0:.0f}"
    return f"{text} null {figure(null)}" if null else text


def _grouped(records: Sequence[Evaluation], prefix: str, title: str, by: str) -> Table:
    groups: dict[str, list[Evaluation]] = defaultdict(list)
    for record in records:
        if record.status == "ok":
            name = settings(record)
            groups[name if by == "method" else f"{record.origin}: {name}"].append(record)
    table = Table(title=f"{title}: median [min, max] over models", box=None, title_justify="left")
    table.add_column(by)
    for name in COLUMNS[prefix]:
        table.add_column(TITLES.get(name, name), justify="right")
    table.add_column("models", justify="right")
    for group, mine in sorted(groups.items()):
        cells = [figure(_median([r.measures.get(name) for r in mine])) for name in COLUMNS[prefix]]
        table.add_row(escape(group), *cells, str(len({r.model for r in mine})))
    return table


def _median(measures: Sequence[Measure | None]) -> Measure:
    values = [m.value for m in measures if m is not None and m.value is not None]
    if not values:
        return Measure(None)
    return Measure(statistics.median(values), min(values), max(values), len(values))


def _print_verdicts(records: Sequence[Evaluation], console: Console) -> None:
    styles = {"bad": "bold red", "good": "green", "unknown": "yellow"}
    for model in dict.fromkeys(record.model for record in records):
        console.print(f"[bold]{escape(model)}[/bold]")
        mine = [record for record in records if record.model == model]
        for _, tone, sentence in verdicts(mine):
            console.print(f"  [{styles[tone]}]{escape(sentence)}[/{styles[tone]}]")


def _print_flags(records: Sequence[Evaluation], console: Console) -> None:
    flags = sorted({flag for record in records for flag in record.flags})
    for flag in flags:
        console.print(f"[dim]{flag}: {escape(FLAGS.get(flag, 'see docs/results.md'))}[/dim]")
