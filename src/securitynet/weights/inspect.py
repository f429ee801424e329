"""Is a file safe to open? Found out without executing anything, and without torch."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from securitynet.errors import ResourceError, UsageError
from securitynet.files.digest import digest
from securitynet.weights.bundles import Visit, check_archive, check_compressed, check_tar
from securitynet.weights.findings import (
    Contents,
    Finding,
    Tensors,
    Verdict,
    printable,
    unknown,
    verdict,
)
from securitynet.weights.formats import NAMED_ONLY, sniff
from securitynet.weights.keras_file import check_hdf5, check_keras
from securitynet.weights.legacy import check_legacy, check_pickle
from securitynet.weights.npy import check_npy, check_npz
from securitynet.weights.onnx_walk import check_onnx
from securitynet.weights.programs import NATIVE, check_json, check_pt2, check_text
from securitynet.weights.tensors_file import check_safetensors
from securitynet.weights.zipped import check_zip

__all__ = ["MAX_BYTES", "Finding", "ScanReport", "Tensors", "Verdict", "scan", "scan_folder"]

WEIGHTS = re.compile(
    r".*\.(pt|pth|th|t7|bin|ckpt|pkl|pickle|p|joblib|safetensors|npy|npz|h5|hdf5|keras|onnx|pb|pt2"
    r"|gguf|msgpack|tflite|model|weights|tar)(\.(gz|bz2|xz))?",
    re.IGNORECASE,
)
"""Names of files that somebody would open as weights."""
MAX_BYTES = 4 * 2**30
MAX_NESTING = 3
MAX_FILES = 20_000
MAX_SECONDS = 1.0
"""Processor time for all files inside one file, unpacking apart: checkpoints take 0.1 s each."""
CHECKS: dict[str, Callable[[BinaryIO], Contents]] = {
    "torch-zip": check_zip,
    "torchscript": check_zip,
    "torch-legacy": check_legacy,
    "pickle": check_pickle,
    "safetensors": check_safetensors,
    "npy": check_npy,
    "npz": check_npz,
    "hdf5": check_hdf5,
    "json": check_json,
}
"""Format -> its check."""
BUNDLES: dict[str, Callable[[BinaryIO, Visit], Contents]] = {
    "zip": check_archive,
    "tar": check_tar,
    "compressed": check_compressed,
    "keras": check_keras,
    "pt2": check_pt2,
}
"""Formats with files inside -> their check, given how to look at those."""


@dataclass(frozen=True)
class ScanReport:
    """The verdict on one file.

    Attributes:
        path: The file.
        verdict: ``SAFE``, ``UNSAFE`` (evidence of code or tampering) or ``UNDECIDED``.
        format: Name of the format, ``None`` if it is not known.
        bytes: File size.
        sha256: Checksum; ``None`` for what is no regular file.
        findings: The evidence.
        tensors: Number, elements and types of its tensors, ``None`` where that cannot be told.
    """

    path: str
    verdict: Verdict
    format: str | None
    bytes: int
    sha256: str | None
    findings: tuple[Finding, ...]
    tensors: Tensors | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        record = asdict(self)
        record["findings"] = [
            {**asdict(item), "rule": item.rule, "text": str(item)} for item in self.findings
        ]
        return record


@dataclass
class _Bounds:
    """How much may still be looked at inside one file."""

    bytes: int = MAX_BYTES
    files: int = MAX_FILES
    seconds: float = MAX_SECONDS


@dataclass(frozen=True)
class _Place:
    """Where a file lies: in a folder, or so deep inside others."""

    name: str
    folder: Path | None = None
    depth: int = 0
    is_alone: bool = True
    bounds: _Bounds = field(default_factory=_Bounds)

    @property
    def is_checkpoint(self) -> bool:
        """Whether this is meant to be one: so a text or an empty archive is not fine."""
        return self.is_alone or WEIGHTS.fullmatch(self.name) is not None


def scan(path: Path, *, is_alone: bool = True) -> ScanReport:
    """Inspect a file. Nothing in it is executed.

    Args:
        path: The file.
        is_alone: It was named as a checkpoint. A text is none; beside one it may well lie.

    Raises:
        UsageError: If there is no such file.
        ResourceError: If it cannot be read.
    """
    if not path.is_file():
        raise UsageError("no such file", where=path)
    try:
        size = path.stat().st_size
        form, contents = _inspect(path, size, is_alone)
        sha256 = digest(path)
    except OSError as error:
        raise ResourceError(f"cannot read: {error.strerror or error}", where=path) from error
    tensors = contents.tensors if not contents.findings or contents.tensors else None
    findings = tuple(contents.findings)
    return ScanReport(str(path), verdict(findings), form, size, sha256, findings, tensors)


def _inspect(path: Path, size: int, is_alone: bool) -> tuple[str | None, Contents]:
    if size > MAX_BYTES:
        too_large = f"{size:,} bytes are over the limit of {MAX_BYTES:,}"
        return None, Contents([unknown(too_large)])
    with path.open("rb") as file:
        return _examine(file, _Place(path.name, path.resolve().parent, is_alone=is_alone))


def _examine(file: BinaryIO, place: _Place) -> tuple[str | None, Contents]:
    """Return the format and what its check finds."""
    form = sniff(file)
    if NATIVE.fullmatch(place.name) and form in (None, "program", "text"):
        return "program", Contents([unknown("is a program: what it does is not decided")])
    if form is None:
        return None, Contents([unknown("the format is not known")])
    if form in NAMED_ONLY:
        reason = f"{NAMED_ONLY[form]}: a format that is not inspected; ask for safetensors"
        return form, Contents([unknown(reason)])
    if form == "text":
        found = check_text(file, place.name)
        if place.is_checkpoint and not found.findings:
            found = Contents([unknown("a text, not a checkpoint")])
        return form, found
    if form == "onnx":
        return form, check_onnx(file, place.folder)
    if form in BUNDLES:
        found = BUNDLES[form](file, _visitor(place))
        n_tensors = (found.tensors or Tensors()).count
        is_empty = place.is_checkpoint and not found.findings and not n_tensors
        return form, Contents([unknown("holds no checkpoint")]) if is_empty else found
    found = CHECKS[form](file)
    return _is_joblib(found) or form, found


def _is_joblib(found: Contents) -> str | None:
    names = [finding.name or "" for finding in found.findings]
    return "joblib" if any(name.startswith("joblib.") for name in names) else None


def _visitor(place: _Place) -> Visit:
    """Return what looks at a file inside a file: a copy of it, bounded, without a name."""

    def visit(stream: BinaryIO, name: str, size: int) -> Contents:
        bounds = place.bounds
        bounds.bytes, bounds.files = bounds.bytes - size, bounds.files - 1
        if place.depth >= MAX_NESTING or min(bounds.bytes, bounds.files, bounds.seconds) < 0:
            return Contents(
                [unknown("nests too deep, unpacks to too much or takes too long", printable(name))]
            )
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(stream, copy, 1 << 20)
            inner = _Place(name, None, place.depth + 1, False, bounds)
            began = time.process_time()
            found = _examine(cast(BinaryIO, copy), inner)[1]
            bounds.seconds -= time.process_time() - began
        return Contents([item.inside(name) for item in found.findings], found.tensors)

    return visit


def scan_folder(folder: Path) -> list[ScanReport]:
    """Inspect every file of a folder, such as a hub repository. Links are not followed.

    Raises:
        UsageError: If there is nothing in it.
        ResourceError: If something cannot be read.
    """
    reports = [
        scan(path, is_alone=False) if path.is_file() and not path.is_symlink() else _no_file(path)
        for path in _files(folder)
        if not _stays_inside(path, folder)
    ]
    if not reports:
        raise UsageError("no files in this folder", where=folder)
    return reports


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != ".git")
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        yield from (Path(place) / name for name in sorted([*names, *links]))


def _stays_inside(path: Path, folder: Path) -> bool:
    """Whether this is a link to something in the folder, which has its own report."""
    return path.is_symlink() and path.exists() and folder.resolve() in path.resolve().parents


def _no_file(path: Path) -> ScanReport:
    what = "is a link out of the folder" if path.is_symlink() else "is no regular file"
    finding = unknown(f"{what}: scan what it stands for")
    return ScanReport(str(path), "UNDECIDED", None, 0, None, (finding,))
