"""The disposable process that holds the package's single ``torch.load``.

Run as a script with the environment emptied and resources limited. It reads one checkpoint that
has passed the opcode walk, finds the state dict, and writes safetensors; it prints one JSON line.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import sys
from collections.abc import Mapping
from typing import Any

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "ema", "params")
CLONE_NEWUSER_NEWNET = 0x10000000 | 0x40000000


def limit(n_bytes: int) -> None:
    """Limit address space, CPU, file size and open files; drop the network where permitted."""
    limits = {
        resource.RLIMIT_AS: 16 * 2**30 + 4 * n_bytes,
        resource.RLIMIT_CPU: 300,
        resource.RLIMIT_FSIZE: 2 * n_bytes + 2**20,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, value))
    # Refused by some kernels and containers: then the other walls must do.
    ctypes.CDLL(None).unshare(CLONE_NEWUSER_NEWNET)


def find_state(loaded: Any, key: str | None) -> tuple[Mapping[str, Any], str]:
    """Return the state dict inside a loaded object and where it was found.

    Raises:
        ValueError: If there is none.
    """
    if key:
        return _follow(loaded, key), key
    place = ""
    for _ in range(4):
        if _is_state(loaded):
            return loaded, place
        if isinstance(loaded, list | tuple) and len(loaded) >= 1:
            loaded, place = loaded[0], f"{place}[0]"
            continue
        inner = [name for name in WRAPPERS if isinstance(loaded, Mapping) and name in loaded]
        if not inner:
            break
        loaded, place = loaded[inner[0]], f"{place}.{inner[0]}".lstrip(".")
    raise ValueError("no state dict found: give weights.state_key in the card")


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


def strip_prefix(names: list[str]) -> str:
    """Return ``module.`` if every name carries it (DataParallel), else nothing."""
    return "module." if names and all(name.startswith("module.") for name in names) else ""


def convert(source: str, destination: str, key: str | None) -> dict[str, Any]:
    """Load one checkpoint and write its tensors as safetensors.

    Raises:
        ValueError: If no state dict is found.
    """
    import torch
    from safetensors.torch import save_file

    loaded = torch.load(source, weights_only=True, map_location="cpu")
    state, place = find_state(loaded, key)
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    prefix = strip_prefix(list(tensors))
    kept = {
        name.removeprefix(prefix): tensor.detach().clone().contiguous()
        for name, tensor in tensors.items()
    }
    save_file(kept, destination)
    dropped = sorted(set(map(str, state)) - set(tensors))
    return {"state_key": place, "prefix": prefix, "n_tensors": len(kept), "dropped": dropped[:20]}


def main() -> int:
    """Convert the file named on the command line; report on one JSON line."""
    source, destination, key = sys.argv[1:4]
    limit(os.stat(source).st_size)
    try:
        outcome = convert(source, destination, key or None)
    except Exception as error:  # everything is reported to the parent, nothing is decided here
        outcome = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    sys.stdout.write(json.dumps(outcome) + "\n")
    return 1 if "error" in outcome else 0


if __name__ == "__main__":
    sys.exit(main())
