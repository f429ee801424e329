"""Archives and compressed files: every member is looked at, nothing is unpacked to a named place.

Members go to nameless temporary files, within bounds, and are inspected there like any file.
"""

from __future__ import annotations

import bz2
import lzma
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol, cast

from securitynet.weights.findings import Contents, Finding, Tensors, damage, printable, unknown
from securitynet.weights.zipped import LOCAL, ZIP_ERRORS, open_zip, zip_damage

MAX_MEMBERS = 20_000
MAX_BYTES = 4 * 2**30
MAX_FACTOR = 20
MIN_BOMB_BYTES = 64 * 2**20
"""What unpacks to more than this, and to more than 20 times its bytes, is a bomb: weights hardly
shrink at all."""
MAX_NAME_BYTES = 1 << 16
MAX_XZ_MEMORY = 128 * 2**20
CHUNK = 1 << 20
BLOCK = 512
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

Visit = Callable[[BinaryIO, str, int], Contents]
"""Inspects a member: a stream, its name, and how many bytes it says it has."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, /, max_length: int) -> bytes: ...


def is_bomb(unpacked: int, packed: int) -> bool:
    """Return whether bytes unpack to far more than weights would."""
    return unpacked > max(MIN_BOMB_BYTES, MAX_FACTOR * packed)


def name_problem(name: str) -> str | None:
    """Return what is wrong with a member's name."""
    parts = name.rstrip("/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or "\\" in name or name[1:2] == ":":
        return "leaves the archive's folder"
    is_odd = not name or not name.isprintable() or set(name) & set('<>"|*?')
    return "has a name that acts on a terminal, a page or a file system" if is_odd else None


def container(file: BinaryIO, archive: zipfile.ZipFile) -> list[Finding]:
    """Check a zip file's members before any is read; all readers must see the same ones."""
    items = archive.infolist()
    if len(items) > MAX_MEMBERS:
        return [unknown(f"{len(items):,} members")]
    size, total = file.seek(0, 2), sum(item.file_size for item in items)
    if is_bomb(total, size):
        return [Finding(what=f"unpacks to {total:,} bytes: a bomb")]
    findings: list[Finding] = [unknown("unpacks to over 4 GB")] if total > MAX_BYTES else []
    seen: set[str] = set()
    for item in items:
        problem = _zip_problem(file, item, seen)
        seen.add(item.filename.lower())
        if problem is not None:
            findings.append(Finding(what=problem, member=printable(item.filename),
                                    offset=item.header_offset))  # fmt: skip
    return (findings or _overlaps(archive))[:20]


def _zip_problem(file: BinaryIO, item: zipfile.ZipInfo, seen: set[str]) -> str | None:
    if item.filename.lower() in seen:
        return "occurs twice"
    mode = item.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if item.flag_bits & 0x2041:
        return "is encrypted"
    if item.compress_type not in METHODS:
        return f"is compressed by method {item.compress_type}"
    if item.filename != item.orig_filename or _local_name(file, item) != item.filename:
        return "has another name or method in its local header"
    return name_problem(item.filename)


def _local_name(file: BinaryIO, item: zipfile.ZipInfo) -> str | None:
    file.seek(item.header_offset)
    raw = file.read(30)
    if len(raw) < 30 or raw[:4] != LOCAL:
        return None
    flags, method, n_name = (struct.unpack_from("<H", raw, at)[0] for at in (6, 8, 26))
    if method != item.compress_type or (flags ^ item.flag_bits) & 0x2041:
        return None
    name = file.read(n_name)
    return name.decode("utf-8" if flags & 0x800 else "cp437", "replace")


def _overlaps(archive: zipfile.ZipFile) -> list[Finding]:
    """Members that share bytes unpack to more than the file: a bomb without nesting."""
    end = 0
    for item in sorted(archive.infolist(), key=lambda item: item.header_offset):
        if item.header_offset < end:
            return [Finding(what="overlaps another", member=printable(item.filename),
                            offset=item.header_offset)]  # fmt: skip
        end = item.header_offset + 30 + len(item.filename) + item.compress_size
    if end > archive.start_dir:
        return [Finding(what="a member reaches into the directory", offset=archive.start_dir)]
    return []


def check_archive(file: BinaryIO, visit: Visit) -> Contents:
    """Check a plain zip archive and every file in it."""
    try:
        with open_zip(file) as archive:
            findings, tensors = container(file, archive), Tensors()
            for item in [] if findings else archive.infolist():
                if not item.is_dir():
                    with archive.open(item) as stream:
                        found = visit(cast(BinaryIO, stream), item.filename, item.file_size)
                    findings, tensors = _joined(findings, tensors, found)
            return Contents(findings[:20], tensors)
    except ZIP_ERRORS as error:
        return Contents([zip_damage(error)])


def _joined(
    findings: list[Finding], tensors: Tensors, found: Contents
) -> tuple[list[Finding], Tensors]:
    return findings + found.findings, tensors + (found.tensors or Tensors())


class _Member:
    """A span of a tar file, read like a file."""

    def __init__(self, file: BinaryIO, begin: int, size: int) -> None:
        self._file, self._at, self._end = file, begin, begin + size

    def read(self, size: int) -> bytes:
        self._file.seek(self._at)
        data = self._file.read(min(size, self._end - self._at))
        self._at += len(data)
        return data


def check_tar(file: BinaryIO, visit: Visit) -> Contents:
    """Check a tar archive and every file in it."""
    findings: list[Finding] = []
    tensors = Tensors()
    try:
        for item, begin in _tar_members(file):
            problem = _tar_problem(item)
            if problem is not None:
                findings.append(Finding(what=problem, member=printable(item.name),
                                        offset=item.offset))  # fmt: skip
            elif item.isreg():
                stream = cast(BinaryIO, _Member(file, begin, item.size))
                found = visit(stream, item.name, item.size)
                findings, tensors = _joined(findings, tensors, found)
            if len(findings) >= 20:
                break
    except (tarfile.HeaderError, ValueError) as error:
        findings.append(damage(f"not a whole tar file: {printable(str(error))}"))
    return Contents(findings[:20], tensors)


def _tar_problem(item: tarfile.TarInfo) -> str | None:
    if item.issym() or item.islnk():
        return f"is a link to {printable(item.linkname, 60)!r}"
    if not (item.isreg() or item.isdir()):
        return "is a device or a pipe" if item.isdev() else "is of an unknown type"
    return name_problem(item.name)


def _tar_members(file: BinaryIO) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Yield each header and where its data begin; long names come from headers before it."""
    size, position, seen, extra = file.seek(0, 2), 0, 0, dict[str, str]()
    while position + BLOCK <= size:
        file.seek(position)
        block = file.read(BLOCK)
        if not block.strip(b"\0"):
            return
        item = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        item.offset, begin = position, position + BLOCK
        length = int(extra.get("size", item.size))
        seen += 1
        if seen > MAX_MEMBERS or length < 0 or begin + length > size:
            raise ValueError("too many members, or one that leaves the file")
        position = begin + -(-length // BLOCK) * BLOCK
        if item.type in (b"L", b"K", b"x", b"g"):
            extra |= _extra(file, item, begin)
            continue
        item.name, item.size = extra.get("path", item.name), length
        item.linkname = extra.get("linkpath", item.linkname)
        yield item, begin
        extra = {}


def _extra(file: BinaryIO, item: tarfile.TarInfo, begin: int) -> dict[str, str]:
    """Return the name, link or size that an extended header gives to the member after it."""
    if item.size > MAX_NAME_BYTES:
        raise ValueError("an extended header is too long")
    file.seek(begin)
    data = file.read(item.size)
    if item.type in (b"L", b"K"):
        text = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
        return {"path" if item.type == b"L" else "linkpath": text}
    found: dict[str, str] = {}
    while data:
        digits, _, rest = data.partition(b" ")
        length = int(digits)
        key, _, value = rest[: length - len(digits) - 2].decode("utf-8").partition("=")
        if length <= len(digits) or key.startswith("GNU.sparse"):
            raise ValueError("an extended header is malformed or of a sparse file")
        found[key], data = value, data[length:]
    return found


def check_compressed(file: BinaryIO, visit: Visit) -> Contents:
    """Check what a compressed file unpacks to, within bounds."""
    size = file.seek(0, 2)
    file.seek(0)
    with tempfile.TemporaryFile() as made:
        try:
            for chunk in _unpacked(file):
                made.write(chunk)
                if is_bomb(made.tell(), size):
                    what = f"{size:,} bytes unpack to more than {made.tell():,}: a bomb"
                    return Contents([Finding(what=what)])
        except (zlib.error, lzma.LZMAError, EOFError, OSError, ValueError) as error:
            return Contents([damage(f"cannot be unpacked: {printable(str(error))}")])
        length = made.tell()
        made.seek(0)
        return visit(cast(BinaryIO, made), "unpacked", length)


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    head = file.read(6)
    file.seek(0)
    machine = _decompressor(head)
    waiting = file.read(CHUNK)
    while not machine.eof:
        yield machine.decompress(waiting, CHUNK)
        waiting = getattr(machine, "unconsumed_tail", b"") or (
            file.read(CHUNK) if getattr(machine, "needs_input", True) else b""
        )
        if not waiting and getattr(machine, "needs_input", True) and not machine.eof:
            raise EOFError("it is cut off")
    if getattr(machine, "unused_data", b"") or waiting:
        raise ValueError("bytes follow the compressed data")


def _decompressor(head: bytes) -> _Decompressor:
    if head.startswith(b"BZh"):
        return bz2.BZ2Decompressor()
    if head.startswith((b"\xfd7zXZ", b"\x5d\0\0")):
        return lzma.LZMADecompressor(memlimit=MAX_XZ_MEMORY)
    return zlib.decompressobj(47)
