"""Runs groups of jobs: in this process, or in a pool of worker processes that may die.

A worker that is killed costs the group it was working on one retry; what it had finished is in
the store already. Every message of a worker is a record or a progress report.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from securitynet.records import Evaluation
from securitynet.runs.plan import Audits, Group
from securitynet.runs.store import Store

Progress = Callable[[float, str], None]
Done = Callable[[Evaluation], None]
MAX_TRIES = 2


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
    """
    if n_workers <= 1 or len(groups) <= 1:
        _run_here(groups, store, progress, done)
    else:
        _Pool(groups, store, min(n_workers, len(groups)), progress, done).run()


def _run_here(groups: Sequence[Group], store: Store, progress: Progress, done: Done) -> None:
    from securitynet.runs.work import run_group

    audits = Audits(groups[0].settings.limit) if groups else None
    for i, group in enumerate(groups):
        if audits is not None:
            audit, _ = audits(group.dataset)
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

    def run(self) -> None:
        """Hand out groups until all are done; end every worker on the way out."""
        self.waiting = list(range(len(self.groups)))[::-1]
        self.workers = [self._start() for _ in range(self.n_workers)]
        try:
            for worker in self.workers:
                self._hand_out(worker)
            while any(worker.position is not None for worker in self.workers):
                ready = set(wait([worker.pipe for worker in self.workers], timeout=1.0))
                for worker in [w for w in self.workers if w.pipe in ready]:
                    self._listen(worker)
        finally:
            for worker in self.workers:
                worker.process.terminate()
            for worker in self.workers:
                worker.process.join(10)

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        n_threads = max(1, (os.cpu_count() or 1) // self.n_workers)
        process = context.Process(
            target=_serve, args=(theirs, self.store.folder, n_threads), daemon=True
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _hand_out(self, worker: _Worker) -> None:
        worker.position = self.waiting.pop() if self.waiting else None
        if worker.position is not None:
            self.tries[worker.position] = self.tries.get(worker.position, 0) + 1
            worker.pipe.send(self._unfinished(worker.position))

    def _unfinished(self, position: int) -> Group:
        """Leave out what a worker that died had finished already."""
        group = self.groups[position]
        if self.tries[position] == 1:
            return group
        jobs = tuple(job for job in group.jobs if self.store.get(job.key) is None)
        return replace(group, jobs=jobs)

    def _listen(self, worker: _Worker) -> None:
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        if kind == "progress":
            self._report(worker, *content)
        elif kind == "record":
            self.done(Evaluation.from_json(content))
        else:
            self._report(worker, 1.0, "")
            self._hand_out(worker)

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
            self.workers.append(self._start())
            self._hand_out(self.workers[-1])

    def _fail(self, position: int, code: int | None) -> None:
        for job in self._unfinished(position).jobs:
            error = f"the worker process died {MAX_TRIES} times (exit code {code}), out of memory?"
            record = Evaluation.of(job, "failed", flags=("worker-died",), error=error)
            self.store.put(record)
            self.done(record)


def _serve(pipe: Connection[Any, Any], folder: Path, n_threads: int) -> None:
    """Work on groups until the driver hangs up. Interrupts are the driver's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    from securitynet.runs.work import run_group

    torch.set_num_threads(n_threads)
    store = Store(folder)
    audits: dict[int | None, Audits] = {}
    while True:
        try:
            group: Group = pipe.recv()
        except EOFError:
            return
        limit = group.settings.limit
        audit, _ = audits.setdefault(limit, Audits(limit))(group.dataset)
        run_group(
            group,
            audit,
            store,
            lambda share, what: pipe.send(("progress", (share, what))),
            lambda record: pipe.send(("record", record.to_json())),
        )
        pipe.send(("end", None))
