"""From a checkpoint that was found safe to safetensors, by way of the disposable process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from securitynet.errors import IntegrityError, UnsafeFileError
from securitynet.weights import child

TIMEOUT_SECONDS = 600


def convert(
    source: Path, made: Path, *, form: str, sha256: str, state_key: str | None, where: str
) -> dict[str, Any]:
    """Write the tensors of a checkpoint as safetensors.

    Args:
        source: The file, found safe.
        made: The safetensors file to write.
        form: Its format; safetensors is only copied.
        sha256: Checksum of the source, recorded in the file that is written.
        state_key: Where its state dict lies, ``None`` = found.
        where: Named in errors.

    Returns:
        ``state_key``, ``prefix`` that was stripped, and names that are ``dropped``: no tensors.

    Raises:
        IntegrityError: If it is damaged or holds no state dict.
        UnsafeFileError: If opening it takes too long.
    """
    if form == "safetensors":
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
    paths = json.dumps([str(Path(path).resolve()) for path in sys.path if path])
    script = str(Path(str(child.__file__)).resolve())
    command = [sys.executable, "-I", script, str(source), str(made), key, sha256, paths]
    try:
        ended = subprocess.run(  # noqa: S603 - our own interpreter and script
            command,
            env={"PATH": os.defpath, "OMP_NUM_THREADS": "1"},
            cwd=made.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        facts: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        raise UnsafeFileError(f"opening took over {TIMEOUT_SECONDS} s", where=where) from None
    except (ValueError, IndexError):
        lines = ended.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise IntegrityError(
            f"the process that opens it ended with {ended.returncode}: {' '.join(lines)[:300]}",
            where=where,
            hint="the file is damaged, or too large for this machine",
        ) from None
    return facts
