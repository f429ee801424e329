"""What the pickle walker knows of each object, and what an allowed call may be given.

A label stands for an object that is never made. A rule looks at the labels of a call's arguments
and returns what is wrong with them: an allowed name with odd arguments is refused as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from securitynet.weights.allowlist import NUMPY, STORAGE_BYTES, STORAGE_DTYPES

MAX_SIDES = 16
PLAIN = ("text", "number", "bool", "none", "float", "bytes")
NUMPY_DTYPE = re.compile(r"[<>|=]?[biufcSUVMm]\d{0,4}")
"""Types of plain numbers and texts; ``O`` is of Python objects."""


@dataclass(slots=True)
class Label:
    """What stands for an object: its kind, what is known of it, and how deep it nests."""

    kind: str
    value: Any = None
    depth: int = 0


@dataclass(frozen=True)
class Storage:
    """A tensor's memory as the pickle names it: ``numel`` elements of one type."""

    key: str
    numel: int
    kind: str

    @property
    def item_bytes(self) -> int:
        """Bytes an element takes."""
        return STORAGE_BYTES[self.kind]


Arguments = tuple[Label, ...]
Rule = Callable[[Arguments], str | None]


def storage_of(label: Label) -> Storage | None:
    """Read ``("storage", kind, key, location, numel[, None])``, or return ``None``."""
    if label.kind != "tuple" or not 5 <= len(label.value) <= 6:
        return None
    word, kind, key, location, numel = label.value[:5]
    kinds = [item.kind for item in (word, kind, key, location, numel)]
    is_view = len(label.value) == 6 and label.value[5].kind != "none"
    if kinds != ["text", "global", "text", "text", "number"] or is_view or numel.value < 0:
        return None
    is_storage = kind.value[0] in ("torch", "torch.storage") and kind.value[1] in STORAGE_BYTES
    if word.value != "storage" or not is_storage or key.value is None:
        return None
    return Storage(key.value, numel.value, kind.value[1])


def tensor_of(arguments: Arguments) -> tuple[int, str] | None:
    """Return a tensor's number of elements and type, ``None`` if it leaves its storage."""
    if [item.kind for item in arguments[:4]] != ["storage", "number", "tuple", "tuple"]:
        return None
    storage, offset, size, stride = (item.value for item in arguments[:4])
    if (
        len(size) > MAX_SIDES
        or len(size) != len(stride)
        or any(item.kind != "number" for item in (*size, *stride))
    ):
        return None
    sides, steps = [item.value for item in size], [item.value for item in stride]
    if min([offset, *sides, *steps]) < 0:
        return None
    count = 1
    for side in sides:
        count *= side
    last = offset + sum((side - 1) * step for side, step in zip(sides, steps, strict=True))
    is_inside = count == 0 or last < storage.numel
    return (count, STORAGE_DTYPES[storage.kind]) if is_inside else None


def is_bare(rest: Arguments) -> bool:
    """Return whether a tensor's last arguments are none, or a flag, no hooks and no metadata."""
    kinds = [item.kind for item in rest]
    if kinds[2:] not in ([], ["none"]):
        return False
    return not kinds or (
        kinds[0] == "bool" and kinds[1:2] in (["ordered dict"], ["none"]) and not rest[1].value
    )


def is_key(label: Label) -> bool:
    """Return whether a label may be a key or lie in a set: hashing nested tuples takes for ever."""
    if label.kind == "tuple":
        return all(item.kind in PLAIN for item in label.value)
    return label.kind in (*PLAIN, "global")


def keys_of(pairs: list[Label]) -> bool:
    """Return whether every second label is fit as a key, and none is left over."""
    return len(pairs) % 2 == 0 and all(map(is_key, pairs[::2]))


def _is(arguments: Arguments, *kinds: str) -> bool:
    """Return whether the arguments are of these kinds; ``|`` separates alternatives."""
    return len(arguments) == len(kinds) and all(
        item.kind in kind.split("|") for item, kind in zip(arguments, kinds, strict=True)
    )


def _ordered_dict(arguments: Arguments) -> str | None:
    if not arguments:
        return None
    if not _is(arguments, "list"):
        return "makes a dictionary of something odd"
    pairs = [item.value for item in arguments[0].value if item.kind in ("list", "tuple")]
    is_fine = len(pairs) == len(arguments[0].value) and all(
        len(pair) == 2 and is_key(pair[0]) for pair in pairs
    )
    return None if is_fine else "makes a dictionary of something odd"


def _counter(arguments: Arguments) -> str | None:
    is_fine = not arguments or _is(arguments, "dict")
    return None if is_fine else "makes a counter of something odd"


def _set(arguments: Arguments) -> str | None:
    is_fine = not arguments or (_is(arguments, "list") and all(map(is_key, arguments[0].value)))
    return None if is_fine else "makes a set of something odd"


def _parameter(arguments: Arguments) -> str | None:
    kinds = ("tensor", "bool", "ordered dict|none")
    is_fine = _is(arguments, *kinds) and not arguments[2].value
    return None if is_fine else "makes a parameter of something odd"


def _size(arguments: Arguments) -> str | None:
    is_fine = _is(arguments, "tuple") and all(item.kind == "number" for item in arguments[0].value)
    return None if is_fine else "makes a size of something odd"


def _device(arguments: Arguments) -> str | None:
    is_fine = _is(arguments, "text") or _is(arguments, "text", "number")
    return None if is_fine else "makes a device of something odd"


def _layout(arguments: Arguments) -> str | None:
    is_fine = _is(arguments, "text") and re.fullmatch(
        r"torch\.(strided|sparse_\w+)", arguments[0].value or ""
    )
    return None if is_fine else "asks for an odd layout"


def _encode(arguments: Arguments) -> str | None:
    is_fine = _is(arguments, "text", "text") and arguments[1].value in ("latin1", "latin-1")
    return None if is_fine else "encodes other than latin1"


def _dtype(arguments: Arguments) -> str | None:
    is_fine = _is(arguments, "text", "bool|number", "bool|number") or _is(arguments, "text")
    if is_fine and NUMPY_DTYPE.fullmatch(arguments[0].value or ""):
        return None
    return "makes a numpy type of objects or of something odd"


def _scalar(arguments: Arguments) -> str | None:
    is_fine = _is(arguments, "object", "bytes|text|object") and _made_by(arguments[0], "dtype")
    is_fine &= len(arguments) == 2 and _are_bytes(arguments[1])
    return None if is_fine else "makes a numpy scalar of something odd"


def _reconstruct(arguments: Arguments) -> str | None:
    is_fine = (
        _is(arguments, "global", "tuple", "bytes|text|object")
        and arguments[0].value == ("numpy", "ndarray")
        and [(item.kind, item.value) for item in arguments[1].value] == [("number", 0)]
        and _are_bytes(arguments[2])
    )
    return None if is_fine else "makes a numpy array of something odd"


def _namespace(arguments: Arguments) -> str | None:
    return None if not arguments else "makes a namespace of something odd"


def _made_by(label: Label, name: str) -> bool:
    return label.kind == "object" and label.value[1] == name


def _are_bytes(label: Label) -> bool:
    """Protocol 2 writes bytes as a call that encodes a text."""
    return label.kind in ("bytes", "text") or _made_by(label, "encode")


RULES: dict[tuple[str, str], Rule] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("collections", "Counter"): _counter,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): _size,
    ("torch", "device"): _device,
    ("torch.serialization", "_get_layout"): _layout,
    ("_codecs", "encode"): _encode,
    ("builtins", "set"): _set,
    ("__builtin__", "set"): _set,
    ("numpy", "dtype"): _dtype,
    ("argparse", "Namespace"): _namespace,
    **{(module, "scalar"): _scalar for module in NUMPY},
    **{(module, "_reconstruct"): _reconstruct for module in NUMPY},
}
"""Allowed call -> what its arguments must be. Tensors are checked against their storage."""

NEW = frozenset(
    {("collections", "OrderedDict"), ("argparse", "Namespace"), ("builtins", "set"),
     ("__builtin__", "set")}
)  # fmt: skip
"""Classes of which NEWOBJ may make an object."""


def state_problem(target: Label, state: Label) -> str | None:
    """Return what is wrong with setting this state on this object."""
    if target.kind == "ordered dict" or _made_by(target, "Namespace"):
        is_fine = state.kind in ("dict", "ordered dict")
    elif _made_by(target, "dtype"):
        is_fine = state.kind == "tuple" and all(item.kind in PLAIN for item in state.value)
    elif _made_by(target, "_reconstruct"):
        is_fine = state.kind == "tuple" and _is_array(state.value)
    else:
        return f"sets the state of a {target.kind}"
    return None if is_fine else f"sets an odd state of a {target.kind}"


def _is_array(state: Arguments) -> bool:
    """Return whether this is a numpy array's state: version, shape, type, order, bytes."""
    return (
        _is(state, "number", "tuple", "object", "bool|number", "bytes|text|object")
        and all(item.kind == "number" for item in state[1].value)
        and _made_by(state[2], "dtype")
        and _are_bytes(state[4])
    )
