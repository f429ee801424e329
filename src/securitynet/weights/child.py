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
from typing import TYPE_CHECKING, Any

from securitynet.weights.leftovers import Array, as_tensor, stand_ins

if TYPE_CHECKING:
    import torch

WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module",
    "weights", "params", "ema", "state_dict_ema", "model_ema", "ema_state_dict",
)  # fmt: skip
"""What holds the state dict, the first one that is there; averaged weights come last."""
PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and its kin, and ``torch.compile``, put before every name."""
AVERAGED = "n_averaged"
"""The counter that ``torch.optim.swa_utils.AveragedModel`` keeps beside the module."""
MAX_WRAPPERS = 4
SHOWN = 20
MEMORY_BYTES = 16 * 2**30
"""Importing torch alone maps several GB."""
CLONE_NEWNET = 0x40000000
CLONE_NEWUSER = 0x10000000
PR_SET_NO_NEW_PRIVS = 38
EXPECTED = (
    pickle.UnpicklingError, RuntimeError, ValueError, LookupError, TypeError, AttributeError,
    AssertionError, EOFError, OSError, MemoryError, OverflowError,
)  # fmt: skip
"""What torch raises for a file that it cannot read."""


def limit(n_bytes: int, memory_bytes: int = MEMORY_BYTES) -> None:
    """Limit address space, CPU, file size and open files; drop network, new processes, rights.

    Args:
        n_bytes: Size of the file that is opened.
        memory_bytes: Address space beside four times that.
    """
    limits = {
        resource.RLIMIT_AS: memory_bytes + 4 * n_bytes,
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
    if not held and not _is_state(loaded):  # under a name of its own, if nothing else can be meant
        own = [name for name, value in loaded.items() if type(name) is str and _is_state(value)]
        held = own if len(own) == 1 else []
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

    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        return False
    values = list(value.values())
    has_tensors = any(isinstance(item, torch.Tensor) for item in values)
    return has_tensors or (bool(values) and all(isinstance(item, Array) for item in values))


def strip_prefix(names: Iterable[str]) -> str:
    """Return what wrappers of modules put before every name, e.g. ``module._orig_mod.``."""
    found, prefix = list(names), ""
    while found:
        more = [added for added in PREFIXES if found[0].startswith(prefix + added)]
        if not more or not all(name.startswith(prefix + more[0]) for name in found):
            break
        prefix += more[0]
    return prefix


def convert(source: str, destination: str, key: str | None, sha256: str) -> dict[str, Any]:
    """Load one checkpoint and write its tensors as safetensors.

    Raises:
        ValueError: If no state dict is found.
    """
    import torch
    from safetensors.torch import save_file

    torch.serialization.add_safe_globals(list(stand_ins()))
    path = _readable(Path(source), Path(destination).with_suffix(".rewritten"))
    loaded = torch.load(path, weights_only=True, map_location="cpu")
    state, place = find_state(loaded, key)
    tensors = _tensors(state)
    prefix = strip_prefix(name for name in tensors if name != AVERAGED)
    if prefix:
        tensors.pop(AVERAGED, None)
    kept = {
        name.removeprefix(prefix): tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    save_file(kept, destination, {"sha256": sha256, "state_key": place, "prefix": prefix})
    dropped = sorted(name[:SHOWN] for name in state if name not in tensors)
    return {"state_key": place, "prefix": prefix, "n_tensors": len(kept), "dropped": dropped[:20]}


def _readable(source: Path, made: Path) -> Path:
    """Return a file that torch's restricted reader can read; a new one is inspected, too."""
    from securitynet.weights.inspect import scan
    from securitynet.weights.protocol import rewrite

    path = rewrite(source, made)
    if path != source and scan(path).verdict != "SAFE":
        raise ValueError("its pickles are of a newer protocol and have no plain counterpart")
    return path


def _tensors(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    import torch

    found = {name: as_tensor(value) if isinstance(value, Array) else value
             for name, value in state.items()}  # fmt: skip
    return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


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
