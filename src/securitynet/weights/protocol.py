"""Pickles of newer protocols, rewritten in the opcodes that torch's restricted reader knows.

Torch writes protocol 2 unless told otherwise, and its restricted reader knows little more. What
people save with ``pickle_protocol=4`` says the same in other words: short texts, frames, memo slots
without a number, names taken from the stack. Only inspected files come here, and what is written is
inspected again.
"""

from __future__ import annotations

import io
import pickletools
import shutil
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

PROTOCOL = 2
PARTS = 5
"""Pickles at the head of torch's old container."""
SAME = frozenset((
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "MARK",
    "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS",
    "EMPTY_DICT", "SETITEM", "SETITEMS", "GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID", "STOP",
))  # fmt: skip
"""Opcodes that stay as they are."""
AS_LISTS = {"EMPTY_SET": b"]", "ADDITEMS": b"e"}
"""Sets are leftovers that no state dict needs: a list does as well."""
TEXTS = frozenset(("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"))
BYTES = frozenset(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"))
PUTS = frozenset(("MEMOIZE", "BINPUT", "LONG_BINPUT"))
GETS = frozenset(("BINGET", "LONG_BINGET"))


def rewrite(source: Path, made: Path) -> Path:
    """Write a torch file again if its pickles are of a newer protocol.

    Args:
        source: The file, found safe.
        made: The file to write.

    Returns:
        What torch can read: ``made``, or ``source`` where nothing had to be done.

    Raises:
        ValueError: If an opcode has no counterpart.
    """
    with source.open("rb") as file:
        if zipfile.is_zipfile(file):
            return _rewrite_zip(source, made)
        file.seek(0)
        return _rewrite_legacy(file, made) if file.read(2)[1:] > b"\2" else source


def _rewrite_legacy(file: BinaryIO, made: Path) -> Path:
    file.seek(0)
    with made.open("wb") as out:
        for _ in range(PARTS):
            out.write(translate(file))
        shutil.copyfileobj(file, out)
    return made


def _rewrite_zip(source: Path, made: Path) -> Path:
    with zipfile.ZipFile(source) as archive:
        names = archive.namelist()
        name = next(name for name in names if name.endswith("/data.pkl"))
        data = archive.read(name)
        if data[:2] <= b"\x80\2":
            return source
        with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as out:
            out.writestr(name, translate(io.BytesIO(data)))
            for other in names:
                if other != name:
                    with archive.open(other) as member, out.open(other, "w") as copy:
                        shutil.copyfileobj(member, copy)
    return made


def translate(file: BinaryIO) -> bytes:
    """Return the pickle that a file stands at in protocol 2; the file is left behind its end.

    Raises:
        ValueError: If an opcode has no counterpart.
    """
    start = file.tell()
    translator = _Translator()
    end = start
    for opcode, argument, raw in _raw(file, start):
        translator.step(opcode, argument, raw)
        end += len(raw)
    file.seek(end)
    return bytes(translator.out)


def _raw(file: BinaryIO, start: int) -> Iterator[tuple[str, Any, bytes]]:
    """Yield every opcode's name, its argument and its bytes."""
    found = [(opcode.name, argument, place) for opcode, argument, place in pickletools.genops(file)]
    end = file.tell()
    file.seek(start)
    data = file.read(end - start)
    places = [int(place or 0) - start for _, _, place in found] + [len(data)]
    for i, (name, argument, _) in enumerate(found):
        yield name, argument, data[places[i] : places[i + 1]]


class _Translator:
    """Writes texts late and never memoises them: a name on the stack becomes one opcode."""

    def __init__(self) -> None:
        self.out = bytearray([0x80, PROTOCOL])
        self._waiting: list[str] = []
        self._texts: dict[int, str] = {}
        self._slots: set[int] = set()

    def step(self, opcode: str, argument: Any, raw: bytes) -> None:
        if opcode in TEXTS:
            self._waiting.append(argument)
        elif opcode in PUTS:
            self._put(len(self._slots) if argument is None else argument)
        elif opcode in GETS and argument in self._texts:
            self._waiting.append(self._texts[argument])
        elif opcode == "STACK_GLOBAL":
            self._name()
        elif opcode not in ("PROTO", "FRAME"):
            self._flush()
            self.out += self._written(opcode, argument, raw)

    def _put(self, slot: int) -> None:
        self._slots.add(slot)
        if self._waiting:
            self._texts[slot] = self._waiting[-1]
            return
        self._texts.pop(slot, None)
        self.out += b"r" + struct.pack("<I", slot)

    def _name(self) -> None:
        if len(self._waiting) < 2:
            raise ValueError("a name that is not written out")
        name, module = self._waiting.pop(), self._waiting.pop()
        self._flush()
        self.out += f"c{module}\n{name}\n".encode()

    def _flush(self) -> None:
        for text in self._waiting:
            self.out += _text(text)
        self._waiting.clear()

    def _written(self, opcode: str, argument: Any, raw: bytes) -> bytes:
        if opcode in SAME or opcode in GETS:
            return raw
        if opcode in AS_LISTS:
            return AS_LISTS[opcode]
        if opcode in BYTES:
            return (
                b"c_codecs\nencode\n"
                + _text(argument.decode("latin1"))
                + _text("latin1")
                + (b"\x86R")
            )
        raise ValueError(f"opcode {opcode} is not known to torch's restricted reader")


def _text(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw
