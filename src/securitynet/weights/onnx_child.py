"""The disposable process in which onnxruntime meets an ONNX model for the first time.

Run as a script with the environment emptied and resources limited, on a file that has passed the
inspection. It makes a session, which optimises and folds the graph, and puts noise through it:
what crashes, hangs or takes all memory does so here. It prints one JSON line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SIDE = 32
"""Of the noise, where the graph leaves a side open."""
MEMORY_BYTES = 4 * 2**30


def try_out(source: str) -> dict[str, Any]:
    """Make a session of a model and put one batch of noise through it.

    Returns:
        ``error``: why there is no session, or ``None``.
    """
    import numpy as np

    from securitynet.weights.onnx_session import open_session, runtime_errors

    try:
        session = open_session(Path(source).read_bytes(), n_threads=1)
    except runtime_errors() as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    rng, noise = np.random.default_rng(0), {}
    for item in session.get_inputs():
        shape = _filled(item.shape)
        noise[item.name] = rng.random(shape, dtype=np.float32)
    try:
        session.run(None, noise)
    except runtime_errors() as error:
        # Of another size or type: pre-flight looks at that. Memory is what is tried out here.
        is_too_large = isinstance(error, MemoryError) or "alloc" in str(error).lower()
        return {"error": "one batch does not fit in memory" if is_too_large else None}
    return {"error": None}


def _filled(shape: list[Any]) -> list[int]:
    """Return a shape with its open sides filled in; an open batch is one picture."""
    sides = [side if isinstance(side, int) else SIDE for side in shape]
    return [1, *sides[1:]] if shape and not isinstance(shape[0], int) else sides


def main() -> int:
    """Try out the file named on the command line; report on one JSON line."""
    source, paths = sys.argv[1:3]
    sys.path[:] = json.loads(paths)  # in this order, or another installation's code would run
    from securitynet.weights.child import limit
    from securitynet.weights.onnx_session import runtime

    runtime()  # it starts a thread, and from here on none can be
    limit(Path(source).stat().st_size, MEMORY_BYTES)
    sys.stdout.write(json.dumps(try_out(source)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
