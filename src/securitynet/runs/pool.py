"""Runs groups of jobs: in this process, or in a pool of worker processes that may die.

A worker that is killed costs the group it was working on one retry; what it had finished is in
the store already. Every message of a worker is a record, a progress report, the end of its group,
or the error that kept it from going on (a full disk). A worker whose driver is gone ends itself.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from securitynet.errors import SecurityNetError
from securitynet.records import Evaluation
from securitynet.runs.plan import Audits, Group
from securitynet.runs.store import Store

Progress = Callable[[float, str], None]
Done = Callable[[Evaluation], None]
MAX_TRIES = 2
PATIENCE_SECONDS = 5
"""How long a worker that was told to end may take to put its files in order."""


def run_groups(
    groups: Sequence[Group], store: Store, *, n_workers: int, progress: Progress, done: Done
) -> None:
    """Run all groups; returns when every job is a record in the store.

    Args:
        groups: One a model; jobs that are finished already are left out by the caller.
        store: Where records go.
        n_workers: Number of worker processes; 1 runs in this process.
        progress: Told the share of all groups that is done and a few words.
        done: Told each record as it appears.

    Raises:
        SecurityNetError: If records cannot be kept or a data set has gone; a job's own failure
            is a record.
    """
    if not groups:
        return  # what follows loads torch
    if n_workers <= 1 or len(groups) <= 1:
        _run_here(groups, store, progress, done)
    else:
        _Pool(groups, store, min(n_workers, len(groups)), progress, done).run()


def _run_here(groups: Sequence[Group], store: Store, progress: Progress, done: Done) -> None:
    from securitynet.runs.work import run_group

    audits = Audits(groups[0].settings.limit)
    for i, group in enumerate(groups):
        audit = audits.of(group.card, group.settings)
        run_group(group, audit, store, _scaled(progress, i, len(groups)), done)


def _scaled(progress: Progress, i: int, n: int) -> Progress:
    return lambda share, what: progress((i + share) / n, what)


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection[Any, Any]
    position: int | None = None


@dataclass
class _Pool:
    groups: Sequence[Group]
    store: Store
    n_workers: int
    progress: Progress
    done: Done
    shares: dict[int, float] = field(default_factory=dict)
    tries: dict[int, int] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)

    def run(self) -> None:
        """Hand out groups until all are done; end every worker on the way out."""
        self.waiting = list(range(len(self.groups)))[::-1]
        self.workers: list[_Worker] = []
        try:
            for _ in range(self.n_workers):
                self._employ()
            while any(worker.position is not None for worker in self.workers):
                ready = set(wait([worker.pipe for worker in self.workers], timeout=1.0))
                for worker in [w for w in self.workers if w.pipe in ready]:
                    self._listen(worker)
        finally:
            for worker in self.workers:
                worker.process.terminate()
            for worker in self.workers:
                worker.process.join(PATIENCE_SECONDS)
                worker.process.kill()  # no more than a formality for one that has ended

    def _employ(self) -> None:
        """Start a worker and give it something to do."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        n_threads = max(1, (os.cpu_count() or 1) // self.n_workers)
        process = context.Process(
            target=_serve, args=(theirs, self.store.folder, n_threads), daemon=True
        )
        with _uninterrupted():
            process.start()
        theirs.close()
        self.workers.append(_Worker(process, ours))
        self._hand_out(self.workers[-1])

    def _hand_out(self, worker: _Worker) -> None:
        worker.position = self.waiting.pop() if self.waiting else None
        if worker.position is not None:
            self.tries[worker.position] = self.tries.get(worker.position, 0) + 1
            with contextlib.suppress(BrokenPipeError):  # it died; listening to it will show
                worker.pipe.send(self._unfinished(worker.position))

    def _unfinished(self, position: int) -> Group:
        """Leave out what a worker that died had finished already."""
        group = self.groups[position]
        return replace(group, jobs=tuple(job for job in group.jobs if job.key not in self.told))

    def _listen(self, worker: _Worker) -> None:
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        if kind == "progress":
            self._report(worker, *content)
        elif kind == "record":
            self._hear(Evaluation.from_json(content))
        elif kind == "error":
            raise content
        else:
            self._report(worker, 1.0, "")
            self._hand_out(worker)

    def _hear(self, record: Evaluation) -> None:
        self.told.add(record.key)
        self.done(record)

    def _report(self, worker: _Worker, share: float, what: str) -> None:
        if worker.position is not None:
            self.shares[worker.position] = share
        self.progress(sum(self.shares.values()) / len(self.groups), what)

    def _bury(self, worker: _Worker) -> None:
        """Replace a dead worker; its group is tried again, or its jobs become failed records."""
        worker.process.join(10)
        position, code = worker.position, worker.process.exitcode
        self.workers.remove(worker)
        if position is not None and self.tries[position] < MAX_TRIES:
            self.waiting.append(position)
        elif position is not None:
            self._fail(position, code)
        if self.waiting:
            self._employ()

    def _fail(self, position: int, code: int | None) -> None:
        group = self._unfinished(position)
        for job in group.jobs:
            error = f"the worker process died {MAX_TRIES} times (exit code {code}), out of memory?"
            flags = ("worker-died", *group.flags)
            record = Evaluation.of(job, "failed", flags=flags, error=error)
            self.store.put(record)
            self._hear(record)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Keep ctrl-C from processes that are started meanwhile; ours is only put off.

    A new process would otherwise meet it with a traceback before it can decide to ignore it.
    """
    resource_tracker.ensure_running()  # starting it later would lift the mask
    heard: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    # The mask is what children inherit; but another thread of ours may still take the signal.
    ours = signal.signal(signal.SIGINT, lambda number, _: heard.append(number)) if main else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if main:
            signal.signal(signal.SIGINT, ours)
        if heard:
            signal.raise_signal(signal.SIGINT)


def _serve(pipe: Connection[Any, Any], folder: Path, n_threads: int) -> None:
    """Work on groups until the driver hangs up. Interrupts are the driver's business."""
    import torch

    signal.signal(signal.SIGTERM, _end)
    torch.set_num_threads(n_threads)
    store = Store(folder)
    audits: dict[int | None, Audits] = {}
    while True:
        try:
            group: Group = pipe.recv()
        except EOFError:
            return
        try:
            _serve_group(group, store, audits, lambda kind, content: _tell(pipe, kind, content))
        except SecurityNetError as error:
            _tell(pipe, "error", error)


def _end(*_: object) -> None:
    """End by an exception, so that a file half written is taken away."""
    raise SystemExit(1)


def _serve_group(
    group: Group, store: Store, audits: dict[int | None, Audits], tell: Callable[[str, Any], None]
) -> None:
    from securitynet.runs.work import run_group

    limit = group.settings.limit
    audit = audits.setdefault(limit, Audits(limit)).of(group.card, group.settings)
    run_group(
        group,
        audit,
        store,
        lambda share, what: tell("progress", (share, what)),
        lambda record: tell("record", record.to_json()),
    )
    tell("end", None)


def _tell(pipe: Connection[Any, Any], kind: str, content: Any) -> None:
    """Send a message; without a driver there is no use in going on, and no failure to record."""
    try:
        pipe.send((kind, content))
    except OSError:
        raise SystemExit(1) from None
