"""``securitynet run`` and ``securitynet status``."""

from __future__ import annotations

import json as json_module
import shlex
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from securitynet.api import store_folder
from securitynet.cli.common import (
    JsonOption,
    QuietOption,
    StoreOption,
    VerboseOption,
    WhereOption,
    console,
    note,
    print_json,
    progress_bar,
    set_verbosity,
)
from securitynet.cli.data_verbs import choose_cards
from securitynet.errors import EXIT_FAILED, EXIT_OK, IntegrityError, UsageError
from securitynet.files.atomic import write_text
from securitynet.files.folders import cache_folder
from securitynet.records import Evaluation, fingerprint

if TYPE_CHECKING:
    from securitynet.runs.evaluate import Plan


def run(
    methods: Annotated[
        str, typer.Argument(metavar="METHOD[,METHOD]", help="Families or methods to run.")
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
    from securitynet.runs.evaluate import Listener, plan
    from securitynet.runs.evaluate import run as run_plan
    from securitynet.runs.plan import Settings, choose_methods
    from securitynet.runs.store import Store

    set_verbosity(quiet, verbose)
    settings = Settings(data, limit, parse_seeds(seeds), force, trust, cache_folder())
    choices = choose_methods([methods], option or [])
    cards = choose_cards(models or [], where or [], everything=False)
    kept = Store(store_folder(store))
    with progress_bar("run", quiet=quiet) as progress:
        planned = plan(choices, cards, settings, kept, is_retrying=retry_failed, progress=progress)
        if not dry_run:
            _keep_plan(planned, kept.folder)
            listener = Listener(progress=progress)
            records = run_plan(planned, kept, n_workers=workers, listener=listener)
    if dry_run:
        _print_plan(planned, json)
        return
    _print_records(records, kept, json=json, quiet=quiet)
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
            seeds += range(int(low), int(high) + 1) if dash else [int(low)]
    except ValueError:
        raise UsageError(f"seeds {text!r} are not numbers", hint="e.g. 0-4 or 0,1,7") from None
    if not seeds or min(seeds) < 0:
        raise UsageError(f"no seeds in {text!r}", hint="e.g. 0-4 or 0,1,7")
    return tuple(dict.fromkeys(seeds))


def _keep_plan(planned: Plan, folder: Path) -> None:
    """Keep what was asked, so that ``status`` knows what is left."""
    keys = [record.key for record in planned.finished]
    keys += [job.key for group in planned.groups for job in group.jobs]
    if not planned.n_left:
        return
    content = {"command": shlex.join(["securitynet", *sys.argv[1:]]), "keys": sorted(set(keys))}
    path = folder / "plans" / f"{fingerprint(content['keys'])[:16]}.json"
    write_text(path, json_module.dumps(content, indent=1))


def _print_plan(planned: Plan, is_json: bool) -> None:
    jobs = [job for group in planned.groups for job in group.jobs]
    if is_json:
        print_json([{"key": job.key, **job.to_json()} for job in jobs])
        return
    for job in jobs:
        config = " ".join(f"{name}={value}" for name, value in job.config.items())
        console().print(f"{job.model}  {job.method}  {config}", markup=False, soft_wrap=True)
    note(f"{len(jobs)} to run, {len(planned.finished)} finished already")
    for record in planned.problems:
        note(f"{record.model}: {record.error}")


def _print_records(records: Sequence[Evaluation], store: Any, *, json: bool, quiet: bool) -> None:
    if json:
        print_json([record.to_json() for record in records])
    else:
        from securitynet.reports.tables import print_tables

        print_tables(records, console())
    troubles = [record for record in records if record.status in ("failed", "refused")]
    for line in dict.fromkeys(f"{record.status}: {record.error}" for record in troubles):
        note(f"securitynet: {line}")
    if not quiet and not json:
        note(f"{len(records)} records in {store.folder}; `securitynet report --html report.html`")


def status(
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Say what is done, failed, refused and left of this store's runs, and the time left."""
    from securitynet.runs.store import Store

    set_verbosity(quiet, verbose)
    kept = Store(store_folder(store))
    records = {record.key: record for record in kept.records()}
    plans = [_plan_status(path, records) for path in sorted((kept.folder / "plans").glob("*.json"))]
    total = Counter(record.status for record in records.values())
    if json:
        print_json({"records": dict(total), "plans": plans})
        return
    counts = ", ".join(f"{n} {name}" for name, n in sorted(total.items())) or "no records"
    console().print(f"{kept.folder}: {counts}", markup=False, soft_wrap=True)
    for item in plans:
        left = f"{item['left']} left" + _eta(item)
        line = f"{item['done']} of {item['jobs']} done, {left}: {item['command']}"
        console().print(line, markup=False, soft_wrap=True)


def _plan_status(path: Path, records: dict[str, Evaluation]) -> dict[str, Any]:
    try:
        content = json_module.loads(path.read_text(encoding="utf-8"))
        keys, command = list(content["keys"]), str(content["command"])
    except (ValueError, KeyError, TypeError):
        raise IntegrityError("damaged plan", where=path, hint="delete it") from None
    mine = [records[key] for key in keys if key in records]
    counts = Counter(record.status for record in mine)
    seconds = [record.seconds for record in mine if record.seconds is not None]
    left = len(keys) - len(mine)
    return {
        "command": command,
        "jobs": len(keys),
        "done": counts["ok"] + counts["skipped"],
        "failed": counts["failed"],
        "refused": counts["refused"],
        "left": left,
        "eta_seconds": left * statistics.fmean(seconds) if seconds else None,
    }


def _eta(item: dict[str, Any]) -> str:
    is_known = item["left"] and item["eta_seconds"] is not None
    return f", about {item['eta_seconds']:.0f} s" if is_known else ""
