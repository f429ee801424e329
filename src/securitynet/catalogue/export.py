"""The database and our records as files for other tools: Parquet, SQLite, Croissant. No torch."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from securitynet.catalogue.export_about import DATABASE, croissant, datasette
from securitynet.catalogue.export_parquet import parquet
from securitynet.catalogue.export_sqlite import COLUMNS, SqliteWriter
from securitynet.catalogue.export_tables import (
    CLAIMS,
    DATASETS,
    EVALUATIONS,
    MEASURES,
    MODELS,
    TABLES,
    Record,
    Table,
    Values,
    claim_rows,
    dataset_rows,
    measure_rows,
    values,
)
from securitynet.errors import ResourceError, UsageError
from securitynet.files.digest import digest
from securitynet.records import Evaluation

CROISSANT = "croissant.json"
FILES = (*(f"{table.name}.parquet" for table in TABLES), DATABASE, "metadata.json", CROISSANT)
SCRATCH = ".securitynet-export-"
CHUNK = 20_000
"""Models that are in memory at once."""


def export(
    folder: Path,
    models: Iterable[Record],
    records: Iterable[Evaluation],
    datasets: Iterable[Record],
    *,
    version: str,
) -> list[Path]:
    """Write the tables in every form; the same input gives the same bytes.

    ``croissant.json``, which holds the checksums of the others, is written last: without it an
    export is unfinished.

    Args:
        folder: Where to; an earlier export there is replaced.
        models: Rows of the catalogue.
        records: Our evaluations.
        datasets: What is known of data sets, by ``id``.
        version: Of this package.

    Returns:
        The files.

    Raises:
        UsageError: If the folder holds anything else.
        ResourceError: If it cannot be written.
        IntegrityError: If a row breaks a check of the database; nothing is replaced then.
    """
    try:
        _check_folder(folder)
        with tempfile.TemporaryDirectory(dir=folder, prefix=SCRATCH) as scratch:
            _write(Path(scratch), models, records, datasets)
            _describe(Path(scratch), version)
            _publish(Path(scratch), folder)
    except (OSError, sqlite3.OperationalError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ResourceError(
            f"cannot write: {reason}", where=folder, hint="free some disk space or choose another"
        ) from error
    return [folder / name for name in FILES]


def _check_folder(folder: Path) -> None:
    """Make the folder, or see that it holds nothing but an export; clear what a killed one left."""
    folder.mkdir(parents=True, exist_ok=True)
    for item in sorted(folder.iterdir()):
        if item.name.startswith(SCRATCH) and item.is_dir():
            shutil.rmtree(item)
        elif item.name not in FILES:
            raise UsageError(
                f"the folder holds {item.name}, which is no part of an export",
                where=folder,
                hint="choose a new or an empty folder",
            )


def _write(
    folder: Path,
    models: Iterable[Record],
    records: Iterable[Evaluation],
    datasets: Iterable[Record],
) -> None:
    named: set[str] = set()
    database = SqliteWriter(folder / DATABASE)
    with contextlib.closing(database.connection), contextlib.ExitStack() as stack:
        files = {table.name: stack.enter_context(parquet(folder, table)) for table in TABLES}

        def put(table: Table, rows: Sequence[Values]) -> None:
            database.add(table, rows) if table is not MODELS else database.add_models(rows)
            files[table.name].add(rows)

        for chunk in _chunks(models):
            put(MODELS, [values(row, MODELS) for row in chunk])
            put(CLAIMS, [row for model in chunk for row in claim_rows(model)])
            named.update(row["dataset"] for row in chunk)
        for kept in _chunks(sorted(records, key=lambda record: record.key)):
            put(EVALUATIONS, [values(record.to_json(), EVALUATIONS) for record in kept])
            put(MEASURES, [row for record in kept for row in measure_rows(record)])
        put(DATASETS, dataset_rows(datasets, named))
        database.finish()


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    left = iter(items)
    while chunk := list(islice(left, CHUNK)):
        yield chunk


def _describe(folder: Path, version: str) -> None:
    tables = {path.name: path for path in sorted(folder.iterdir())}
    facts = {name: (digest(path), path.stat().st_size) for name, path in tables.items()}
    texts: Mapping[str, Any] = {
        "metadata.json": datasette(COLUMNS, version=version),
        CROISSANT: croissant(facts, version=version),
    }
    for name, record in texts.items():
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        (folder / name).write_text(text, encoding="utf-8")


def _publish(scratch: Path, folder: Path) -> None:
    """Give the files their final names, the one that vouches for the others last."""
    for name in FILES:
        with (scratch / name).open("rb") as file:
            os.fsync(file.fileno())
    (folder / CROISSANT).unlink(missing_ok=True)
    for name in FILES:
        (scratch / name).replace(folder / name)
