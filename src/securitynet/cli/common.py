"""What every verb shares: options, the two output streams, progress."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON data only on stdout.")]
StoreOption = Annotated[
    Path | None,
    typer.Option("--store", help="Folder of results [SECURITYNET_STORE or ./securitynet-results]."),
]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Print results only.")]
VerboseOption = Annotated[
    int, typer.Option("-v", "--verbose", count=True, help="More detail; -vv adds tracebacks.")
]
WhereOption = Annotated[
    list[str] | None, typer.Option("-w", "--where", help="Keep rows with FIELD=VALUE; repeatable.")
]

Progress = Callable[[float, str], None]
PLAIN_INTERVAL_SECONDS = 10.0


def set_verbosity(quiet: bool, verbose: int) -> None:
    """Set what is logged on stderr."""
    level = logging.ERROR if quiet else max(logging.DEBUG, logging.WARNING - 10 * verbose)
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr, force=True)
    for noisy in ("matplotlib", "PIL", "urllib3", "fontTools", "torch", "filelock"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def console() -> Console:
    """Return the console for people, on stdout."""
    return Console(highlight=False)


def note(text: str) -> None:
    """Print one line for people on stderr."""
    sys.stderr.write(text + "\n")


@contextmanager
def progress_bar(title: str, *, quiet: bool = False) -> Iterator[Progress]:
    """Show progress on stderr: a bar on a terminal, else a line now and then.

    Yields:
        ``report(share, what)``.
    """
    if quiet:
        yield lambda share, what: None
    elif sys.stderr.isatty():
        with _rich_bar(title) as report:
            yield report
    else:
        yield PlainProgress(title)


@contextmanager
def _rich_bar(title: str) -> Iterator[Progress]:
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.percentage:>3.0f}%"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0)

        def report(share: float, what: str) -> None:
            bar.update(task, completed=share, description=what or title)

        yield report


@dataclass
class PlainProgress:
    """Progress as plain lines, at most one every ten seconds.

    Attributes:
        title: Printed where there is nothing more precise to say.
    """

    title: str
    last: float = field(default_factory=time.monotonic)

    def __call__(self, share: float, what: str) -> None:
        """Print a line if the last one is old enough."""
        if time.monotonic() - self.last >= PLAIN_INTERVAL_SECONDS:
            self.last = time.monotonic()
            note(f"{share:4.0%} {what or self.title}")
