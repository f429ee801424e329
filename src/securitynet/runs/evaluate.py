"""The one way to run evaluations, behind ``securitynet run`` and ``sn.evaluate``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from securitynet.catalogue.cards import ModelCard
from securitynet.defences.channels import parse_defence
from securitynet.errors import RefusedError, ResourceError, SecurityNetError, UsageError
from securitynet.records import Evaluation, Job, Status
from securitynet.registry import Method
from securitynet.runs.plan import Audits, Choice, Group, Settings, make_group
from securitynet.runs.pool import run_groups
from securitynet.runs.store import Store, sort_records
from securitynet.weights.verified import unverified


def _silent(share: float, what: str) -> None:
    """Report progress to nobody."""


def _unheard(record: Evaluation) -> None:
    """Tell nobody of a record."""


@dataclass(frozen=True)
class Listener:
    """Who is told what while a run goes on.

    Attributes:
        progress: Told the share done in [0, 1] and a few words.
        done: Told each new record.
    """

    progress: Callable[[float, str], None] = _silent
    done: Callable[[Evaluation], None] = _unheard


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        groups: What is left to do, one group a model.
        finished: Records of jobs that are done already.
        problems: Records of models that could not be planned; not kept in the store.
        left_out: Methods that cannot run because what they need is not there, one line each.
    """

    groups: tuple[Group, ...]
    finished: tuple[Evaluation, ...]
    problems: tuple[Evaluation, ...] = field(default=())
    left_out: tuple[str, ...] = ()

    @property
    def n_left(self) -> int:
        """Number of jobs left."""
        return sum(len(group.jobs) for group in self.groups)


def plan(
    choices: Sequence[Choice],
    cards: Sequence[ModelCard],
    settings: Settings,
    store: Store,
    *,
    is_retrying: bool = False,
    progress: Callable[[float, str], None] = _silent,
) -> Plan:
    """Find out what is left to do.

    Args:
        choices: Configured methods.
        cards: Models.
        settings: What all jobs share.
        store: Where finished jobs are looked up.
        is_retrying: Whether failed and refused jobs are tried again.
        progress: Told while data are decoded and weights are opened.

    Raises:
        UsageError: If nothing was asked for.
        SecurityNetError: If the only model asked for cannot be planned; nothing was written.
    """
    _check(choices, cards, settings)
    if settings.defence is not None:
        parse_defence(settings.defence)  # named once, not once a model
    audits = Audits(settings.limit, progress)
    groups: list[Group] = []
    known: dict[str, Evaluation | None] = {}
    troubles: list[Evaluation] = []
    lacking: dict[str, set[str]] = {}
    for i, card in enumerate(cards):
        progress(i / len(cards), f"{card.id}: weights and data")
        try:
            group = make_group(card, choices, settings, audits)
        except SecurityNetError as error:
            if len(cards) == 1:
                raise
            troubles += [_trouble(card, choice, settings, error) for choice in choices]
            continue
        for method in group.left_out:
            lacking.setdefault(_lack(method, group.dataset), set()).add(method.name)
        fresh = {job.key: job for job in group.jobs if job.key not in known}
        known |= {key: _known(job, store, is_retrying) for key, job in fresh.items()}
        left = tuple(job for key, job in fresh.items() if known[key] is None)
        groups += [replace(group, jobs=left)] if left else []
    finished = {record.key: record for record in known.values() if record is not None}
    left_out = tuple(f"{', '.join(sorted(names))}: {lack}" for lack, names in lacking.items())
    if left_out and not known and not troubles:
        raise ResourceError("; ".join(left_out))
    return Plan(tuple(groups), tuple(finished.values()), tuple(troubles), left_out)


def _lack(method: Method, dataset: str) -> str:
    """Say what a method lacks and how to have it."""
    what, kind = ("references", "")
    if "in_references" in method.needs:
        what, kind = ("online references", " --kind online")
    return (
        f"no {what} for {dataset} yet; "
        f"`securitynet train references --data {dataset}{kind}` makes them"
    )


def _check(choices: Sequence[Choice], cards: Sequence[ModelCard], settings: Settings) -> None:
    if settings.limit is not None and settings.limit < 2:
        raise UsageError(f"limit {settings.limit} is too small", hint="give 2 or more, or none")
    for name, given in (("method", choices), ("model", cards), ("seed", settings.seeds)):
        if not given:
            raise UsageError(f"no {name} given", hint="give at least one")


def run(
    planned: Plan, store: Store, *, n_workers: int = 1, listener: Listener | None = None
) -> list[Evaluation]:
    """Do what is left and return all records of the plan, old and new.

    Records appear in the store one by one, so an interrupted run loses at most the jobs that
    were under way. What is returned is read from there: a worker may die after it has kept a
    record and before it has told of it.
    """
    heard = listener or Listener()
    run_groups(planned.groups, store, n_workers=n_workers, progress=heard.progress, done=heard.done)
    kept = [store.get(job.key) for group in planned.groups for job in group.jobs]
    fresh = [record for record in kept if record is not None]
    return sort_records([*planned.finished, *planned.problems, *fresh])


def _known(job: Job, store: Store, is_retrying: bool) -> Evaluation | None:
    """Return the record that makes a job unnecessary; a forced job is served by an unforced ok."""
    record = store.get(job.key)
    if record is None and job.is_forced:
        unforced = store.get(replace(job, is_forced=False).key)
        record = unforced if unforced is not None and unforced.status == "ok" else None
    if record is not None and is_retrying and record.status in ("failed", "refused"):
        return None
    return record


def _trouble(
    card: ModelCard, choice: Choice, settings: Settings, error: SecurityNetError
) -> Evaluation:
    method, config = choice
    job = Job(
        method=method.name,
        version=method.version,
        config=config,
        model=card.id,
        model_fingerprint="",
        weights_sha256=card.weights.checksum or "",
        origin=card.origin,
        dataset=settings.data or card.dataset,
        data_fingerprint="",
        limit=settings.limit,
        is_forced=settings.is_forced,
    )
    status: Status = "refused" if isinstance(error, RefusedError) else "failed"
    flags = (*error.flags, *unverified(card.weights, where=card.id))
    return Evaluation.of(job, status, error=str(error), flags=flags)
