"""Keras's files. HDF5 is only searched, for code and links: it is never found safe.

A search can show danger, not absence of it: HDF5 has too many ways to store a text. What it holds
is read by converting it to safetensors where its author is trusted.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from securitynet.weights.bundles import Visit, container
from securitynet.weights.findings import Contents, Finding, Tensors, damage, printable, unknown
from securitynet.weights.zipped import ZIP_ERRORS, open_zip, zip_damage

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_CONFIG_BYTES = 16 * 2**20
CHUNK = 1 << 23
OVERLAP = 4096
EDGE = 1 << 24
NEEDLES = {
    re.compile(rb'"class_name":\s{0,4}"(Lambda|TFOpLambda|SlicingOpLambda)"'): "a Lambda layer",
    re.compile(rb'"(__lambda__|function_type":\s{0,4}"lambda)"'): "a pickled function",
}
WORDS = (b"Lambda", b"lambda")
EXTERNAL = re.compile(
    rb"\x01[\x08\x0c\x18\x1c]\x40(?:.{8})?[\x00\x01]?.{1,2}?([\x20-\x7e]{1,200}?)"
    rb"(?:..)\x00([\x20-\x7e]{1,200})\x00([\x20-\x7e]{1,200})\x00",
    re.DOTALL,
)
"""A link message of type 64: name, then the other file's name and the object's path in it."""
LAMBDAS = ("Lambda", "__lambda__", "TFOpLambda", "SlicingOpLambda")


def check_hdf5(file: BinaryIO) -> Contents:
    """Search an HDF5 file for code and for links to other files."""
    findings = [*_code(file), *_links(file)]
    findings.append(unknown("HDF5 is searched for code and links only, which shows danger but not "
                            "safety: ask for safetensors"))  # fmt: skip
    return Contents(findings[:20])


def _windows(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < size:
        file.seek(position)
        yield position, file.read(CHUNK + OVERLAP)
        position += CHUNK


def _code(file: BinaryIO) -> Iterator[Finding]:
    for begin, data in _windows(file, file.seek(0, 2)):
        for pattern, what in NEEDLES.items() if any(word in data for word in WORDS) else ():
            found = pattern.search(data)
            if found is not None and found.start() < CHUNK:
                yield Finding(what=f"holds {what}: code that loading would run", member="hdf5",
                              offset=begin + found.start())  # fmt: skip


def _links(file: BinaryIO) -> Iterator[Finding]:
    """Look for links where HDF5 keeps its groups: near the beginning, or at the end."""
    size = file.seek(0, 2)
    for begin in sorted({0, max(0, size - EDGE)}):
        file.seek(begin)
        for found in EXTERNAL.finditer(file.read(EDGE)):
            target = printable(found[2].decode("ascii"), 60)
            yield Finding(what=f"links to another file, {target!r}", member="hdf5",
                          offset=begin + found.start())  # fmt: skip


def check_keras(file: BinaryIO, visit: Visit) -> Contents:
    """Check a ``.keras`` archive: its configuration, and the weights beside it."""
    try:
        with open_zip(file) as archive:
            findings, tensors = container(file, archive), Tensors()
            for item in [] if findings else archive.infolist():
                findings += _member(archive, item, visit)
            return Contents(findings[:20], tensors)
    except ZIP_ERRORS as error:
        return Contents([zip_damage(error)])


def _member(archive: zipfile.ZipFile, item: zipfile.ZipInfo, visit: Visit) -> list[Finding]:
    with archive.open(item) as stream:
        if item.filename == "config.json":
            return check_config(stream.read(MAX_CONFIG_BYTES + 1), item.filename)
        return visit(cast(BinaryIO, stream), item.filename, item.file_size).findings


def check_config(data: bytes, member: str) -> list[Finding]:
    """Check a Keras configuration for layers that carry or name code."""
    if len(data) > MAX_CONFIG_BYTES:
        return [unknown("the configuration is too large", member)]
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as error:
        return [damage(f"no JSON: {printable(str(error), 80)}", member)]
    return [finding for entry in entries(config) for finding in _layer(entry, member)][:20]


def _layer(entry: dict[str, Any], member: str) -> Iterator[Finding]:
    name, module = entry.get("class_name"), entry.get("module")
    if name in LAMBDAS or entry.get("function_type") == "lambda":
        yield Finding(what=f"holds {name or 'lambda'}: code that loading would run", member=member)
    elif isinstance(module, str) and not re.match(r"(keras|builtins|tensorflow)(\.|$)", module):
        shown = printable(f"{module}.{name}", 60)
        yield Finding(what=f"imports {shown}, which is not Keras", member=member, name=shown)
    elif isinstance(name, str) and ">" in str(entry.get("registered_name")):
        yield unknown(f"holds a custom object, {printable(str(entry['registered_name']), 60)}",
                      member)  # fmt: skip


def entries(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object inside a JSON value."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
