"""``securitynet list``: models, methods, data sets, results or leads as rows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from securitynet.cli.columns import Column, fitting, folded, heading, room
from securitynet.cli.common import (
    JsonOption,
    QuietOption,
    StoreOption,
    VerboseOption,
    WhereOption,
    line,
    note,
    print_json,
    progress_bar,
    set_verbosity,
)
from securitynet.errors import UsageError, unknown_id

if TYPE_CHECKING:
    from securitynet.records import Evaluation


class What(StrEnum):
    """What can be listed."""

    models = "models"
    methods = "methods"
    datasets = "datasets"
    results = "results"
    leads = "leads"


COLUMNS = {
    What.models: (
        Column("id", "id"),
        Column("dataset", "data set", rank=1),
        Column("family", "family", rank=4),
        Column("params", "parameters", is_right=True, rank=3),
        Column("claimed", "claimed acc.", is_right=True, rank=2),
        Column("origin", "origin", rank=6),
        Column("status", "status", rank=5),
    ),
    What.methods: (
        Column("name", "name"),
        Column("access", "sees", rank=1),
        Column("summary", "what it does", least=40),
        Column("paper", "paper", least=40, rank=2),
    ),
    What.datasets: (
        Column("name", "name"),
        Column("num_classes", "classes", is_right=True, rank=1),
        Column("n_train", "train", is_right=True, rank=1),
        Column("n_test", "test", is_right=True, rank=1),
        Column("licence", "licence", rank=2),
        Column("is_available", "on this machine"),
    ),
    What.results: (
        Column("key", "key"),
        Column("model", "model"),
        Column("label", "method", least=24),
        Column("dataset", "data set", rank=1),
        Column("headline", "result"),
        Column("seconds", "seconds", is_right=True, rank=2),
    ),
    What.leads: (
        Column("title", "title", least=30),
        Column("venue", "venue", rank=2),
        Column("year", "year", rank=3),
        Column("weights_url", "weights"),
        Column("is_usable", "usable", rank=1),
    ),
}
NEXT = {
    What.models: "securitynet show ID",
    What.methods: "securitynet show NAME",
    What.datasets: "securitynet doctor",
    What.results: "securitynet show KEY, or securitynet report",
    What.leads: "why one is not usable: --json",
}
HUB = "hub"
HEADLINES = ("auc", "excess_agreement", "p_value", "auroc")


def list_rows(
    what: Annotated[What, typer.Argument(help="What to list.")] = What.models,
    where: WhereOption = None,
    sort: Annotated[
        str | None, typer.Option("--sort", help="Field to sort by; -FIELD sorts downwards.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=0, help="At most N rows.")] = None,
    provider: Annotated[
        str | None,
        typer.Option("--provider", help="Models of one provider; hub: those listed by --refresh."),
    ] = None,
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh",
            help="Ask the hub first: for its models (about 1000, or --limit), or for checksums.",
        ),
    ] = False,
    json: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV only on stdout.")] = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """List models, methods, data sets, results, or leads: projects that may hold more models."""
    from securitynet.catalogue.database import check_field, select

    set_verbosity(quiet, verbose)
    if csv and json:
        raise UsageError("--csv and --json both want stdout", hint="give one of them")
    if refresh:
        _refresh(what, provider, limit, quiet=quiet)
    everything = _rows(what, store, provider)
    if sort:
        check_field(everything, sort.removeprefix("-"))
    rows = _sorted(list(select(everything, where or [])), sort)[:limit]
    if json:
        print_json(rows)
        return
    if csv:
        from securitynet.reports.export import rows_to_csv

        sys.stdout.write(rows_to_csv(rows))
        return
    if not rows:
        note(f"no {what} match" if where else f"no {what} yet")
        return
    _print(what, rows)


def _refresh(what: What, provider: str | None, limit: int | None, *, quiet: bool) -> None:
    if what is not What.models or provider is None:
        hint = "securitynet list models --provider hub --refresh"
        raise UsageError("only models of a provider are asked for live", hint=hint)
    if provider != HUB:
        _pin(provider, limit, quiet=quiet)
        return
    from securitynet.catalogue.hub import refresh

    with progress_bar("listing the hub", quiet=quiet) as progress:
        done = refresh(limit, progress)
    if not quiet:
        rest = "all there are" if done.is_complete else "--refresh again goes on"
        note(f"the hub listed {done.n_seen:,} models, {done.n_kept:,} are kept; {rest}")


def _pin(provider: str, limit: int | None, *, quiet: bool) -> None:
    """Ask the hub for revision and sha256 of a provider's files that have none."""
    from securitynet.catalogue.pins import refresh
    from securitynet.catalogue.tables import rows

    _check_provider(provider, rows())
    with progress_bar("asking the hub", quiet=quiet) as progress:
        done = refresh((row for row in rows() if row["provider"] == provider), limit, progress)
    if not quiet:
        rest = f"{done.n_left:,} left: --refresh again goes on" if done.n_left else "none is left"
        gone = f", {done.n_gone:,} of them closed or gone" if done.n_gone else ""
        note(f"the hub was asked for {done.n_asked:,} repositories{gone}; {rest}")


def _rows(what: What, store: Any, provider: str | None) -> list[dict[str, Any]]:
    if provider is not None and what is not What.models:
        raise UsageError(f"{what} have no provider", hint="securitynet list models --provider NAME")
    if what is What.models:
        return _model_rows(provider)
    if what is What.methods:
        return method_rows()
    if what is What.datasets:
        from securitynet.datasets.library import dataset_rows

        return list(dataset_rows())
    if what is What.leads:
        from securitynet.catalogue.generators.leads import lead_rows

        return lead_rows()
    return _result_rows(store)


def _model_rows(provider: str | None) -> list[dict[str, Any]]:
    if provider == HUB:
        from securitynet.catalogue.hub import hub_rows

        return hub_rows()
    from securitynet.catalogue.pins import known_rows

    listed = known_rows()
    if provider is not None:
        _check_provider(provider, listed)
    return [row for row in listed if provider in (None, row["provider"])]


def _check_provider(provider: str, listed: Sequence[dict[str, Any]]) -> None:
    known = {str(row["provider"]) for row in listed}
    if provider not in known:
        raise unknown_id("provider", provider, [*known, HUB], listing="securitynet list models")


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

    return [record.to_json() for record in sort_records(Store(store_folder(store)).records())]


def _sorted(rows: list[dict[str, Any]], sort: str | None) -> list[dict[str, Any]]:
    """Sort by a field; unknown values come last in either direction."""
    from securitynet.catalogue.database import lookup

    if not sort:
        return rows
    name = sort.removeprefix("-")
    values = [_flat(lookup(row, name)) for row in rows]
    known = [(_sort_key(value), i) for i, value in enumerate(values) if value is not None]
    known.sort(key=lambda item: item[0], reverse=sort.startswith("-"))
    unknown = [row for row, value in zip(rows, values, strict=True) if value is None]
    return [rows[i] for _, i in known] + unknown


def _flat(value: Any) -> Any:
    if isinstance(value, list):
        return value[0] if value else None
    return value


def _sort_key(value: Any) -> tuple[int, float, str]:
    if isinstance(value, int | float):
        return 0, float(value), ""
    return 1, 0.0, str(value).casefold()


def _print(what: What, rows: Sequence[dict[str, Any]]) -> None:
    columns = COLUMNS[what]
    full = [{**row, **extra} for row, extra in zip(rows, _extras(what, rows), strict=True)]
    cells = [[_cell(column.name, row[column.name]) for column in columns] for row in full]
    shown, lines = fitting(columns, cells, room())
    sys.stdout.write(heading(lines[0]) + "\n")
    for text in lines[1:]:
        line(text)
    left_out = [column.title for column in columns if column not in shown]
    hidden = f" (no room for {', '.join(left_out)})" if left_out else ""
    note(folded(f"{len(rows):,} {what}{hidden}; more: {NEXT[what]}", 0, room()))


def _extras(what: What, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what people read of each row beside its fields."""
    if what is What.models:
        return [{"claimed": _claimed(row["claims"])} for row in rows]
    if what is not What.results:
        return [{} for _ in rows]
    from securitynet.records import Evaluation
    from securitynet.reports.wording import labeller

    records = [Evaluation.from_json(row) for row in rows]
    label = labeller(records)
    return [{"label": label(record), "headline": _headline(record)} for record in records]


def _claimed(claims: Sequence[dict[str, Any]]) -> str | None:
    found = [claim["value"] for claim in claims if claim["metric"] == "test_accuracy"]
    return f"{found[0]:.3f}" if found else None


def _headline(record: Evaluation) -> str:
    """Return the figure that a family is judged by, or why there is none."""
    from securitynet.reports.wording import name_of, number, p_value

    name = next((name for name in HEADLINES if name in record.measures), None)
    if record.status != "ok" or name is None:
        return record.status
    measure = record.measures[name]
    if measure.value is None:
        return f"{name_of(name)} unknown"
    return f"{name_of(name)} {p_value(measure) if name == 'p_value' else number(measure.value)}"


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name == "key":
        return str(value)[:10]
    if name == "year":
        return str(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
