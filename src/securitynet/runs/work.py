"""The work on one group of jobs: load the target, check it, run each method, judge its evidence."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from securitynet.datasets.images import Audit
from securitynet.errors import RefusedError, SecurityNetError
from securitynet.models.build import load_target
from securitynet.models.context import Context
from securitynet.models.preflight import Gate, accuracy_gate, problems
from securitynet.models.target import Target
from securitynet.records import Evaluation, Job
from securitynet.registry import get_method
from securitynet.runs.grading import grade
from securitynet.runs.plan import Group
from securitynet.runs.store import Store
from securitynet.training.backdoors import Trigger

Progress = Callable[[float, str], None]
PARITY_SAMPLE = 128


@dataclass(frozen=True)
class Bench:
    """A loaded target with its data, ready for jobs."""

    target: Target
    audit: Audit
    gate: Gate


def run_group(
    group: Group, audit: Audit, store: Store, progress: Progress, done: Callable[[Evaluation], None]
) -> None:
    """Run all jobs of a group; every job ends as a record in the store, whatever happens.

    Args:
        group: The jobs of one model.
        audit: The data of the evaluation.
        store: Where records go.
        progress: Told the share of the group that is done and a few words.
        done: Told each record.
    """
    n_jobs = len(group.jobs)
    begin = time.perf_counter()
    try:
        progress(0.0, f"{group.card.id}: opening and checking")
        bench = _prepare(group, audit)
    except Exception as error:  # the worker boundary: a job's failure is a record
        for job in group.jobs:
            _keep(_failure(job, error, time.perf_counter() - begin), {}, store, done)
        return
    for i, job in enumerate(group.jobs):
        part = _part(progress, i, n_jobs, f"{group.card.id}: {job.method}")
        part(0.0, "")
        begin = time.perf_counter()
        try:
            record, arrays = _evaluate(job, bench, group, part)
        except Exception as error:  # as above
            record, arrays = _failure(job, error, time.perf_counter() - begin), {}
        _keep(record, arrays, store, done)


def _part(progress: Progress, i: int, n: int, title: str) -> Progress:
    def report(share: float, what: str) -> None:
        progress((i + share) / n, f"{title} {what}".strip())

    return report


def _keep(
    record: Evaluation, arrays: dict[str, Any], store: Store, done: Callable[[Evaluation], None]
) -> None:
    store.put(record, arrays)
    done(store.get(record.key) or record)


def _prepare(group: Group, audit: Audit) -> Bench:
    cache = group.settings.cache
    target = load_target(
        group.card, trust=group.settings.trust, cache=None if cache is None else cache / "outputs"
    )
    found = problems(target, audit.test)
    if found:
        raise RefusedError("; ".join(found), where=group.card.id, flags=["preflight"])
    _check_parity(target, audit)
    if any(job.method.startswith("mia.") for job in group.jobs):
        target.logits(audit.data.audit)  # one pass serves the gate and every score attack
    gate = accuracy_gate(target, audit)
    if gate.refusal and not group.settings.is_forced:
        raise RefusedError(
            gate.refusal,
            where=group.card.id,
            hint="--force evaluates it all the same and flags every figure",
            flags=gate.flags,
        )
    return Bench(target, audit, gate)


def _check_parity(target: Target, audit: Audit) -> None:
    members = audit.data.audit.take(np.flatnonzero(audit.is_member)[:PARITY_SAMPLE])
    outsiders = audit.data.audit.take(np.flatnonzero(~audit.is_member)[:PARITY_SAMPLE])
    target.check_parity(members, outsiders)


def _evaluate(
    job: Job, bench: Bench, group: Group, progress: Progress
) -> tuple[Evaluation, dict[str, Any]]:
    method = get_method(job.method)
    target = bench.target.limited(method.access)
    context = Context(
        seed=job.seed,
        device=target.device,
        cache=group.settings.cache,
        progress=progress,
        trigger=_trigger(group),
    )
    begin = time.perf_counter()
    evidence = method.configure(**job.config)(target, bench.audit.data, context)
    is_membership = method.family == "mia"
    labels = bench.target.labels(bench.audit.data.audit) if is_membership else None
    graded = grade(evidence, bench.audit, labels)
    flags = dict.fromkeys((*graded.flags, *bench.gate.flags, *_engine_flags(bench.target)))
    record = Evaluation.of(
        job,
        "ok",
        measures=graded.measures,
        nulls=graded.nulls,
        flags=tuple(flags),
        queries=target.queries,
        seconds=round(time.perf_counter() - begin, 3),
        environment=environment(bench.target),
        details={**graded.details, "gate": dataclasses.asdict(bench.gate)},
    )
    return record, dict(graded.arrays)


def _trigger(group: Group) -> Trigger | None:
    backdoor = (group.card.training or {}).get("backdoor")
    return None if backdoor is None else Trigger.from_json(backdoor["trigger"])


def _engine_flags(target: Target) -> tuple[str, ...]:
    return ("fp32-fallback",) if target.precision == "fp32-plain" else ()


def _failure(job: Job, error: Exception, seconds: float) -> Evaluation:
    is_refusal = isinstance(error, RefusedError)
    is_known = isinstance(error, SecurityNetError)
    line = str(error) if is_known else f"{type(error).__name__}: {error}"
    return Evaluation.of(
        job,
        "refused" if is_refusal else "failed",
        flags=error.flags if isinstance(error, SecurityNetError) else (),
        seconds=round(seconds, 3),
        error=" ".join(line.split()),
        environment=environment(None),
    )


def environment(target: Target | None) -> dict[str, Any]:
    """Return versions, device, precision and threads, as recorded with every figure."""
    facts: dict[str, Any] = {**_versions(), "threads": torch.get_num_threads()}
    if target is not None:
        facts |= {"device": target.device.type, "precision": target.precision}
    return facts


@cache
def _versions() -> dict[str, str]:
    packages = ("securitynet", "torch", "numpy")
    return {name: version(name) for name in packages} | {"python": platform.python_version()}
