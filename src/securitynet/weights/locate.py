"""Where a card's checkpoint lies: beside the card, in a mirror, in the cache, at its address."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from securitynet.catalogue.cards import Weights
from securitynet.errors import IntegrityError, ResourceError, UsageError
from securitynet.files.atomic import write_text
from securitynet.files.digest import digest, find_in_mirrors, matches
from securitynet.files.download import HubFacts, download
from securitynet.files.folders import cache_folder
from securitynet.files.hub import hub_address
from securitynet.records import fingerprint
from securitynet.weights.archive import extract_member
from securitynet.weights.verified import at_revision, find_named, first_use, note_of, read_note

Progress = Callable[[float, str], None]


def locate(
    weights: Weights, *, folder: str | None, where: str, progress: Progress | None = None
) -> Path:
    """Return the original checkpoint: local, mirrored, cached, or downloaded and unpacked.

    A file without a published checksum is compared with what the hub says of it, or else with
    what came the first time; see :func:`_first_seen`.

    Args:
        weights: The card's weights.
        folder: Folder of the card, for local files.
        where: The card's id; named in errors.
        progress: Told the share of a download and a few words.

    Raises:
        UsageError: If the card names no file at all.
        ResourceError: If the file cannot be had.
        IntegrityError: If it is not what the card says.
    """
    is_of_checkpoint = weights.member is None or weights.checksum_of == "member"
    if weights.path is None and is_of_checkpoint:
        found = _at_hand(weights)
        if found is not None:
            return found
    archive = _file(weights, folder, where, progress)
    return archive if weights.member is None else _member(archive, weights, where)


def _at_hand(weights: Weights) -> Path | None:
    """Find a file with the card's checksum in the mirrors or the cache."""
    if not weights.checksum:
        return None
    algorithm = weights.checksum_algorithm or "sha256"
    mirrored = find_in_mirrors(weights.checksum, algorithm, weights.bytes)
    if mirrored is not None:
        return mirrored
    cached = _by_checksum(weights)
    is_right = cached.is_file() and matches(cached, weights.checksum, algorithm)
    return cached if is_right else None


def _by_checksum(weights: Weights) -> Path:
    name = f"{weights.checksum_algorithm or 'sha256'}-{str(weights.checksum).lower()}"
    return cache_folder() / "downloads" / name


def _file(weights: Weights, folder: str | None, where: str, progress: Progress | None) -> Path:
    """Return what lies at the card's path or address: the checkpoint, or its archive."""
    checksum = weights.checksum if weights.checksum_of == "file" else None
    if weights.path is not None:
        return _local(Path(folder or ".") / weights.path, checksum, weights, where)
    if checksum:
        found = _at_hand(weights)
        return found or _fetched(weights, _by_checksum(weights), checksum, where, progress)
    named = find_named(where)
    return named or _first_seen(weights, where, progress)


def _local(path: Path, checksum: str | None, weights: Weights, where: str) -> Path:
    if not path.is_file():
        raise ResourceError(
            f"no checkpoint at {path}", where=where, hint="correct weights.path in the card"
        )
    algorithm = weights.checksum_algorithm or "sha256"
    if checksum and not matches(path, checksum, algorithm):
        raise IntegrityError(
            f"{path.name} does not have the card's {algorithm} {checksum[:16]}...",
            where=where,
            hint="the file was changed or the card is of another file",
        )
    return path


def _first_seen(weights: Weights, where: str, progress: Progress | None) -> Path:
    """Fetch a file whose checksum nobody published; later it must be the same bytes.

    Its sha256 is noted beside it, and the revision if the hub names one. The hub names the sha256
    of large files in its answers, and the download is checked against that; elsewhere the first
    download is believed. Either way the file goes through the rest of the door, and what is
    evaluated is named by its sha256.
    """
    path = first_use(weights)
    noted = read_note(path)
    known = None if noted is None else noted["sha256"]
    if known is not None and path.is_file() and digest(path) == known:
        return path
    told: list[HubFacts] = []
    pinned = replace(weights, url=at_revision(weights.url, noted))
    fetched = _fetched(pinned, path, known, where, progress, told.append)
    if known is None:
        note = note_of(weights.url, digest(fetched), told[-1] if told else None)
        write_text(path.with_name(f"{path.name}.json"), json.dumps(note))
    return fetched


def _fetched(
    weights: Weights, destination: Path, checksum: str | None, where: str,
    progress: Progress | None, hear: Callable[[HubFacts], None] | None = None,
) -> Path:  # fmt: skip
    """Download from the card's address, or from its mirrors if that fails."""
    addresses = [url for url in (weights.url, *weights.mirrors) if url]
    if not addresses and not weights.checksum:
        raise UsageError(
            "the card names no weights",
            where=where,
            hint="none were published; train a copy, or give weights.path in a card of your own",
        )
    if not addresses:
        raise ResourceError(
            "the weights are not on this machine and the card has no address",
            where=where,
            hint="put the file into a folder named by SECURITYNET_MIRROR",
        )
    is_of_file = weights.checksum_of == "file"
    algorithm = weights.checksum_algorithm if is_of_file and weights.checksum else None
    n_bytes = weights.bytes if is_of_file else None
    errors: list[ResourceError | IntegrityError] = []
    for url in addresses:
        try:
            return download(
                hub_address(url), destination, checksum=checksum, algorithm=algorithm or "sha256",
                n_bytes=n_bytes, progress=progress, hear=hear,
            )  # fmt: skip
        except (ResourceError, IntegrityError) as error:
            errors.append(error)
    raise errors[0]


def _member(archive: Path, weights: Weights, where: str) -> Path:
    """Unpack the card's member of an archive, once, and verify it."""
    member, algorithm = str(weights.member), weights.checksum_algorithm or "sha256"
    if weights.checksum and weights.checksum_of == "member":
        path = _by_checksum(weights)
    else:
        name = fingerprint([digest(archive), member])[:32]
        path = cache_folder() / "downloads" / f"member-{name}"
        if path.is_file():  # written whole, from these very bytes
            return path
    extract_member(archive, member, path, where=where)
    if path == _by_checksum(weights) and not matches(path, str(weights.checksum), algorithm):
        path.unlink()
        raise IntegrityError(
            f"{member} in the archive does not have the card's {algorithm} "
            f"{str(weights.checksum)[:16]}...",
            where=where,
            hint="the archive was replaced, or the card is of another file",
        )
    return path
