"""``securitynet add``: draft a model's card, check one to be contributed, begin a method."""

from __future__ import annotations

import json as json_module
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from securitynet.cli.common import (
    JsonOption,
    QuietOption,
    StoreOption,
    VerboseOption,
    line,
    note,
    print_facts,
    print_json,
    progress_bar,
    set_verbosity,
)
from securitynet.errors import EXIT_USAGE, UsageError


class Kind(StrEnum):
    """What can be added."""

    model = "model"
    method = "method"


def add(
    what: Annotated[Kind, typer.Argument(help="What to add.")],
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="model: a checkpoint, or a card to be checked. method: its name, e.g. mia.margin.",
        ),
    ],
    url: Annotated[
        str | None,
        typer.Option("--url", help="Address of the same file: drafts a card to contribute."),
    ] = None,
    links: Annotated[
        bool, typer.Option("--links", help="Of a card: ask each of its addresses, too.")
    ] = False,
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Draft a card from a checkpoint, check a card to contribute, or begin a method of your own.

    Executes nothing in a checkpoint; the draft is card.json beside it, or NAME.json with --url. A
    method begins as NAME.py and test_NAME.py here: `securitynet run NAME.py MODEL` runs it.
    """
    set_verbosity(quiet, verbose)
    if what is Kind.method:
        _begin(source, json=json, quiet=quiet)
        return
    file = Path(source)
    if not file.is_file():
        raise UsageError("no checkpoint there", where=file, hint="give the file of the weights")
    if file.suffix == ".json":
        _check(file, links=links, json=json, quiet=quiet)
        return
    from securitynet.files.atomic import write_atomic
    from securitynet.files.download import check_url

    if url is not None:
        check_url(url)
    with progress_bar("reading", quiet=quiet) as progress:
        progress(0.1, f"reading {file.name}")
        from securitynet.targets.drafts import contribution, draft_card

        draft = draft_card(file)
    draft = draft if url is None else contribution(draft, url)
    path = file.parent / ("card.json" if url is None else f"{draft.card['name']}.json")
    text = json_module.dumps(draft.card, indent=1, ensure_ascii=False) + "\n"
    is_written = write_atomic(path, lambda f: f.write(text.encode()), keep_existing=True)
    if json:
        print_json({
            "path": str(path), "is_written": is_written, "card": draft.card,
            "architectures": list(draft.architectures), "n_tensors": draft.n_tensors,
            "advice": list(draft.advice),
        })  # fmt: skip
    else:
        print_facts(_facts(draft.card, draft.n_tensors))
    if not quiet:
        left = "\n".join(f"  {line}" for line in draft.advice)
        note(f"\nfill in before it is run (docs/cards.md):\n{left}")
        note(f"wrote {path}" if is_written else f"{path} is there already and was left as it is")


def _begin(name: str, *, json: bool, quiet: bool) -> None:
    """Write a method that runs as it is, and its test, into the current folder."""
    from securitynet.cli.skeletons import skeleton
    from securitynet.files.atomic import write_text

    files = {Path(path): text for path, text in skeleton(name).items()}
    there = [str(path) for path in files if path.exists()]
    if there:
        raise UsageError(
            f"{', '.join(there)} is there already", hint="choose another name or folder"
        )
    for path, text in files.items():
        write_text(path, text)
    if json:
        print_json({"method": name, "paths": [str(path) for path in files]})
    if not quiet:
        method, test = files
        note(f"wrote {method} and {test}; docs/adding-a-method.md says what to know")
        note(f"  securitynet run {method} MODEL      run it")
        note(f"  python -m pytest {test}      test it")


def _check(file: Path, *, links: bool, json: bool, quiet: bool) -> None:
    """Say why a card cannot be contributed, a line each; exit 2 if there is a reason."""
    from securitynet.catalogue.contributed import problems

    with progress_bar("checking", quiet=quiet):
        found = problems(file, with_links=links)
    if json:
        print_json({"path": str(file), "problems": found})
    for problem in [] if json else found:
        line(problem)
    if found:
        if not quiet:
            note("correct these and check again; docs/cards.md says what a contributed card holds")
        raise typer.Exit(EXIT_USAGE)
    if not quiet:
        note(f"nothing to object: put {file.name} into src/securitynet/catalogue/data/community/")


def _facts(card: dict[str, Any], n_tensors: int) -> list[tuple[str, str]]:
    weights, spec = card["weights"], card["input"]
    place = f", state dict at {weights['state_key']}" if weights["state_key"] else ""
    params, file = card["params"], weights.get("path") or weights["url"]
    return [
        ("file", f"{file}, {weights['format']}, {weights['bytes']:,} bytes{place}"),
        ("sha256", str(weights["checksum"])),
        ("tensors", f"{n_tensors:,}"),
        ("architecture", str(card["architecture"] or "unknown")),
        ("parameters", f"{params:,}" if isinstance(params, int) else "unknown"),
        ("classes", str(card["num_classes"] or "unknown")),
        ("channels", str(spec["channels"] or "unknown")),
    ]
