"""The door: fetch, verify, inspect, convert. From then on only what it wrote is read.

Weights become safetensors. An ONNX model is kept as it is, once a disposable process has tried it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from securitynet.catalogue.cards import Weights
from securitynet.errors import IntegrityError, ResourceError, UnsafeFileError
from securitynet.files.atomic import write_text
from securitynet.files.digest import digest_once
from securitynet.files.folders import cache_folder
from securitynet.records import fingerprint
from securitynet.weights.convert import convert
from securitynet.weights.inspect import ScanReport, scan
from securitynet.weights.locate import Progress, locate
from securitynet.weights.onnx_session import ONNX

__all__ = ["Opened", "locate", "open_checkpoint"]

REFUSAL = "do not open it; ask its author for safetensors, or for the state_dict saved alone"
LOADED = ("torch-zip", "torch-legacy", "safetensors", ONNX)
WHOLE = "get it again, as one file: tensors kept in files beside an ONNX model are not read"
LAYOUT = 2
"""Rises when what the cache holds changes."""


@dataclass(frozen=True)
class Opened:
    """A checkpoint that has come through the door.

    Attributes:
        path: The safetensors file in the cache, or the ONNX model.
        sha256: sha256 of the original file.
        format: Format of the original file.
        state_key: Where its state dict lay.
        prefix: Prefix that was stripped from every name.
        converted_sha256: sha256 of the file in the cache.
        notes: What was left out of it.
    """

    path: Path
    sha256: str
    format: str
    state_key: str
    prefix: str
    converted_sha256: str
    notes: tuple[str, ...] = ()


def open_checkpoint(
    weights: Weights, *, folder: str | None, where: str, progress: Progress | None = None
) -> Opened:
    """Bring a checkpoint through the door, or find that it came through before.

    Args:
        weights: The card's weights.
        folder: Folder of the card, for local files.
        where: The card's id; named in errors.
        progress: Told the share of a download and a few words.

    Raises:
        UsageError: If the card names no file.
        ResourceError: If the file cannot be had.
        IntegrityError: If it is not what the card says, or damaged.
        UnsafeFileError: If it could run code or cannot be decided.
    """
    known = _known(_named_sha256(weights), weights.state_key)
    if known is not None:
        return known
    path = locate(weights, folder=folder, where=where, progress=progress)
    sha256 = _readable_digest(path, where)
    return _known(sha256, weights.state_key) or _admit(path, sha256, weights.state_key, where)


def _named_sha256(weights: Weights) -> str:
    """Return the checkpoint's own sha256 if the card names it, else nothing."""
    is_own = weights.member is None or weights.checksum_of == "member"
    is_known = weights.path is None and weights.checksum_algorithm == "sha256" and is_own
    return str(weights.checksum or "").lower() if is_known else ""


def _readable_digest(path: Path, where: str) -> str:
    try:
        return digest_once(path)
    except OSError as error:
        raise ResourceError(f"cannot read {path}: {error.strerror}", where=where) from error


def _refuse(report: ScanReport, where: str) -> None:
    first = report.findings[0]
    if report.verdict == "UNDECIDED" and first.kind == "damage":
        raise IntegrityError(
            f"the checkpoint is damaged: {first}",
            where=where,
            hint=WHOLE if report.format == ONNX else "get the file again",
        )
    evidence = next((item for item in report.findings if item.kind == "danger"), first)
    raise UnsafeFileError(
        f"{report.verdict}: {evidence}",
        where=where,
        hint=REFUSAL,
        flags=["door", report.verdict.lower()],
    )


def _entry(sha256: str, state_key: str | None) -> Path:
    name = fingerprint([LAYOUT, sha256, state_key or ""])
    return cache_folder() / "weights" / name[:2] / name


def _suffix(form: str) -> str:
    return ".onnx" if form == ONNX else ".safetensors"


def _known(sha256: str, state_key: str | None) -> Opened | None:
    entry = _entry(sha256, state_key)
    try:
        facts = json.loads(entry.with_suffix(".json").read_text(encoding="utf-8"))
        path = entry.with_suffix(_suffix(facts["format"]))
        if path.stat().st_size != facts["bytes"] or facts["sha256"] != sha256:
            return None
        return Opened(
            path, sha256, facts["format"], facts["state_key"], facts["prefix"],
            facts["converted_sha256"], tuple(facts["notes"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _admit(path: Path, sha256: str, state_key: str | None, where: str) -> Opened:
    """Inspect and convert a private copy, so that the file cannot change between the two."""
    entry = _entry(sha256, state_key)
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=entry.parent, prefix=".door-") as scratch:
            _convert_copy(path, Path(scratch), entry, sha256, state_key, where)
    except OSError as error:
        raise ResourceError(
            f"cannot use the cache: {error.strerror or error}",
            where=entry.parent,
            hint="free some disk space or set SECURITYNET_CACHE to another folder",
        ) from error
    opened = _known(sha256, state_key)
    if opened is None:
        raise IntegrityError("the cache lost a file that was just written", where=entry)
    return opened


def _convert_copy(
    path: Path, scratch: Path, entry: Path, sha256: str, state_key: str | None, where: str
) -> None:
    source, made = scratch.resolve() / "source", scratch.resolve() / "made"
    shutil.copyfile(path, source)
    report = scan(source)
    if report.sha256 != sha256:
        raise IntegrityError("the file changed while it was read", where=where)
    if report.verdict != "SAFE":
        _refuse(report, where)
    form = report.format or ""
    if form not in LOADED:
        raise UnsafeFileError(
            f"{form} is not a format that weights are loaded from",
            where=where,
            hint=f"weights come as {', '.join(LOADED)}",
        )
    facts = convert(source, made, form=form, sha256=sha256, state_key=state_key, where=where)
    after = scan(made)
    kept = ONNX if form == ONNX else "safetensors"
    if after.verdict != "SAFE" or after.format != kept:
        raise IntegrityError(f"the conversion did not write {kept}", where=where)
    made.chmod(0o444)
    dropped = tuple(f"left out: {name}" for name in facts["dropped"])
    record = {
        "sha256": sha256, "format": form, "bytes": after.bytes, "converted_sha256": after.sha256,
        "state_key": facts["state_key"], "prefix": facts["prefix"], "notes": dropped,
    }  # fmt: skip
    made.replace(entry.with_suffix(_suffix(form)))
    write_text(entry.with_suffix(".json"), json.dumps(record))
