"""``securitynet list``: models, methods, data sets or results as rows."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from securitynet.catalogue.database import all_cards, lookup, select
from securitynet.cli.common import (
    JsonOption,
    QuietOption,
    StoreOption,
    VerboseOption,
    WhereOption,
    console,
    note,
    print_json,
    set_verbosity,
)
from securitynet.errors import UsageError


class What(StrEnum):
    """What can be listed."""

    models = "models"
    methods = "methods"
    datasets = "datasets"
    results = "results"


COLUMNS = {
    What.models: ("id", "dataset", "family", "params", "origin", "claims.value", "status"),
    What.methods: ("name", "access", "summary", "paper"),
    What.datasets: ("name", "num_classes", "n_train", "n_test", "licence", "is_available"),
    What.results: ("key", "model", "method", "dataset", "status", "headline", "seconds"),
}
HEADLINES = ("auc", "excess_agreement", "p_value", "auroc")


def list_rows(
    what: Annotated[What, typer.Argument(help="What to list.")] = What.models,
    where: WhereOption = None,
    sort: Annotated[
        str | None, typer.Option("--sort", help="Field to sort by; -FIELD sorts downwards.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=0, help="At most N rows.")] = None,
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """List models, methods, data sets or results."""
    set_verbosity(quiet, verbose)
    rows = list(select(_rows(what, store), where or []))
    rows = _sorted(rows, sort)[:limit]
    if json:
        print_json([_public(row) for row in rows])
        return
    if not rows:
        note(f"no {what} match")
        return
    console().print(_table(rows, COLUMNS[what]))
    note(f"{len(rows)} {what}")


def _rows(what: What, store: Any) -> list[dict[str, Any]]:
    if what is What.models:
        return [card.to_json() for card in all_cards()]
    if what is What.methods:
        return method_rows()
    if what is What.datasets:
        from securitynet.datasets.library import dataset_rows

        return list(dataset_rows())
    return _result_rows(store)


def method_rows() -> list[dict[str, Any]]:
    """Return one JSON object a method."""
    from securitynet.registry import methods

    return [
        {
            "name": entry.name,
            "family": entry.family,
            "access": entry.access.name,
            "summary": entry.summary,
            "paper": entry.paper,
            "version": entry.version,
            "cost": entry.cost,
            "soundness": entry.soundness,
            "is_default": bool(entry.variants),
            "options": [
                {
                    "name": o.name,
                    "default": list(o.default) if isinstance(o.default, tuple) else o.default,
                    "help": o.help,
                    "choices": list(o.choices),
                    "low": o.low,
                    "high": o.high,
                }
                for o in entry.options
            ],
        }
        for entry in methods().values()
    ]


def _result_rows(store: Any) -> list[dict[str, Any]]:
    from securitynet.api import store_folder
    from securitynet.runs.store import Store, sort_records

    rows = [record.to_json() for record in sort_records(Store(store_folder(store)).records())]
    for row in rows:
        named = [name for name in HEADLINES if row["measures"].get(name)]
        value = row["measures"][named[0]]["value"] if named else None
        row["headline"] = f"{named[0]} {value:.3f}" if named and value is not None else None
    return rows


def _public(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "headline"}


def _sorted(rows: list[dict[str, Any]], sort: str | None) -> list[dict[str, Any]]:
    """Sort by a field; unknown values come last in either direction."""
    if not sort:
        return rows
    name = sort.removeprefix("-")
    if rows and not any(lookup(row, name) is not None for row in rows):
        raise UsageError(f"no row has a field {name!r} to sort by")
    known = [row for row in rows if _flat(lookup(row, name)) is not None]
    unknown = [row for row in rows if _flat(lookup(row, name)) is None]
    known.sort(key=lambda row: _sort_key(_flat(lookup(row, name))), reverse=sort.startswith("-"))
    return known + unknown


def _flat(value: Any) -> Any:
    if isinstance(value, list):
        return value[0] if value else None
    return value


def _sort_key(value: Any) -> tuple[int, float, str]:
    if isinstance(value, int | float):
        return 0, float(value), ""
    return 1, 0.0, str(value).casefold()


def _table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        is_number = any(isinstance(_flat(lookup(row, name)), int | float) for row in rows)
        table.add_column(
            name.split(".")[0], justify="right" if is_number else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(escape(_cell(name, _flat(lookup(row, name)))) for name in columns))
    return table


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name == "key":
        return str(value)[:10]
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
