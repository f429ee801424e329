"""numpy's files: a header and raw numbers are data; arrays of objects are pickles."""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
from typing import BinaryIO

from securitynet.weights.bundles import container
from securitynet.weights.findings import Contents, Tensors, damage, printable, unknown
from securitynet.weights.pickle_walk import walk
from securitynet.weights.zipped import ZIP_ERRORS, open_zip, zip_damage

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 1 << 16
MAX_OBJECT_BYTES = 64 * 2**20
HEADER = re.compile(
    r"\{'descr': (?P<descr>'[^']*'|\[.*\]), 'fortran_order': (?:True|False), "
    r"'shape': \((?P<shape>(?:\d{1,19}, ?)*(?:\d{1,19})?)\),? ?\} *\n?",
    re.DOTALL,
)
"""As numpy writes it. numpy itself evaluates the text; here nothing is evaluated."""
PLAIN = re.compile(r"'[<>|=]?(?P<kind>[biufc?SUVmM])(?P<size>\d{0,9})(?:\[\w+\])?'")
KINDS = {"b": "bool", "?": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}


def check_npy(file: BinaryIO) -> Contents:
    """Check one array: header, size of the data, and the pickle if it holds objects."""
    size = file.seek(0, 2)
    file.seek(0)
    return _check(file, size)


def check_npz(file: BinaryIO) -> Contents:
    """Check a zip file of arrays."""
    try:
        with open_zip(file) as archive:
            findings, tensors = container(file, archive), Tensors()
            for item in [] if findings else archive.infolist():
                found = _member(archive, item)
                findings += [finding.inside(item.filename) for finding in found.findings]
                tensors += found.tensors or Tensors()
            return Contents(findings[:20], tensors)
    except ZIP_ERRORS as error:
        return Contents([zip_damage(error)])


def _member(archive: zipfile.ZipFile, item: zipfile.ZipInfo) -> Contents:
    with archive.open(item) as stream:
        head = stream.read(MAX_HEADER_BYTES + 12)
        if b"O" in head[:MAX_HEADER_BYTES] and item.file_size <= MAX_OBJECT_BYTES:
            head += stream.read(MAX_OBJECT_BYTES)
    return _check(io.BytesIO(head), item.file_size)


def _check(file: BinaryIO, size: int) -> Contents:
    """Check an array of which at least the head, and all of a pickle, can be read."""
    head = file.read(12)
    if len(head) < 10 or not head.startswith(MAGIC) or head[6] not in (1, 2, 3):
        return Contents([damage("not a numpy file", "header")])
    begin, form = (10, "<H") if head[6] == 1 else (12, "<I")
    (length,) = struct.unpack(form, head[8:begin].ljust(struct.calcsize(form), b"\0"))
    if length > min(MAX_HEADER_BYTES, size - begin):
        return Contents([damage(f"malformed header: its length is {length:,} bytes", "header")])
    file.seek(begin)
    text = file.read(length).decode("latin1")
    found = HEADER.fullmatch(text)
    if found is None:
        return Contents([damage(f"malformed header: {printable(text, 80)}", "header")])
    sides = [int(side) for side in re.findall(r"\d+", found["shape"])]
    if re.search(r"[<>|='\"]O\d*['\"]", found["descr"]):
        return _objects(file, begin + length, size)
    return _numbers(found["descr"], sides, size - begin - length)


def _numbers(descr: str, sides: list[int], n_bytes: int) -> Contents:
    plain = PLAIN.fullmatch(descr)
    if plain is None:
        shown = printable(descr, 60)
        return Contents([unknown(f"a type that is not decided: {shown}", "header")])
    kind, n_elements = plain["kind"], math.prod(sides)
    item = int(plain["size"] or 1) * (4 if kind == "U" else 1)
    item = 8 if kind in "mM" else item
    if len(sides) > 64 or n_elements * item != n_bytes:
        return Contents([damage(f"does not have the {n_bytes:,} bytes of data it says", "header")])
    bits = "" if KINDS.get(kind, "bool") == "bool" else 8 * item
    name = f"{KINDS[kind]}{bits}" if kind in KINDS else descr.strip("'")
    return Contents([], Tensors(1, n_elements, (name,)))


def _objects(file: BinaryIO, begin: int, size: int) -> Contents:
    """An array of objects is a pickle: never safe, whatever it holds."""
    if size > MAX_OBJECT_BYTES:
        return Contents([unknown("an array of objects: a pickle too large to be walked")])
    found = walk(file, member="objects", start=begin)
    whole = unknown("an array of objects: a pickle, which allow_pickle=True would run", "objects")
    return Contents([*found.findings, whole])
