"""Is a checkpoint file safe to open? Found out without executing anything, and without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from securitynet.errors import ResourceError, UsageError
from securitynet.files.digest import digest
from securitynet.weights.findings import Finding, Verdict, unknown, verdict
from securitynet.weights.legacy import MAGIC_BYTES, check_legacy, check_pickle
from securitynet.weights.tensors_file import check_safetensors
from securitynet.weights.zipped import LOCAL, check_zip

__all__ = ["MAX_BYTES", "Finding", "ScanReport", "Verdict", "scan"]

MAX_BYTES = 4 * 2**30
CHECKS: dict[str, Callable[[Path], list[Finding]]] = {
    "torch-zip": check_zip,
    "torch-legacy": check_legacy,
    "pickle": check_pickle,
    "safetensors": check_safetensors,
}


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
    """Inspect a checkpoint file. Nothing in it is executed.

    Raises:
        UsageError: If there is no such file.
        ResourceError: If it cannot be read.
    """
    if not path.is_file():
        raise UsageError("no such file", where=path)
    try:
        size = path.stat().st_size
        form, findings = _inspect(path, size)
        sha256 = digest(path)
    except OSError as error:
        raise ResourceError(f"cannot read: {error.strerror or error}", where=path) from error
    return ScanReport(str(path), verdict(findings), form, size, sha256, tuple(findings))


def _inspect(path: Path, size: int) -> tuple[str | None, list[Finding]]:
    if size > MAX_BYTES:
        return None, [unknown(f"{size:,} bytes are over the limit of {MAX_BYTES:,}")]
    with path.open("rb") as file:
        form = _format(file.read(64))
    if form is None:
        return None, [unknown("the format is not known: only torch files and safetensors are")]
    return form, CHECKS[form](path)


def _format(head: bytes) -> str | None:
    """Return the format that torch, too, would take these first bytes for."""
    if head.startswith(LOCAL):
        return "torch-zip"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "torch-legacy" if MAGIC_BYTES in head[:20] else "pickle"
    return "safetensors" if head[8:9] == b"{" else None
