"""Torch's old container, and bare pickles: pickles one after the other, then raw tensor data."""

from __future__ import annotations

import struct
import tarfile
from typing import BinaryIO

from securitynet.weights.findings import Contents, Finding, damage, unknown
from securitynet.weights.labels import Label, Storage
from securitynet.weights.pickle_walk import Walk, walk

MAGIC = 0x1950A86A20F9469CFC6C
MAGIC_BYTES = MAGIC.to_bytes(10, "little")
PROTOCOL = 1001
PARTS = ("magic", "protocol", "system", "object", "storage keys")


def check_legacy(file: BinaryIO) -> Contents:
    """Check the five pickles, then that the raw data are exactly the storages they name."""
    walks: dict[str, Walk] = {}
    findings = _headers(file, walks)
    if findings:
        return Contents(findings)
    found, keys = walks["object"], walks["storage keys"].value
    findings = found.bombs(file.seek(0, 2)) or found.clashes()
    end = walks["storage keys"].end or 0
    return Contents(findings or _check_data(file, end, found, keys), found.tensors)


def _headers(file: BinaryIO, walks: dict[str, Walk]) -> list[Finding]:
    position = 0
    file.seek(0)
    if _is_tar(file.read(512)):
        return [Finding(what="is a torch file and a tar archive at once")]
    for part in PARTS:
        found = walks[part] = walk(file, member=part, start=position)
        if found.findings or found.end is None:
            return found.findings
        if part != "object" and found.globals:
            return [Finding(what="the header imports names", member=part, offset=position)]
        position = found.end
    headers = [_number(walks[part].value) for part in ("magic", "protocol")]
    if headers != [MAGIC, PROTOCOL]:
        return [unknown("the magic number or protocol is not torch's", "magic")]
    return []


def _number(label: Label | None) -> object:
    return label.value if label is not None and label.kind == "number" else None


def _is_tar(head: bytes) -> bool:
    """Torch tries to read a tar archive before the pickles: then it would see another file."""
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _check_data(file: BinaryIO, position: int, found: Walk, keys: Label | None) -> list[Finding]:
    """Each storage is its number of elements in 8 bytes, then the elements; then the file ends."""
    member = "storages"
    storages = {storage.key: storage for storage in found.storages}
    if keys is None or keys.kind != "list" or any(key.kind != "text" for key in keys.value):
        return [unknown("the storage keys are not a list of texts", "storage keys")]
    listed = [key.value for key in keys.value]
    if sorted(listed) != sorted(storages):
        return [Finding(what="the storage keys are not those of the tensors", member=member)]
    size = file.seek(0, 2)
    for key in listed:
        problem = _check_storage(file, position, storages[key], size)
        if problem is not None:
            return [problem]
        position += 8 + storages[key].numel * storages[key].item_bytes
    if position != size:
        return [Finding(what=f"{size - position:,} bytes follow the tensors", member=member,
                        offset=position)]  # fmt: skip
    return []


def _check_storage(file: BinaryIO, position: int, storage: Storage, size: int) -> Finding | None:
    file.seek(position)
    raw = file.read(8)
    if len(raw) < 8 or position + 8 + storage.numel * storage.item_bytes > size:
        return damage("the file ends before its tensors", "storages", position)
    if struct.unpack("<q", raw)[0] != storage.numel:
        return Finding(what="a storage has another size than its tensors say", member="storages",
                       offset=position)  # fmt: skip
    return None


def check_pickle(file: BinaryIO) -> Contents:
    """Check a bare pickle: one STOP, and nothing after it."""
    found = walk(file, member="pickle")
    size = file.seek(0, 2)
    trailing = found.end is not None and found.end != size
    after = [Finding(what="bytes follow the pickle", member="pickle", offset=found.end)]
    return Contents(found.findings + (after if trailing else []), found.tensors)


def looks_like_pickle(file: BinaryIO) -> bool:
    """Return whether bytes without a signature are an old pickle: one that ends, or one that acts.

    Protocols 0 and 1 have no signature, and any text may begin like one. Only what reaches its end
    or calls something is taken for a pickle; nothing else is ever found safe by this.
    """
    found = walk(file, member="pickle")
    acts = {"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD", "PERSID"}
    return found.end is not None or any(item.opcode in acts for item in found.findings)
