"""What a model card holds: one row of the database. No torch."""

from __future__ import annotations

import hashlib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from securitynet.records import fingerprint

ORIGINS = ("benchmark", "security", "other", "self-trained")
STATUSES = ("catalogued", "verified", "evaluated", "no-weights")
VENUE_TYPES = ("security", "ml", "cv", "journal", "preprint", "other")
CHECKSUM_OF = ("file", "member")
LICENCE_SOURCES = ("hub", "code", "file", "presumed", "unstated")
LATER_FIELDS = {"depth": None, "is_squashed": False}
"""Fields of input specs that came after the first results, and their values for nothing new."""
UNKNOWN_LICENCE = "unknown"
"""Of weights whose licence nobody states; ``None`` is one that nobody has looked up."""


@dataclass(frozen=True)
class InputSpec:
    """How an image becomes the model's input.

    Pixels are scaled to [0, 1], resized so that the shorter side is ``resize`` (if given),
    centre-cropped or resized to ``height`` x ``width``, and normalised per channel. Where the
    crop is larger than the picture, the margin is black.

    Attributes:
        channels: 1 or 3.
        height: Rows of the input.
        width: Columns of the input.
        mean: Per-channel mean in [0, 1] units, ``None`` = 0.
        std: Per-channel standard deviation in [0, 1] units, ``None`` = 1.
        resize: Shorter side before the centre crop, ``None`` = resize straight to the input size.
        interpolation: ``bilinear``, ``bicubic`` or ``nearest``.
        depth: Slices of a volume; ``None`` = a picture.
        is_squashed: Whether both sides become ``resize`` before the crop, whatever the shape.
    """

    channels: int
    height: int
    width: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | None = None
    interpolation: str = "bilinear"
    depth: int | None = None
    is_squashed: bool = False

    @property
    def sides(self) -> tuple[int, ...]:
        """Height and width of the input; of a volume depth, height and width."""
        flat = self.height, self.width
        return flat if self.depth is None else (self.depth, *flat)


@dataclass(frozen=True)
class Weights:
    """Where a checkpoint lies and what is known of its bytes.

    Attributes:
        url: Public https address, if any.
        path: Local file, relative to the card's folder, if any.
        member: Path of the checkpoint inside the archive at ``url``; ``None`` = no archive.
        format: ``safetensors``, ``torch-zip``, ``torch-legacy``, ``onnx``; ``None`` = found out by
            the door.
        checksum: Hex digest.
        checksum_algorithm: ``sha256``, ``sha256-prefix``, ``sha1`` or ``md5``.
        checksum_of: ``file`` (what lies at ``url``) or ``member``.
        licence: SPDX id of the weights' licence; ``unknown`` = nobody states one.
        licence_source: One of ``LICENCE_SOURCES``: where the licence was read.
        revision: Commit or release tag that the file belongs to.
        mirrors: Other addresses of the same bytes.
        bytes: File size.
        state_key: Where the state dict lies in the file, e.g. ``"state_dict[0]"``.
    """

    url: str | None = None
    path: str | None = None
    member: str | None = None
    format: str | None = None
    checksum: str | None = None
    checksum_algorithm: str | None = None
    checksum_of: str = "file"
    licence: str | None = None
    licence_source: str | None = None
    revision: str | None = None
    mirrors: tuple[str, ...] = ()
    bytes: int | None = None
    state_key: str | None = None


@dataclass(frozen=True)
class Publication:
    """The work that published the model.

    Attributes:
        title: Its title.
        authors: In order.
        venue: Where it appeared, e.g. ``"CVPR"``.
        venue_type: One of ``VENUE_TYPES``.
        year: Of the venue.
        arxiv: Number of the preprint.
        doi: Without ``https://doi.org/``.
        url: Where it is read if it has neither.
        countries: Of its authors' institutions.
    """

    title: str | None = None
    authors: tuple[str, ...] | None = None
    venue: str | None = None
    venue_type: str | None = None
    year: int | None = None
    arxiv: str | None = None
    doi: str | None = None
    url: str | None = None
    countries: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Claim:
    """A figure somebody reported, with its source; never one that we measured.

    Attributes:
        metric: E.g. ``"test_accuracy"``.
        value: The figure; accuracies in [0, 1].
        source: Where it was reported: an address, words, or ``KEY`` or ``KEY:place`` with a key
            of `SOURCES`.
        n: Number of samples behind it, if known.
        img_size: Side of the input that it holds for, if it is not the card's.
        revision: Commit or version of the source.
    """

    metric: str
    value: float
    source: str
    n: int | None = None
    img_size: int | None = None
    revision: str | None = None


@dataclass(frozen=True)
class ModelCard:
    """One row of the database.

    Attributes:
        id: ``provider/name``.
        provider: Who hosts the model.
        name: The provider's name of it.
        dataset: Training data set.
        num_classes: Number of outputs.
        architecture: ``library/name``, a mapping with ``name``, ``options`` and ``norm``
            (``group``: its batch normalisations are group normalisations), a list of layers,
            ``file.py:function`` (needs ``--trust``), or ``onnx``: the file is the whole model.
        input: How an image becomes its input.
        weights: The checkpoint.
        family: Architecture family.
        params: Number of parameters.
        macs: Multiply-accumulates of one prediction at the card's input size.
        pretraining: Data sets it was pre-trained on before ``dataset``; () = none.
        threat_model: What it was hardened against, e.g. ``"Linf 8/255"``.
        origin: One of ``ORIGINS``.
        publication: The work that published it.
        claims: Figures reported by others.
        status: One of ``STATUSES``.
        aliases: Ids under which others host the same weights.
        run: Which of several trainings that share a name.
        flags: Reasons to read the card with care, e.g. ``licence-unknown``.
        code_licence: SPDX id of the licence of the code that defines the architecture.
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
    macs: int | None = None
    pretraining: tuple[str, ...] | None = None
    threat_model: str | None = None
    origin: str = "other"
    publication: Publication | None = None
    claims: tuple[Claim, ...] = ()
    status: str = "catalogued"
    aliases: tuple[str, ...] = ()
    run: str | None = None
    flags: tuple[str, ...] = ()
    code_licence: str | None = None
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

    def model_fingerprint(self, weights_sha256: str, labels: Sequence[int] = ()) -> str:
        """Return the identity of what is evaluated: weights, architecture and input spec.

        An architecture file of the user's own counts with its content: who changes the code
        evaluates another model. So does who asks for the classes ``labels`` only; () = all.
        """
        card = self.to_json()
        code = self._own_code()
        parts = [weights_sha256, card["architecture"], _shape(card["input"])]
        parts += [] if code is None else [code]
        return fingerprint([*parts, {"labels": list(labels)}] if labels else parts)

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


def _shape(spec: dict[str, Any]) -> dict[str, Any]:
    """Leave out later fields that are not used: results are kept under what was there before."""
    return {
        name: value
        for name, value in spec.items()
        if name not in LATER_FIELDS or value != LATER_FIELDS[name]
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
