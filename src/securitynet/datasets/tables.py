"""Parquet splits in the layout of the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from securitynet.datasets.pictures import Encoded
from securitynet.datasets.sources import CHUNK, Label, Source, Splits
from securitynet.errors import IntegrityError, UsageError

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "fine_label", "labels")


def open_tables(splits: Splits) -> Source:
    """Open parquet splits: image column ``struct{bytes, path}`` or binary, and a label column.

    Raises:
        UsageError: If a column is missing or of another type, or a label is absent.
        IntegrityError: If a file is not readable parquet.
    """
    train = [label for path in splits.train for label in _labels(path)]
    test = [label for path in splits.test for label in _labels(path)]
    rows = [(path, _n_rows(path)) for path in splits.files]

    def chunks() -> Iterator[Sequence[Encoded]]:
        for path in splits.files:
            yield from _images(path)

    return Source(train, test, _class_names(splits.train[0]), chunks, lambda i: _place(rows, i))


def _place(rows: Sequence[tuple[Path, int]], i: int) -> str:
    for path, n_rows in rows:
        if i < n_rows:
            return f"{path} row {i}"
        i -= n_rows
    raise IndexError(i)


def _images(path: Path) -> Iterator[Sequence[Encoded]]:
    with _open(path) as file:
        column = _column(file, path, IMAGE_COLUMNS)
        for batch in file.iter_batches(batch_size=CHUNK, columns=[column]):
            values = batch.column(0)
            if pa.types.is_struct(values.type):
                values = pc.struct_field(values, "bytes")
            yield values.to_pylist()


def _labels(path: Path) -> list[Label]:
    with _open(path) as file:
        _check_image_type(file, path)
        column = _column(file, path, LABEL_COLUMNS)
        values = file.read(columns=[column]).column(0)
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (is_text or pa.types.is_integer(kind)):
        raise UsageError(f"column {column!r} holds {kind}", where=path, hint="use int64 or string")
    if values.null_count:
        raise UsageError(f"{values.null_count} rows have no label", where=path, hint="drop them")
    labels: list[Label] = values.to_pylist()
    return labels


def _check_image_type(file: Any, path: Path) -> None:
    kind = file.schema_arrow.field(_column(file, path, IMAGE_COLUMNS)).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise UsageError(
            f"the image column holds {kind}", where=path, hint="use struct{bytes, path} or binary"
        )


def _class_names(path: Path) -> tuple[str, ...]:
    """Read the names that the hub's library keeps in the schema, if they are there."""
    with _open(path) as file:
        column = _column(file, path, LABEL_COLUMNS)
        kept = (file.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    try:
        names = json.loads(kept)["info"]["features"][column]["names"]
    except (ValueError, LookupError, TypeError):
        return ()
    return tuple(str(name) for name in names) if isinstance(names, list) else ()


def _n_rows(path: Path) -> int:
    with _open(path) as file:
        return int(file.metadata.num_rows)


def _column(file: Any, path: Path, names: Sequence[str]) -> str:
    for name in names:
        if name in file.schema_arrow.names:
            return name
    found = ", ".join(file.schema_arrow.names[:8])
    raise UsageError(
        f"no column {' or '.join(names)} among {found}", where=path, hint="rename the column"
    )


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(
            f"not a readable parquet file: {str(error).partition(chr(10))[0]}",
            where=path,
            hint="fetch it again",
        ) from error
