"""Strict loading: every tensor of the file fits the architecture, or all problems are listed."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from securitynet.errors import IntegrityError
from securitynet.files.digest import digest
from securitynet.weights.door import Opened

log = logging.getLogger(__name__)
SHOWN = 3
Rename = Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]]
"""Returns a checkpoint's tensors under the module's names; what it cannot match stays as it is."""


def load_into(
    module: nn.Module, opened: Opened, *, where: str, rename: Rename | None = None
) -> None:
    """Load a checkpoint into a module, in place.

    Args:
        module: The architecture.
        opened: What came through the door.
        where: Named in errors.
        rename: Asked once if the names do not fit as they are.

    Raises:
        IntegrityError: Naming the first names, shapes, types or values that do not fit; the log
            (``-v``) has all of them.
    """
    for note in opened.notes:
        log.info("%s: %s", where, note)
    tensors = _read(opened)
    problems = check(module.state_dict(), tensors)
    if problems and rename is not None:
        tensors = rename(module, tensors)
        problems = check(module.state_dict(), tensors)
    if problems:
        for problem in problems:
            log.info("%s: %s", where, problem)
        more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise IntegrityError(
            f"the checkpoint does not fit the architecture: {'; '.join(problems[:SHOWN])}{more}",
            where=where,
            hint="correct the architecture in the card",
        )
    _assign(module, tensors)


def _assign(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load tensors that were checked; only absent batch counters are left out.

    The layout's version comes from the module: without one, some modules would upgrade their own
    present names, or refuse them.
    """
    state = OrderedDict(tensors)
    state._metadata = module.state_dict()._metadata  # type: ignore[attr-defined]
    module.load_state_dict(state, strict=False)


def _read(opened: Opened) -> dict[str, Tensor]:
    """Read the tensors, after making sure that the cache still holds what the door wrote."""
    hint = f"delete {opened.path} and give the same command again"
    try:
        if digest(opened.path) != opened.converted_sha256:
            raise IntegrityError("the cached weights are damaged", where=opened.path, hint=hint)
        tensors: dict[str, Tensor] = load_file(opened.path)
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"cannot be read: {error}", where=opened.path, hint=hint) from None
    return tensors


def check(wanted: dict[str, Tensor], tensors: dict[str, Tensor]) -> list[str]:
    """Return every difference between an architecture's state and a checkpoint's tensors."""
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    problems = [f"{name} is missing" for name in wanted if name not in {*tensors, *counters}]
    problems += [f"{name} is not part of it" for name in tensors if name not in wanted]
    for name in wanted:
        problems += _compare(name, wanted[name], tensors[name]) if name in tensors else []
    return problems


def _compare(name: str, wanted: Tensor, found: Tensor) -> list[str]:
    if wanted.shape != found.shape:
        return [f"{name} has shape {list(found.shape)} instead of {list(wanted.shape)}"]
    if wanted.is_floating_point() != found.is_floating_point():
        return [f"{name} has type {found.dtype} instead of {wanted.dtype}"]
    if found.is_floating_point() and not bool(torch.isfinite(found).all()):
        return [f"{name} holds values that are not finite"]
    return []
