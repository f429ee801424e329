"""The page of results: Markdown that names no path and no host of this machine."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch

from pairs import Result

_PATH = re.compile(r"(?<![\w./:])~?(?:/[\w.@+-]+){2,}/?")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one benchmark.

    Attributes:
        name: Its name.
        summary: One line on what is compared.
        settings: Its sizes.
        result: What was measured, ``None`` where nothing was.
        reason: Why not.
    """

    name: str
    summary: str
    settings: Mapping[str, Any]
    result: Result | None = None
    reason: str = ""

    @property
    def is_fine(self) -> bool:
        """Whether it was measured, and ours keeps to its limit."""
        return self.result is not None and self.result.is_within_limit


def render(
    outcomes: Sequence[Outcome], ground: Sequence[str], n_pairs: int, *, is_quick: bool, load: float
) -> str:
    """Return the page.

    Args:
        outcomes: One a benchmark.
        ground: Which models and images were used.
        n_pairs: Timed pairs of each benchmark.
        is_quick: Whether sizes were those of a smoke run.
        load: Load average of the machine before the run.
    """
    facts = [*machine(load), *(("on", words) for words in ground)]
    parts = [
        "# Benchmarks",
        "SecurityNet against the plain way of doing the same, written by `make bench`.",
        *(["**A smoke run with tiny sizes: no figure here means anything.**"] * is_quick),
        table(("what", "value"), facts),
        f"Pairs: {n_pairs}. Both sides run once untimed, then in pairs in one process: ours, the "
        "other, ours, the other, and so on. Seconds are medians; the ratio is that of the "
        "medians, in brackets the least and the largest of a pair. Every pair's answers are "
        "compared, and where ours are worse there is no ratio.",
        *(section(outcome) for outcome in outcomes),
    ]
    return _PATH.sub("(a path)", "\n\n".join(parts)) + "\n"


def section(outcome: Outcome) -> str:
    """Return the part of one benchmark."""
    settings = ", ".join(f"{name} {value}" for name, value in outcome.settings.items())
    head = [f"## {outcome.name}", f"{outcome.summary} Settings: {settings or 'none'}."]
    if outcome.result is None:
        return "\n\n".join([*head, f"**Not measured:** {outcome.reason}"])
    return "\n\n".join([*head, _measured(outcome.result)])


def _measured(result: Result) -> str:
    unit = f"{result.item}s/s"
    rows = [
        (f"ours: {result.ours}", *_times(result.seconds.ours, result.n_items)),
        (f"the other: {result.other}", *_times(result.seconds.other, result.n_items)),
    ]
    n_items = f"{result.n_items:,} {result.item}s"
    return "\n\n".join(
        [
            table((n_items, "s", unit), rows),
            table(("ratio", "quality"), [(ratio(result), result.quality.figures)]),
            *(table(more[0], more[1:]) for more in [result.quality.table] if more),
        ]
    )


def _times(seconds: Sequence[float], n_items: int) -> tuple[str, str]:
    middle = median(seconds)
    return f"{middle:.3g}", f"{n_items / middle:,.0f}"


def ratio(result: Result) -> str:
    """Say the ratio in words: times as fast, or times as long where there is a limit."""
    verdict = "kept" if result.is_within_limit else "**MISSED**"
    if result.limit is None:
        value, low, high = result.seconds.speedup()
        least = "" if result.least is None else f"; at least {result.least:g}: {verdict}"
        return f"**{value:.2f}** ({low:.2f} to {high:.2f}) times as fast{least}"
    value, low, high = result.seconds.overhead()
    limit = f"at most {result.limit:g}: {verdict}"
    return f"**{value:.2f}** ({low:.2f} to {high:.2f}) times as long; {limit}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(c.replace('|', '/') for c in line)} |" for line in lines)


def machine(load: float) -> list[tuple[str, str]]:
    """Return what a reader needs to compare figures: no host name."""
    packages = [f"{name} {version(name)}" for name in ("securitynet", "torch", "numpy")]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    cores = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        ("date", datetime.now(UTC).date().isoformat()),
        ("machine", f"{cores} cores, {cpu_model()}, {memory:.1f} GiB of memory, {gpu}"),
        ("load before", f"{load:.1f} on {cores} cores (one-minute average)"),
        ("software", f"{', '.join(packages)}, Python {platform.python_version()}"),
        ("threads", str(torch.get_num_threads())),
    ]


def cpu_model() -> str:
    """Return the name of the processor."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.M)
    return found[1].strip() if found else platform.machine()
