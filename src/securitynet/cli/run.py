"""``securitynet run``: attacks and detectors on models, as one plan that can be resumed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from securitynet.api import store_folder
from securitynet.cli.common import (
    JsonOption,
    QuietOption,
    StoreOption,
    VerboseOption,
    WhereOption,
    bind_threads,
    console,
    line,
    note,
    print_json,
    progress_bar,
    set_verbosity,
)
from securitynet.cli.data_verbs import choose_cards
from securitynet.cli.status import keep_plan
from securitynet.errors import EXIT_FAILED, EXIT_OK, UsageError

if TYPE_CHECKING:
    from securitynet.records import Evaluation
    from securitynet.runs.evaluate import Plan

MAX_SEEDS = 1000
DefenceOption = Annotated[
    str | None,
    typer.Option(
        "--defence",
        help="Answer through a response channel: label, top1, top:K, round:DIGITS, "
        "temperature:T or noise:SCALE.",
    ),
]
MembersOption = Annotated[
    Path | None,
    typer.Option("--members", metavar="FILE", help="Images it was trained on, one a line."),
]
NonmembersOption = Annotated[
    Path | None,
    typer.Option("--nonmembers", metavar="FILE", help="Images it was not trained on."),
]


def run(
    context: typer.Context,
    methods: Annotated[
        str,
        typer.Argument(
            metavar="METHOD[,METHOD]", help="Families, methods, or FILE.py of your own method."
        ),
    ],
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Catalogue ids or card files.")
    ] = None,
    where: WhereOption = None,
    option: Annotated[
        list[str] | None, typer.Option("-o", "--option", help="method.key=value; repeatable.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Data set name or folder [the model's own].")
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="E.g. 0-4 or 0,1,7.")] = "0",
    limit: Annotated[
        int | None, typer.Option("--limit", min=2, help="At most N members and N non-members.")
    ] = None,
    workers: Annotated[int, typer.Option("-j", "--workers", min=1, help="Worker processes.")] = 1,
    force: Annotated[
        bool, typer.Option("--force", help="Overrule the accuracy gate; flags every figure.")
    ] = False,
    trust: Annotated[
        Path | None, typer.Option("--trust", help="Own architecture file that may be executed.")
    ] = None,
    defence: DefenceOption = None,
    members: MembersOption = None,
    nonmembers: NonmembersOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try failed and refused jobs again.")
    ] = False,
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Run attacks and detectors on models; finished jobs are skipped, so repeat to resume."""
    from securitynet.files.folders import cache_folder
    from securitynet.runs.evaluate import Listener, plan
    from securitynet.runs.evaluate import run as run_plan
    from securitynet.runs.plan import Settings, choose_methods
    from securitynet.runs.store import Store

    set_verbosity(quiet, verbose)
    if workers == 1:
        bind_threads()
    settings = Settings(
        data, limit, parse_seeds(seeds), force, trust, cache_folder(), members, nonmembers, defence
    )
    choices = choose_methods([methods], option or [])
    cards = choose_cards(models or [], where or [], everything=False)
    kept = Store(store_folder(store))
    with progress_bar("run", quiet=quiet) as progress:
        planned = plan(choices, cards, settings, kept, is_retrying=retry_failed, progress=progress)
        if not dry_run:
            command = ["securitynet", *context.obj]
            keep_plan(planned, kept.folder, command=command, n_workers=workers)
            listener = Listener(progress=progress)
            records = run_plan(planned, kept, n_workers=workers, listener=listener)
    for text in () if quiet else planned.left_out:
        note(f"left out: {text}")
    if dry_run:
        _print_plan(planned, json)
        return
    _print_records(records, json)
    if not quiet:
        _say_troubles(records, planned)
        n_old = len(planned.finished)
        note(f"{len(records)} records in {kept.folder}, {n_old} of them from earlier runs")
    is_fine = all(record.status in ("ok", "skipped") for record in records)
    raise typer.Exit(EXIT_OK if is_fine else EXIT_FAILED)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parse ``0-4`` or ``0,1,7`` into seeds, each once.

    Raises:
        UsageError: If the text is neither.
    """
    seeds: list[int] = []
    try:
        for part in text.split(","):
            low, dash, high = part.partition("-")
            first, last = int(low), int(high if dash else low)
            seeds += range(first, min(last, first + MAX_SEEDS) + 1)
    except ValueError:
        raise UsageError(f"seeds {text!r} are not numbers", hint="e.g. 0-4 or 0,1,7") from None
    if not seeds or len(seeds) > MAX_SEEDS:
        n_seeds = "no" if not seeds else f"more than {MAX_SEEDS:,}"
        raise UsageError(f"{n_seeds} seeds in {text!r}", hint="e.g. 0-4 or 0,1,7")
    return tuple(dict.fromkeys(seeds))


def _print_plan(planned: Plan, is_json: bool) -> None:
    from securitynet.registry import get_method

    jobs = [job for group in planned.groups for job in group.jobs]
    if is_json:
        print_json([{"key": job.key, **job.to_json()} for job in jobs])
        return
    for job in jobs:
        config = " ".join(f"{name}={value}" for name, value in job.config.items())
        line(f"{job.model}  {job.method}  {config}".rstrip())
    for name in dict.fromkeys(job.method for job in jobs):
        note(f"{name} costs {get_method(name).cost}")
    note(f"{len(jobs)} to run, {len(planned.finished)} finished already")
    for record in planned.problems:
        note(f"{record.model}: {record.error}")


def _print_records(records: Sequence[Evaluation], is_json: bool) -> None:
    if is_json:
        print_json([record.to_json() for record in records])
        return
    from securitynet.reports.tables import print_tables

    print_tables(records, console())


def _say_troubles(records: Sequence[Evaluation], planned: Plan) -> None:
    troubles = [record for record in records if record.status in ("failed", "refused")]
    for text in dict.fromkeys(f"{record.status}: {record.error}" for record in troubles):
        note(f"securitynet: {text}")
    n_old = sum(record.status in ("failed", "refused") for record in planned.finished)
    if n_old:
        note(f"securitynet: {n_old} of them from earlier runs; --retry-failed tries them again")
