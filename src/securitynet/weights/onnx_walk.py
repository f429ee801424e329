"""ONNX: the structure of the graph, walked without onnx or a runtime; nothing is executed.

Field numbers are those of ``onnx.proto``. A field that is not known there is not decided.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from securitynet.weights.findings import Contents, Finding, Tensors, damage, printable, unknown
from securitynet.weights.protobuf import BYTES, VARINT, Field, Wire

MAX_DEPTH = 24
MAX_FINDINGS = 20
MAX_RANK = 64
OFFICIAL = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.training",
            "ai.onnx.preview.training")  # fmt: skip
"""Operator domains of the standard; all others name operators of some runtime or library."""
CODE_OPS = re.compile(r".*(py(thon)?op|pyfunc|pycustom|epcontext|externalcustom).*", re.IGNORECASE)
"""Operators that are known to run Python or load a library."""
DTYPES = {
    1: ("float32", 32), 2: ("uint8", 8), 3: ("int8", 8), 4: ("uint16", 16), 5: ("int16", 16),
    6: ("int32", 32), 7: ("int64", 64), 8: ("string", 0), 9: ("bool", 8), 10: ("float16", 16),
    11: ("float64", 64), 12: ("uint32", 32), 13: ("uint64", 64), 14: ("complex64", 64),
    15: ("complex128", 128), 16: ("bfloat16", 16), 17: ("float8_e4m3fn", 8),
    18: ("float8_e4m3fnuz", 8), 19: ("float8_e5m2", 8), 20: ("float8_e5m2fnuz", 8),
    21: ("uint4", 4), 22: ("int4", 4), 23: ("float4_e2m1", 4), 24: ("float8_e8m0", 8),
}  # fmt: skip
"""TensorProto.DataType -> name and bits an element."""
KNOWN = {
    "model": frozenset(range(1, 9)) | {14, 20, 25, 26},
    "graph": frozenset({1, 2, 5, 10, 11, 12, 13, 14, 15, 16}),
    "node": frozenset(range(1, 11)),
    "attribute": frozenset({*range(1, 12), 13, 14, 15, 20, 21, 22, 23}),
    "function": frozenset({1, *range(4, 15)}),
    "tensor": frozenset(range(1, 15)) | {16},
    "sparse": frozenset({1, 2, 3}),
    "opset": frozenset({1, 2}),
}
"""Fields of each message."""


@dataclass
class _Tensor:
    """What one TensorProto says of itself."""

    name: str = ""
    dims: list[int] = field(default_factory=list)
    kind: int = 0
    raw: int | None = None
    n_data_bytes: int = 0
    external: dict[str, str] = field(default_factory=dict)
    is_external: bool = False


class _Walker:
    """Walks one model; collects what is judged when all of it is known."""

    def __init__(self, file: BinaryIO, folder: Path | None) -> None:
        self.wire = Wire(file)
        self.folder = folder
        self.findings: list[Finding] = []
        self.tensors = Tensors()
        self.used: dict[tuple[str, str], int] = {}
        self.opsets: dict[str, int] = {}
        self.functions: set[tuple[str, str]] = set()

    def message(self, kind: str, begin: int, end: int, depth: int = 0) -> None:
        """Walk a message and those inside it."""
        if depth > MAX_DEPTH:
            raise ValueError(f"messages nest over {MAX_DEPTH} deep")
        inner = INNER.get(kind, {})
        for item in self.wire.fields(begin, end):
            if item.number not in KNOWN[kind]:
                self.find(unknown(f"field {item.number} of a {kind} is not known", "onnx", begin))
            if item.number not in inner:
                continue
            if item.wire != BYTES:
                raise ValueError(f"field {item.number} of a {kind} is no message at {item.begin}")
            step = HANDLERS.get(inner[item.number])
            if step is not None:
                step(self, item)
            else:
                self.message(inner[item.number], item.begin, item.end, depth + 1)
        if kind in NAMED:
            NAMED[kind](self, begin, end)

    def find(self, finding: Finding) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)

    def texts(self, begin: int, end: int, numbers: tuple[int, ...]) -> list[str]:
        """Return the last text of each of these fields."""
        found = dict.fromkeys(numbers, "")
        for item in self.wire.fields(begin, end):
            if item.number in found:
                found[item.number] = self.wire.text(item)
        return [found[number] for number in numbers]

    def node(self, begin: int, end: int) -> None:
        op, domain = self.texts(begin, end, (4, 7))
        self.used.setdefault((domain, op), begin)

    def function(self, begin: int, end: int) -> None:
        name, domain = self.texts(begin, end, (1, 10))
        self.functions.add((domain, name))

    def opset(self, begin: int, end: int) -> None:
        (domain,) = self.texts(begin, end, (1,))
        self.opsets.setdefault(domain, begin)

    def training(self, item: Field) -> None:
        self.find(unknown("holds a training program", "onnx", item.begin))

    def tensor(self, item: Field) -> None:
        """Check one tensor's data against its type and shape."""
        found = _Tensor()
        for part in self.wire.fields(item.begin, item.end):
            if part.number not in KNOWN["tensor"]:
                self.find(unknown(f"field {part.number} of a tensor is not known", "onnx",
                                  item.begin))  # fmt: skip
            _read_tensor(self.wire, part, found)
        n_elements = math.prod(found.dims[: MAX_RANK + 1])
        problem = _tensor_problem(found, n_elements)
        if problem is not None:
            self.find(damage(f"tensor {printable(found.name, 60)!r} {problem}", "onnx", item.begin))
            return
        if found.is_external or found.external:
            self.external(found, n_elements, item.begin)
        self.tensors += Tensors(1, n_elements, (DTYPES[found.kind][0],))

    def external(self, found: _Tensor, n_elements: int, offset: int) -> None:
        """Data in another file must lie in the model's own folder, whole."""
        location = found.external.get("location", "")
        shown = f"tensor {printable(found.name, 60)!r} reads {printable(location, 100)!r}"
        if not is_inside(location):
            self.find(Finding(what=f"{shown}: outside the model's folder", member="onnx",
                              offset=offset))  # fmt: skip
        elif self.folder is None:
            self.find(unknown(f"{shown}: a file that is not at hand", "onnx", offset))
        else:
            self.beside(self.folder / location, found, n_elements, f"{shown}: ", offset)

    def beside(self, path: Path, found: _Tensor, n_elements: int, shown: str, offset: int) -> None:
        """Check a data file that lies beside the model."""
        if path.is_symlink() or any(part.is_symlink() for part in path.parents if
                                    self.folder in part.parents):  # fmt: skip
            self.find(Finding(what=f"{shown}a link", member="onnx", offset=offset))
            return
        needed = -(-n_elements * DTYPES[found.kind][1] // 8)
        begin, length = (_number(found.external.get(key)) for key in ("offset", "length"))
        size = path.stat().st_size if path.is_file() else -1
        is_whole = (length or needed) == needed and begin + needed <= size
        if begin < 0 or length < 0 or not is_whole:
            self.find(damage(f"{shown}not there, or not the {needed:,} bytes it needs", "onnx",
                             offset))  # fmt: skip

    def judge(self) -> None:
        """Judge operators and domains, now that the model's own functions are known."""
        for (domain, op), offset in self.used.items():
            full = printable(f"{domain}.{op}" if domain else op, 100)
            if CODE_OPS.fullmatch(op):
                self.find(Finding(what=f"operator {full} runs foreign code", member="onnx",
                                  offset=offset, name=full))  # fmt: skip
            elif domain not in OFFICIAL and (domain, op) not in self.functions:
                self.find(unknown(f"operator {full} is not of the standard", "onnx", offset))
        own = {domain for domain, _ in self.functions}
        for domain, offset in self.opsets.items():
            if domain not in OFFICIAL and domain not in own:
                shown = printable(domain, 100)
                self.find(unknown(f"operator domain {shown} is not of the standard", "onnx",
                                  offset))  # fmt: skip


INNER = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "function": {7: "node", 9: "opset", 11: "attribute"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Message and field -> the message inside. Types and documentation hold nothing that acts."""
HANDLERS: dict[str, Callable[[_Walker, Field], None]] = {
    "tensor": _Walker.tensor,
    "training": _Walker.training,
}
NAMED: dict[str, Callable[[_Walker, int, int], None]] = {
    "node": _Walker.node,
    "function": _Walker.function,
    "opset": _Walker.opset,
}


def _number(text: str | None) -> int:
    """Return a decimal of an external data entry; 0 where there is none, -1 where it is none."""
    if text is None:
        return 0
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else -1


def is_inside(location: str) -> bool:
    """Return whether an external data path stays in the model's folder, on every system."""
    parts = location.split("/")
    return (
        bool(location)
        and location.isprintable()
        and not re.search(r'[\\:*?"<>|]', location)
        and ".." not in parts
        and "" not in parts
        and "_ORT_MEM_ADDR_" not in location
    )


def _read_tensor(wire: Wire, part: Field, found: _Tensor) -> None:
    """Note one field of a TensorProto; of data only how many bytes there are."""
    if part.number == 1:
        found.dims += wire.numbers(part)
    elif part.number == 2 and part.wire == VARINT:
        found.kind = part.value
    elif part.number == 8:
        found.name = wire.text(part)
    elif part.number == 9:
        found.raw = part.end - part.begin
    elif part.number == 13:
        pair = {item.number: wire.text(item) for item in wire.fields(part.begin, part.end)}
        found.external[pair.get(1, "")] = pair.get(2, "")
    elif part.number == 14:
        found.is_external = part.value == 1
    elif part.number in (4, 5, 6, 7, 10, 11):
        found.n_data_bytes += part.end - part.begin if part.wire == BYTES else 8


def _tensor_problem(found: _Tensor, n_elements: int) -> str | None:
    if found.kind not in DTYPES:
        return f"has type {found.kind}, which is not known"
    if len(found.dims) > MAX_RANK or any(side >= 1 << 63 for side in found.dims):
        return "has an impossible shape"
    if found.is_external or found.external:
        return None
    bits = DTYPES[found.kind][1]
    if found.raw is not None and bits and found.raw != -(-n_elements * bits // 8):
        return f"does not have the {found.raw:,} bytes it says"
    n_bytes = found.n_data_bytes if found.raw is None else found.raw
    # Texts may be empty: each still has its own field, which the budget of fields bounds.
    is_text = found.kind == 8
    return "has fewer data than elements" if not is_text and n_elements > 2 * n_bytes else None


def check_onnx(file: BinaryIO, folder: Path | None = None) -> Contents:
    """Walk an ONNX model.

    Args:
        file: The model.
        folder: Where it lies; external data are looked up there. ``None`` = not at hand.

    Returns:
        The evidence, and the tensors: initializers and constants.
    """
    walker = _Walker(file, folder)
    try:
        walker.message("model", 0, walker.wire.size)
    except ValueError as error:
        reason = printable(" ".join(str(error).split()))
        walker.findings.append(damage(f"not a whole ONNX model: {reason}", "onnx"))
        return Contents(walker.findings)
    walker.judge()
    return Contents(walker.findings, walker.tensors)


def looks_like_onnx(file: BinaryIO) -> bool:
    """Return whether the top level is that of an ONNX model: a graph and operator sets."""
    return {7, 8} <= _top(file) <= KNOWN["model"]


def looks_like_saved_model(file: BinaryIO) -> bool:
    """Return whether the top level is that of a TensorFlow SavedModel: version and graphs."""
    return _top(file) == {1, 2}


def _top(file: BinaryIO) -> set[int]:
    """Return the numbers of the fields at the top, none if this is no protocol buffer."""
    wire, found = Wire(file), set()
    try:
        for count, item in enumerate(wire.fields(0, wire.size)):
            found.add(item.number)
            if count > 10_000 or item.number > 100:
                return set()
    except ValueError:
        return found if {7, 8} <= found else set()
    return found
