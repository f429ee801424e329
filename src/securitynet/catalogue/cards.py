"""Model cards: one row of the database each, checked when read. No torch."""

from __future__ import annotations

import hashlib
import json
import math
import reprlib
import types
import typing
from collections.abc import Hashable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from securitynet.errors import UsageError, unknown_id
from securitynet.records import canonical_json, fingerprint

ORIGINS = ("benchmark", "security", "other", "self-trained")
STATUSES = ("catalogued", "verified", "evaluated", "no-weights")
MAX_SIDE = 8192
"""Pixels; a card must not ask for more memory than a machine has."""
CARD_GUIDE = "see docs/cards.md for the format"


@dataclass(frozen=True)
class InputSpec:
    """How an image becomes the model's input.

    Pixels are scaled to [0, 1], resized so that the shorter side is ``resize`` (if given),
    centre-cropped or resized to ``height`` x ``width``, and normalised per channel.

    Attributes:
        channels: 1 or 3.
        height: Rows of the input.
        width: Columns of the input.
        mean: Per-channel mean in [0, 1] units, ``None`` = 0.
        std: Per-channel standard deviation in [0, 1] units, ``None`` = 1.
        resize: Shorter side before the centre crop, ``None`` = resize straight to the input size.
        interpolation: ``bilinear``, ``bicubic`` or ``nearest``.
    """

    channels: int
    height: int
    width: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | None = None
    interpolation: str = "bilinear"


@dataclass(frozen=True)
class Weights:
    """Where a checkpoint lies and what is known of its bytes.

    Attributes:
        url: Public https address, if any.
        path: Local file, relative to the card's folder, if any.
        format: ``safetensors``, ``torch-zip``, ``torch-legacy``; ``None`` = found out by the door.
        checksum: Hex digest of the file.
        checksum_algorithm: ``sha256``, ``sha256-prefix``, ``sha1`` or ``md5``.
        licence: SPDX id of the weights' licence.
        bytes: File size.
        state_key: Where the state dict lies in the file, e.g. ``"state_dict[0]"``.
    """

    url: str | None = None
    path: str | None = None
    format: str | None = None
    checksum: str | None = None
    checksum_algorithm: str | None = None
    licence: str | None = None
    bytes: int | None = None
    state_key: str | None = None


@dataclass(frozen=True)
class Publication:
    """The work that published the model."""

    title: str | None = None
    venue: str | None = None
    venue_type: str | None = None
    year: int | None = None
    arxiv: str | None = None
    countries: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Claim:
    """A figure somebody reported, with its source; never one that we measured.

    Attributes:
        metric: E.g. ``"test_accuracy"``.
        value: The figure; accuracies in [0, 1].
        source: Where it was reported.
        n: Number of samples behind it, if known.
    """

    metric: str
    value: float
    source: str
    n: int | None = None


@dataclass(frozen=True)
class ModelCard:
    """One row of the database.

    Attributes:
        id: ``provider/name``.
        provider: Who hosts the model.
        name: The provider's name of it.
        dataset: Training data set.
        num_classes: Number of outputs.
        architecture: ``library/name``, a mapping with ``name`` and ``options``, a list of layers,
            or ``file.py:function`` (needs ``--trust``).
        input: How an image becomes its input.
        weights: The checkpoint.
        family: Architecture family.
        params: Number of parameters.
        origin: One of ``ORIGINS``.
        publication: The work that published it.
        claims: Figures reported by others.
        status: One of ``STATUSES``.
        training: For self-trained models: recipe, data manifest, backdoor, clean twin.
        folder: Where the card file lies, for relative paths; not part of the card's JSON.
    """

    id: str
    provider: str
    name: str
    dataset: str
    num_classes: int
    architecture: str | Mapping[str, Any] | tuple[Any, ...]
    input: InputSpec
    weights: Weights
    family: str | None = None
    params: int | None = None
    origin: str = "other"
    publication: Publication | None = None
    claims: tuple[Claim, ...] = ()
    status: str = "catalogued"
    training: Mapping[str, Any] | None = None
    folder: str | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; unknown is ``None``."""
        card = asdict(self)
        del card["folder"]
        return typing.cast(dict[str, Any], _plain(card))

    def claim(self, metric: str) -> Claim | None:
        """Return the first claim of a metric, or ``None``."""
        return next((claim for claim in self.claims if claim.metric == metric), None)

    def model_fingerprint(self, weights_sha256: str) -> str:
        """Return the identity of what is evaluated: weights, architecture and input spec.

        An architecture file of the user's own counts with its content: who changes the code
        evaluates another model.
        """
        card = self.to_json()
        code = self._own_code()
        parts = [weights_sha256, card["architecture"], card["input"]]
        return fingerprint(parts if code is None else [*parts, code])

    def _own_code(self) -> str | None:
        """Return the sha256 of the file that ``file.py:function`` names, if it is there."""
        architecture = self.architecture
        named = architecture.get("name") if isinstance(architecture, Mapping) else architecture
        if not isinstance(named, str) or ".py:" not in named:
            return None
        try:
            code = (Path(self.folder or ".") / named.rpartition(":")[0]).read_bytes()
        except (OSError, ValueError):
            return None  # whoever builds the model says so
        return hashlib.sha256(code).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def parse_card(record: Mapping[str, Any], *, where: str, folder: Path | None = None) -> ModelCard:
    """Build a card from JSON, checking names, types and ranges.

    Args:
        record: The card's JSON object. ``id`` may be left out if ``name`` is given.
        where: Named in errors: file and entry.
        folder: Folder that relative paths of the card refer to.

    Returns:
        The card.

    Raises:
        UsageError: Naming the field that is missing, unknown, of the wrong type or out of range.
    """
    if not isinstance(record, Mapping):
        raise UsageError("a card is a JSON object", where=where, hint=CARD_GUIDE)
    filled = {"provider": "local", "name": None, **record}
    filled["name"] = filled["name"] or (folder.name if folder else None) or "model"
    filled.setdefault("id", f"{filled['provider']}/{filled['name']}")
    card = typing.cast(ModelCard, _build(ModelCard, filled, where=where))
    _check(card, where)
    return replace(card, folder=None if folder is None else str(folder))


def load_card(path: Path) -> ModelCard:
    """Read one card file.

    Raises:
        UsageError: If the file is missing, not JSON or not a card.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError("no such card file", where=path, hint=CARD_GUIDE) from None
    except (ValueError, OSError, RecursionError) as error:
        raise UsageError(f"not a card: {error}", where=path, hint=CARD_GUIDE) from None
    return parse_card(record, where=str(path), folder=path.resolve().parent)


def _build(kind: type[Any], record: Any, *, where: str) -> Any:
    if not isinstance(record, Mapping):
        raise UsageError(f"expected an object, got {_shown(record)}", where=where, hint=CARD_GUIDE)
    known = {f.name: f for f in fields(kind) if f.name != "folder"}
    for name in record:
        if name not in known:
            error = unknown_id("field", name, known, listing="docs/cards.md")
            raise UsageError(error.what, where=where, hint=error.hint)
    missing = [
        name
        for name, item in known.items()
        if name not in record and item.default is MISSING and item.default_factory is MISSING
    ]
    if missing:
        raise UsageError(f"missing {', '.join(missing)}", where=where, hint=CARD_GUIDE)
    hints = _type_hints(typing.cast(Hashable, kind))
    values = {
        name: _convert(hints[name], value, where=f"{where}: {name}")
        for name, value in record.items()
    }
    return kind(**values)


@cache
def _type_hints(kind: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _convert(hint: Any, value: Any, *, where: str) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None:
        if types.NoneType in options:
            return None
        raise UsageError("must not be null", where=where, hint=CARD_GUIDE)
    for kind in options:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, Mapping):
            return _build(kind, value, where=where)
        if origin is tuple and isinstance(value, list | tuple):
            return tuple(_convert(arguments[0], item, where=where) for item in value)
        if kind is Any or (isinstance(kind, type) and _is_a(value, kind)):
            return _finite(value, where) if kind is float else value
        if origin is not None and isinstance(origin, type) and isinstance(value, origin):
            return value
    raise UsageError(f"wrong type: {_shown(value)}", where=where, hint=CARD_GUIDE)


def _shown(value: Any) -> str:
    return reprlib.repr(value)


def _finite(value: Any, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise UsageError(f"not a finite number: {_shown(value)}", where=where, hint=CARD_GUIDE)
    return number


def _is_a(value: Any, kind: type[Any]) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _check(card: ModelCard, where: str) -> None:
    spec = card.input
    problems = {
        f"origin must be one of {', '.join(ORIGINS)}": card.origin in ORIGINS,
        f"status must be one of {', '.join(STATUSES)}": card.status in STATUSES,
        "num_classes must be at least 2": card.num_classes >= 2,
        "params must be positive": card.params is None or card.params > 0,
        "input.channels must be 1 or 3": spec.channels in (1, 3),
        f"input.height and width must lie in 1 to {MAX_SIDE}": 0 < min(spec.height, spec.width)
        and max(spec.height, spec.width) <= MAX_SIDE,
        f"input.resize must lie between the input's sides and {MAX_SIDE}": spec.resize is None
        or max(spec.height, spec.width) <= spec.resize <= MAX_SIDE,
        "input.mean needs one number a channel": _fits(spec.mean, spec.channels),
        "input.std needs one positive number a channel": _fits(spec.std, spec.channels)
        and all(number > 0 for number in spec.std or ()),
        "input.interpolation must be bilinear, bicubic or nearest": spec.interpolation
        in ("bilinear", "bicubic", "nearest"),
        "accuracy claims must lie in [0, 1]": all(
            0 <= claim.value <= 1 for claim in card.claims if "accuracy" in claim.metric
        ),
    }
    for problem, is_fine in problems.items():
        if not is_fine:
            raise UsageError(problem, where=where, hint=CARD_GUIDE)
    try:
        canonical_json(card.to_json()).encode()
    except (ValueError, TypeError, RecursionError) as error:
        reason = f"holds what JSON cannot: {error}"
        raise UsageError(reason, where=where, hint=CARD_GUIDE) from None


def _fits(numbers: tuple[float, ...] | None, channels: int) -> bool:
    return numbers is None or len(numbers) == channels
