"""Checkpoints inside zip archives: one named member is streamed out, nothing else is unpacked."""

from __future__ import annotations

import shutil
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from securitynet.errors import IntegrityError
from securitynet.files.atomic import write_atomic

MAX_BYTES = 4 * 2**30
MAX_DIRECTORY_BYTES = 64 * 2**20
"""A central directory of this size lists about half a million members."""
END = b"PK\x05\x06"
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1
CHUNK = 1 << 20
SHOWN = 4


def extract_member(
    archive: Path, member: str, destination: Path, *, where: str, max_bytes: int = MAX_BYTES
) -> Path:
    """Write one member of a zip archive to a file of our own choosing.

    The archive never decides where anything is written. Its members are only looked up: by their
    whole path, or by the last part of it if just one member is called so.

    Args:
        archive: The zip file.
        member: Path inside it, or the last part of the path.
        destination: The file to write; there whole or not at all.
        where: Named in errors.
        max_bytes: Larger members are refused.

    Raises:
        IntegrityError: If it is no zip file, has no such member or two, or the member is
            encrypted, too large or damaged.
        ResourceError: If the disk is full.
    """
    _check_directory(archive, where)
    try:
        with zipfile.ZipFile(archive) as opened:
            item = _find(opened, member, where)
            _check_item(item, where, max_bytes)
            with opened.open(item) as source:
                write_atomic(destination, lambda file: shutil.copyfileobj(source, file, CHUNK))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise IntegrityError(
            f"the archive is damaged: {error}", where=where, hint="get the file again"
        ) from None
    return destination


def _check_directory(archive: Path, where: str) -> None:
    """Refuse what is no zip file, and a directory too large to be read into memory."""
    with archive.open("rb") as file:
        length = directory_bytes(file)
    if length is None:
        raise IntegrityError(
            f"{archive.name} is not a zip archive",
            where=where,
            hint="the address or the card's weights.member is outdated",
        )
    if length > MAX_DIRECTORY_BYTES:
        raise IntegrityError(f"the archive's directory has {length:,} bytes", where=where)


def directory_bytes(file: BinaryIO) -> int | None:
    """Return the length of a zip file's central directory, ``None`` if this is no zip file."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 22 - 76 - 0xFFFF))
    tail = file.read()
    begin = tail.rfind(END)
    if begin < 0 or len(tail) - begin < 22:
        return None
    length = int(struct.unpack_from("<I", tail, begin + 12)[0])
    return max(0 if length == 0xFFFFFFFF else length, _zip64_bytes(tail[:begin]))


def _zip64_bytes(before: bytes) -> int:
    """Return the length that a zip64 end record, if there is one, gives the directory."""
    if before[-20:-16] != b"PK\x06\x07" or len(before) < 76:
        return 0
    return int(struct.unpack_from("<Q", before, len(before) - 76 + 40)[0])


def _find(archive: zipfile.ZipFile, member: str, where: str) -> zipfile.ZipInfo:
    items = [item for item in archive.infolist() if not item.is_dir()]
    found = [item for item in items if item.filename == member]
    if not found and "/" not in member:
        found = [item for item in items if PurePosixPath(item.filename).name == member]
    if len(found) == 1:
        return found[0]
    if found:
        raise IntegrityError(f"the archive holds {len(found)} members {member!r}", where=where)
    named = ", ".join(repr(item.filename[:60]) for item in items[:SHOWN])
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    raise IntegrityError(
        f"the archive has no member {member!r}; it holds {named or 'nothing'}{more}",
        where=where,
        hint="correct weights.member in the card",
    )


def _check_item(item: zipfile.ZipInfo, where: str, max_bytes: int) -> None:
    problem = None
    if item.flag_bits & ENCRYPTED:
        problem = "is encrypted"
    elif item.compress_type not in METHODS:
        problem = f"is compressed by method {item.compress_type}"
    elif item.file_size > max_bytes:
        problem = f"unpacks to {item.file_size:,} bytes, over the limit of {max_bytes:,}"
    if problem is not None:
        raise IntegrityError(f"member {item.filename[:60]!r} {problem}", where=where)
