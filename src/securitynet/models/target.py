"""The target as an attack may touch it: access-limited, query-counted, batched, cached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from securitynet.catalogue.cards import ModelCard
from securitynet.datasets.images import Images, Pixels
from securitynet.errors import AccessError, RefusedError
from securitynet.files.atomic import write_atomic
from securitynet.models.engine import Engine, Parity
from securitynet.records import fingerprint
from securitynet.registry import Access

Queries = Images | Tensor | Pixels


@dataclass(frozen=True)
class OutputCache:
    """Cached logits, one memory-mapped file per (model, images, precision).

    Attributes:
        folder: Where the files lie; ``None`` keeps nothing.
    """

    folder: Path | None

    def load(self, key: str) -> NDArray[np.float32] | None:
        """Return cached logits ``[n, K]``, memory-mapped, or ``None``."""
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except (ValueError, OSError, EOFError):
            return None  # a damaged cache file costs a forward pass, never a wrong figure

    def save(self, key: str, logits: NDArray[np.float32]) -> None:
        """Keep logits; written atomically, so readers never see half a file."""
        path = self._path(key)
        if path is not None:
            write_atomic(path, lambda file: np.save(file, logits, allow_pickle=False))

    def _path(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / key[:2] / f"{key}.npy"


class Target:
    """One model under audit, as seen at one access level.

    Images are asked as :class:`Images` views (answers are cached) or as pixels: uint8
    ``[n, H, W, C]`` arrays or float tensors ``[n, C, H, W]`` in [0, 1] (answered afresh).
    Every image asked counts as one query, whether its answer was cached or not.

    Args:
        engine: Runs the model.
        card: The model's card.
        weights_sha256: sha256 of the checkpoint.
        access: The most that may be touched.
        cache: Where answers are kept.
    """

    def __init__(
        self,
        engine: Engine,
        card: ModelCard,
        weights_sha256: str,
        *,
        access: Access = Access.WEIGHTS,
        cache: OutputCache | None = None,
    ) -> None:
        """Start with no queries counted."""
        self._engine = engine
        self._cache = cache or OutputCache(None)
        self._memory: dict[str, NDArray[np.float32]] = {}
        self.card = card
        self.weights_sha256 = weights_sha256
        self.access = access
        self.queries = 0

    def limited(self, access: Access) -> Target:
        """Return the same model at a lower access level, with its own query counter."""
        target = Target(
            self._engine, self.card, self.weights_sha256, access=access, cache=self._cache
        )
        target._memory = self._memory
        return target

    @property
    def num_classes(self) -> int:
        """Number of classes the model tells apart."""
        return self.card.num_classes

    @property
    def fingerprint(self) -> str:
        """Identity of weights, architecture and input spec."""
        return self.card.model_fingerprint(self.weights_sha256)

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self._engine.device

    @property
    def precision(self) -> str:
        """``bf16``, ``fp32`` (BatchNorm folded) or ``fp32-plain``, once parity was checked."""
        parity = self._engine.parity
        return parity.precision if parity else self._engine.precision

    def labels(self, images: Queries) -> NDArray[np.int64]:
        """Return predicted labels, int64 ``[n]``; needs ``Access.LABELS``."""
        return np.asarray(self._ask(images, Access.LABELS).argmax(1), dtype=np.int64)

    def scores(self, images: Queries) -> NDArray[np.float64]:
        """Return posteriors (softmax), float64 ``[n, K]``; needs ``Access.SCORES``."""
        return np.exp(self.log_scores(images))

    def log_scores(self, images: Queries) -> NDArray[np.float64]:
        """Return log posteriors, float64 ``[n, K]``, exact where posteriors underflow.

        Needs ``Access.SCORES``: whoever sees posteriors sees their logarithm.
        """
        logits = np.asarray(self._ask(images, Access.SCORES), dtype=np.float64)
        shifted = logits - logits.max(1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))

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

    def _allow(self, needed: Access) -> None:
        if needed > self.access:
            raise AccessError(
                f"needs {needed.name} access, has {self.access.name}",
                where=self.card.id,
                hint="a method declares the access it needs in @method(access=...)",
            )

    def _ask(self, images: Queries, needed: Access) -> NDArray[np.float32]:
        self._allow(needed)
        if len(images) == 0:
            raise ValueError("no images were asked")
        self.queries += len(images)
        if not isinstance(images, Images):
            tensor = images if isinstance(images, Tensor) else as_pixels(images)
            return self._run(lambda start, stop: tensor[start:stop], len(tensor))
        key = fingerprint([self.fingerprint, images.fingerprint, self.precision])
        return self._cached(key, images)

    def _cached(self, key: str, images: Images) -> NDArray[np.float32]:
        logits = self._memory.get(key)
        if logits is None:
            logits = self._cache.load(key)
        if logits is None or logits.shape != (len(images), self.num_classes):
            logits = self._run(lambda i, j: as_pixels(images.pixels(i, j)), len(images))
            self._cache.save(key, logits)
        self._memory[key] = logits
        return logits

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
    """Turn uint8 ``[n, H, W, C]`` into floats in [0, 1], ``[n, C, H, W]``, channels-last."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)
