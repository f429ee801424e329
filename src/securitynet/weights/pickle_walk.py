"""Walk a pickle on a stack of labels: nothing is imported, called or built; it fails closed.

The walker follows every opcode the way an unpickler would, but keeps labels (a text, a number, a
tuple of labels, the name of a global) in place of objects. So names taken from the stack or the
memo are known exactly, and every call's arguments can be checked.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from securitynet.weights.allowlist import ALLOWED, CALLED, INERT, REBUILD, STORAGE_BYTES
from securitynet.weights.findings import Finding, Kind, damage

MAX_OPCODES = 500_000
MAX_FINDINGS = 20
MAX_ITEM_BYTES = 16 * 2**20
MAX_LONG_BYTES = 64
MAX_DEPTH = 200
MAX_SIDES = 16
SHOWN = 60
ORDERED_DICT = ("collections", "OrderedDict")


@dataclass(slots=True)
class Label:
    """What stands for an object: its kind, what is known of it, and how deep it nests."""

    kind: str
    value: Any = None
    depth: int = 0


@dataclass(frozen=True)
class Storage:
    """A tensor's memory as the pickle names it: ``numel`` elements of ``item_bytes`` each."""

    key: str
    numel: int
    item_bytes: int


@dataclass
class Walk:
    """What one pickle does.

    Attributes:
        findings: Evidence against it.
        end: Offset after its STOP, ``None`` if the walk did not get there.
        value: Label of what it leaves.
        globals: Names it imports.
        storages: Memory that its tensors use.
        n_elements: Elements that its tensors have in all.
    """

    findings: list[Finding] = field(default_factory=list)
    end: int | None = None
    value: Label | None = None
    globals: set[tuple[str, str]] = field(default_factory=set)
    storages: set[Storage] = field(default_factory=set)
    n_elements: int = 0

    def bombs(self, n_bytes: int) -> list[Finding]:
        """Return the finding that tensors would unpack to far more than the file's bytes."""
        if self.n_elements <= 4 * max(n_bytes, 2**20):
            return []
        return [Finding(what=f"tensors unpack to {self.n_elements:,} elements: a bomb")]


class _Bounded:
    """A file whose reads are bounded, so that a lying length cannot fill the memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tell = file.tell
        self.lines: list[bytes] = []

    def read(self, size: int) -> bytes:
        if size > MAX_ITEM_BYTES:
            raise ValueError(f"an item of {size:,} bytes")
        return self._file.read(size)

    def readline(self) -> bytes:
        line = self._file.readline(MAX_ITEM_BYTES)
        self.lines = [*self.lines[-1:], line]
        return line


def walk(file: BinaryIO, *, member: str = "", start: int = 0) -> Walk:
    """Walk one pickle from ``start`` to its STOP.

    Args:
        file: Open binary file.
        member: Named in findings.
        start: Offset of the pickle.
    """
    file.seek(start)
    bounded = _Bounded(file)
    machine = _Machine(member, bounded)
    try:
        for count, (opcode, argument, position) in enumerate(
            pickletools.genops(cast(BinaryIO, bounded))
        ):
            machine.step(opcode.name, argument, position or 0)
            if count >= MAX_OPCODES:
                machine.find(f"more than {MAX_OPCODES:,} opcodes", kind="unknown")
            if machine.is_stopped or len(machine.walk.findings) >= MAX_FINDINGS:
                return machine.walk
    except (ValueError, LookupError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        machine.walk.findings.append(damage(f"not a whole pickle: {reason}", member, file.tell()))
        return machine.walk
    machine.walk.end = file.tell()
    return machine.walk


class _Machine:
    """The stack, the marks and the memo of an unpickler, holding labels."""

    def __init__(self, member: str, file: _Bounded) -> None:
        self.walk = Walk()
        self._file = file
        self.stack: list[Label] = []
        self.below: list[list[Label]] = []
        self.memo: dict[int, Label] = {}
        self.is_stopped = False
        self._member = member
        self._position = 0
        self._opcode = ""

    def step(self, opcode: str, argument: Any, position: int) -> None:
        self._opcode, self._position = opcode, position
        if opcode in _CONSTANTS:
            self.push(_CONSTANTS[opcode], argument)
        elif opcode in _ACTIONS:
            _ACTIONS[opcode](self, argument)
        else:
            kind: Kind = "danger" if opcode in _CALLING else "unknown"
            self.find("is never needed by tensors", kind=kind)
            self.is_stopped = True

    def find(self, what: str, *, name: str | None = None, kind: Kind = "danger") -> None:
        finding = Finding(
            what=what, member=self._member, offset=self._position, opcode=self._opcode, name=name,
            kind=kind,
        )  # fmt: skip
        self.walk.findings.append(finding)
        self.is_stopped |= kind == "unknown"

    def push(self, kind: str, value: Any = None, depth: int = 0) -> None:
        self.stack.append(Label(kind, value, depth))

    def pop(self) -> Label:
        return self.stack.pop()

    def pop_mark(self) -> list[Label]:
        items = self.stack
        self.stack = self.below.pop()
        return items

    def mark(self, _: Any) -> None:
        self.below.append(self.stack)
        self.stack = []
        if len(self.below) > MAX_DEPTH:
            self.find(f"nests over {MAX_DEPTH} deep", kind="unknown")

    def put(self, argument: Any) -> None:
        index = len(self.memo) if argument is None else int(argument)
        if not 0 <= index <= MAX_OPCODES:
            self.find(f"memo slot {index}", kind="unknown")
        self.memo[index] = self.stack[-1]

    def get(self, argument: Any) -> None:
        self.stack.append(self.memo[int(argument)])

    def number(self, argument: Any) -> None:
        if int(argument).bit_length() > 8 * MAX_LONG_BYTES:
            self.find("a huge number", kind="unknown")
        self.push("number", int(argument))

    def tuple_of(self, items: list[Label]) -> None:
        depth = 1 + max((item.depth for item in items), default=0)
        self._check_depth(depth)
        self.push("tuple", tuple(items), depth)

    def fill(self, items: list[Label], kinds: tuple[str, ...]) -> None:
        target = self.stack[-1]
        if target.kind not in kinds:
            self.find(f"fills a {target.kind}", kind="unknown")
            return
        target.depth = max([target.depth, *(item.depth + 1 for item in items)])
        if target.kind == "list":
            target.value.extend(items)
        self._check_depth(target.depth)

    def _check_depth(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            self.find(f"nests over {MAX_DEPTH} deep", kind="unknown")

    def import_name(self, module: str, name: str) -> None:
        self.walk.globals.add((module, name))
        if (module, name) not in ALLOWED:
            full = f"{module}.{name}"
            shown = full if len(full) <= SHOWN else f"{full[:SHOWN]}..."
            self.find(f"imports {shown}, which tensors do not need", name=shown)
        self.push("global", (module, name))

    def global_pair(self, argument: Any) -> None:
        # The disassembler decodes escapes here and an unpickler does not: two readers, two names.
        if any(b"\\" in line for line in self._file.lines):
            self.find("imports a name with escapes", kind="danger")
        module, _, name = str(argument).partition(" ")
        self.import_name(module, name)

    def stack_global(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if name.kind != "text" or module.kind != "text":
            self.find("imports a name that is not a text", kind="danger")
            self.push("other")
            return
        self.import_name(str(module.value), str(name.value))

    def call(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        depth = 1 + max(arguments.depth, function.depth)
        self._check_depth(depth)
        if function.kind != "global" or arguments.kind != "tuple":
            self.find(f"calls a {function.kind}", kind="danger")
        elif function.value not in CALLED and function.value in ALLOWED:
            self.find(f"calls {'.'.join(function.value)}", name=".".join(function.value))
        elif function.value in REBUILD:
            self._rebuild(arguments.value)
        elif function.value == ("_codecs", "encode") and not _is_latin(arguments.value):
            self.find("encodes other than latin1", name="_codecs.encode", kind="danger")
        is_dict = function.value == ORDERED_DICT
        self.push("ordered dict" if is_dict else "object", function.value, depth)

    def build(self, _: Any) -> None:
        state, target = self.pop(), self.stack[-1]
        if target.kind != "ordered dict" and target.value not in INERT:
            self.find(f"sets the state of a {target.kind}", kind="danger")
        target.depth = max(target.depth, state.depth + 1)
        self._check_depth(target.depth)

    def persistent(self, _: Any) -> None:
        label = self.pop()
        storage = _storage(label)
        if storage is None:
            self.find("asks for an outside object that is not a storage", kind="danger")
            self.push("other")
            return
        self.walk.storages.add(storage)
        self.push("storage", storage)

    def _rebuild(self, arguments: tuple[Label, ...]) -> None:
        """A tensor must lie inside its storage."""
        n_elements = _n_elements(arguments)
        if n_elements is None:
            self.find("makes a tensor that does not lie inside its storage", kind="danger")
        self.walk.n_elements += n_elements or 0

    def stop(self, _: Any) -> None:
        self.walk.value = self.pop()
        if self.stack or self.below:
            self.find("leaves objects behind", kind="unknown")


def _is_latin(arguments: tuple[Label, ...]) -> bool:
    return [item.kind for item in arguments] == ["text", "text"] and arguments[1].value == "latin1"


def _storage(label: Label) -> Storage | None:
    """Read ``("storage", kind, key, location, numel[, None])``, or return ``None``."""
    if label.kind != "tuple" or not 5 <= len(label.value) <= 6:
        return None
    word, kind, key, location, numel = label.value[:5]
    kinds = [item.kind for item in (word, kind, key, location, numel)]
    is_view = len(label.value) == 6 and label.value[5].kind != "none"
    if kinds != ["text", "global", "text", "text", "number"] or is_view or numel.value < 0:
        return None
    item_bytes = STORAGE_BYTES.get(kind.value[1])
    if word.value != "storage" or item_bytes is None or kind.value not in ALLOWED:
        return None
    return Storage(key.value, numel.value, item_bytes)


def _n_elements(arguments: tuple[Label, ...]) -> int | None:
    """Return the number of elements of a tensor, ``None`` if it leaves its storage."""
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
    return count if count == 0 or last < storage.numel else None


_FILLED = ("dict", "ordered dict")
_CONSTANTS = {
    "NONE": "none", "NEWTRUE": "bool", "NEWFALSE": "bool", "BINFLOAT": "float", "FLOAT": "float",
    "SHORT_BINUNICODE": "text", "BINUNICODE": "text", "BINUNICODE8": "text", "UNICODE": "text",
    "SHORT_BINSTRING": "text", "BINSTRING": "text", "STRING": "text", "SHORT_BINBYTES": "bytes",
    "BINBYTES": "bytes", "BINBYTES8": "bytes", "EMPTY_DICT": "dict", "EMPTY_SET": "set",
}  # fmt: skip
"""Opcodes that push something of their own, and what."""

_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "EMPTY_TUPLE": lambda machine, _: machine.tuple_of([]),
    "EMPTY_LIST": lambda machine, _: machine.push("list", []),
    "TUPLE1": lambda machine, _: machine.tuple_of([machine.pop()]),
    "TUPLE2": lambda machine, _: machine.tuple_of([machine.pop() for _ in range(2)][::-1]),
    "TUPLE3": lambda machine, _: machine.tuple_of([machine.pop() for _ in range(3)][::-1]),
    "TUPLE": lambda machine, _: machine.tuple_of(machine.pop_mark()),
    "APPEND": lambda machine, _: machine.fill([machine.pop()], ("list",)),
    "APPENDS": lambda machine, _: machine.fill(machine.pop_mark(), ("list",)),
    "SETITEM": lambda machine, _: machine.fill([machine.pop(), machine.pop()], _FILLED),
    "SETITEMS": lambda machine, _: machine.fill(machine.pop_mark(), _FILLED),
    "ADDITEMS": lambda machine, _: machine.fill(machine.pop_mark(), ("set",)),
    "MARK": _Machine.mark,
    "POP": lambda machine, _: _ignore(machine.pop()),
    "POP_MARK": lambda machine, _: _ignore(machine.pop_mark()),
    "BINPERSID": _Machine.persistent,
    "GLOBAL": _Machine.global_pair,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _Machine.build,
    "STOP": _Machine.stop,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    **dict.fromkeys(
        ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"), _Machine.number
    ),
}
_CALLING = {"INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"}


def _ignore(_: object) -> None:
    """Drop a value that was popped."""
