"""Image classifiers of the Hugging Face hub, listed live into a table in the cache. No torch.

A row says what the hub's listing states: weights at a pinned revision, licence, parameters, data
sets and reported results. It is no card yet: nobody states the input there.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securitynet.catalogue.hub_client import ask, unanswered
from securitynet.catalogue.hub_rows import Row, read_model
from securitynet.catalogue.local_table import open_table
from securitynet.errors import ResourceError, UsageError
from securitynet.files.download import check_url
from securitynet.files.folders import cache_folder
from securitynet.files.hub import hub_endpoint

PAGE = 500
DEFAULT_LIMIT = 1000
PAUSE_SECONDS = 0.5
"""Between two pages."""
EXPANDED = (
    "cardData", "config", "downloads", "evalResults", "gated", "lastModified", "library_name",
    "pipeline_tag", "safetensors", "sha", "siblings", "tags",
)  # fmt: skip
TABLES = """
CREATE TABLE IF NOT EXISTS models (repo TEXT PRIMARY KEY, crawl INTEGER NOT NULL, row TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS state (
  id INTEGER PRIMARY KEY CHECK (id = 1), endpoint TEXT NOT NULL, crawl INTEGER NOT NULL, next TEXT);
"""  # noqa: E501
KEPT = "what was listed before is kept; `securitynet list models --provider hub` shows it"
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Crawl:
    """What a refresh did.

    Attributes:
        n_seen: Models that the hub listed.
        n_kept: Models of these that are in the table now.
        is_complete: Whether the hub had no more; else the next refresh goes on from here.
    """

    n_seen: int
    n_kept: int
    is_complete: bool


def table_path() -> Path:
    """Return where the table lies."""
    return cache_folder() / "hub" / "models.sqlite"


def hub_rows() -> list[Row]:
    """Return the rows of the table, in order of their ids; none if it was never filled."""
    if not table_path().is_file():
        return []
    with _opened() as table:
        texts = [text for (text,) in table.execute("SELECT row FROM models")]
    return sorted((json.loads(text) for text in texts), key=lambda row: str(row["id"]))


def find_row(reference: str) -> Row | None:
    """Return the row of ``hub/owner/name`` or ``hub/owner/name@revision``, if it is there."""
    if not table_path().is_file():
        return None
    repo = reference.partition("@")[0]
    with _opened() as table:
        found = table.execute("SELECT row FROM models WHERE repo = ?", (repo,)).fetchone()
    row: Row | None = json.loads(found[0]) if found else None
    return row if row is not None and reference in (repo, row["id"]) else None


def refresh(limit: int | None = None, progress: Progress | None = None) -> Crawl:
    """List the hub's open image classifiers into the table, page by page.

    Every page is kept at once together with the place where the next begins, so a crawl that was
    interrupted or bounded goes on there; one that reached the end starts anew, and drops what the
    hub no longer lists.

    Args:
        limit: About so many models are asked for; ``None`` = 1,000.
        progress: Told the share done and a few words.

    Returns:
        What was done.

    Raises:
        UsageError: If the address is not https.
        ResourceError: If the hub cannot be reached or answers nonsense; the table is kept.
    """
    check_url(hub_endpoint())
    wanted = DEFAULT_LIMIT if limit is None else limit
    if wanted < 1:
        raise UsageError("--refresh needs a --limit of at least 1")
    with _opened() as table:
        return _crawl(table, wanted, progress or _silent)


def _silent(share: float, what: str) -> None:
    """Tell nobody."""


def _crawl(table: sqlite3.Connection, wanted: int, progress: Progress) -> Crawl:
    number, url = _start(table)
    seen = kept = 0
    while True:
        items, following = _page(url, min(PAGE, wanted))
        rows = [row for row in map(_read, items) if row is not None]
        seen, kept = seen + len(items), kept + len(rows)
        _keep(table, number, rows, following)
        if following is None or seen >= wanted:
            return Crawl(seen, kept, following is None)
        progress(min(1.0, seen / wanted), f"{seen:,} models listed")
        time.sleep(PAUSE_SECONDS)
        url = following


def _read(item: Any) -> Row | None:
    return read_model(item, hub_endpoint())


def _start(table: sqlite3.Connection) -> tuple[int, str | None]:
    """Return the crawl's number and where its next page is; ``None`` = the first."""
    state = table.execute("SELECT endpoint, crawl, next FROM state").fetchone()
    if state is None:
        return 1, None
    is_unfinished = state[0] == hub_endpoint() and state[2] is not None
    return (state[1], state[2]) if is_unfinished else (state[1] + 1, None)


def _keep(table: sqlite3.Connection, number: int, rows: list[Row], following: str | None) -> None:
    """Keep one page and the place of the next in one transaction."""
    with table:
        table.executemany(
            "INSERT OR REPLACE INTO models VALUES (?, ?, ?)",
            [(_repo(row), number, json.dumps(row, ensure_ascii=False)) for row in rows],
        )
        if following is None:
            table.execute("DELETE FROM models WHERE crawl < ?", (number,))
        table.execute(
            "INSERT OR REPLACE INTO state VALUES (1, ?, ?, ?)", (hub_endpoint(), number, following)
        )


def _repo(row: Row) -> str:
    return str(row["id"]).partition("@")[0]


def _opened() -> contextlib.AbstractContextManager[sqlite3.Connection]:
    return open_table(table_path(), TABLES, "the hub")


def _page(url: str | None, size: int) -> tuple[list[Any], str | None]:
    """Fetch one page of the hub's listing."""
    first = f"{hub_endpoint()}/api/models"
    answer, items = ask(url or first, params=None if url else _query(size), kept=KEPT)
    if not isinstance(items, list):
        raise unanswered(f"HTTP {answer.status_code}, not a list of models", KEPT)
    return items, _following(answer.links.get("next", {}).get("url"))


def _query(size: int) -> dict[str, Any]:
    """Ask for what is most downloaded first; gated models and other formats stay out."""
    return {
        "pipeline_tag": "image-classification", "gated": False, "filter": ["safetensors"],
        "sort": "downloads", "limit": size, "expand": list(EXPANDED),
    }  # fmt: skip


def _following(url: str | None) -> str | None:
    """Return the address of the next page; one elsewhere is not followed."""
    if url is None:
        return None
    if not re.match(re.escape(hub_endpoint()) + r"/api/models\?", url):
        raise ResourceError("the next page is on another server", where=url[:200], hint=KEPT)
    return url
