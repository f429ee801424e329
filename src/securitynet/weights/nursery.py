"""The process that makes a disposable process for every file, so that torch is imported once.

Run as a script with an empty environment: it imports torch, then reads one request a line from
its standard input, splits off a child for it and answers with one line. It never touches a
checkpoint itself; every file has a child of its own, with limits of its own, which is gone before
the next one is made. It ends with the process that started it, or when it is not needed for long.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

CHILD = "securitynet.weights.child"
IDLE_SECONDS = 30.0
MAX_SAID_BYTES = 2**16
PR_SET_PDEATHSIG = 1
REQUESTS = 0
"""Standard input."""


def main() -> int:
    """Serve requests until there are no more."""
    sys.path[:] = json.loads(sys.argv[1])  # those of the process that starts it, in its order
    for name in ("safetensors.torch", CHILD):  # what every child needs
        importlib.import_module(name)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.freeze()
    while select.select([REQUESTS], [], [], IDLE_SECONDS)[0]:
        line = _read_line()
        if not line:
            break
        print(json.dumps(_serve(**json.loads(line))), flush=True)
    return 0


def _read_line() -> bytes:
    """Read one request, without reading ahead: what is left must show up in ``select``."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(REQUESTS, 1)
        if not byte:
            return b""
        line += byte
    return line


def _serve(seconds: float, **request: Any) -> dict[str, Any]:
    """Let a child open one file; return what it said, how it ended and whether it was late."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_child(writer, request)
    os.close(writer)
    try:
        said, is_late = _listen(reader, time.monotonic() + seconds)
    finally:
        os.close(reader)
        for kill in (os.killpg, os.kill):  # what it may have started, too
            with contextlib.suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
    code = os.waitstatus_to_exitcode(status)
    return {"said": said.decode("utf-8", "replace"), "code": code, "is_late": is_late}


def _listen(reader: int, deadline: float) -> tuple[bytes, bool]:
    """Read what a child says until it ends; a child that is late or says too much is cut off."""
    said = b""
    while (left := deadline - time.monotonic()) > 0 and len(said) <= MAX_SAID_BYTES:
        ready, _, _ = select.select([reader, REQUESTS], [], [], left)
        if REQUESTS in ready:  # no request comes before the answer: whoever asks is gone
            raise SystemExit(0)
        data = os.read(reader, MAX_SAID_BYTES) if ready else b""
        if ready and not data:
            return said, False
        said += data
    return said, left <= 0


def _be_child(writer: int, request: dict[str, Any]) -> NoReturn:
    """Become the disposable process: keep nothing of the parent's, open one file, end."""
    code = 70
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        nothing = os.open(os.devnull, os.O_RDWR)
        for old, new in ((nothing, 0), (writer, 1), (writer, 2)):
            os.dup2(old, new)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, closefd=False)
        os.chdir(Path(request["destination"]).parent)
        code = sys.modules[CHILD].open_one(**request)
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        os._exit(code)  # nothing of the parent's is run at the end


if __name__ == "__main__":
    sys.exit(main())
