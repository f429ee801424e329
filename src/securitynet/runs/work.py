"""The work on one group of jobs: load the target, check it, run each method, judge its evidence.

Every job ends as a record, and every record carries the notes of the data set among its flags.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from securitynet.datasets.images import Audit
from securitynet.defences.channels import parse_defence
from securitynet.errors import AccessError, RefusedError, SecurityNetError
from securitynet.records import Evaluation, Job
from securitynet.registry import Access, Method, get_method
from securitynet.runs.adversary import reference_identity, references_of, run_known
from securitynet.runs.grading import grade
from securitynet.runs.plan import Group, part_of
from securitynet.runs.queries import with_pool
from securitynet.runs.store import Store
from securitynet.targets.build import load_target
from securitynet.targets.context import Context
from securitynet.targets.preflight import Gate, Problem, accuracy_gate, problems
from securitynet.targets.references import References
from securitynet.targets.target import Target
from securitynet.targets.threads import threads_for
from securitynet.training.backdoors import Trigger

Progress = Callable[[float, str], None]
PARITY_SAMPLE = 128


@dataclass(frozen=True)
class Bench:
    """A loaded target with its data, ready for jobs.

    Attributes:
        target: The model.
        audit: The data of the evaluation.
        gate: Outcome of the accuracy gate.
        notes: What pre-flight found and is not fatal.
        references: Those that jobs asked for so far, by identity.
    """

    target: Target
    audit: Audit
    gate: Gate
    notes: tuple[Problem, ...] = ()
    references: dict[str, References] = field(default_factory=dict)

    @property
    def flags(self) -> list[str]:
        """Reasons to read every figure of this target with care."""
        parity = self.target.parity
        fallback = ["fp32-fallback"] if parity is not None and parity.is_fallback else []
        return [*self.gate.flags, *(note.flag for note in self.notes), *fallback]

    @property
    def details(self) -> dict[str, Any]:
        """Evidence for every record of this target, JSON values."""
        parity = self.target.parity
        return {
            "gate": asdict(self.gate),
            "parity": None if parity is None else asdict(parity),
            "preflight": [note.line for note in self.notes],
        }


def run_group(
    group: Group, audit: Audit, store: Store, progress: Progress, done: Callable[[Evaluation], None]
) -> None:
    """Run all jobs of a group; every job ends as a record in the store.

    Args:
        group: The jobs of one model.
        audit: The data of the evaluation.
        store: Where records go.
        progress: Told the share of the group that is done, never less than before, and a few
            words.
        done: Told each record.

    Raises:
        ResourceError: If the store cannot be written; earlier records stay intact.
    """
    part = part_of(group.card, audit)
    flags = (*group.flags, *([] if part is None else [part.flag]))
    audit = replace(audit, notes=(*audit.notes, *flags))
    with threads_for(*audit.data.audit.shape[:-1]):
        _run_jobs(group, audit, store, _rising(progress), done)


def _run_jobs(
    group: Group, audit: Audit, store: Store, progress: Progress, done: Callable[[Evaluation], None]
) -> None:
    n_parts = len(group.jobs) + 1
    begin = time.perf_counter()
    try:
        bench = _prepare(group, audit, _part(progress, 0, n_parts, f"{group.card.id}: opening"))
    except Exception as error:  # the worker boundary: a job's failure is a record
        for job in group.jobs:
            done(_kept(_failure(job, error, begin), {}, store, audit))
        progress(1.0, f"{group.card.id}: not evaluated")
        return
    for i, job in enumerate(group.jobs, 1):
        part = _part(progress, i, n_parts, f"{group.card.id}: {job.method}")
        part(0.0, "")
        begin = time.perf_counter()
        try:
            kept = _kept(*_evaluate(job, bench, group, part), store, audit)
        except Exception as error:  # as above; a store that cannot be written ends the run here
            kept = _kept(_failure(job, error, begin, bench.target), {}, store, audit)
        done(kept)
    progress(1.0, f"{group.card.id}: done")


def _rising(progress: Progress) -> Progress:
    """Never report less than before, whatever a method reports."""
    highest = 0.0

    def report(share: float, what: str) -> None:
        nonlocal highest
        highest = max(highest, share)
        progress(highest, what)

    return report


def _part(progress: Progress, i: int, n: int, title: str) -> Progress:
    def report(share: float, what: str) -> None:
        progress((i + min(max(share, 0.0), 1.0)) / n, f"{title} {what}".strip())

    return report


def _kept(record: Evaluation, arrays: dict[str, Any], store: Store, audit: Audit) -> Evaluation:
    """Put a record with the notes of its data among the flags; return what the store holds."""
    flags = tuple(dict.fromkeys((*record.flags, *audit.notes)))
    store.put(replace(record, flags=flags), arrays)
    return store.get(record.key) or record


def _prepare(group: Group, audit: Audit, progress: Progress) -> Bench:
    cache = group.settings.cache
    progress(0.0, "")
    target = load_target(
        group.card,
        trust=group.settings.trust,
        cache=None if cache is None else cache / "outputs",
        part=part_of(group.card, audit),
    )
    notes = _fly(target, audit)
    _check_parity(target, audit)
    target.progress = lambda share: progress(share, "asking the model")
    if any(job.method.startswith("mia.") for job in group.jobs):
        target.logits(audit.data.audit)  # one pass serves the gate and every score attack
    gate = accuracy_gate(target, audit)
    if gate.refusal and not group.settings.is_forced:
        raise RefusedError(
            gate.refusal,
            where=group.card.id,
            hint="--force evaluates it all the same and flags every figure",
            flags=[*gate.flags, *(note.flag for note in notes)],
        )
    return Bench(target, audit, gate, notes)


def _fly(target: Target, audit: Audit) -> tuple[Problem, ...]:
    """Return what pre-flight notes; refuse the target, with every reason, if a problem is fatal."""
    found = problems(target, audit.test)
    fatal = [problem for problem in found if problem.is_fatal]
    if fatal:
        raise RefusedError(
            "; ".join(problem.line for problem in fatal),
            where=target.card.id,
            hint="correct the card or its architecture",
            flags=dict.fromkeys(["preflight", *(problem.flag for problem in found)]),
        )
    return tuple(found)


def _check_parity(target: Target, audit: Audit) -> None:
    """Compare the fast path with the plain one, where there are two."""
    if target.access < Access.GRADIENTS:
        return
    members = audit.data.audit.take(np.flatnonzero(audit.is_member)[:PARITY_SAMPLE])
    outsiders = audit.data.audit.take(np.flatnonzero(~audit.is_member)[:PARITY_SAMPLE])
    target.check_parity(members, outsiders)


def _evaluate(
    job: Job, bench: Bench, group: Group, progress: Progress
) -> tuple[Evaluation, dict[str, Any]]:
    method = get_method(job.method)
    counts: list[int] = []
    context = Context(
        seed=job.seed,
        device=bench.target.device,
        cache=group.settings.cache,
        progress=progress,
        trigger=_trigger(group),
        references=_references(job, bench, group),
    )
    begin = time.perf_counter()
    attack = method.configure(**job.config)
    data = with_pool(job, bench.audit) if method.family == "steal" else bench.audit.data

    def call(known: NDArray[np.int8] | None) -> Any:
        asked = _as_seen(bench.target, method, job)
        found = attack(asked, data, replace(context, known=known))
        counts.append(asked.queries)
        return found

    try:
        needing = replace(method, needs=method.needs_of(job.config))
        evidence = run_known(needing, bench.audit, call)
    except AccessError as error:
        raise _refused(error, job) from error
    is_membership = method.family == "mia"
    labels = bench.target.labels(bench.audit.data.audit) if is_membership else None
    graded = grade(evidence, bench.audit, labels)
    record = Evaluation.of(
        job,
        "ok",
        measures=graded.measures,
        nulls=graded.nulls,
        flags=(*graded.flags, *bench.flags),
        queries=max(counts),  # the other half of a cross-fit asks the same images
        seconds=_seconds_since(begin),
        environment=environment(bench.target),
        details={**graded.details, **bench.details},
    )
    return record, dict(graded.arrays)


def _references(job: Job, bench: Bench, group: Group) -> References | None:
    """Return a job's references; all jobs of a model share them and their answers."""
    named = reference_identity(job)
    if named is None:
        return None
    if named not in bench.references:
        bench.references[named] = references_of(job, bench.audit, group.settings.cache)
    return bench.references[named]


def _as_seen(target: Target, method: Method, job: Job) -> Target:
    """Return the target as a method may touch it: behind the job's defence, if there is one.

    Behind a defence a method may try with less than it declares: some of its options need less.
    """
    defence = job.conditions.get("defence")
    if method.access > target.access:
        raise RefusedError(
            f"{method.name} needs {method.access.name.lower()}; an ONNX model gives scores only",
            where=target.card.id,
            hint="it runs on the weights that the model was exported from",
            flags=["access"],
        )
    if defence is None:
        return target.limited(method.access)
    seen = target.defended(parse_defence(defence))
    return seen.limited(min(method.access, seen.access))


def _refused(error: AccessError, job: Job) -> SecurityNetError:
    """Behind a defence, too little access is an answer; without one it is a method's mistake."""
    defence = job.conditions.get("defence")
    if defence is None:
        return error
    return RefusedError(
        f"{error.what} behind {defence}",
        where=job.method,
        hint="leave the method out, or choose another defence",
        flags=["access"],
    )


def _trigger(group: Group) -> Trigger | None:
    backdoor = (group.card.training or {}).get("backdoor")
    return None if backdoor is None else Trigger.from_json(backdoor["trigger"])


def _failure(job: Job, error: Exception, begin: float, target: Target | None = None) -> Evaluation:
    is_known = isinstance(error, SecurityNetError)
    line = str(error) if is_known else f"{type(error).__name__}: {error}"
    return Evaluation.of(
        job,
        "refused" if isinstance(error, RefusedError) else "failed",
        flags=error.flags if isinstance(error, SecurityNetError) else (),
        seconds=_seconds_since(begin),
        error=" ".join(line.split()),
        environment=environment(target),
    )


def _seconds_since(begin: float) -> float:
    return round(time.perf_counter() - begin, 6)


def environment(target: Target | None) -> dict[str, Any]:
    """Return versions, device, precision and threads, as recorded with every figure."""
    facts: dict[str, Any] = {**_versions(), "threads": torch.get_num_threads()}
    if target is not None:
        facts |= {"device": target.device.type, "precision": target.precision, **target.runtime}
    return facts


@cache
def _versions() -> dict[str, str]:
    packages = ("securitynet", "torch", "numpy")
    return {name: version(name) for name in packages} | {"python": platform.python_version()}
