"""The door: fetch, verify, inspect, convert. From then on only safetensors is read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from securitynet.catalogue.cards import Weights
from securitynet.errors import IntegrityError, ResourceError, UnsafeFileError, UsageError
from securitynet.files.atomic import write_text
from securitynet.files.digest import digest, find_in_mirrors, matches
from securitynet.files.download import download
from securitynet.files.folders import cache_folder
from securitynet.records import fingerprint
from securitynet.weights import child
from securitynet.weights.inspect import scan

TIMEOUT_SECONDS = 600
REFUSAL = "do not open it; if you trust its author, ask for safetensors"


@dataclass(frozen=True)
class Opened:
    """A checkpoint that has come through the door.

    Attributes:
        path: The safetensors file in the cache.
        sha256: sha256 of the original file.
        format: Format of the original file.
        state_key: Where its state dict lay.
        prefix: Prefix that was stripped from every name.
        converted_sha256: sha256 of the safetensors file.
    """

    path: Path
    sha256: str
    format: str
    state_key: str
    prefix: str
    converted_sha256: str


def open_checkpoint(weights: Weights, *, folder: str | None, where: str) -> Opened:
    """Bring a checkpoint through the door, or find that it came through before.

    Args:
        weights: The card's weights.
        folder: Folder of the card, for local files.
        where: Named in errors.

    Raises:
        UsageError: If a local file is not there.
        ResourceError: If the file cannot be had.
        IntegrityError: If it is not what the card says, or damaged.
        UnsafeFileError: If it could run code or cannot be decided.
    """
    if weights.path is None and weights.checksum_algorithm == "sha256" and weights.checksum:
        known = _known(weights.checksum.lower(), weights.state_key)
        if known is not None:
            return known
    path = locate(weights, folder=folder, where=where)
    sha256 = digest(path)
    known = _known(sha256, weights.state_key)
    if known is not None:
        return known
    report = scan(path)
    if report.verdict != "SAFE":
        _refuse(report.verdict, str(report.findings[0]), where, report.format)
    return _convert(path, sha256, report.format or "", weights.state_key, where)


def _refuse(verdict: str, evidence: str, where: str, form: str | None) -> None:
    broken = ("not a whole", "ends before", "malformed header", "need", "overlaps")
    if verdict == "UNDECIDED" and any(word in evidence for word in broken):
        raise IntegrityError(
            f"the checkpoint is damaged: {evidence}", where=where, hint="get the file again"
        )
    raise UnsafeFileError(
        f"{verdict}: {evidence}", where=where, hint=REFUSAL, flags=["door", verdict.lower()]
    )


def locate(weights: Weights, *, folder: str | None, where: str) -> Path:
    """Return the original file: beside the card, in a mirror, in the cache, or downloaded.

    Raises:
        UsageError: If a local file is not there.
        ResourceError: If the file cannot be had.
        IntegrityError: If its checksum is not the card's.
    """
    checksum, algorithm = weights.checksum, weights.checksum_algorithm or "sha256"
    if weights.path is not None:
        path = Path(folder or ".") / weights.path
        if not path.is_file():
            raise UsageError(
                f"no checkpoint at {path}", where=where, hint="correct weights.path in the card"
            )
        if checksum and not matches(path, checksum, algorithm):
            raise IntegrityError(
                f"{path.name} does not have the card's {algorithm} {checksum[:16]}...",
                where=where,
                hint="the file was changed or the card is of another file",
            )
        return path
    if not checksum:
        raise UsageError("the card has no checksum, so nothing is downloaded", where=where)
    mirrored = find_in_mirrors(checksum, algorithm, weights.bytes)
    if mirrored is not None:
        return mirrored
    destination = cache_folder() / "downloads" / f"{algorithm}-{checksum}"
    if destination.is_file() and matches(destination, checksum, algorithm):
        return destination
    if weights.url is None:
        raise ResourceError("no address to download from", where=where)
    return download(weights.url, destination, checksum=checksum, algorithm=algorithm)


def _entry(sha256: str, state_key: str | None) -> Path:
    name = fingerprint([sha256, state_key or ""])
    return cache_folder() / "weights" / name[:2] / name


def _known(sha256: str, state_key: str | None) -> Opened | None:
    entry = _entry(sha256, state_key)
    path = entry.with_suffix(".safetensors")
    try:
        facts = json.loads(entry.with_suffix(".json").read_text(encoding="utf-8"))
        if path.stat().st_size != facts["bytes"]:
            return None
        return Opened(
            path, sha256, facts["format"], facts["state_key"], facts["prefix"],
            facts["converted_sha256"],
        )  # fmt: skip
    except (OSError, ValueError, KeyError):
        return None


def _convert(path: Path, sha256: str, form: str, state_key: str | None, where: str) -> Opened:
    entry = _entry(sha256, state_key)
    entry.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=entry.parent, prefix=".door-") as scratch:
        made = Path(scratch) / "converted.safetensors"
        if form == "safetensors":
            shutil.copyfile(path, made)
            facts = {"state_key": "", "prefix": ""}
        else:
            facts = _run_child(path.resolve(), made, state_key, where)
        made.chmod(0o444)
        facts |= {"format": form, "bytes": made.stat().st_size, "converted_sha256": digest(made)}
        made.replace(entry.with_suffix(".safetensors"))
    write_text(entry.with_suffix(".json"), json.dumps(facts))
    opened = _known(sha256, state_key)
    if opened is None:
        raise IntegrityError("the cache lost a file that was just written", where=entry)
    return opened


def _run_child(path: Path, made: Path, state_key: str | None, where: str) -> dict[str, object]:
    command = [sys.executable, "-I", str(child.__file__), str(path), str(made), state_key or ""]
    try:
        outcome = subprocess.run(  # noqa: S603 - our own interpreter and script
            command,
            env={"PATH": "/nonexistent", "OMP_NUM_THREADS": "1"},
            cwd=made.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        facts: dict[str, object] = json.loads(outcome.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        raise UnsafeFileError(f"opening took over {TIMEOUT_SECONDS} s", where=where) from None
    except (ValueError, IndexError):
        reason = outcome.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise IntegrityError(
            f"the child process that opens it ended with {outcome.returncode}: {reason}",
            where=where,
            hint="the file is damaged, or too large for this machine",
        ) from None
    if "error" in facts:
        raise IntegrityError(
            f"cannot be opened: {facts['error']}", where=where, hint="the file is damaged or "
            "holds no state dict; weights.state_key in the card says where one lies",
        )  # fmt: skip
    return facts
