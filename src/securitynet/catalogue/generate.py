"""``python -m securitynet.catalogue.generate``: write the shipped tables from their sources.

The same sources give the same bytes. A table whose source is not on this machine is kept as it is;
``--fetch`` downloads the public files that no package carries.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from securitynet.catalogue import pins
from securitynet.catalogue.cards import ModelCard, parse_card
from securitynet.catalogue.database import card_of
from securitynet.catalogue.generators import GENERATORS, paper
from securitynet.catalogue.generators.counted import with_costs
from securitynet.catalogue.schema import UNKNOWN_LICENCE
from securitynet.catalogue.tables import (
    ENDINGS,
    contributed,
    data_folder,
    expand,
    read_rows,
    stored_text,
    table_file,
    table_text,
)
from securitynet.errors import ResourceError, SecurityNetError, UsageError, unknown_id
from securitynet.files.atomic import write_atomic, write_text

DATA = Path(__file__).resolve().parent / "data"
FACTS = "SECURITYNET_FACTS"
SHOWN_CHANGES = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check tables; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m securitynet.catalogue.generate")
    parser.add_argument("providers", nargs="*", metavar="PROVIDER", help=", ".join(GENERATORS))
    parser.add_argument(
        "--facts", type=Path, default=_facts_folder(),
        help=f"folder of data files that no package carries [{FACTS}]",
    )  # fmt: skip
    parser.add_argument(
        "--fetch", action="store_true",
        help="download, at pinned commits, the data files that the folder lacks",
    )  # fmt: skip
    parser.add_argument(
        "--pin", action="store_true",
        help="ask the hub for revision and sha256 of the files that have none",
    )  # fmt: skip
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a table differs")
    options = parser.parse_args(arguments)
    try:
        return _run(options.providers or list(GENERATORS), options)
    except SecurityNetError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def _facts_folder() -> Path | None:
    named = os.environ.get(FACTS)
    return Path(named) if named else None


def _run(providers: Sequence[str], options: argparse.Namespace) -> int:
    check: bool = options.check
    for provider in providers:
        if provider not in GENERATORS:
            raise unknown_id("provider", provider, GENERATORS, listing="--help")
    facts, failed = _fetched(options.facts) if options.fetch else (options.facts, [])
    n_different = _paper_tables(options.facts, check=check)
    texts = {name: stored_text(name) or "" for name in GENERATORS}
    for provider in providers:
        try:
            cards = finished(GENERATORS[provider](facts))
        except ResourceError as error:
            _say(f"{provider}: kept as it is: {error}")
            continue
        text = table_text(_pinned(cards, texts[provider], is_asking=options.pin))
        changes = _changes(texts[provider], text)
        n_different += bool(changes)
        _say(f"{provider}: {text.count(chr(10)):,} models, {_in_words(changes)}")
        texts[provider] = text
    tables = [(f"{name}.jsonl", text.encode()) for name, text in texts.items()]
    read_rows([*tables, *contributed(data_folder())])  # ids are unique
    for provider in () if check else providers:
        if texts[provider]:
            _write(provider, texts[provider])
    if failed:
        raise failed[0]
    return 1 if check and n_different else 0


def _fetched(own: Path | None) -> tuple[Path, list[ResourceError]]:
    """Download the public files, and say which could not be had; their tables are kept."""
    from securitynet.catalogue.facts import fetch

    folder, failed = fetch(own, lambda share, what: _say(f"fetch: {what}"))
    for error in failed:
        _say(f"fetch: {error}")
    return folder, failed


def _pinned(cards: list[ModelCard], old: str, *, is_asking: bool) -> list[ModelCard]:
    """Return the cards with what the hub says of their files, now or when it was asked last."""
    before = {row["id"]: row for row in read_rows([("before.jsonl", old.encode())])}
    made = [expand(card.to_json()) for card in cards]
    said: dict[str, pins.Answer] = {}
    if is_asking and any(map(pins.repository, made)):
        done = pins.refresh(made, None, lambda share, what: _say(f"pin: {what}"))
        _say(f"pin: {done.n_asked:,} repositories asked, {done.n_gone:,} closed or gone")
        said = pins.answers()
    rows = [pins.kept(pins.pinned(row, said), before.get(row["id"])) for row in made]
    return [
        card if row is old_row else card_of(row)
        for card, old_row, row in zip(cards, made, rows, strict=True)
    ]


def _paper_tables(facts: Path | None, *, check: bool) -> int:
    """Write or check the tables of the published Markdown; return how many differ."""
    try:
        made = paper.tables(facts)
    except ResourceError as error:
        _say(f"paper: kept as it is: {error}")
        return 0
    stored = {name: DATA / name for name in made}
    different = [
        name
        for name, text in made.items()
        if not stored[name].is_file() or stored[name].read_text(encoding="utf-8") != text
    ]
    _say(f"paper: {', '.join(different) or 'all tables'} {'differ' if different else 'as before'}")
    for name in () if check else different:
        write_text(stored[name], made[name])
    return len(different)


def finished(cards: Iterable[ModelCard]) -> list[ModelCard]:
    """Check generated cards as if a user had written them, and flag unstated licences.

    The published table's figures of these models become claims first: one model is one card.
    Parameters and multiply-accumulates that a source does not state come from a table of counts.

    Raises:
        UsageError: If a card is not one, or an id is there twice.
    """
    done: dict[str, ModelCard] = {}
    for card in paper.merged(cards):
        flags = set(card.flags)
        if card.weights.licence in (None, UNKNOWN_LICENCE):
            flags.add("licence-unknown")
        counted = with_costs(card)
        whole = replace(counted, flags=tuple(sorted(flags)), aliases=tuple(sorted(card.aliases)))
        checked = parse_card(whole.to_json(), where=card.id)
        if checked.id in done:
            raise UsageError(f"model {card.id!r} was generated twice")
        done[card.id] = checked
    return list(done.values())


def _changes(old: str, new: str) -> list[str]:
    compared = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
    return [line for line in compared if line[:3] not in ("---", "+++") and line[0] in "+-"]


def _in_words(changes: list[str]) -> str:
    if not changes:
        return "as it was"
    shown = [f"\n  {line[:160]}" for line in changes[:SHOWN_CHANGES]]
    return f"{len(changes):,} lines differ{''.join(shown)}"


def _write(provider: str, text: str) -> None:
    """Write a table; one that differs in its compression only is left alone."""
    name, content = table_file(provider, text)
    others = [DATA / f"{provider}{ending}" for ending in ENDINGS]
    if stored_text(provider) == text and (DATA / name).is_file():
        return
    write_atomic(DATA / name, lambda file: file.write(content))
    for path in others:
        if path.name != name:
            path.unlink(missing_ok=True)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
