"""Torch's zip container: every reader must see the same members, and no other bytes."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from securitynet.weights.archive import directory_bytes
from securitynet.weights.findings import Contents, Finding, damage, printable, unknown
from securitynet.weights.labels import Storage
from securitynet.weights.pickle_walk import MAX_ITEM_BYTES, walk

MAX_MEMBERS = 100_000
MAX_DIRECTORY_BYTES = 12 * 2**20
ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError,
    ValueError, struct.error,
)  # fmt: skip
"""What reading a malformed zip file raises."""
LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
EXTRAS = {0x0001, 0x4246}
"""Extra fields that torch writes: large sizes, and padding. Others can rename a member."""
IS_KNOWN = re.compile(
    r"data\.pkl|data/[0-9]+|version|byteorder|\.data/serialization_id|\.format_version"
    r"|\.storage_alignment"
)
IS_SCRIPT = re.compile(r"code/.*|.*\.py|constants\.pkl|constants/.*|attributes\.pkl")


@dataclass(frozen=True)
class _Span:
    """Where a member lies: its local header, and the end of its data."""

    name: str
    begin: int
    end: int
    crc: int = 0
    size: int = 0


def check_zip(file: BinaryIO) -> Contents:
    """Check the container, then the pickle inside against the bytes it names."""
    try:
        with open_zip(file) as archive:
            items = archive.infolist()
            findings = _names(items) or _container(file, archive)
            return Contents(findings) if findings else _pickle(archive, _top(items[0]))
    except ZIP_ERRORS as error:
        return Contents([zip_damage(error)])


def open_zip(file: BinaryIO) -> zipfile.ZipFile:
    """Open a zip file whose directory is of a bearable size.

    Raises:
        zipfile.BadZipFile: If it is none, or its directory is too large to be read.
    """
    length = directory_bytes(file)
    if length is None or length > MAX_DIRECTORY_BYTES:
        raise zipfile.BadZipFile("no directory of a bearable size at its end")
    return zipfile.ZipFile(file)


def zip_damage(error: Exception) -> Finding:
    """Return the finding that reading a zip file failed."""
    return damage(f"not a whole zip file: {printable(' '.join(str(error).split()))}")


def _top(item: zipfile.ZipInfo) -> str:
    return item.filename.partition("/")[0]


def _names(items: list[zipfile.ZipInfo]) -> list[Finding]:
    """One folder, known members, each once; torch's reader does not tell case apart."""
    if not 0 < len(items) <= MAX_MEMBERS:
        return [unknown(f"{len(items):,} members")]
    findings: list[Finding] = []
    seen: set[str] = set()
    for item in items:
        findings += _name(item.filename, item.orig_filename, _top(items[0]))
        findings += [_bad("occurs twice", item)] if item.filename.lower() in seen else []
        seen.add(item.filename.lower())
    if not findings and f"{_top(items[0])}/data.pkl" not in {item.filename for item in items}:
        findings.append(unknown("no data.pkl inside"))
    return findings[:20]


def _name(name: str, original: str, top: str) -> list[Finding]:
    parts = name.split("/")
    if name != original or not name.isprintable() or "\\" in name or ":" in name:
        return [Finding(what=f"a member is named {printable(original, 60)!r}")]
    if name.startswith("/") or ".." in parts or "." in parts or "" in parts:
        return [Finding(what="leaves the archive's folder", member=name[:200])]
    inner = name.removeprefix(f"{top}/")
    if IS_SCRIPT.fullmatch(inner):
        return [Finding(what="is TorchScript: a program that would run", member=name[:200])]
    if inner == name or not IS_KNOWN.fullmatch(inner):
        return [unknown("is no member that torch writes", name[:200])]
    return []


def _bad(what: str, item: zipfile.ZipInfo) -> Finding:
    return Finding(what=what, member=item.filename[:200], offset=item.header_offset)


def _container(file: BinaryIO, archive: zipfile.ZipFile) -> list[Finding]:
    findings: list[Finding] = []
    spans: list[_Span] = []
    for item in archive.infolist():
        problem = _member(item)
        span = None if problem else _span(file, item)
        findings += [_bad(problem, item)] if problem else []
        findings += [] if problem or span else [_bad("local and central header differ", item)]
        spans += [span] if span else []
    return findings[:20] or _tiling(file, archive.start_dir, spans) or _end(file, archive)


def _member(item: zipfile.ZipInfo) -> str | None:
    if item.flag_bits & ~0x0808:
        return "is encrypted or has unknown flags"
    if item.compress_type != zipfile.ZIP_STORED or item.file_size != item.compress_size:
        return f"is compressed (unpacks to {item.file_size:,} bytes)"
    return None if _extras(item.extra) <= EXTRAS else "has unknown extra fields"


def _extras(raw: bytes) -> set[int]:
    found, position = set(), 0
    while position + 4 <= len(raw):
        kind, length = struct.unpack_from("<HH", raw, position)
        found.add(kind)
        position += 4 + length
    return found if position == len(raw) else {-1}


def _span(file: BinaryIO, item: zipfile.ZipInfo) -> _Span | None:
    """Compare the local header with the central one; ``None`` if they differ."""
    file.seek(item.header_offset)
    raw = file.read(30)
    if len(raw) < 30 or raw[:4] != LOCAL:
        return None
    flags, method, _, _, crc, packed, size, n_name, n_extra = struct.unpack("<HHHHIIIHH", raw[6:])
    name, extra = file.read(n_name), file.read(n_extra)
    sizes = {(item.CRC, item.file_size, item.file_size), *_postponed(flags, extra)}
    is_same = (
        name.decode("utf-8", "replace") == item.filename
        and (flags, method) == (item.flag_bits, item.compress_type)
        and (crc, packed, size) in sizes
        and _extras(extra) <= EXTRAS
    )
    begin = item.header_offset
    end = file.tell() + item.file_size
    return _Span(item.filename, begin, end, item.CRC, item.file_size) if is_same else None


def _postponed(flags: int, extra: bytes) -> set[tuple[int, int, int]]:
    """Sizes that the local header may leave to the data descriptor behind the data."""
    large = 0xFFFFFFFF
    return {(0, 0, 0), (0, large, large)} if flags & 0x8 else set()


def _tiling(file: BinaryIO, directory: int, spans: list[_Span]) -> list[Finding]:
    """Members follow each other without holes (a data descriptor apart) up to the directory."""
    before = _Span("", 0, 0)
    for span in [*sorted(spans, key=lambda span: span.begin), _Span("", directory, directory)]:
        if span.begin != before.end and not _is_descriptor(file, before, span.begin):
            return [Finding(what="overlaps another or hides bytes before it",
                            member=span.name or "directory", offset=span.begin)]  # fmt: skip
        before = span
    return []


def _is_descriptor(file: BinaryIO, before: _Span, end: int) -> bool:
    """Whether only a data descriptor lies between two members, and says what the directory says."""
    length = end - before.end
    file.seek(before.end)
    raw = file.read(length) if length in (16, 24) and before.name else b""
    truth = (b"PK\x07\x08", before.crc, before.size, before.size)
    return bool(raw) and struct.unpack("<4sIII" if length == 16 else "<4sIQQ", raw) == truth


def _end(file: BinaryIO, archive: zipfile.ZipFile) -> list[Finding]:
    """The directory runs up to the end record, which is the last thing in the file."""
    size = file.seek(0, 2)
    file.seek(archive.start_dir)
    tail = file.read(min(size - archive.start_dir, MAX_ITEM_BYTES * 4))
    position = 0
    for _ in archive.infolist():
        if tail[position : position + 4] != CENTRAL:
            return [Finding(what="the directory has holes", offset=archive.start_dir + position)]
        position += 46 + sum(struct.unpack_from("<HHH", tail, position + 28))
    truth = len(archive.infolist()), position, archive.start_dir
    if not _is_end(tail[position:], truth):
        return [Finding(what="the end record is not that of this directory",
                        offset=archive.start_dir + position)]  # fmt: skip
    return []


def _is_end(rest: bytes, truth: tuple[int, int, int]) -> bool:
    """Whether the last bytes name this directory: number of members, size, offset.

    Readers find the directory by different fields; where they disagree, they see two archives.
    """
    if len(rest) not in (22, 98) or rest[-22:-18] != END:
        return False
    *counts, size, offset, n_comment = struct.unpack("<HHHHIIH", rest[-18:])
    if len(rest) == 22:
        return (*counts, size, offset, n_comment) == (0, 0, truth[0], *truth, 0)
    signature, length, _, _, *disks_and_counts = struct.unpack("<IQHHIIQQQQ", rest[:56])
    locator = struct.unpack("<IIQI", rest[56:76])
    return (
        (signature, length) == (0x06064B50, 44)
        and disks_and_counts == [0, 0, truth[0], *truth]
        and locator == (0x07064B50, 0, truth[1] + truth[2], 1)
        and counts[2:] in ([0xFFFF] * 2, [truth[0]] * 2)
        and (size, offset) in ((0xFFFFFFFF, 0xFFFFFFFF), truth[1:])
        and n_comment == 0
    )


def _pickle(archive: zipfile.ZipFile, top: str) -> Contents:
    member = f"{top}/data.pkl"
    sizes = {item.filename: item.file_size for item in archive.infolist()}
    if sizes[member] > 4 * MAX_ITEM_BYTES:
        return Contents([unknown("the pickle is too large", member)])
    data = archive.read(member)
    found = walk(io.BytesIO(data), member=member)
    findings = found.findings or found.bombs(sum(sizes.values())) or found.clashes()
    if not findings and found.end != len(data):
        findings = [Finding(what="bytes follow the pickle", member=member, offset=found.end)]
    return Contents(findings or _data(found.storages, sizes, top), found.tensors)


def _data(storages: set[Storage], sizes: dict[str, int], top: str) -> list[Finding]:
    """Each storage has its member, of its size, and there are no others."""
    wrong = sorted(item.key for item in storages if not _fits(item, sizes, top))
    what = "has another size than its tensors say"
    findings = [Finding(what=what, member=f"{top}/data/{printable(key, 60)}") for key in wrong]
    named = {f"{top}/data/{storage.key}" for storage in storages}
    extra = sorted(name for name in sizes if name.startswith(f"{top}/data/") and name not in named)
    findings += [unknown("belongs to no tensor", name) for name in extra]
    return findings[:20]


def _fits(storage: Storage, sizes: dict[str, int], top: str) -> bool:
    return sizes.get(f"{top}/data/{storage.key}") == storage.numel * storage.item_bytes
