"""``securitynet get`` and ``securitynet scan``: the door, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from securitynet.cli.common import (
    JsonOption,
    QuietOption,
    StoreOption,
    VerboseOption,
    WhereOption,
    line,
    note,
    print_json,
    progress_bar,
    set_verbosity,
)
from securitynet.errors import EXIT_FAILED, EXIT_OK, SecurityNetError, UsageError, unknown_id

if TYPE_CHECKING:
    from securitynet.catalogue.cards import ModelCard
    from securitynet.weights.inspect import ScanReport


def get(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Catalogue ids or card files.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All models (narrow with -w).")] = False,
    where: WhereOption = None,
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Download, verify, inspect and convert checkpoints: the door, ahead of a run."""
    set_verbosity(quiet, verbose)
    cards = choose_cards(models or [], where or [], everything=everything)
    rows: list[dict[str, Any]] = []
    errors: list[SecurityNetError] = []
    with progress_bar("get", quiet=quiet) as progress:
        for i, card in enumerate(cards):
            progress(i / len(cards), card.id)
            row, error = _get_one(card)
            rows.append(row)
            errors += [error] if error else []
    if json:
        print_json(rows)
    for row in [] if json else rows:
        outcome = row["error"] or f"{row['sha256'][:16]}  {row['path']}"
        line(f"{row['status']:<10} {row['id']}  {outcome}")
    if errors:
        code = errors[0].exit_code if len(errors) == len(cards) else EXIT_FAILED
        raise typer.Exit(code)


def _get_one(card: ModelCard) -> tuple[dict[str, Any], SecurityNetError | None]:
    from securitynet.targets.left_out import why_not
    from securitynet.weights.door import open_checkpoint
    from securitynet.weights.verified import verified_by

    row: dict[str, Any] = {"id": card.id, "status": "refused", "verified_by": None, "error": None}
    try:
        reason = why_not(card)
        if reason is not None:
            raise UsageError(f"cannot be loaded: {reason}", where=card.id)
        opened = open_checkpoint(card.weights, folder=card.folder, where=card.id)
    except SecurityNetError as error:
        return {**row, "path": None, "sha256": None, "error": str(error)}, error
    by = verified_by(card.weights, where=card.id)
    row |= {"status": "verified" if by else "unverified", "verified_by": by}
    return {**row, "path": str(opened.path), "sha256": opened.sha256}, None


def choose_cards(names: list[str], filters: list[str], *, everything: bool) -> list[ModelCard]:
    """Resolve model names and ``-w`` filters into cards, each once.

    Args:
        names: Catalogue ids or card files; none = the whole catalogue.
        filters: ``FIELD=VALUE`` conditions on the cards.
        everything: Allow the whole catalogue without a filter.

    Raises:
        UsageError: If a name is unknown or nothing was chosen.
    """
    from securitynet.catalogue.database import find_card, select
    from securitynet.catalogue.pins import known_rows
    from securitynet.catalogue.tables import expand

    if not (names or filters or everything):
        raise UsageError("no model given", hint="name one, or choose with -w FIELD=VALUE")
    named = {(card.folder, card.id): card for card in map(find_card, names)}
    offered = [expand(card.to_json()) for card in named.values()] if names else known_rows()
    wanted = dict.fromkeys(row["id"] for row in select(offered, filters))
    if not wanted:
        raise UsageError(f"no model matches {' '.join(filters)}", hint="see `securitynet list`")
    if not names:
        return [find_card(model) for model in wanted]
    return [card for card in named.values() if card.id in wanted]


SarifOption = Annotated[
    str | None,
    typer.Option("--sarif", metavar="FILE|-", help="Write SARIF 2.1.0 for code scanning; - = "
                 "stdout."),
]  # fmt: skip


def scan(
    files: Annotated[
        list[str],
        typer.Argument(metavar="PATH|MODEL...", help="Checkpoint files, folders or models."),
    ],
    json: JsonOption = False,
    sarif: SarifOption = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Say whether checkpoint files are safe to open, with the evidence. Executes nothing."""
    set_verbosity(quiet, verbose)
    if json and sarif == "-":
        raise UsageError("--json and --sarif - both write to stdout", hint="give one a file")
    reports: list[ScanReport] = []
    with progress_bar("scan", quiet=quiet) as progress:
        for i, name in enumerate(files):
            progress(i / len(files), name)
            reports += _reports(name)
    if json:
        print_json([report.to_json() for report in reports])
    elif sarif != "-":
        for report in reports:
            _print_report(report)
    if sarif is not None:
        _write_sarif(reports, sarif)
    is_safe = all(report.verdict == "SAFE" for report in reports)
    if not is_safe and not quiet:
        note("do not open what is not SAFE with torch.load, pickle or its own loader")
    raise typer.Exit(EXIT_OK if is_safe else EXIT_FAILED)


def _reports(name: str) -> list[ScanReport]:
    from securitynet.weights.inspect import scan as inspect
    from securitynet.weights.inspect import scan_folder

    path = Path(name)
    if path.is_dir() and not (path / "card.json").is_file():
        return scan_folder(path)
    return [inspect(_checkpoint(name))]


def _print_report(report: ScanReport) -> None:
    facts = [report.format or "unknown format", f"{report.bytes:,} bytes"]
    if report.tensors is not None and report.tensors.count:
        dtypes = " ".join(report.tensors.dtypes)
        facts.append(f"{report.tensors.count:,} tensors of {report.tensors.elements:,} {dtypes}")
    facts.append(f"sha256 {(report.sha256 or 'none')[:16]}")
    line(f"{report.verdict:<9} {report.path}  ({', '.join(facts)})")
    for finding in report.findings:
        line(f"          {finding}")


def _write_sarif(reports: list[ScanReport], destination: str) -> None:
    import json

    from securitynet import __version__
    from securitynet.cli.sarif import to_sarif
    from securitynet.files.atomic import write_text

    document = to_sarif(reports, version=__version__)
    if destination == "-":
        print_json(document)
    else:
        write_text(Path(destination), json.dumps(document, indent=1) + "\n")


def _checkpoint(name: str) -> Path:
    """Return the file of a path, or of a model whose bytes are at hand."""
    path = Path(name)
    if path.is_file() and not (path.suffix == ".json" and _is_card(path)):
        return path
    from securitynet.catalogue.database import find_card, known_ids
    from securitynet.weights.door import locate

    known = known_ids()
    if not path.exists() and name not in known:
        raise unknown_id("file or model", name, known, listing="securitynet list models")
    card = find_card(name)
    return locate(card.weights, folder=card.folder, where=card.id)


def _is_card(path: Path) -> bool:
    """Whether a JSON file means to be a model card, not a configuration."""
    import json

    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and not record.keys().isdisjoint({"weights", "num_classes"})
