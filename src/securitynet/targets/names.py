"""Tensors under other names: prefixes, constants and copies that published checkpoints carry.

Only what can be proven is renamed or left out; the strict loading afterwards lists the rest.
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from securitynet.catalogue.cards import InputSpec, ModelCard

Tensors = dict[str, Tensor]
MEANS = ("mu", "mean", "new_mean", "image_mean")
DEVIATIONS = ("sigma", "std", "new_std", "image_std")
CLOSE = 1e-3
"""Constants of a checkpoint and of its card differ by less: rounding in print."""
UNUSED = {"torchvision/googlenet": ("aux1.", "aux2.")}
"""Parts of published files that serve training only, and that the libraries drop after loading."""
TRIED = (
    TypeError, ValueError, RuntimeError, LookupError, AttributeError, AssertionError,
)  # fmt: skip
"""What a library's own renaming raises for tensors that it was not made for."""


def fit_names(module: nn.Module, tensors: Tensors, card: ModelCard) -> Tensors:
    """Return a checkpoint's tensors under the names of a module, if they can be matched.

    Args:
        module: The architecture with fresh weights; it is not changed.
        tensors: What came through the door.
        card: The model's card.

    Returns:
        The renamed tensors, or the same ones if nothing matches.
    """
    inner = getattr(module, "checkpoint_prefix", "")
    wanted = {
        name.removeprefix(inner): name
        for name in module.state_dict()
        if not name.endswith("num_batches_tracked")
    }
    for renamed in (tensors, _densenet(tensors)):
        prefix = _prefix(wanted, renamed)
        if prefix is not None:
            fitted = _stripped(wanted, renamed, prefix, inner)
            return {**fitted, **_unexplained(fitted, renamed, prefix, card)}
    return _by_library(module, tensors) or tensors


def _prefix(wanted: Iterable[str], tensors: Mapping[str, Tensor]) -> str | None:
    """Return the prefix under which a checkpoint holds every wanted name; the shortest one."""
    names = list(wanted)
    if not names:
        return None
    first = names[0]
    found = {name.removesuffix(first) for name in tensors if name.endswith(first)}
    for prefix in sorted(found, key=lambda prefix: (len(prefix), prefix)):
        if (not prefix or prefix.endswith(".")) and all(prefix + name in tensors for name in names):
            return prefix
    return None


def _stripped(wanted: dict[str, str], tensors: Tensors, prefix: str, inner: str) -> Tensors:
    counters = {
        inner + name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix) and name.endswith("num_batches_tracked")
    }
    known = {name.removesuffix(name.rpartition(".")[2]) for name in wanted.values()}
    kept = {
        name: tensor
        for name, tensor in counters.items()
        if name.removesuffix("num_batches_tracked") in known
    }
    return {**{ours: tensors[prefix + theirs] for theirs, ours in wanted.items()}, **kept}


def _unexplained(fitted: Tensors, tensors: Tensors, prefix: str, card: ModelCard) -> Tensors:
    """Return the tensors that are no part of the module and may not be left out."""
    used = {id(tensor) for tensor in fitted.values()}
    rest = {name: tensor for name, tensor in tensors.items() if id(tensor) not in used}
    return {
        name: tensor
        for name, tensor in rest.items()
        if not (
            name.endswith("num_batches_tracked")
            or _is_unused(name.removeprefix(prefix), card)
            or _is_constant(name, tensor, card.input)
            or _is_copy(name, tensor, fitted)
        )
    }


def _is_unused(name: str, card: ModelCard) -> bool:
    """Whether the card declares a tensor unused by the authors' own network.

    It gives beginnings of names, or their ends after a ``*``.
    """
    architecture = card.architecture
    named: Any = architecture if isinstance(architecture, Mapping) else {"name": architecture}
    declared = named.get("options", {}).get("unused", ())
    parts = (*map(str, declared), *UNUSED.get(str(named.get("name")), ()))
    ends = tuple(part[1:] for part in parts if part.startswith("*."))
    return name.startswith(parts) or name.endswith(ends)


def _is_constant(name: str, tensor: Tensor, spec: InputSpec) -> bool:
    """Whether a tensor repeats the normalisation that the card's input spec does."""
    last = name.rpartition(".")[2]
    if last not in MEANS + DEVIATIONS or tensor.numel() not in (1, spec.channels):
        return False
    given = spec.mean or (0.0,) if last in MEANS else spec.std or (1.0,)
    return bool((tensor.flatten() - torch.tensor(given)).abs().max() <= CLOSE)


def _is_copy(name: str, tensor: Tensor, fitted: Tensors) -> bool:
    """Whether a tensor is the very same as one of the module's, under a longer name."""
    parts = name.split(".")
    tails = (".".join(parts[i:]) for i in range(1, len(parts)))
    twin = next((fitted[tail] for tail in tails if tail in fitted), None)
    return twin is not None and twin.dtype == tensor.dtype and torch.equal(twin, tensor)


def _densenet(tensors: Tensors) -> Tensors:
    """Undo the names of DenseNets from before torchvision 0.2: ``norm.1`` is ``norm1`` today."""
    pattern = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
    return {pattern.sub(r"\1\2.", name): tensor for name, tensor in tensors.items()}


def _by_library(module: nn.Module, tensors: Tensors) -> Tensors | None:
    """Let the library that built the module rename, as it does for its own old checkpoints."""
    for rename in (_timms, _torchs):
        try:
            renamed = rename(module, dict(tensors))
        except TRIED:
            continue
        if renamed is not None:
            return renamed
    return None


def _timms(module: nn.Module, tensors: Tensors) -> Tensors | None:
    """Use the filter of timm's module for the architecture's family."""
    home = sys.modules[type(module).__module__]
    rename: Callable[..., Tensors] | None = getattr(home, "checkpoint_filter_fn", None)
    if rename is None or not home.__name__.startswith("timm."):
        return None
    renamed = rename(tensors, module)
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    is_right = {name: tensor.shape for name, tensor in renamed.items()} == shapes
    return dict(renamed) if is_right else None


def _torchs(module: nn.Module, tensors: Tensors) -> Tensors | None:
    """Use the version upgrades that modules of torch and torchvision do while they load."""
    if not any("_load_from_state_dict" in vars(type(part)) for part in module.modules()):
        return None
    trial = copy.deepcopy(module)
    trial.load_state_dict(tensors, strict=True)
    return dict(trial.state_dict())
