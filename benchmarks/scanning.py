"""One scanner on many files, in a process of its own: ``scanning.py TOOL``, paths on its input.

The first line says the version; then comes one line of JSON a file, in order. This is the only
file that runs in the environment of the other scanners; it imports nothing of ours unless ours is
asked for. A file that takes over `LIMIT_SECONDS` or `LIMIT_BYTES` ends the process: whoever reads
knows which it was.

Outcomes: ``flagged``, ``clean``, ``skipped`` (the scanner does not look at such files) or ``error``
(it gave up).
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import resource
import signal
import sys
import time
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

LIMIT_SECONDS = 10
LIMIT_BYTES = 8 * 2**30
KNOWN_SAFE = {".json", ".safetensors", ".onnx"}
PICKLES = {".bin", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".th", ".tar"}
"""What fickling's command line looks at in a repository, and torch's other usual endings."""


def main() -> int:
    """Scan what is asked for."""
    tool = sys.argv[1]
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    logging.disable(logging.CRITICAL)
    scan, name = TOOLS[tool]()
    _say({"version": f"{name} {version(name)}"})
    for line in sys.stdin:
        path = Path(json.loads(line))
        signal.alarm(LIMIT_SECONDS)  # not caught: it ends the process
        begin = time.perf_counter()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                outcome = scan(path)
        except Exception as error:  # whatever a scanner raises is its outcome
            outcome = f"error: {type(error).__name__}"
        seconds = time.perf_counter() - begin
        signal.alarm(0)
        _say({"outcome": outcome, "seconds": seconds})
    return 0


def _say(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


Scan = Callable[[Path], str]


def _ours() -> tuple[Scan, str]:
    from securitynet.weights.inspect import scan

    return lambda path: "clean" if scan(path).verdict == "SAFE" else "flagged", "securitynet"


def _picklescan(*, is_strict: bool) -> tuple[Scan, str]:
    from picklescan.scanner import scan_file_path  # type: ignore[import-not-found]

    def scan(path: Path) -> str:
        found = scan_file_path(str(path), strict=is_strict)
        if found.issues_count:
            return "flagged"
        return "error" if found.scan_err else "clean" if found.scanned_files else "skipped"

    return scan, "picklescan"


def _modelscan() -> tuple[Scan, str]:
    from modelscan.modelscan import ModelScan  # type: ignore[import-not-found]

    def scan(path: Path) -> str:
        found = ModelScan().scan(path)
        if found["issues"]:
            return "flagged"
        n_scanned = found["summary"]["scanned"]["total_scanned"]
        return "error" if found["errors"] else "clean" if n_scanned else "skipped"

    return scan, "modelscan"


def _fickling() -> tuple[Scan, str]:
    from fickling.loader import scan_file, scan_zip_archive  # type: ignore[import-not-found]

    def scan(path: Path) -> str:
        if path.suffix in KNOWN_SAFE:
            return "clean"
        if zipfile.is_zipfile(path):
            found = list(scan_zip_archive(str(path), graceful=True).values())
        elif path.suffix in PICKLES:
            found = [scan_file(str(path), graceful=True)]
        else:
            return "skipped"
        if not all(result.is_safe for result in found):
            return "flagged"
        return "error" if any(result.errors for result in found) else "clean"

    return scan, "fickling"


TOOLS: dict[str, Callable[[], tuple[Scan, str]]] = {
    "ours": _ours,
    "picklescan": lambda: _picklescan(is_strict=False),
    "picklescan --strict": lambda: _picklescan(is_strict=True),
    "modelscan": _modelscan,
    "fickling": _fickling,
}


if __name__ == "__main__":
    sys.exit(main())
