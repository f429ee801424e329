"""Protocol buffers on the wire, read field by field: no schema, no code, nothing kept in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MAX_FIELDS = 400_000
MAX_TEXT_BYTES = 1 << 16
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
WIDTHS = {FIXED64: 8, FIXED32: 4}


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its number, wire type, and a number or the span of its bytes in the file."""

    number: int
    wire: int
    value: int
    begin: int
    end: int


class Wire:
    """A file of protocol buffers, with one budget of fields for all its messages.

    Args:
        file: Open binary file.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Find the size; nothing is read yet."""
        self._file = file
        self.size = file.seek(0, 2)
        self._left = MAX_FIELDS

    def fields(self, begin: int, end: int) -> Iterator[Field]:
        """Yield the fields of the message in this span.

        Raises:
            ValueError: If the message is malformed or has too many fields.
        """
        position = begin
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"more than {MAX_FIELDS:,} fields")
            found = self._field(position, end)
            yield found
            position = found.end

    def _field(self, position: int, end: int) -> Field:
        self._file.seek(position)
        head = self._file.read(min(20, end - position))
        key, at = _varint(head, 0)
        number, wire = key >> 3, key & 7
        if number == 0 or wire not in (VARINT, BYTES, FIXED32, FIXED64):
            raise ValueError(f"field {number} of wire type {wire} at byte {position}")
        value, begin, stop = 0, position + at, position + at + WIDTHS.get(wire, 0)
        if wire in (VARINT, BYTES):
            value, at = _varint(head, at)
            begin = stop = position + at
        if wire == BYTES:
            stop += value
        if stop > end:
            raise ValueError(f"field {number} at byte {position} leaves its message")
        return Field(number, wire, value, begin, stop)

    def read(self, field: Field) -> bytes:
        """Return the bytes of a short field.

        Raises:
            ValueError: If it is not bytes, or longer than 64 KB.
        """
        if field.wire != BYTES or field.end - field.begin > MAX_TEXT_BYTES:
            raise ValueError(f"field {field.number} at byte {field.begin} is no short text")
        self._file.seek(field.begin)
        return self._file.read(field.end - field.begin)

    def text(self, field: Field) -> str:
        """Return a short field's text.

        Raises:
            ValueError: If it is not a short UTF-8 text.
        """
        return self.read(field).decode("utf-8")

    def numbers(self, field: Field) -> list[int]:
        """Return one number, or a packed list of them.

        Raises:
            ValueError: If they are malformed or many.
        """
        if field.wire != BYTES:
            return [field.value]
        data, at, found = self.read(field), 0, []
        while at < len(data):
            value, at = _varint(data, at)
            found.append(value)
        return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("a number is cut off")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ValueError("a number is too long")
