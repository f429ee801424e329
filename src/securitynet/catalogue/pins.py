"""Revision and sha256 of the hub's files behind cards that have none: asked for, kept. No torch.

Only the hub's API knows them. A user asks for them into a table in the cache, which lies over the
shipped rows from then on; who renews the shipped tables asks for them into these.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from securitynet.catalogue.hub_client import ask, unanswered
from securitynet.catalogue.hub_rows import REVISION, licence_of
from securitynet.catalogue.local_table import open_table
from securitynet.catalogue.schema import UNKNOWN_LICENCE
from securitynet.catalogue.tables import Row, rows
from securitynet.errors import UsageError
from securitynet.files.download import check_url
from securitynet.files.folders import cache_folder
from securitynet.files.hub import HUB, hub_endpoint

PAUSE_SECONDS = 0.65
"""Between two questions: the hub allows 500 in five minutes without a token."""
KEPT = "the answers so far are kept; give the same command again to go on"
GONE = (401, 403, 404)
"""How the hub says that a repository is closed, or not there."""
TABLE = """CREATE TABLE IF NOT EXISTS pins (
  repo TEXT PRIMARY KEY, endpoint TEXT NOT NULL, round INTEGER NOT NULL, etag TEXT,
  answer TEXT NOT NULL)"""
PLACE = re.compile(re.escape(HUB) + r"/([\w.-]+/[\w.-]+)/resolve/([\w.-]+)/(.+)")
FILES = ("model.safetensors", "pytorch_model.bin")
"""Files that hold the weights, the best first, where the card's own is not there."""
Answer = dict[str, Any]
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did.

    Attributes:
        n_asked: Repositories that were asked for.
        n_left: Repositories that are left for the next one.
        n_gone: Repositories of those asked that are closed or not there.
    """

    n_asked: int
    n_left: int
    n_gone: int


def pins_path() -> Path:
    """Return where the table lies."""
    return cache_folder() / "hub" / "pins.sqlite"


def repository(row: Mapping[str, Any]) -> str | None:
    """Return the hub's repository of a row whose weights nobody gave a checksum, else ``None``."""
    found = PLACE.fullmatch(row["weights"]["url"] or "")
    return found[1] if found and not row["weights"]["checksum"] else None


def refresh(listed: Iterable[Row], limit: int | None, progress: Progress) -> Refreshed:
    """Ask for every repository behind some rows; each answer is kept at once.

    What was cut off or bounded goes on with what is left; once all were asked, the next refresh
    asks for all of them anew, and what has not changed is not sent again.

    Args:
        listed: Rows of the catalogue.
        limit: At most so many repositories; ``None`` = all.
        progress: Told the share done and a few words.

    Raises:
        UsageError: If nothing lies at the hub without a checksum, or the hub is not https.
        ResourceError: If the hub cannot be reached or answers nonsense; what it said is kept.
    """
    check_url(hub_endpoint())
    repos = sorted({repo for row in listed if (repo := repository(row))})
    if not repos:
        raise UsageError("these models have no files at the hub that lack a checksum")
    with _opened() as table:
        number, left = _left(table, repos)
        todo = left[:limit]
        n_gone = 0
        for i, repo in enumerate(todo):
            progress(i / len(todo), f"{i:,} of {len(todo):,} repositories")
            n_gone += "gone" in _ask(table, repo, number)
            time.sleep(PAUSE_SECONDS if i + 1 < len(todo) else 0)
    return Refreshed(len(todo), len(left) - len(todo), n_gone)


def _left(table: sqlite3.Connection, repos: list[str]) -> tuple[int, list[str]]:
    """Return the number of this round, and the repositories that it has not asked for."""
    known = dict(
        table.execute("SELECT repo, round FROM pins WHERE endpoint = ?", (hub_endpoint(),))
    )
    rounds = [known.get(repo, 0) for repo in repos]
    number = max(rounds) if min(rounds) < max(rounds) else max(rounds) + 1
    return number, [repo for repo, done in zip(repos, rounds, strict=True) if done < number]


def _ask(table: sqlite3.Connection, repo: str, number: int) -> Answer:
    known = table.execute(
        "SELECT etag, answer FROM pins WHERE repo = ? AND endpoint = ?", (repo, hub_endpoint())
    ).fetchone()
    url = f"{hub_endpoint()}/api/models/{repo}"
    reply, item = ask(url, params={"blobs": "true"}, etag=known and known[0], kept=KEPT)
    if reply.status_code == 304 and known:
        etag, answer = known[0], json.loads(known[1])
    elif reply.status_code in GONE:
        etag, answer = None, {"gone": f"HTTP {reply.status_code}"}
    else:
        etag, answer = reply.headers.get("etag"), read_answer(item)
    if answer is None:
        raise unanswered(f"HTTP {reply.status_code}, not a description of {repo}", KEPT)
    with table:
        table.execute(
            "INSERT OR REPLACE INTO pins VALUES (?, ?, ?, ?, ?)",
            (repo, hub_endpoint(), number, etag, json.dumps(answer)),
        )
    return dict(answer)


def read_answer(item: Any) -> Answer | None:
    """Return what the hub says of a repository: revision, gate, licence, files; or ``None``."""
    from huggingface_hub import hf_api

    untyped: Any = hf_api
    try:
        info = untyped.ModelInfo(**item)
        files = {
            str(file.rfilename): [file.lfs and file.lfs.sha256, file.size]
            for file in info.siblings or ()
            if "/" not in file.rfilename
        }
        licence = licence_of(info)
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
    if not REVISION.fullmatch(str(info.sha)):
        return None
    is_gated = info.gated not in (False, None)
    return {"revision": info.sha, "is_gated": is_gated, "licence": licence, "files": files}


def _opened() -> contextlib.AbstractContextManager[sqlite3.Connection]:
    return open_table(pins_path(), TABLE, "pins")


def answers() -> dict[str, Answer]:
    """Return what the hub said so far, by repository; nothing if it was never asked."""
    if not pins_path().is_file():
        return {}
    with _opened() as table:
        found = table.execute("SELECT repo, answer FROM pins WHERE endpoint = ?", (hub_endpoint(),))
        return {repo: json.loads(answer) for repo, answer in found}


def pinned(row: Row, said: Mapping[str, Answer]) -> Row:
    """Return a row with what the hub said of its file; the row itself if it said nothing."""
    answer = said.get(repository(row) or "")
    if answer is None:
        return row
    if "gone" in answer:
        return row | {"flags": _with(row["flags"], "dead-link")}
    weights = row["weights"] | _file(row, answer)
    flags = _with(row["flags"], "gated") if answer["is_gated"] else row["flags"]
    licence, stated = weights["licence"], answer["licence"]
    if stated and licence in (None, UNKNOWN_LICENCE):
        weights |= {"licence": stated, "licence_source": "hub"}
        flags = [flag for flag in flags if flag != "licence-unknown"]
    elif stated and stated.lower() != str(licence).lower().removeprefix("licenseref-"):
        flags = _with(flags, "licences-disagree")
    return row | {"weights": weights, "flags": flags}


def _with(flags: list[str], flag: str) -> list[str]:
    return sorted({*flags, flag})


def _file(row: Row, answer: Answer) -> dict[str, Any]:
    """Return what is known of the weights' file: the card's own, or what holds them instead."""
    repo, _, own = re.match(PLACE, row["weights"]["url"]).groups()  # type: ignore[union-attr]
    files = answer["files"]
    name = next((name for name in (own, *FILES) if name in files), None)
    if name is None:
        return {}
    sha256, size = files[name]
    return {
        "url": f"{HUB}/{repo}/resolve/{answer['revision']}/{name}", "revision": answer["revision"],
        "checksum": sha256, "checksum_algorithm": "sha256" if sha256 else None, "bytes": size,
        "format": "safetensors" if name.endswith(".safetensors") else None,
    }  # fmt: skip


def kept(row: Row, old: Row | None) -> Row:
    """Return a new row with the pin of the old one, where the new one has none."""
    if old is None or not old["weights"]["checksum"] or not repository(row):
        return row
    place = PLACE.fullmatch(old["weights"]["url"] or "")
    if place is None or place[1] != repository(row):
        return row
    flags = [f for f in old["flags"] if f in ("gated", "licences-disagree")]
    if old["weights"]["licence_source"] == "hub":
        row = row | {"flags": [flag for flag in row["flags"] if flag != "licence-unknown"]}
    return row | {"weights": old["weights"], "flags": sorted({*row["flags"], *flags})}


def known_rows() -> tuple[Row, ...]:
    """Return the shipped rows, with what this machine asked the hub for."""
    return _known_rows(pins_stamp())


def pins_stamp() -> tuple[str, int, int, str] | None:
    """Return what changes whenever the pins of this machine do."""
    try:
        facts = pins_path().stat()
    except OSError:
        return None
    return str(pins_path()), facts.st_mtime_ns, facts.st_size, hub_endpoint()


@cache
def _known_rows(stamp: tuple[str, int, int, str] | None) -> tuple[Row, ...]:
    said = {} if stamp is None else answers()
    return tuple(pinned(row, said) for row in rows()) if said else rows()
