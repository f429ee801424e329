"""Walk a pickle on a stack of labels: nothing is imported, called or built; it fails closed.

The walker follows every opcode the way an unpickler would, but keeps labels (a text, a number, a
tuple of labels, the name of a global) in place of objects. So names taken from the stack or the
memo are known exactly, and every call's arguments can be checked.
"""

from __future__ import annotations

import contextlib
import gc
import pickletools
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from securitynet.weights.allowlist import ALLOWED, CALLED, REBUILD
from securitynet.weights.findings import Finding, Kind, Tensors, damage, printable
from securitynet.weights.labels import (
    NEW,
    RULES,
    Label,
    Storage,
    is_bare,
    is_key,
    keys_of,
    state_problem,
    storage_of,
    tensor_of,
)

MAX_OPCODES = 500_000
MAX_FINDINGS = 20
MAX_ITEM_BYTES = 16 * 2**20
MAX_LONG_BYTES = 64
MAX_DEPTH = 200
MAX_TEXT = 4096
"""Characters; of a longer text only is kept that it is one: no name is that long."""
SHOWN = 60
ORDERED_DICT = ("collections", "OrderedDict")


@dataclass
class Walk:
    """What one pickle does.

    Attributes:
        findings: Evidence against it.
        end: Offset after its STOP, ``None`` if the walk did not get there.
        value: Label of what it leaves.
        globals: Names it imports.
        storages: Memory that its tensors use.
        tensors: How many tensors it makes, of how many elements and which types.
    """

    findings: list[Finding] = field(default_factory=list)
    end: int | None = None
    value: Label | None = None
    globals: set[tuple[str, str]] = field(default_factory=set)
    storages: set[Storage] = field(default_factory=set)
    tensors: Tensors = field(default_factory=Tensors)

    def bombs(self, n_bytes: int) -> list[Finding]:
        """Return the finding that tensors would unpack to far more than the file's bytes."""
        n_elements = self.tensors.elements
        if n_elements <= 4 * max(n_bytes, 2**20):
            return []
        return [Finding(what=f"tensors unpack to {n_elements:,} elements: a bomb")]

    def clashes(self) -> list[Finding]:
        """Return the finding that a storage is asked for in two sizes or types."""
        if len({storage.key for storage in self.storages}) == len(self.storages):
            return []
        return [Finding(what="one storage has two sizes or types", member="storages")]


class TooLargeError(ValueError):
    """Raised within a walk for an item that is over the limit of what is read."""


class _Bounded:
    """A file whose reads are bounded, so that a lying length cannot fill the memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, 2)
        self.tell = file.tell
        self.lines: list[bytes] = []

    def read(self, size: int) -> bytes:
        if size > MAX_ITEM_BYTES:
            raise TooLargeError(f"an item of {size:,} bytes is over the limit")
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
    bounded = _Bounded(file)
    file.seek(start)
    machine = _Machine(member, bounded)
    try:
        with _uncollected(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the disassembler, about escapes in texts
            if not machine.run(pickletools.genops(cast(BinaryIO, bounded))):
                return machine.walk
    except TooLargeError as error:
        machine.find(str(error), kind="unknown")
        return machine.walk
    except (ValueError, LookupError, OverflowError) as error:
        reason = printable(" ".join(str(error).split()))
        machine.walk.findings.append(damage(f"not a whole pickle: {reason}", member, file.tell()))
        return machine.walk
    machine.walk.end = file.tell()
    return machine.walk


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Hold the garbage collector: it would look at half a million labels again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


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
        self._frame_end = 0

    def run(self, opcodes: Iterable[tuple[Any, Any, int | None]]) -> bool:
        """Follow the opcodes; return whether the end was reached."""
        for count, (opcode, argument, position) in enumerate(opcodes):
            self.step(opcode.name, argument, position or 0)
            if count >= MAX_OPCODES:
                self.find(f"more than {MAX_OPCODES:,} opcodes", kind="unknown")
            if self.is_stopped or len(self.walk.findings) >= MAX_FINDINGS:
                return False
        return True

    def step(self, opcode: str, argument: Any, position: int) -> None:
        if self._position < self._frame_end < position:
            self.find("crosses the end of its frame: unpicklers differ in what they read then")
        self._opcode, self._position = opcode, position
        if opcode in _CONSTANTS:
            self.constant(_CONSTANTS[opcode], argument)
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

    def constant(self, kind: str, argument: Any) -> None:
        is_short = isinstance(argument, str) and len(argument) <= MAX_TEXT
        self.push(kind, argument if is_short else None)

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

    def frame(self, length: int) -> None:
        begin = self._position + 9
        if begin + length > self._file.size:
            self.find(f"a frame of {length:,} bytes leaves the file", kind="unknown")
        if self._position < self._frame_end:
            self.find("a frame in a frame")
        self._frame_end = begin + length

    def list_of(self, items: list[Label]) -> None:
        self.push("list", [])
        self.fill(items, ("list",))

    def dict_of(self, items: list[Label]) -> None:
        self.push("dict")
        self.fill(items, _FILLED)

    def fill(self, items: list[Label], kinds: tuple[str, ...]) -> None:
        target = self.stack[-1]
        if target.kind not in kinds:
            self.find(f"fills a {target.kind}", kind="unknown")
            return
        target.depth = max([target.depth, *(item.depth + 1 for item in items)])
        if target.kind == "list":
            target.value.extend(items)
        elif not (all(map(is_key, items)) if target.kind == "set" else keys_of(items)):
            self.find("has a key that is no plain value", kind="unknown")
        elif target.kind == "ordered dict":
            target.value = True
        self._check_depth(target.depth)

    def _check_depth(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            self.find(f"nests over {MAX_DEPTH} deep", kind="unknown")

    def import_name(self, module: str, name: str) -> None:
        self.walk.globals.add((module, name))
        if (module, name) not in ALLOWED:
            shown = printable(f"{module}.{name}", SHOWN)
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
        made = Label("other", None, depth)
        name = function.value
        if function.kind != "global" or arguments.kind != "tuple":
            self.find(f"calls a {function.kind}")
        elif name in ALLOWED and (name not in CALLED or (self._opcode == "NEWOBJ" and
                                                         name not in NEW)):  # fmt: skip
            self.find(f"calls {'.'.join(name)}", name=".".join(name))
        elif name in ALLOWED:
            made = self._made(name, arguments.value, depth)
        self.stack.append(made)

    def _made(self, name: tuple[str, str], arguments: tuple[Label, ...], depth: int) -> Label:
        """Return what an allowed call makes, after a look at its arguments."""
        if name in REBUILD:
            self._rebuild(arguments)
            return Label("tensor", name, depth)
        problem = RULES[name](arguments)
        if problem is not None:
            self.find(problem, name=".".join(name))
        if name == ORDERED_DICT:
            return Label("ordered dict", bool(arguments), depth)
        return Label("tensor" if name[1] == "_rebuild_parameter" else "object", name, depth)

    def build(self, _: Any) -> None:
        state, target = self.pop(), self.stack[-1]
        problem = state_problem(target, state)
        if problem is not None:
            self.find(problem)
        target.depth = max(target.depth, state.depth + 1)
        self._check_depth(target.depth)

    def persistent(self, _: Any) -> None:
        storage = storage_of(self.pop())
        if storage is None:
            self.find("asks for an outside object that is not a storage")
            self.push("other")
            return
        self.walk.storages.add(storage)
        self.push("storage", storage)

    def _rebuild(self, arguments: tuple[Label, ...]) -> None:
        """A tensor must lie inside its storage, and nothing may hang on it."""
        found = tensor_of(arguments)
        if found is None:
            self.find("makes a tensor that does not lie inside its storage")
        elif not is_bare(arguments[4:]):
            self.find("makes a tensor with hooks or something odd")
        else:
            self.walk.tensors += Tensors(1, found[0], (found[1],))
        for item in arguments[5:6]:
            item.kind = "hooks" if item.kind == "ordered dict" else item.kind  # none added later

    def stop(self, _: Any) -> None:
        self.walk.value = self.pop()
        if self.stack or self.below:
            self.find("leaves objects behind", kind="unknown")


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
    "FRAME": _Machine.frame,
    "EMPTY_TUPLE": lambda machine, _: machine.tuple_of([]),
    "EMPTY_LIST": lambda machine, _: machine.push("list", []),
    "TUPLE1": lambda machine, _: machine.tuple_of([machine.pop()]),
    "TUPLE2": lambda machine, _: machine.tuple_of([machine.pop() for _ in range(2)][::-1]),
    "TUPLE3": lambda machine, _: machine.tuple_of([machine.pop() for _ in range(3)][::-1]),
    "TUPLE": lambda machine, _: machine.tuple_of(machine.pop_mark()),
    "LIST": lambda machine, _: machine.list_of(machine.pop_mark()),
    "DICT": lambda machine, _: machine.dict_of(machine.pop_mark()),
    "APPEND": lambda machine, _: machine.fill([machine.pop()], ("list",)),
    "APPENDS": lambda machine, _: machine.fill(machine.pop_mark(), ("list",)),
    "SETITEM": lambda machine, _: machine.fill([machine.pop() for _ in range(2)][::-1], _FILLED),
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
