"""Whether anybody's checksum vouches for a checkpoint's bytes, and whose."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import Any

from securitynet.catalogue.cards import Weights
from securitynet.files.download import HubFacts
from securitynet.files.folders import cache_folder, mirror_folders
from securitynet.files.hub import HUB, hub_endpoint
from securitynet.records import fingerprint

BY_HUB = "hub"
UNVERIFIED = "unverified-bytes"
"""Flag of records of models whose bytes nobody's checksum vouches for."""
Noted = dict[str, Any]


def verified_by(weights: Weights, *, where: str) -> str | None:
    """Return what the bytes are, or were, compared with before they are used.

    Args:
        weights: The card's weights.
        where: The card's id.

    Returns:
        The algorithm of the card's checksum, ``hub`` for the sha256 that the hub named when the
        file was downloaded, or ``None``: nothing vouches for them.
    """
    if weights.checksum:
        return weights.checksum_algorithm or "sha256"
    is_downloaded = weights.path is None and find_named(where) is None
    noted = read_note(first_use(weights)) if is_downloaded else None
    return BY_HUB if noted is not None and noted.get("by") == BY_HUB else None


def unverified(weights: Weights, *, where: str) -> tuple[str, ...]:
    """Return the flag that records of a model bear if nothing vouches for its bytes."""
    return () if verified_by(weights, where=where) else (UNVERIFIED,)


def in_words(weights: Weights, *, where: str) -> str:
    """Say what vouches for the bytes of a model."""
    by = verified_by(weights, where=where)
    noted = read_note(first_use(weights)) if weights.path is None else None
    if by == BY_HUB and noted is not None:
        return f"verified at first use by the hub's sha256 {noted['sha256']}"
    if by == "sha256-prefix":
        return f"verified by the first {len(str(weights.checksum))} digits of a published sha256"
    if by is not None:
        return f"verified by a published {by}"
    if weights.path is not None or find_named(where) is not None:
        return "not verified: a file on this machine, and the card has no checksum"
    if noted is not None:
        return f"not verified: sha256 {noted['sha256']} since first use, published by nobody"
    return "not verified yet: the first download is checked by the hub's sha256, or else believed"


def find_named(where: str) -> Path | None:
    """Find ``FOLDER/PROVIDER/NAME.*`` in the mirrors: what has no checksum is found by name."""
    if ".." in Path(where).parts or Path(where).is_absolute():
        return None
    for folder in mirror_folders():
        place = folder / where
        files = sorted(place.parent.glob(f"{glob.escape(place.name)}.*"))
        if files:
            return files[0]
    return None


def first_use(weights: Weights) -> Path:
    """Return where a file is kept whose checksum nobody published; ``.json`` notes its sha256."""
    name = f"first-{fingerprint([weights.url, weights.bytes])[:32]}"
    return cache_folder() / "downloads" / name


def read_note(path: Path) -> Noted | None:
    """Return what was noted of a file at its first use, ``None`` if it was never used."""
    try:
        noted = json.loads(path.with_name(f"{path.name}.json").read_text(encoding="utf-8"))
        return {**noted, "sha256": str(noted["sha256"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_of(url: str | None, sha256: str, told: HubFacts | None) -> Noted:
    """Return what to note at a first use; only the hub itself is believed to be the hub."""
    is_hub = (url or "").startswith((f"{HUB}/", f"{hub_endpoint()}/"))
    is_checked = is_hub and told is not None and told.sha256 == sha256
    return {
        "url": url, "sha256": sha256, "by": BY_HUB if is_checked else "first-use",
        "revision": told.revision if told is not None and is_hub else None,
    }  # fmt: skip


def at_revision(url: str | None, noted: Noted | None) -> str | None:
    """Return the address of the very revision that was used first, where the hub named it."""
    if url is None or noted is None or not noted.get("revision"):
        return url
    return url.replace("/resolve/main/", f"/resolve/{noted['revision']}/", 1)
