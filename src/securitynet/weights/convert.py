"""From a checkpoint that was found safe to safetensors, by way of the disposable process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from securitynet.errors import IntegrityError, UnsafeFileError
from securitynet.weights.disposal import ask

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
    request = {"source": str(source), "destination": str(made), "key": key or None}
    answer = ask({**request, "sha256": sha256, "seconds": TIMEOUT_SECONDS}, where)
    if answer["is_late"]:
        raise UnsafeFileError(f"opening took over {TIMEOUT_SECONDS} s", where=where)
    lines = answer["said"].strip().splitlines()[-1:]
    try:
        facts: dict[str, Any] = json.loads(lines[0])
    except (ValueError, IndexError):
        raise IntegrityError(
            f"the process that opens it ended with {answer['code']}: {' '.join(lines)[:300]}",
            where=where,
            hint="the file is damaged, or too large for this machine",
        ) from None
    return facts
