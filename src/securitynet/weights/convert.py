"""A checkpoint that was found safe is opened in a disposable process: converted, or tried out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from securitynet.errors import IntegrityError, UnsafeFileError
from securitynet.weights import onnx_child
from securitynet.weights.disposal import ask
from securitynet.weights.onnx_session import ONNX, runtime

TIMEOUT_SECONDS = 600
TRIAL_SECONDS = 120


def convert(
    source: Path, made: Path, *, form: str, sha256: str, state_key: str | None, where: str
) -> dict[str, Any]:
    """Write the tensors of a checkpoint as safetensors; copy an ONNX model that can be run.

    Args:
        source: The file, found safe.
        made: The file to write.
        form: Its format; safetensors is only copied.
        sha256: Checksum of the source, recorded in the file that is written.
        state_key: Where its state dict lies, ``None`` = found.
        where: Named in errors.

    Returns:
        ``state_key``, ``prefix`` that was stripped, and names that are ``dropped``: no tensors.

    Raises:
        ResourceError: If it needs an extra that is not installed.
        IntegrityError: If it is damaged or holds no state dict.
        UnsafeFileError: If opening it takes too long.
    """
    if form == ONNX:
        _try_onnx(source, where)
    if form in ("safetensors", ONNX):
        shutil.copyfile(source, made)
        return {"state_key": "", "prefix": "", "dropped": []}
    facts = _run_child(source, made, state_key or "", sha256, where)
    if "error" in facts:
        raise IntegrityError(
            f"cannot be opened: {facts['error']}", where=where, hint="the file is damaged or "
            "holds no state dict; weights.state_key in the card says where one lies",
        )  # fmt: skip
    return facts


def _run_child(source: Path, made: Path, key: str, sha256: str, where: str) -> dict[str, Any]:
    request = {"source": str(source), "destination": str(made), "key": key or None}
    answer = ask({**request, "sha256": sha256, "seconds": TIMEOUT_SECONDS}, where)
    if answer["is_late"]:
        raise UnsafeFileError(f"opening took over {TIMEOUT_SECONDS} s", where=where)
    return _facts(answer["said"], answer["code"], where)


def _try_onnx(source: Path, where: str) -> None:
    """Let onnxruntime open and run an ONNX model where nothing is lost if that goes wrong.

    Raises:
        ResourceError: If onnxruntime is not installed.
        IntegrityError: If it is no model that onnxruntime knows, or ends the process.
        UnsafeFileError: If it takes too long.
    """
    runtime()
    facts = _run_script(str(onnx_child.__file__), source, where)
    if facts["error"]:
        raise IntegrityError(
            f"onnxruntime cannot open it: {facts['error']}",
            where=where,
            hint="export it again, with standard operators only",
        )


def _run_script(script: str, source: Path, where: str) -> dict[str, Any]:
    """Run one of the door's scripts on a file, in the file's folder, which is a scratch folder."""
    paths = json.dumps([str(Path(path).resolve()) for path in sys.path if path])
    try:
        ended = subprocess.run(  # noqa: S603 - our own interpreter and script
            [sys.executable, "-I", str(Path(script).resolve()), str(source), paths],
            env={"PATH": os.defpath, "OMP_NUM_THREADS": "1"},
            cwd=source.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TRIAL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnsafeFileError(f"opening took over {TRIAL_SECONDS} s", where=where) from None
    said = ended.stdout or ended.stderr
    return _facts(said.decode("utf-8", "replace"), ended.returncode, where)


def _facts(said: str, code: int, where: str) -> dict[str, Any]:
    """Return what a process found out, which is the last line it printed."""
    lines = said.strip().splitlines()[-1:]
    try:
        facts: dict[str, Any] = json.loads(lines[0])
    except (ValueError, IndexError):
        raise IntegrityError(
            f"the process that opens it ended with {code}: {' '.join(lines)[:300]}",
            where=where,
            hint="the file is damaged, or too large for this machine",
        ) from None
    return facts
