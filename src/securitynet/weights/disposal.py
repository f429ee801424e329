"""Asking for disposable processes: the one nursery of this process, started when it is needed."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from securitynet.errors import ResourceError
from securitynet.weights import nursery

_LOCK = threading.Lock()
_running: dict[int, subprocess.Popen[bytes]] = {}
"""By the process that started it: after a fork the copy of it is not ours to talk to."""


def ask(request: dict[str, Any], where: str) -> dict[str, Any]:
    """Let a disposable process open one file.

    Args:
        request: ``source``, ``destination``, ``key``, ``sha256`` and ``seconds`` it may take.
        where: Named in errors.

    Returns:
        What it ``said``, the ``code`` that it ended with, and whether it ``is_late``.

    Raises:
        ResourceError: If no process can be started.
    """
    with _LOCK:
        for _ in range(2):  # one that was idle may end just now
            answer = _answer(_nursery(), json.dumps(request).encode() + b"\n")
            if answer:
                return dict(json.loads(answer))
            reason = _stop()
    raise ResourceError(f"no process to open it in: {reason}", where=where)


def _answer(process: subprocess.Popen[bytes], request: bytes) -> bytes:
    """Return the answer; nothing if the process is gone. Interrupted, it is stopped: see there."""
    if process.stdin is None or process.stdout is None:
        return b""
    is_whole = False
    try:
        process.stdin.write(request)
        process.stdin.flush()
        answer = process.stdout.readline()
        is_whole = True
    except BrokenPipeError:
        return b""
    finally:
        if not is_whole:  # its answer to this would be taken for the answer to the next
            process.kill()
    return answer


def _nursery() -> subprocess.Popen[bytes]:
    known = _running.get(os.getpid())
    if known is not None and known.poll() is None:
        return known
    paths = json.dumps([str(Path(path).resolve()) for path in sys.path if path])
    script = str(Path(str(nursery.__file__)).resolve())
    _running[os.getpid()] = subprocess.Popen(  # noqa: S603 - our own interpreter and script
        [sys.executable, "-I", script, paths],
        env={"PATH": os.defpath, "OMP_NUM_THREADS": "1"},
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    return _running[os.getpid()]


@atexit.register
def _stop() -> str:
    """End the nursery of this process; return the last line of what it complained about."""
    process = _running.pop(os.getpid(), None)
    if process is None:
        return ""
    process.kill()
    with contextlib.suppress(OSError):
        _, said = process.communicate()
        lines = said.decode("utf-8", "replace").strip().splitlines()
        return f"it ended with {process.returncode}: {' '.join(lines[-1:])[:300]}"
    return "it ended"
