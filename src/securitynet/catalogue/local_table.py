"""The user's own tables of what the hub said: SQLite files in the cache."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from securitynet.errors import ResourceError


@contextlib.contextmanager
def open_table(path: Path, schema: str, what: str) -> Iterator[sqlite3.Connection]:
    """Open a table, made if it is not there.

    Args:
        path: Its file.
        schema: SQL that makes what is missing.
        what: What it holds; named in errors.

    Raises:
        ResourceError: If it cannot be made, read or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as table:
            table.executescript(schema)
            yield table
    except (OSError, sqlite3.Error) as error:
        raise ResourceError(
            f"cannot use the table of {what}: {getattr(error, 'strerror', None) or error}",
            where=path,
            hint="delete it and list again with --refresh, or set SECURITYNET_CACHE",
        ) from error
