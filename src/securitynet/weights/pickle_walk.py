"""Walk the opcodes of a pickle against an allowlist. Nothing is ever executed; it fails closed."""

from __future__ import annotations

import io
import pickletools
from dataclasses import dataclass, field
from typing import Any

MAX_OPCODES = 5_000_000
MAX_LONG_BYTES = 64

_STORAGES = (
    "Bool", "Byte", "Char", "Short", "Int", "Long", "Half", "Float", "Double", "BFloat16",
    "ComplexFloat", "ComplexDouble", "QInt8", "QInt32", "QUInt8",
)  # fmt: skip
_DTYPES = (
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64",
    "bfloat16", "complex64", "complex128", "half", "float", "double", "long", "int", "short",
)  # fmt: skip

ALLOWED = frozenset(
    {
        ("collections", "OrderedDict"),
        ("torch._utils", "_rebuild_tensor"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
        ("torch._tensor", "_rebuild_from_type_v2"),
        ("torch", "Size"),
        ("torch", "device"),
        ("torch", "Tensor"),
        ("torch.nn.parameter", "Parameter"),
        ("torch.serialization", "_get_layout"),
        ("torch.storage", "UntypedStorage"),
        ("torch.storage", "TypedStorage"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
        *(("torch", f"{kind}Storage") for kind in _STORAGES),
        *(("torch", dtype) for dtype in _DTYPES),
    }
)
"""Globals that a checkpoint of plain tensors needs; every other one is refused."""

FORBIDDEN = {"INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
PUSH_TEXT = {
    "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "SHORT_BINSTRING", "BINSTRING",
    "STRING",
}  # fmt: skip
PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
GETS = {"GET", "BINGET", "LONG_BINGET"}


@dataclass(frozen=True)
class Finding:
    """One piece of evidence.

    Attributes:
        what: What is wrong, in words.
        member: Member of the archive, or part of the file.
        offset: Byte offset in the member.
        opcode: Pickle opcode.
        name: Global that would be imported.
        is_certain: Whether this is an attempt to run code, not just something undecidable.
    """

    what: str
    member: str = ""
    offset: int | None = None
    opcode: str | None = None
    name: str | None = None
    is_certain: bool = True

    def __str__(self) -> str:
        """Return the finding on one line."""
        place = f"{self.member} " if self.member else ""
        at = f"at byte {self.offset} " if self.offset is not None else ""
        opcode = f"{self.opcode} " if self.opcode else ""
        return f"{place}{at}{opcode}{self.what}".strip()


@dataclass
class Walk:
    """What one pickle does.

    Attributes:
        findings: Evidence against it.
        end: Offset after its STOP, ``None`` if it has none.
        globals: Names it imports.
    """

    findings: list[Finding] = field(default_factory=list)
    end: int | None = None
    globals: set[tuple[str, str]] = field(default_factory=set)


def walk(data: bytes, *, member: str = "", start: int = 0) -> Walk:
    """Walk one pickle from ``start`` to its STOP.

    STACK_GLOBAL takes its names from the stack: they are accepted only where the two opcodes
    before it (memo writes apart) push text, directly or from the memo; anything else cannot be
    decided without executing and is refused.

    Args:
        data: The bytes.
        member: Named in findings.
        start: Offset of the pickle.
    """
    result = Walk()
    texts: list[str | None] = []
    memo: dict[int, str | None] = {}
    stream = io.BytesIO(data)
    stream.seek(start)
    try:
        for count, (opcode, argument, position) in enumerate(pickletools.genops(stream)):
            _step(result, texts, memo, opcode.name, argument, position, member)
            if count > MAX_OPCODES:
                result.findings.append(Finding("too many opcodes", member, position, opcode.name))
                return result
    except (ValueError, IndexError, UnicodeError, OverflowError, MemoryError) as error:
        reason = " ".join(str(error).split())
        result.findings.append(
            Finding(f"not a whole pickle: {reason}", member, stream.tell(), is_certain=False)
        )
        return result
    result.end = stream.tell()
    return result


def _step(
    result: Walk, texts: list[str | None], memo: dict[int, str | None], opcode: str,
    argument: Any, position: int | None, member: str,
) -> None:  # fmt: skip
    """Follow one opcode: ``texts`` holds what the last opcodes pushed, ``None`` if not text."""
    if opcode in FORBIDDEN:
        result.findings.append(Finding("is never needed by tensors", member, position, opcode))
    elif opcode == "GLOBAL":
        module, _, name = str(argument).partition(" ")
        _import(result, module, name, opcode, position, member)
    elif opcode == "STACK_GLOBAL":
        _stack_global(result, texts, position, member)
    elif opcode in ("LONG1", "LONG4") and argument.bit_length() > 8 * MAX_LONG_BYTES:
        result.findings.append(Finding("a huge number", member, position, opcode))
    _remember(texts, memo, opcode, argument)


def _remember(
    texts: list[str | None], memo: dict[int, str | None], opcode: str, argument: Any
) -> None:
    if opcode == "MEMOIZE":
        memo[len(memo)] = texts[-1] if texts else None
    elif opcode in PUTS:
        memo[int(argument)] = texts[-1] if texts else None
    elif opcode in GETS:
        texts.append(memo.get(int(argument)))
    elif opcode in PUSH_TEXT:
        texts.append(argument if isinstance(argument, str) else None)
    else:
        texts.append(None)
    del texts[:-2]


def _stack_global(result: Walk, texts: list[str | None], position: int | None, member: str) -> None:
    if len(texts) < 2 or texts[-1] is None or texts[-2] is None:
        result.findings.append(
            Finding("imports a name computed on the stack", member, position, "STACK_GLOBAL")
        )
        return
    _import(result, texts[-2], texts[-1], "STACK_GLOBAL", position, member)


def _import(
    result: Walk, module: str, name: str, opcode: str, position: int | None, member: str
) -> None:
    result.globals.add((module, name))
    if (module, name) not in ALLOWED:
        full = f"{module}.{name}"
        result.findings.append(
            Finding(f"imports {full}, which tensors do not need", member, position, opcode, full)
        )
