"""safetensors: a header of names, types and offsets that must tile the data exactly."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from securitynet.weights.findings import Finding, damage

MAX_HEADER_BYTES = 16 * 2**20
DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2,
    "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8,
}  # fmt: skip


def check_safetensors(path: Path) -> list[Finding]:
    """Check the header of a safetensors file against its length."""
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(size - 8, MAX_HEADER_BYTES):
            return [damage(f"malformed header: its length is {length:,} bytes", "header")]
        raw = file.read(length)
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
        _check_metadata(header.pop("__metadata__", {}))
        spans = sorted(_span(name, entry) for name, entry in header.items())
        _check_tiling(spans, size - 8 - length)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return [damage(f"malformed header: {' '.join(str(error).split())[:200]}", "header")]
    return []


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
    needed = DTYPE_BYTES[entry["dtype"]]
    for side in entry["shape"][:64]:
        needed *= side
    if end - begin != needed or len(entry["shape"]) > 64:
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
