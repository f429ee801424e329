"""Ids that git gives to content: a whole folder is pinned by the one id of its tree."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

FILE = "100644"
"""Mode of a plain file."""
FOLDER = "40000"


def blob_id(content: bytes) -> str:
    """Return the id of a file's content."""
    return _id("blob", content)


def tree_id(files: Mapping[str, tuple[str, str]]) -> str:
    """Return the id of a folder's tree.

    Args:
        files: Path in the folder -> mode and blob id of every file below it.
    """
    entries: dict[str, tuple[str, str]] = {}
    folders: dict[str, dict[str, tuple[str, str]]] = {}
    for path, entry in files.items():
        head, slash, rest = path.partition("/")
        if slash:
            folders.setdefault(head, {})[rest] = entry
        else:
            entries[head] = entry
    entries |= {name: (FOLDER, tree_id(inner)) for name, inner in folders.items()}
    ordered = sorted(entries, key=lambda name: (name + "/" * (name in folders)).encode())
    lines = (
        f"{entries[name][0]} {name}\0".encode() + bytes.fromhex(entries[name][1])
        for name in ordered
    )
    return _id("tree", b"".join(lines))


def _id(kind: str, content: bytes) -> str:
    head = f"{kind} {len(content)}\0".encode()
    return hashlib.sha1(head + content, usedforsecurity=False).hexdigest()
