"""The target as an attack may touch it: access-limited, query-counted, batched, cached."""

from __future__ import annotations

import logging
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from securitynet.catalogue.cards import ModelCard
from securitynet.datasets.images import Images, Part, Pixels
from securitynet.errors import AccessError, RefusedError, ResourceError
from securitynet.files.atomic import write_atomic
from securitynet.records import fingerprint
from securitynet.registry import Access
from securitynet.targets.engine import Engine
from securitynet.targets.parity import Parity

log = logging.getLogger(__name__)

Queries = Images | Tensor | Pixels
OUTPUTS = 3
"""Rises when the same model and images get other answers, or are kept in another form."""
DAMAGE = (
    ValueError, OSError, EOFError, LookupError, TypeError, AttributeError, RuntimeError,
    MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What reading a cache file raises that another hand has written, or half written."""


class Channel(Protocol):
    """A defence between the model and whoever asks: it changes what is answered."""

    @property
    def access(self) -> Access:
        """The most that still comes through."""

    def respond(self, log_p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what is answered in place of log posteriors, float64 ``[n, K]``."""


def _silent(share: float) -> None:
    """Report progress to nobody."""


@dataclass
class Answers:
    """The logits known so far for one (model, image source, precision), by image index.

    Attributes:
        rows: Row of each source image in ``logits``, -1 if not asked yet, int64 ``[N]``.
        logits: float32 ``[m, K]``.
    """

    rows: NDArray[np.int64]
    logits: NDArray[np.float32]

    def missing(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the indices that were not asked yet, each once."""
        return np.unique(indices[self.rows[indices] < 0])

    def add(self, indices: NDArray[np.int64], logits: NDArray[np.float32]) -> None:
        """Add answers for new indices."""
        self.rows[indices] = len(self.logits) + np.arange(len(indices))
        self.logits = np.concatenate([self.logits, logits])

    def of(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the logits of known indices, float32 ``[n, K]``."""
        return np.asarray(self.logits[self.rows[indices]])

    def is_whole(self, n_images: int, n_classes: int) -> bool:
        """Return whether these are answers of this shape: every row there, every logit finite."""
        is_shaped = self.rows.shape == (n_images,) and self.logits.shape[1:] == (n_classes,)
        if not is_shaped or self.rows.dtype != np.int64 or self.logits.dtype != np.float32:
            return False
        asked = np.sort(self.rows[self.rows >= 0])
        is_complete = self.rows.min() >= -1 and np.array_equal(asked, np.arange(len(self.logits)))
        return is_complete and bool(np.isfinite(self.logits).all())


@dataclass(frozen=True)
class OutputCache:
    """Answers kept between runs, one file per (model, image source, precision).

    Attributes:
        folder: Where the files lie; ``None`` keeps nothing.
    """

    folder: Path | None

    def load(self, key: str, n_images: int, n_classes: int) -> Answers:
        """Return what is known; a missing, damaged or foreign file costs a pass, no figure."""
        path = self._path(key)
        try:
            if path is not None and path.is_file():
                with np.load(path, allow_pickle=False) as archive:
                    known = Answers(archive["rows"], archive["logits"])
                    is_mine = str(archive["key"]) == key
                if is_mine and known.is_whole(n_images, n_classes):
                    return known
        except DAMAGE as error:
            log.info("cached outputs are damaged and computed again: %s (%s)", path, error)
        return Answers(
            np.full(n_images, -1, dtype=np.int64), np.empty((0, n_classes), dtype=np.float32)
        )

    def save(self, key: str, answers: Answers) -> None:
        """Keep answers; written atomically, so readers never see half a file.

        A full or read-only disk costs a later run one pass; the answers at hand are good.
        """
        path = self._path(key)
        if path is None:
            return
        rows, logits = answers.rows, answers.logits
        try:
            write_atomic(path, lambda f: np.savez(f, key=np.array(key), rows=rows, logits=logits))
        except ResourceError as error:
            log.info("outputs are not kept: %s", error)

    def _path(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / key[:2] / f"{key}.npz"


class Target:
    """One model under audit, as seen at one access level.

    Images are asked as :class:`Images` views (answers are cached) or as pixels: uint8
    ``[n, H, W, C]`` arrays or float tensors ``[n, C, H, W]`` in [0, 1] (answered afresh); volumes
    have their slices ``D`` before ``H``.
    Every image asked counts as one query, whether its answer was cached or not.

    Args:
        engine: Runs the model.
        card: The model's card.
        weights_sha256: sha256 of the checkpoint.
        access: The most that is granted; the model may have less to give.
        cache: Where answers are kept.
        part: The classes that are asked for, where the data have not all of the card's; the engine
            keeps only these.
        channel: A defence that changes the answers; it also bounds the access.

    Attributes:
        queries: Number of images asked so far.
        progress: Told the share done of a pass over many images.
    """

    def __init__(
        self,
        engine: Engine,
        card: ModelCard,
        weights_sha256: str,
        *,
        access: Access = Access.WEIGHTS,
        cache: OutputCache | None = None,
        part: Part | None = None,
        channel: Channel | None = None,
    ) -> None:
        """Start with no queries counted."""
        self._engine = engine
        self._cache = cache or OutputCache(None)
        self._memory: dict[str, Answers] = {}
        self._granted = access
        self.card = card
        self.weights_sha256 = weights_sha256
        self.part = part
        self.channel = channel
        self.queries = 0
        self.progress: Callable[[float], None] = _silent

    def limited(self, access: Access) -> Target:
        """Return the same model at the same or a lower level, with its own query counter.

        Raises:
            AccessError: If more access is asked for than there is.
        """
        self._allow(access)
        return self._again(access, self.channel)

    def defended(self, channel: Channel) -> Target:
        """Return the same model behind a defence, with its own query counter."""
        return self._again(self.access, channel)

    def _again(self, access: Access, channel: Channel | None) -> Target:
        target = Target(
            self._engine,
            self.card,
            self.weights_sha256,
            access=access,
            cache=self._cache,
            part=self.part,
            channel=channel,
        )
        target._memory = self._memory
        return target

    @property
    def num_classes(self) -> int:
        """Number of classes the model tells apart."""
        return self.card.num_classes if self.part is None else len(self.part.labels)

    @property
    def fingerprint(self) -> str:
        """Identity of weights, architecture, input spec and the classes that are asked for."""
        labels = self.part.labels if self.part else ()
        return self.card.model_fingerprint(self.weights_sha256, labels)

    @property
    def access(self) -> Access:
        """The most that may be touched: what was granted, or less where the model has no more.

        A defence bounds it, too.
        """
        most = min(self._granted, self._engine.access)
        return most if self.channel is None else min(most, self.channel.access)

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self._engine.device

    @property
    def precision(self) -> str:
        """One of the modes of :mod:`securitynet.targets.engine`, e.g. ``bf16+fp32``."""
        return self._engine.precision

    @property
    def runtime(self) -> dict[str, str]:
        """Version and provider of the runtime, empty where that is torch."""
        return self._engine.facts

    @property
    def parity(self) -> Parity | None:
        """Outcome of the parity check, ``None`` before it."""
        return self._engine.parity

    @property
    def engine(self) -> Engine:
        """What runs the model, for checks before any figure; only of a target that is not limited.

        An ONNX model has one too: it shows no weights.
        """
        self._allow(Access.WEIGHTS, self._granted)
        return self._engine

    def labels(self, images: Queries) -> NDArray[np.int64]:
        """Return predicted labels, int64 ``[n]``; needs ``Access.LABELS``."""
        logits = self._ask(images, Access.LABELS)
        answered = logits if self.channel is None else self._answered(logits)
        return np.asarray(answered.argmax(1), dtype=np.int64)

    def scores(self, images: Queries) -> NDArray[np.float64]:
        """Return posteriors (softmax), float64 ``[n, K]``; needs ``Access.SCORES``."""
        return np.exp(self.log_scores(images))

    def log_scores(self, images: Queries) -> NDArray[np.float64]:
        """Return log posteriors, float64 ``[n, K]``, exact where posteriors underflow.

        Needs ``Access.SCORES``: whoever sees posteriors sees their logarithm.
        """
        return self._answered(self._ask(images, Access.SCORES))

    def _answered(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        shifted = np.asarray(logits, dtype=np.float64)
        shifted = shifted - shifted.max(1, keepdims=True)
        log_p = np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))
        return log_p if self.channel is None else self.channel.respond(log_p)

    def logits(self, images: Queries) -> NDArray[np.float32]:
        """Return logits, float32 ``[n, K]``; needs ``Access.LOGITS``."""
        return self._ask(images, Access.LOGITS)

    def module(self) -> nn.Module:
        """Return the frozen module from pixels ``[n, C, H, W]`` in [0, 1] to logits.

        Needs ``Access.GRADIENTS``. BatchNorm is folded and memory is channels-last; its
        parameters carry no gradients, its input may.
        """
        self._allow(Access.GRADIENTS)
        return self._engine.fast

    def count(self, n_queries: int) -> None:
        """Count images that were put through :meth:`module` directly."""
        self.queries += n_queries

    def check_parity(self, first: Images, second: Images) -> Parity:
        """Check fast inference on two samples and fall back to plain fp32 where it differs."""
        return self._engine.check_parity(
            as_pixels(first.pixels()), as_pixels(second.pixels()), first.labels, second.labels
        )

    def _allow(self, needed: Access, granted: Access | None = None) -> None:
        granted = self.access if granted is None else granted
        if needed <= granted:
            return
        is_closed = granted == self._engine.access < self._granted
        raise AccessError(
            f"needs {needed.name} access, has {granted.name}",
            where=self.card.id,
            hint="an ONNX model gives scores only"
            if is_closed
            else "a method declares the access it needs in @method(access=...)",
            flags=["access"] if is_closed else [],
        )

    def _ask(self, images: Queries, needed: Access) -> NDArray[np.float32]:
        self._allow(needed)
        if len(images) == 0:
            raise ValueError("no images were asked")
        self.queries += len(images)
        if not isinstance(images, Images):
            tensor = images if isinstance(images, Tensor) else as_pixels(images)
            return self._run(lambda start, stop: tensor[start:stop], len(tensor))
        return self._cached(images)

    def _cached(self, images: Images) -> NDArray[np.float32]:
        model, source = self.fingerprint, images.source_fingerprint
        key = fingerprint([OUTPUTS, model, source, self._engine.signature])
        known = self._memory.get(key)
        if known is None:
            known = self._cache.load(key, len(images.source), self.num_classes)
            self._memory[key] = known
        fresh = known.missing(images.indices)
        if len(fresh):
            known.add(fresh, self._read_and_run(replace(images, indices=fresh)))
            self._cache.save(key, known)
        return known.of(images.indices)

    def _read_and_run(self, images: Images) -> NDArray[np.float32]:
        def read(start: int, stop: int) -> Tensor:
            self.progress(start / len(images))
            return as_pixels(images.pixels(start, stop))

        return self._run(read, len(images))

    def _run(self, pixels: Callable[[int, int], Tensor], n: int) -> NDArray[np.float32]:
        logits = self._engine.run(pixels, n)
        if logits.ndim != 2 or logits.shape[1] != self.num_classes:
            raise RefusedError(
                f"the model returns shape {list(logits.shape)}, its card says "
                f"{self.num_classes} classes",
                where=self.card.id,
                hint="correct num_classes or the architecture in the card",
                flags=["preflight", "class-count"],
            )
        if not np.isfinite(logits).all():
            share = float(np.mean(~np.isfinite(logits).all(axis=1)))
            raise RefusedError(
                f"{share:.1%} of the outputs are not finite",
                where=self.card.id,
                flags=["preflight", "not-finite"],
            )
        return logits


def as_pixels(images: Pixels) -> Tensor:
    """Turn uint8 ``[n, H, W, C]`` into floats in [0, 1], ``[n, C, H, W]``, channels-last.

    Volumes ``[n, D, H, W, C]`` become ``[n, C, D, H, W]``.
    """
    return torch.from_numpy(images).movedim(-1, 1).float().div_(255)
