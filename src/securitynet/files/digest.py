"""Checksums of files, and the search for a file by its checksum."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

from securitynet.errors import UsageError
from securitynet.files.folders import mirror_folders

ALGORITHMS = {
    "sha256": "sha256", "sha256-prefix": "sha256", "sha1": "sha1", "md5": "md5",
    "git-blob-sha1": "sha1",
}  # fmt: skip
"""Name -> digest; a git blob's is taken of the file behind a header with its size."""
MIN_PREFIX = 8


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the hex digest of a file.

    Raises:
        UsageError: If the algorithm is unknown.
    """
    if algorithm not in ALGORITHMS:
        raise UsageError(
            f"unknown checksum algorithm {algorithm!r}", hint=f"one of {', '.join(ALGORITHMS)}"
        )
    with path.open("rb") as file:
        if algorithm != "git-blob-sha1":
            return hashlib.file_digest(file, ALGORITHMS[algorithm]).hexdigest()
        blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        while chunk := file.read(1 << 20):
            blob.update(chunk)
        return blob.hexdigest()


def digest_once(path: Path, algorithm: str = "sha256") -> str:
    """Return the digest, read again only if the file's size or time of change differs.

    Raises:
        UsageError: If the algorithm is unknown.
    """
    facts = path.stat()
    return _remembered(path, algorithm, facts.st_ino, facts.st_size, facts.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _remembered(path: Path, algorithm: str, _inode: int, _size: int, _mtime_ns: int) -> str:
    return digest(path, algorithm)


def matches(path: Path, checksum: str, algorithm: str) -> bool:
    """Return whether a file has this checksum; a prefix must have at least 8 digits."""
    return _agrees(digest(path, algorithm), checksum, algorithm)


def _agrees(found: str, checksum: str, algorithm: str) -> bool:
    if algorithm == "sha256-prefix":
        return len(checksum) >= MIN_PREFIX and found.startswith(checksum.lower())
    return found == checksum.lower()


def find_in_mirrors(checksum: str, algorithm: str, n_bytes: int | None) -> Path | None:
    """Search the folders of ``SECURITYNET_MIRROR`` for a file with this checksum.

    Args:
        checksum: Hex digest.
        algorithm: One of ``ALGORITHMS``.
        n_bytes: File size, if known; other files are not even read.
    """
    for path in _mirrored_files():
        try:
            if n_bytes is not None and path.stat().st_size != n_bytes:
                continue
            found = digest_once(path, algorithm)
        except OSError:  # unreadable or just removed: not the file that is looked for
            continue
        if _agrees(found, checksum, algorithm):
            return path
    return None


def _mirrored_files() -> Iterator[Path]:
    for folder in mirror_folders():
        if folder.is_dir():
            yield from (path for path in sorted(folder.rglob("*")) if path.is_file())
