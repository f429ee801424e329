"""``securitynet report``: one way to show results."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from securitynet.api import store_folder
from securitynet.cli.common import (
    JsonOption,
    QuietOption,
    StoreOption,
    VerboseOption,
    WhereOption,
    console,
    note,
    print_json,
    progress_bar,
    set_verbosity,
)
from securitynet.errors import UsageError

if TYPE_CHECKING:
    from securitynet.records import Evaluation
    from securitynet.runs.store import Store


class By(StrEnum):
    """How rows are grouped."""

    model = "model"
    method = "method"
    origin = "origin"


def report(
    where: WhereOption = None,
    by: Annotated[By, typer.Option("--by", help="Group rows.")] = By.model,
    html: Annotated[Path | None, typer.Option("--html", help="Write one HTML page.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write a long table.")] = None,
    latex: Annotated[Path | None, typer.Option("--latex", help="Write LaTeX tables.")] = None,
    plots: Annotated[Path | None, typer.Option("--plots", help="Write figures to DIR.")] = None,
    export_to: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="DIR",
            help="Write the whole catalogue and the results as Parquet, SQLite and Croissant.",
        ),
    ] = None,
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Show results as a terminal table, an HTML page, CSV, LaTeX, JSON or figures."""
    from securitynet.reports import export, tables
    from securitynet.runs.store import Store, select_records, sort_records

    set_verbosity(quiet, verbose)
    if export_to:
        _export(export_to, where or [], store, is_json=json)
    if export_to and not (html or csv or latex or plots):
        return
    kept = Store(store_folder(store))
    records = sort_records(select_records(kept.records(), where or []))
    if not records:
        raise UsageError("no results", where=kept.folder, hint="start with `securitynet run`")
    if csv:
        _write(csv, export.to_csv(records))
    if latex:
        _write(latex, export.to_latex(records))
    if html or plots:
        _write_pictures(records, kept, html, plots, quiet=quiet)
    if json:
        print_json([record.to_json() for record in records])
    elif not (html or csv or latex or plots):
        tables.print_tables(records, console(), by=by.value)


def _export(folder: Path, where: list[str], store: Path | None, *, is_json: bool) -> None:
    from securitynet.api import export

    files = export(folder, *where, store=store)
    if is_json:
        print_json([str(path) for path in files])
    note(f"wrote {len(files)} files to {folder}")


def _write_pictures(
    records: list[Evaluation], kept: Store, html: Path | None, plots: Path | None, *, quiet: bool
) -> None:
    from securitynet.reports.html import render_html
    from securitynet.reports.plots import write_plots

    with progress_bar("drawing", quiet=quiet) as progress:
        progress(0.1, "drawing figures")
        if html:
            _write(html, render_html(records, kept.read_array, title="SecurityNet report"))
        if plots:
            write_plots(records, kept.read_array, plots)
            note(f"wrote figures to {plots}")


def _write(path: Path, text: str) -> None:
    from securitynet.files.atomic import write_text

    write_text(path, text)
    note(f"wrote {path}")
