"""Rows into a Parquet file, a group at a time. No torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securitynet.catalogue.export_tables import Table, Values


@dataclass(frozen=True)
class ParquetFile:
    """An open Parquet file.

    Attributes:
        schema: Its arrow schema.
        writer: Its open writer.
    """

    schema: Any
    writer: Any

    def add(self, rows: Sequence[Values]) -> None:
        """Add rows as one group."""
        import pyarrow

        columns = list(zip(*rows, strict=True)) if rows else [() for _ in self.schema]
        arrays = [
            pyarrow.array(column, type=field.type)
            for column, field in zip(columns, self.schema, strict=True)
        ]
        self.writer.write_table(pyarrow.Table.from_arrays(arrays, schema=self.schema))


@contextlib.contextmanager
def parquet(folder: Path, table: Table) -> Iterator[ParquetFile]:
    """Open the Parquet file of a table for writing; columns bear their descriptions."""
    from pyarrow import field, parquet, schema

    fields = [
        field(
            column.name, _types()[column.kind], nullable=not column.is_required,
            metadata={"description": column.about},
        )
        for column in table.columns
    ]  # fmt: skip
    known = schema(fields, metadata={"title": table.title, "description": table.about})
    path = folder / f"{table.name}.parquet"
    with parquet.ParquetWriter(path, known, compression="zstd") as writer:
        yield ParquetFile(known, writer)


def _types() -> dict[str, Any]:
    import pyarrow

    text, real = pyarrow.string(), pyarrow.float64()
    return {
        "text": text, "json": text, "integer": pyarrow.int64(), "real": real,
        "boolean": pyarrow.bool_(), "texts": pyarrow.list_(text), "reals": pyarrow.list_(real),
    }  # fmt: skip
