"""What stands for the leftovers of a training script: numpy's objects, options, callbacks.

Nothing of numpy or of the training script is called: the names in
:data:`~securitynet.weights.allowlist.INERT` mean these classes while a checkpoint is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from securitynet.weights.allowlist import INERT

if TYPE_CHECKING:
    import torch

TYPES = {
    "b1": "bool", "u1": "uint8", "i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64",
    "f2": "float16", "f4": "float32", "f8": "float64",
}  # fmt: skip
"""numpy's codes for the types of torch."""


class Inert:
    """Takes anything, does nothing."""

    def __init__(self, *_: object) -> None:
        """Take any arguments."""

    def __new__(cls, *_: object) -> Inert:
        """Take any arguments."""
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Take any state."""


class Type(Inert):
    """Stands for a ``numpy.dtype``: keeps its code and byte order."""

    def __init__(self, *arguments: object) -> None:
        """Keep the first argument, the code."""
        self.code = arguments[0] if arguments else None
        self.order = "|"

    def __setstate__(self, state: Any) -> None:
        """Keep the byte order."""
        self.order = state[1]


class Array(Inert):
    """Stands for a ``numpy.ndarray``: keeps its shape, type and bytes."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        """Keep all of it."""
        self.state = state


def stand_ins() -> Iterator[tuple[type[Inert], str]]:
    """Yield every class with the name that it stands for."""
    special: dict[str, type[Inert]] = {"_reconstruct": Array, "dtype": Type}
    for module, name in sorted(INERT):
        yield special.get(name, Inert), f"{module}.{name}"


def as_tensor(array: Array) -> torch.Tensor | None:
    """Return a numpy array as a tensor, ``None`` if it is of no type that torch knows.

    Raises:
        ValueError: If its bytes are not those of its shape and type.
        TypeError: If it has no such parts.
    """
    import torch

    _, shape, kind, is_fortran, raw = array.state
    if not isinstance(kind, Type) or kind.order == ">" or kind.code not in TYPES:
        return None
    flat = torch.frombuffer(bytearray(raw), dtype=getattr(torch, TYPES[str(kind.code)]))
    if is_fortran:
        return flat.reshape(shape[::-1]).permute(*reversed(range(len(shape))))
    return flat.reshape(shape)
