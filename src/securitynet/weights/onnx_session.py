"""Sessions of onnxruntime, made so that a model brings nothing but its graph. No torch."""

from __future__ import annotations

import os
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from securitynet.errors import IntegrityError, ResourceError

ONNX = "onnx"
"""The format, and the architecture in a card: the graph is in the file."""
INSTALL = "pip install 'securitynet[onnx]'"
CONFIGURED = "ORT_LOAD_CONFIG_FROM_MODEL"
QUIET = 3


def runtime() -> Any:
    """Return onnxruntime, with its reports to its makers off.

    Raises:
        ResourceError: If it is not installed, or set to take its options from models.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ResourceError("ONNX models need onnxruntime", hint=INSTALL) from None
    if os.environ.get(CONFIGURED):
        raise ResourceError(
            f"{CONFIGURED} lets a model set the options of onnxruntime", hint="unset it"
        )
    onnxruntime.disable_telemetry_events()
    return onnxruntime


@cache
def runtime_errors() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises for a model or an input that it cannot use."""
    runtime()
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type)]
    found = [kind for kind in own if issubclass(kind, Exception)]
    return (*found, RuntimeError, ValueError, TypeError, MemoryError)


def open_session(model: bytes, *, n_threads: int, is_on_gpu: bool = False) -> Any:
    """Make a session of an ONNX model that came through the door.

    The file is read as ONNX and nothing else, no library of operators is registered, and only the
    named providers run: onnxruntime also brings one that calls a service on the network.

    Args:
        model: Its bytes: without a path, nothing beside it can be meant.
        n_threads: Threads of one operator.
        is_on_gpu: Whether to use CUDA, in full fp32.

    Raises:
        ResourceError: If onnxruntime is not installed.
        runtime_errors: If it cannot use the model.
    """
    made = runtime()
    options = made.SessionOptions()
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Threads that spin while torch works would only take its cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads, options.inter_op_num_threads = n_threads, 1
    options.use_deterministic_compute = True
    options.log_severity_level = QUIET
    providers: list[Any] = ["CPUExecutionProvider"]
    if is_on_gpu:
        providers.insert(0, ("CUDAExecutionProvider", {"use_tf32": "0"}))
    return made.InferenceSession(model, options, providers=providers)


def read_checked(path: Path, wanted_sha256: str) -> bytes:
    """Read a model of the cache, after making sure that it is still what the door put there.

    Raises:
        IntegrityError: If it is not.
    """
    hint = f"delete {path} and give the same command again"
    try:
        model = path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"cannot be read: {error}", where=path, hint=hint) from None
    if sha256(model).hexdigest() != wanted_sha256:
        raise IntegrityError("the cached model is damaged", where=path, hint=hint)
    return model
