"""Atomic writes: a file is there whole or not at all, even through a power cut."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from securitynet.errors import ResourceError


def write_atomic(
    path: Path, write: Callable[[BinaryIO], object], *, keep_existing: bool = False
) -> bool:
    """Write a file through a temporary one in the same folder.

    Args:
        path: Final name; its folder is made.
        write: Writes the content to the open binary file.
        keep_existing: First writer wins: an existing file is left as it is.

    Returns:
        Whether this call made the file.

    Raises:
        ResourceError: If the disk is full or cannot be written; earlier data stay intact.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
                file.flush()
                os.fchmod(file.fileno(), 0o666 & ~_umask())
                os.fsync(file.fileno())
            return _publish(Path(name), path, keep_existing)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(
            f"cannot write: {error.strerror or error}",
            where=path,
            hint="free some disk space or choose another folder, then give the same command again",
        ) from error


def _umask() -> int:
    """Return which permissions new files go without; a temporary file goes without too many."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _publish(temporary: Path, path: Path, keep_existing: bool) -> bool:
    """Give the temporary file its final name and make the name durable."""
    made = True
    if keep_existing:
        try:
            os.link(temporary, path)
        except FileExistsError:
            made = False
    else:
        temporary.replace(path)
    _sync_folder(path.parent)
    return made


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_atomic(path, lambda file: file.write(text.encode()))
