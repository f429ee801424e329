"""What every verb shares: options, the two output streams, progress."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
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
PATIENCE_SECONDS = 1.0
PLAIN_INTERVAL_SECONDS = 10.0


def set_verbosity(quiet: bool, verbose: int) -> None:
    """Set what is logged on stderr."""
    level = logging.ERROR if quiet else max(logging.DEBUG, logging.WARNING - 10 * verbose)
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr, force=True)
    for noisy in ("matplotlib", "PIL", "urllib3", "fontTools", "torch", "filelock"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))


def bind_threads() -> None:
    """Give every thread of torch, which must not be imported yet, a core of its own.

    Two that share a core wait for each other: on a busy machine that is 2 to 20 times slower. Not
    where somebody set the number of threads, or before worker processes start: all of those
    would sit on the first core.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ.setdefault("OMP_PROC_BIND", "true")


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def line(text: str) -> None:
    """Print one line of results on stdout, without characters that act on a terminal."""
    if not (text.isascii() and text.isprintable()):
        from securitynet.reports.wording import plain

        text = plain(text)
    sys.stdout.write(text + "\n")


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print names and what there is to say of them on stdout, folded to the terminal's width."""
    from securitynet.cli.columns import folded, heading, room
    from securitynet.reports.wording import plain

    known = [(plain(name), plain(text)) for name, text in facts]
    indent = max(len(name) for name, _ in known) + 2
    for name, text in known:
        head = heading(name) + " " * (indent - len(name))
        sys.stdout.write(head + folded(text, indent, room()) + "\n")


def console() -> Console:
    """Return the console for people, on stdout."""
    from rich.console import Console

    return Console(highlight=False)


def note(text: str) -> None:
    """Print lines for people on stderr; if nobody listens any more, work goes on."""
    from securitynet.reports.wording import plain

    with contextlib.suppress(BrokenPipeError):
        sys.stderr.write("\n".join(map(plain, text.split("\n"))) + "\n")


@contextlib.contextmanager
def progress_bar(title: str, *, quiet: bool = False) -> Iterator[Progress]:
    """Show progress on stderr: on a terminal a bar after a second, else a line now and then.

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


@contextlib.contextmanager
def _rich_bar(title: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    from securitynet.reports.wording import plain

    whole = Column(no_wrap=True, min_width=7)  # what gives way is the text
    columns = (
        TextColumn("{task.percentage:>3.0f}%", table_column=Column(no_wrap=True, min_width=4)),
        BarColumn(bar_width=16, table_column=Column(min_width=16)),
        TimeElapsedColumn(table_column=whole),
        TextColumn("eta", table_column=Column(no_wrap=True, min_width=3)),
        TimeRemainingColumn(table_column=whole),
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        ),
    )
    bar = Progress(*columns, console=Console(stderr=True), transient=True, expand=True)
    task = bar.add_task(title, total=1.0)
    clock = threading.Timer(PATIENCE_SECONDS, bar.start)  # what is done by then needs no bar
    clock.start()

    def report(share: float, what: str) -> None:
        bar.update(task, completed=share, description=plain(what or title))

    try:
        yield report
    finally:
        clock.cancel()
        clock.join()
        bar.stop()


@dataclass
class PlainProgress:
    """Progress as plain lines, at most one every ten seconds.

    Attributes:
        title: Printed where there is nothing more precise to say.
    """

    title: str
    last: float = field(default_factory=lambda: time.monotonic())

    def __call__(self, share: float, what: str) -> None:
        """Print a line if the last one is old enough."""
        if time.monotonic() - self.last >= PLAIN_INTERVAL_SECONDS:
            self.last = time.monotonic()
            note(f"{share:4.0%} {what or self.title}")
