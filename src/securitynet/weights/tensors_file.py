"""safetensors: a header of names, types and offsets that must tile the data exactly."""

from __future__ import annotations

import json
import math
import struct
from typing import Any, BinaryIO

from securitynet.weights.findings import Contents, Tensors, damage, printable

MAX_HEADER_BYTES = 16 * 2**20
DTYPES = {
    "BOOL": ("bool", 8), "U8": ("uint8", 8), "I8": ("int8", 8), "I16": ("int16", 16),
    "U16": ("uint16", 16), "F16": ("float16", 16), "BF16": ("bfloat16", 16), "I32": ("int32", 32),
    "U32": ("uint32", 32), "F32": ("float32", 32), "F64": ("float64", 64), "I64": ("int64", 64),
    "U64": ("uint64", 64), "C64": ("complex64", 64), "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E5M2": ("float8_e5m2", 8), "F8_E8M0": ("float8_e8m0", 8), "F4": ("float4_e2m1", 4),
    "F6_E2M3": ("float6_e2m3", 6), "F6_E3M2": ("float6_e3m2", 6),
}  # fmt: skip
"""Type in the header -> name and bits an element."""


def check_safetensors(file: BinaryIO) -> Contents:
    """Check the header of a safetensors file against its length."""
    size = file.seek(0, 2)
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(size - 8, MAX_HEADER_BYTES):
        return Contents([damage(f"malformed header: its length is {length:,} bytes", "header")])
    try:
        header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_unique)
        _check_metadata(header.pop("__metadata__", {}))
        spans = sorted(_span(name, entry) for name, entry in header.items())
        _check_tiling(spans, size - 8 - length)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = printable(" ".join(str(error).split()))
        return Contents([damage(f"malformed header: {reason}", "header")])
    dtypes = {DTYPES[entry["dtype"]][0] for entry in header.values()}
    elements = sum(math.prod(entry["shape"]) for entry in header.values())
    return Contents([], Tensors(len(header), elements, tuple(sorted(dtypes))))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _check_metadata(metadata: Any) -> None:
    if not isinstance(metadata, dict) or any(type(text) is not str for text in metadata.values()):
        raise ValueError("the metadata are not texts")


def _span(name: str, entry: Any) -> tuple[int, int, str]:
    begin, end = entry["data_offsets"]
    numbers = [begin, end, *entry["shape"]]
    if any(type(number) is not int or not 0 <= number < 2**63 for number in numbers):
        raise ValueError(f"tensor {name[:60]!r} has an impossible shape or offset")
    bits = DTYPES[entry["dtype"]][1]
    for side in entry["shape"][:64]:
        bits *= side
    if (end - begin) * 8 != bits or len(entry["shape"]) > 64:
        raise ValueError(f"tensor {name[:60]!r} does not have the {end - begin} bytes it says")
    return begin, end, name


def _check_tiling(spans: list[tuple[int, int, str]], n_bytes: int) -> None:
    position = 0
    for begin, end, name in spans:
        if begin != position:
            raise ValueError(f"tensor {name[:60]!r} overlaps another or leaves a hole")
        position = end
    if position != n_bytes:
        raise ValueError(f"the tensors have {position:,} bytes, the file has {n_bytes:,}")
