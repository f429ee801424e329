"""``securitynet status``: what of this store's runs is done and what is left."""

from __future__ import annotations

import json as json_module
import shlex
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from securitynet.api import store_folder
from securitynet.cli.common import (
    JsonOption,
    QuietOption,
    StoreOption,
    VerboseOption,
    line,
    note,
    print_json,
    set_verbosity,
)
from securitynet.errors import IntegrityError

if TYPE_CHECKING:
    from securitynet.records import Evaluation, Status
    from securitynet.runs.evaluate import Plan

TROUBLES = ("failed", "refused")


def keep_plan(planned: Plan, folder: Path, *, command: Sequence[str], n_workers: int) -> None:
    """Keep what was asked, so that ``status`` knows what is left.

    Args:
        planned: What is finished and what is left; with nothing left, only an older plan of the
            same command is replaced.
        folder: The store's folder.
        command: The words of the command that continues.
        n_workers: Number of worker processes, for the time left.

    Raises:
        ResourceError: If the store cannot be written.
    """
    from securitynet.files.atomic import write_text
    from securitynet.records import fingerprint

    path = folder / "plans" / f"{fingerprint(list(command))[:16]}.json"
    if not planned.n_left and not path.exists():
        return
    jobs = {record.key: record.method for record in planned.finished}
    jobs |= {job.key: job.method for group in planned.groups for job in group.jobs}
    content = {"command": shlex.join(command), "workers": n_workers, "jobs": jobs}
    write_text(path, json_module.dumps(content, indent=1))


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
    plans = [_progress(path, records) for path in sorted((kept.folder / "plans").glob("*.json"))]
    total = Counter(record.status for record in records.values())
    if json:
        print_json({"records": dict(total), "plans": plans})
    elif not records and not plans:
        line(f"{kept.folder}: no results yet; start with `securitynet run` or `securitynet demo`")
    else:
        _print(kept.folder, total, plans)


def _progress(path: Path, records: Mapping[str, Evaluation]) -> dict[str, Any]:
    try:
        content = json_module.loads(path.read_text(encoding="utf-8"))
        jobs, workers = dict(content["jobs"]), max(1, int(content["workers"]))
        command = str(content["command"])
    except (ValueError, KeyError, TypeError):
        raise IntegrityError("damaged plan", where=path, hint="delete it") from None
    left = [method for key, method in jobs.items() if key not in records]
    counts = Counter(records[key].status for key in jobs if key in records)
    seconds = _seconds_left(left, records.values())
    return {
        "command": command,
        "jobs": len(jobs),
        "done": counts["ok"] + counts["skipped"],
        "failed": counts["failed"],
        "refused": counts["refused"],
        "left": len(left),
        "eta_seconds": None if seconds is None else seconds / workers,
    }


def _seconds_left(methods: Sequence[str], records: Any) -> float | None:
    """Expect of each job what its method took before, in this store; else what any job took."""
    known: dict[str, list[float]] = defaultdict(list)
    for record in records:
        if record.seconds is not None and record.status == "ok":
            known[record.method].append(record.seconds)
    if not known:
        return None if methods else 0.0
    means = {method: statistics.fmean(seconds) for method, seconds in known.items()}
    return sum(means.get(method, statistics.fmean(means.values())) for method in methods)


def _print(folder: Path, total: Mapping[Status, int], plans: Sequence[Mapping[str, Any]]) -> None:
    counts = ", ".join(f"{n:,} {name}" for name, n in sorted(total.items())) or "no results"
    line(f"{folder}: {counts}")
    for item in plans:
        parts = [f"{item[name]:,} {name}" for name in TROUBLES if item[name]]
        parts += [f"{item['left']:,} left{_eta(item['eta_seconds'])}"] if item["left"] else []
        state = ", ".join([f"{item['done']:,} of {item['jobs']:,} done", *parts])
        line("")
        line(f"{state}{'; continue with' if item['left'] else ''}")
        line(f"  {item['command']}")
    if any(item[name] for item in plans for name in TROUBLES):
        note("\nfailed and refused jobs are tried again with --retry-failed")


def _eta(seconds: float | None) -> str:
    if seconds is None:
        return ""
    size = next(((n, unit) for n, unit in ((3600, "h"), (60, "min")) if seconds >= 2 * n), None)
    return f", about {seconds / size[0]:.0f} {size[1]}" if size else f", about {seconds:.0f} s"
