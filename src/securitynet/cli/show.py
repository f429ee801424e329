"""``securitynet show``: one model card, one method or one result, whole."""

from __future__ import annotations

import json as json_module
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from securitynet.catalogue.database import all_cards, find_card
from securitynet.cli.common import (
    JsonOption,
    QuietOption,
    StoreOption,
    VerboseOption,
    console,
    print_json,
    set_verbosity,
)
from securitynet.cli.listing import method_rows
from securitynet.errors import UsageError, unknown_id


def show(
    name: Annotated[
        str, typer.Argument(metavar="ID", help="A model, a method, or the start of a result's key.")
    ],
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Show one model card, one method with its options, or one result."""
    set_verbosity(quiet, verbose)
    record = _find(name, store)
    if json:
        print_json(record)
        return
    console().print(_table(record))


def _find(name: str, store: Any) -> dict[str, Any]:
    methods = {row["name"]: row for row in method_rows()}
    if name in methods:
        return methods[name]
    if "/" in name or name.endswith(".json"):
        return find_card(name).to_json()
    record = _result(name, store)
    if record is not None:
        return record
    known = [*methods, *(card.id for card in all_cards())]
    raise unknown_id("model, method or result", name, known, listing="securitynet list")


def _result(prefix: str, store: Any) -> dict[str, Any] | None:
    from securitynet.api import store_folder
    from securitynet.runs.store import Store

    if len(prefix) < 4 or not all(c in "0123456789abcdef" for c in prefix):
        return None
    found = Store(store_folder(store)).find(prefix)
    if len(found) > 1:
        raise UsageError(f"{len(found)} results start with {prefix!r}", hint="give more of the key")
    return found[0].to_json() if found else None


def _table(record: Mapping[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in record.items():
        if name == "options":
            _add_options(table, value)
        else:
            table.add_row(name, escape(_text(value)))
    return table


def _add_options(table: Table, options: list[Mapping[str, Any]]) -> None:
    for item in options:
        allowed = f" one of {', '.join(map(str, item['choices']))};" if item["choices"] else ""
        line = f"{item['help']};{allowed} default {item['default']}"
        table.add_row(f"  -o {item['name']}", escape(line))


def _text(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, Mapping) and set(value) >= {"value", "low", "high", "n"}:
        return _measure(value)
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        text = json_module.dumps(value, ensure_ascii=False)
        return text if len(text) <= 400 else f"{text[:400]}... ({len(value)} items)"
    return str(value)


def _measure(measure: Mapping[str, Any]) -> str:
    value, low, high = (measure[name] for name in ("value", "low", "high"))
    if value is None:
        return "unknown"
    interval = "" if low is None or high is None else f" [{low:.4g}, {high:.4g}]"
    size = "" if measure["n"] is None else f"  n={measure['n']:,}"
    return f"{value:.4g}{interval}{size}"
