"""The disposable process that holds the package's single ``torch.load``.

:mod:`securitynet.weights.nursery` makes one for every file: its environment is empty and its
resources are limited. It reads one checkpoint that has passed the inspection, finds the state dict
and writes safetensors; it prints one JSON line.
"""

from __future__ import annotations

import ctypes
import json
import pickle
import re
import resource
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module",
    "weights", "params", "ema", "state_dict_ema", "model_ema",
)  # fmt: skip
MAX_WRAPPERS = 4
SHOWN = 20
CLONE_NEWNET = 0x40000000
CLONE_NEWUSER = 0x10000000
PR_SET_NO_NEW_PRIVS = 38
EXPECTED = (
    pickle.UnpicklingError, RuntimeError, ValueError, LookupError, TypeError, AttributeError,
    AssertionError, EOFError, OSError, MemoryError, OverflowError,
)  # fmt: skip
"""What torch raises for a file that it cannot read."""


class Inert:
    """Stands for the leftovers of a training script: takes anything, does nothing."""

    def __init__(self, *_: object) -> None:
        """Take any arguments."""

    def __new__(cls, *_: object) -> Inert:
        """Take any arguments."""
        return object.__new__(cls)

    def __setstate__(self, _: object) -> None:
        """Take any state."""


def limit(n_bytes: int) -> None:
    """Limit address space, CPU, file size and open files; drop network, new processes, rights."""
    limits = {
        resource.RLIMIT_AS: 16 * 2**30 + 4 * n_bytes,  # importing torch alone maps several GB
        resource.RLIMIT_CPU: 300,
        resource.RLIMIT_FSIZE: 8 * n_bytes + 2**20,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_NPROC: 0,  # not kept for root
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (allowed, allowed))
    # Refused by some kernels and containers: then the other walls must do.
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.unshare(CLONE_NEWNET) != 0:
        libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)


def find_state(loaded: Any, key: str | None) -> tuple[Mapping[str, Any], str]:
    """Return the state dict inside a loaded object and where it was found.

    Raises:
        ValueError: If there is none.
    """
    if key:
        return _follow(loaded, key), key
    place = ""
    for _ in range(MAX_WRAPPERS):
        inner = _wrapped(loaded)
        if inner is None:
            break
        loaded, place = loaded[inner], _join(place, inner)
    if _is_state(loaded):
        return loaded, place
    raise ValueError("no state dict found: give weights.state_key in the card")


def _wrapped(loaded: Any) -> str | int | None:
    """Return the key of what a wrapper holds; an inner mapping is never part of a state dict."""
    if isinstance(loaded, list | tuple):
        return 0 if loaded and isinstance(loaded[0], Mapping) else None
    if not isinstance(loaded, Mapping):
        return None
    held = [name for name in WRAPPERS if isinstance(loaded.get(name), Mapping | list | tuple)]
    return held[0] if held else None


def _join(place: str, inner: str | int) -> str:
    return f"{place}[{inner}]" if isinstance(inner, int) else f"{place}.{inner}".lstrip(".")


def _follow(loaded: Any, key: str) -> Mapping[str, Any]:
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", key):
        try:
            loaded = loaded[name] if name else loaded[int(index)]
        except (KeyError, IndexError, TypeError):
            raise ValueError(f"the file has nothing at {key!r}") from None
    if not _is_state(loaded):
        raise ValueError(f"{key!r} is not a state dict")
    return loaded  # type: ignore[no-any-return]


def _is_state(value: Any) -> bool:
    import torch

    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) for name in value)
        and any(isinstance(tensor, torch.Tensor) for tensor in value.values())
    )


def strip_prefix(names: Iterable[str]) -> str:
    """Return ``module.`` if every name carries it (DataParallel), else nothing."""
    found = list(names)
    return "module." if found and all(name.startswith("module.") for name in found) else ""


def convert(source: str, destination: str, key: str | None, sha256: str) -> dict[str, Any]:
    """Load one checkpoint and write its tensors as safetensors.

    Raises:
        ValueError: If no state dict is found.
    """
    import torch
    from safetensors.torch import save_file

    from securitynet.weights.allowlist import INERT

    torch.serialization.add_safe_globals([(Inert, ".".join(name)) for name in sorted(INERT)])
    loaded = torch.load(source, weights_only=True, map_location="cpu")
    state, place = find_state(loaded, key)
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    prefix = strip_prefix(tensors)
    kept = {
        name.removeprefix(prefix): tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    save_file(kept, destination, {"sha256": sha256, "state_key": place, "prefix": prefix})
    dropped = sorted(name[:SHOWN] for name in state if name not in tensors)
    return {"state_key": place, "prefix": prefix, "n_tensors": len(kept), "dropped": dropped[:20]}


def open_one(source: str, destination: str, key: str | None, sha256: str) -> int:
    """Convert one file within limits; print what came of it as one JSON line.

    Returns:
        1 if torch could not read it, else 0.
    """
    try:
        limit(Path(source).stat().st_size)
        outcome = convert(source, destination, key, sha256)
    except EXPECTED as error:
        outcome = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    print(json.dumps(outcome), flush=True)
    return 1 if "error" in outcome else 0
