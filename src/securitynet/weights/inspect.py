"""Is a checkpoint file safe to open? Found out without executing anything, and without torch."""

from __future__ import annotations

import json
import struct
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from securitynet.errors import UsageError
from securitynet.files.digest import digest
from securitynet.weights.pickle_walk import Finding, walk

Verdict = Literal["SAFE", "UNSAFE", "UNDECIDED"]
MAX_BYTES = 4 * 2**30
MAX_PICKLE_BYTES = 256 * 2**20
LEGACY_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
SAFETENSORS_DTYPES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2,
    "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class ScanReport:
    """The verdict on one file.

    Attributes:
        path: The file.
        verdict: ``SAFE``, ``UNSAFE`` (evidence of code or tampering) or ``UNDECIDED``.
        format: ``torch-zip``, ``torch-legacy``, ``pickle``, ``safetensors`` or ``None``.
        bytes: File size.
        sha256: Checksum.
        findings: The evidence.
    """

    path: str
    verdict: Verdict
    format: str | None
    bytes: int
    sha256: str
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        record = asdict(self)
        record["findings"] = [{**asdict(item), "text": str(item)} for item in self.findings]
        return record


def scan(path: Path) -> ScanReport:
    """Inspect a checkpoint file.

    Raises:
        UsageError: If there is no such file.
    """
    if not path.is_file():
        raise UsageError("no such file", where=path)
    size = path.stat().st_size
    form, findings = _inspect(path, size)
    verdict: Verdict = "SAFE"
    if findings:
        verdict = "UNSAFE" if any(item.is_certain for item in findings) else "UNDECIDED"
    return ScanReport(str(path), verdict, form, size, digest(path), tuple(findings))


def _inspect(path: Path, size: int) -> tuple[str | None, list[Finding]]:
    with path.open("rb") as file:
        head = file.read(64)
    if size > MAX_BYTES:
        return None, [_undecided(f"{size:,} bytes are over the limit of {MAX_BYTES:,}")]
    if head[:4] == b"PK\x03\x04":
        return "torch-zip", _zip(path)
    if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return _pickled(path, head, size)
    if len(head) > 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= size - 8:
        return "safetensors", _safetensors(path, size)
    return None, [_undecided("the format is not known: only torch files and safetensors are")]


def _undecided(what: str, member: str = "") -> Finding:
    return Finding(what, member, is_certain=False)


def _pickled(path: Path, head: bytes, size: int) -> tuple[str, list[Finding]]:
    if LEGACY_MAGIC in head[:20]:
        return "torch-legacy", _legacy(path)
    if size > MAX_PICKLE_BYTES:
        return "pickle", [_undecided("a raw pickle of this size is not read")]
    data = path.read_bytes()
    result = walk(data, member="pickle")
    findings = result.findings
    if result.end is not None and result.end != len(data):
        findings.append(Finding("bytes follow the pickle", "pickle", result.end))
    return "pickle", findings


def _legacy(path: Path) -> list[Finding]:
    """Walk the five pickles of torch's old container; raw tensor data follow them."""
    data = path.read_bytes()
    findings: list[Finding] = []
    position = 0
    for member in ("magic", "protocol", "system", "object", "storage keys"):
        result = walk(data, member=member, start=position)
        findings += result.findings
        if member not in ("object",) and result.globals:
            findings.append(Finding("the header imports names", member, position))
        if result.end is None:
            return findings
        position = result.end
    if not findings:
        findings += _legacy_data(data, position)
    return findings


def _legacy_data(data: bytes, position: int) -> list[Finding]:
    """Each storage is an element count and its elements; the file must not end early."""
    if position + 8 > len(data):
        return [_undecided("the file ends before its tensors", "storages")]
    (count,) = struct.unpack_from("<q", data, position)
    if count < 0 or count > len(data):
        return [_undecided("the first storage's size cannot be true", "storages")]
    return []


def _zip(path: Path) -> list[Finding]:
    try:
        with zipfile.ZipFile(path) as archive:
            findings = _members(archive, path)
            pickles = [name for name in archive.namelist() if name.endswith(".pkl")]
            data = [name for name in pickles if name.rpartition("/")[2] == "data.pkl"]
            if len(data) != 1:
                findings.append(_undecided(f"{len(data)} data.pkl members instead of one"))
            for name in [] if findings else pickles:
                findings += _zip_pickle(archive, name)
            return findings
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, ValueError) as error:
        return [_undecided(f"not a whole zip file: {error}")]


def _members(archive: zipfile.ZipFile, path: Path) -> list[Finding]:
    names = archive.namelist()
    findings = [
        Finding("occurs twice", name) for name in sorted({n for n in names if names.count(n) > 1})
    ]
    total = 0
    with path.open("rb") as file:
        for item in archive.infolist():
            total += item.file_size
            findings += _member(item)
            findings += _local_header(file, item)
    if total > MAX_BYTES:
        findings.append(Finding(f"unpacks to {total:,} bytes"))
    scripted = [n for n in names if "/code/" in n or n.endswith(("constants.pkl", ".py"))]
    if scripted:
        findings.append(Finding("TorchScript code inside", scripted[0]))
    return findings


def _member(item: zipfile.ZipInfo) -> list[Finding]:
    name = item.filename
    findings = []
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name:
        findings.append(Finding("leaves the archive's folder", name))
    if item.flag_bits & 0x1:
        findings.append(Finding("is encrypted", name))
    if item.file_size > 100 * max(item.compress_size, 1) + 4096:
        findings.append(Finding(f"unpacks to {item.file_size:,} bytes: a bomb", name))
    return findings


def _local_header(file: Any, item: zipfile.ZipInfo) -> list[Finding]:
    """The local header must say what the central one says, or two readers see two files."""
    file.seek(item.header_offset)
    raw = file.read(30)
    if len(raw) < 30 or raw[:4] != b"PK\x03\x04":
        return [Finding("has no local header", item.filename, item.header_offset)]
    method = struct.unpack_from("<H", raw, 8)[0]
    length = struct.unpack_from("<H", raw, 26)[0]
    name = file.read(length)
    if name.decode("utf-8", "replace") != item.orig_filename or method != item.compress_type:
        return [Finding("local and central header differ", item.filename, item.header_offset)]
    return []


def _zip_pickle(archive: zipfile.ZipFile, name: str) -> list[Finding]:
    if archive.getinfo(name).file_size > MAX_PICKLE_BYTES:
        return [_undecided("the pickle is too large", name)]
    data = archive.read(name)
    result = walk(data, member=name)
    findings = result.findings
    if result.end is not None and result.end != len(data):
        findings.append(Finding("bytes follow the pickle", name, result.end))
    return findings


def _safetensors(path: Path, size: int) -> list[Finding]:
    """Check the header against the format: known dtypes, offsets that tile the data exactly."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > 100 * 2**20:
            return [_undecided("the header is too large")]
        raw = file.read(length)
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        spans = sorted(_span(name, entry) for name, entry in header.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return [_undecided(f"malformed header: {error}")]
    position = 0
    for begin, end, name in spans:
        if begin != position:
            return [_undecided(f"tensor {name!r} overlaps another or leaves a hole")]
        position = end
    if position != size - 8 - length:
        return [_undecided(f"the tensors need {position:,} bytes, the file has "
                           f"{size - 8 - length:,}")]  # fmt: skip
    return []


def _span(name: str, entry: Any) -> tuple[int, int, str]:
    begin, end = entry["data_offsets"]
    needed = SAFETENSORS_DTYPES[entry["dtype"]]
    for side in entry["shape"]:
        needed *= side
    if not all(isinstance(side, int) and side >= 0 for side in entry["shape"]):
        raise ValueError(f"tensor {name!r} has an impossible shape")
    if end - begin != needed:
        raise ValueError(f"tensor {name!r} needs {needed} bytes, has {end - begin}")
    return begin, end, name
