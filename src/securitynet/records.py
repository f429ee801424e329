"""The records everything else is a view of: jobs, measures and evaluations.

Records are immutable, canonical JSON: the same job has the same key on every machine.
Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

Status = Literal["ok", "failed", "refused", "skipped"]

_KINDS: dict[str, Any] = {
    **dict.fromkeys(("version", "seed", "queries", "limit"), int),
    **dict.fromkeys(
        ("config", "measures", "nulls", "environment", "details", "blobs", "conditions"), Mapping
    ),
    "flags": tuple,
    "seconds": int | float,
}
"""Types of a record's attributes; text where none is named."""
_OPTIONAL = ("queries", "seconds", "error", "limit", "data_fingerprint")


def canonical_json(value: object) -> str:
    """Serialise to the one canonical text of a value: sorted keys, no spaces, no NaN.

    Raises:
        ValueError: If the value holds NaN or infinity.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def fingerprint(value: object) -> str:
    """Return the sha256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@dataclass(frozen=True)
class Measure:
    """One figure with its 95% interval and its sample size; ``None`` means unknown.

    Attributes:
        value: The figure.
        low: Lower end of the 95% interval.
        high: Upper end of the 95% interval.
        n: Number of samples behind the figure.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None

    def __post_init__(self) -> None:
        """Turn NaN and infinities into ``None``: unknown is never a number."""
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is not None:
                number = float(number)
                object.__setattr__(self, name, number if math.isfinite(number) else None)
        if self.n is not None:
            object.__setattr__(self, "n", int(self.n))


@dataclass(frozen=True)
class Job:
    """One unit of work: a configured method on one model, one data set and one seed.

    Attributes:
        method: Id of the method, e.g. ``"mia.loss"``.
        version: Version of the method; rises when its results change.
        config: The method's complete configuration, JSON values only.
        model: Catalogue id or card path; an alias, not part of the key.
        model_fingerprint: Identity of weights, architecture and input spec.
        weights_sha256: sha256 of the checkpoint file.
        origin: ``benchmark``, ``security``, ``other`` or ``self-trained``; not part of the key.
        dataset: Name or folder of the data set; an alias, not part of the key.
        data_fingerprint: Identity of the decoded images, labels and splits.
        limit: At most this many samples a side, or ``None``.
        seed: The job's seed.
        is_forced: Whether the accuracy gate was overruled.
        conditions: What else determines the result, name -> identity: ``references``, ``defence``.
    """

    method: str
    version: int
    config: Mapping[str, Any]
    model: str
    model_fingerprint: str
    weights_sha256: str
    origin: str
    dataset: str
    data_fingerprint: str
    limit: int | None = None
    seed: int = 0
    is_forced: bool = False
    conditions: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The job's identity: sha256 of what determines its result, aliases left out."""
        named = asdict(self)
        aliases = ("model", "dataset", "origin")
        for name in (*aliases, *(() if self.conditions else ("conditions",))):
            del named[name]
        return fingerprint(named)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Evaluation:
    """The immutable record of one job: what was asked, what came out, and how sure it is.

    Attributes:
        key: The job's key; also the record's file name.
        method: Id of the method.
        version: Version of the method.
        config: The method's complete configuration.
        model: Catalogue id or card path of the target.
        weights_sha256: sha256 of the checkpoint file.
        origin: Where the model comes from.
        dataset: Name or folder of the data set.
        seed: The job's seed.
        status: ``ok``, ``failed``, ``refused`` or ``skipped``.
        measures: Figures by name, each with interval and n.
        nulls: What each figure would be without any effect, by name.
        flags: Reasons to read the figures with care, e.g. ``accuracy-gate``.
        queries: Number of images the method asked the target about.
        seconds: Wall time of the job.
        error: One line when the status is not ``ok``.
        environment: Versions, device, precision and threads.
        details: Curves and other small evidence, JSON values only.
        blobs: Names of per-sample arrays -> sha256 of the blob that holds them.
        limit: The job's sample limit.
        data_fingerprint: Identity of the data behind the figures.
        conditions: What else determined the result, e.g. the ``defence``.
    """

    key: str
    method: str
    version: int
    config: Mapping[str, Any]
    model: str
    weights_sha256: str
    origin: str
    dataset: str
    seed: int
    status: Status
    measures: Mapping[str, Measure] = field(default_factory=dict)
    nulls: Mapping[str, Measure] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    queries: int | None = None
    seconds: float | None = None
    error: str | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    blobs: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    data_fingerprint: str | None = None
    conditions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, job: Job, status: Status, **values: Any) -> Evaluation:
        """Build the record of a job; ``values`` are the remaining attributes."""
        return cls(
            key=job.key,
            method=job.method,
            version=job.version,
            config=dict(job.config),
            model=job.model,
            weights_sha256=job.weights_sha256,
            origin=job.origin,
            dataset=job.dataset,
            seed=job.seed,
            limit=job.limit,
            data_fingerprint=job.data_fingerprint,
            conditions=dict(job.conditions),
            status=status,
            **values,
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, tuples as lists."""
        record = asdict(self)
        record["flags"] = list(self.flags)
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Evaluation:
        """Rebuild a record from its JSON.

        Raises:
            ValueError: If an attribute is missing or of another type, or a measure is malformed.
        """
        names = {known.name for known in fields(cls)}
        values = {name: value for name, value in record.items() if name in names}
        try:
            for group in ("measures", "nulls"):
                values[group] = {k: Measure(**m) for k, m in values.get(group, {}).items()}
            values["flags"] = tuple(values.get("flags", ()))
            found = cls(**values)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not an evaluation record: {error}") from error
        for name in names:
            _check_type(name, getattr(found, name))
        return found


def _check_type(name: str, value: Any) -> None:
    """Files are edited and cut: what a view relies on is checked when a record is read."""
    is_known = value is not None or name not in _OPTIONAL
    wanted = _KINDS.get(name, str)
    is_fine = isinstance(value, wanted) and not isinstance(value, bool)
    if name == "status":
        is_fine = value in get_args(Status)
    elif name in ("flags", "blobs"):
        texts = value if name == "flags" else [*value, *value.values()] if is_fine else [None]
        is_fine = is_fine and all(isinstance(text, str) for text in texts)
    if is_known and not is_fine:
        raise ValueError(f"not an evaluation record: {name} is {reprlib.repr(value)}")
