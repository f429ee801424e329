"""Where things lie on this machine: caches, mirrors and data folders."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the user's cache: ``SECURITYNET_CACHE``, else the platform's, ``/securitynet``."""
    named = os.environ.get("SECURITYNET_CACHE")
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "securitynet"


def data_folders() -> list[Path]:
    """Return the folders of ``SECURITYNET_DATA`` (searched first), then the cache's own."""
    return [*_listed("SECURITYNET_DATA"), cache_folder() / "data"]


def mirror_folders() -> list[Path]:
    """Return the folders of ``SECURITYNET_MIRROR``, searched by checksum before any download."""
    return _listed("SECURITYNET_MIRROR")


def _listed(variable: str) -> list[Path]:
    value = os.environ.get(variable, "")
    return [Path(part).expanduser() for part in value.split(os.pathsep) if part]
