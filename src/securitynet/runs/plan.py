"""From what a user asks to jobs: methods, models, data and seeds, keyed by content."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from securitynet.catalogue.cards import ModelCard
from securitynet.datasets.images import Audit, Dataset, Indices, Part, make_audit
from securitynet.datasets.library import load_dataset
from securitynet.datasets.members import HAVE_COPIES, KEPT, near_duplicates, read_list
from securitynet.defences.channels import parse_defence
from securitynet.errors import UsageError
from securitynet.records import Job, canonical_json
from securitynet.registry import FAMILIES, Method, default_set, get_method, load_methods
from securitynet.runs.queries import other_dataset, pool_identity
from securitynet.training.manifests import load_references, training_images
from securitynet.weights.door import open_checkpoint
from securitynet.weights.verified import unverified

Choice = tuple[Method, Mapping[str, Any]]
REFERENCES = {"references": "out", "in_references": "online"}
"""What a method may need -> the kind of references that is."""


@dataclass(frozen=True)
class Settings:
    """What all jobs of a run share.

    Attributes:
        data: Name or folder of the data set; ``None`` = each model's own.
        limit: At most this many members, non-members, queries and evaluation images.
        seeds: Seeds of seeded methods.
        is_forced: Overrule the accuracy gate.
        trust: The user's own architecture file that may be executed.
        cache: Folder for outputs and floors.
        members: File that lists the members, see :mod:`securitynet.datasets.members`.
        nonmembers: File that lists the non-members.
        defence: Response channel that the targets answer through, ``None`` = as they are.
    """

    data: str | None = None
    limit: int | None = None
    seeds: tuple[int, ...] = (0,)
    is_forced: bool = False
    trust: Path | None = None
    cache: Path | None = None
    members: Path | None = None
    nonmembers: Path | None = None
    defence: str | None = None


@dataclass(frozen=True)
class Group:
    """The jobs of one model on one data set: they share one target and one forward pass.

    Attributes:
        card: The model.
        dataset: Name or folder of the data set.
        jobs: What to evaluate.
        settings: What all jobs share.
        flags: Of every record: what is doubtful about the model before it is asked anything.
        left_out: Methods that cannot run, because what they need is not there.
    """

    card: ModelCard
    dataset: str
    jobs: tuple[Job, ...]
    settings: Settings
    flags: tuple[str, ...] = ()
    left_out: tuple[Method, ...] = ()


def choose_methods(names: Iterable[str], options: Iterable[str] = ()) -> list[Choice]:
    """Resolve ``family``, ``family.name`` and ``method.key=value`` into configured methods.

    Args:
        names: ``membership``, ``stealing``, ``backdoor``, single methods, or Python files of
            methods; commas separate.
        options: ``method.key=value`` settings; they apply to every variant of the method.

    Returns:
        (method, complete configuration as JSON values) pairs, each once.

    Raises:
        UsageError: If a method or option is unknown, or a value does not fit.
    """
    asked = [part.strip() for name in names for part in name.split(",") if part.strip()]
    if not asked:
        raise UsageError("no method given", hint="see `securitynet list methods`")
    pairs = [pair for name in asked for pair in _named(name)]
    overrides = _parse_options(options)
    unused = set(overrides) - {method.name for method, _ in pairs}
    if unused:
        raise UsageError(
            f"option for {', '.join(sorted(unused))}, which this run does not use",
            hint="name the method, or leave the option out",
        )
    chosen: dict[str, Choice] = {}
    for method, variant in pairs:
        config = full_config(method, {**variant, **overrides.get(method.name, {})})
        chosen.setdefault(method.name + canonical_json(config), (method, config))
    return list(chosen.values())


def _named(name: str) -> list[Choice]:
    if name.endswith(".py"):
        found = load_methods(Path(name))
        return [(method, variant) for method in found for variant in method.variants or ({},)]
    return default_set(name) if name in FAMILIES else [(get_method(name), {})]


def full_config(method: Method, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a method's complete configuration as JSON values, defaults filled in."""
    configured: Any = method.configure(**options)
    config: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(configured)))
    return config


def _parse_options(options: Iterable[str]) -> dict[str, dict[str, Any]]:
    parsed: dict[str, dict[str, Any]] = {}
    for text in options:
        path, equals, value = text.partition("=")
        name, _, key = path.strip().rpartition(".")
        if not equals or not name:
            raise UsageError(
                f"option {text!r} is not method.key=value", hint="e.g. -o steal.knockoff.n_seeds=5"
            )
        parsed.setdefault(name, {})[key] = get_method(name).parse(key, value)
    return parsed


def make_group(
    card: ModelCard, choices: Sequence[Choice], settings: Settings, audits: Audits
) -> Group:
    """Build the jobs of one model.

    Args:
        card: The model.
        choices: Configured methods.
        settings: What all jobs share.
        audits: Gives the audit of a model (see :class:`Audits`).

    Raises:
        UsageError: If the data set does not fit the model.
        SecurityNetError: If the data or the weights cannot be had; nothing was written.
    """
    dataset = settings.data or card.dataset
    _check_labels(card)
    audit = audits.of(card, settings)
    _check_sides(card, dataset, audit)
    part = part_of(card, audit)
    if part is None:
        _check_classes(card, dataset, audit.data.num_classes)
        _check_split(card, dataset, audit)
    sha256 = open_checkpoint(card.weights, folder=card.folder, where=card.id).sha256
    known = [_conditions(choice, audits, dataset, settings) for choice in choices]
    jobs = tuple(
        Job(
            method=method.name,
            version=method.version,
            config=config,
            model=card.id,
            model_fingerprint=card.model_fingerprint(sha256, part.labels if part else ()),
            weights_sha256=sha256,
            origin=card.origin,
            dataset=dataset,
            data_fingerprint=audit.fingerprint,
            limit=settings.limit,
            seed=seed,
            is_forced=settings.is_forced,
            conditions=conditions,
        )
        for (method, config), conditions in zip(choices, known, strict=True)
        if conditions is not None
        for seed in (settings.seeds if method.is_seeded else settings.seeds[:1])
    )
    missing = zip(choices, known, strict=True)
    lacking = {choice[0].name: choice[0] for choice, has in missing if has is None}
    flags = unverified(card.weights, where=card.id)
    return Group(card, dataset, jobs, settings, flags, tuple(lacking.values()))


def _conditions(
    choice: Choice, audits: Audits, dataset: str, settings: Settings
) -> dict[str, str] | None:
    """Return what a method's result also depends on, or ``None`` if it lacks what it needs."""
    defence = settings.defence
    found = {} if defence is None else {"defence": parse_defence(defence).name}
    method, config = choice
    if method.source is not None:
        found["method_file"] = method.source
    if method.family == "steal" and (other := other_dataset(config)) is not None:
        found["queries"] = audits.pool(other, dataset)
    needs = method.needs_of(config)
    for what, kind in REFERENCES.items():
        if what in (*needs, *method.uses):
            identity = audits.references(dataset, kind)
            if identity is not None:
                found[what] = identity
            elif what in needs:
                return None
    return found


def _check_labels(card: ModelCard) -> None:
    if "multi-label" in card.flags:
        raise UsageError(
            f"{card.id} gives an image several labels at once: its outputs are no distribution "
            "over classes, which every method and the balance of the audit rest on",
            hint="choose a model of one label an image, or use it from Python with sn.load",
        )


def _check_sides(card: ModelCard, dataset: str, audit: Audit) -> None:
    """Refuse volumes for a model of pictures and the reverse; volumes are never resized."""
    sides, wanted = audit.data.audit.shape[:-1], card.input.sides
    if len(sides) == len(wanted) and (card.input.depth is None or sides == wanted):
        return
    kinds = {2: "pictures", 3: "volumes"}
    raise UsageError(
        f"{card.id} classifies {kinds[len(wanted)]} of {_product(wanted)}, {dataset} holds "
        f"{kinds[len(sides)]} of {_product(sides)}",
        hint=f"its card says that it was trained on {card.dataset}",
    )


def _product(sides: tuple[int, ...]) -> str:
    return "x".join(map(str, sides))


def part_of(card: ModelCard, audit: Audit) -> Part | None:
    """Return the part of its classes that a model is asked for; ``None`` = all of them."""
    part = audit.part
    is_whole = part and (card.dataset, card.num_classes) == (part.whole, part.num_classes)
    return part if is_whole else None


def _check_split(card: ModelCard, dataset: str, audit: Audit) -> None:
    """Refuse a model of others that was trained on a part: we split it as the whole is split."""
    if audit.part is not None and card.training is None:
        raise UsageError(
            f"{card.id} may have seen images of both splits: {dataset} is split as "
            f"{audit.part.whole} is",
            hint="for its own split, rename the folder and give its path",
        )


def _check_classes(card: ModelCard, dataset: str, n_classes: int) -> None:
    if card.num_classes != n_classes:
        raise UsageError(
            f"{card.id} tells {card.num_classes} classes apart, {dataset} has {n_classes}",
            hint=f"its card says that it was trained on {card.dataset}",
        )


class Audits:
    """Loads each data set once and draws its audits.

    Args:
        limit: Sample limit of the audits.
        progress: Told while a data set is decoded.
    """

    def __init__(
        self, limit: int | None = None, progress: Callable[[float, str], None] | None = None
    ) -> None:
        """Start empty."""
        self._limit = limit
        self._progress = progress
        self._datasets: dict[str, Dataset] = {}
        self._audits: dict[tuple[str, ...], Audit] = {}
        self._references: dict[tuple[str, str], str | None] = {}

    def of(self, card: ModelCard, settings: Settings) -> Audit:
        """Return the audit of a model.

        Members are the images its manifest names, if it is one of ours, else those of the list
        that was given, else the train split; non-members are those of the list that was given,
        else the test split without the images that nearly repeat another.
        """
        dataset = self._dataset(settings.data or card.dataset)
        own = _own_members(card)
        lists = (settings.members, settings.nonmembers)
        key = (dataset.name, str(None if own is None else card.folder), *map(str, lists))
        if key not in self._audits:
            self._audits[key] = self._drawn(dataset, own, *lists)
        return self._audits[key]

    def references(self, name: str, kind: str) -> str | None:
        """Return the identity of a data set's references of a kind; ``None`` = there are none."""
        if (name, kind) not in self._references:
            found = load_references(self._dataset(name), kind)
            self._references[name, kind] = None if found is None else found.fingerprint
        return self._references[name, kind]

    def pool(self, name: str, own: str) -> str:
        """Return the identity of a data set as what a thief asks about a model of another."""
        return pool_identity(self._dataset(name), self._dataset(own))

    def _dataset(self, name: str) -> Dataset:
        if name not in self._datasets:
            self._datasets[name] = load_dataset(name, progress=self._progress)
        return self._datasets[name]

    def _drawn(
        self, dataset: Dataset, own: Indices | None, members: Path | None, nonmembers: Path | None
    ) -> Audit:
        inside = own if members is None else read_list(members, dataset)
        outside = None if nonmembers is None else read_list(nonmembers, dataset)
        if outside is None:
            copies = near_duplicates(dataset)
            if copies is not None:
                outside = np.setdiff1d(dataset.test.indices, copies)
            elif Path(dataset.name).name in HAVE_COPIES:
                dataset = replace(dataset, notes=(*dataset.notes, KEPT))
        return make_audit(dataset, limit=self._limit, members=inside, nonmembers=outside)


def _own_members(card: ModelCard) -> Indices | None:
    """Return the training images that the manifest of a model of ours names, if not the split."""
    if card.training is None:
        return None
    return training_images(card)
