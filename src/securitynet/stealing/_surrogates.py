"""Training surrogates and their floors. The floor never sees the target, so models share it."""

from __future__ import annotations

import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from securitynet.datasets.images import AuditData, Images
from securitynet.files.atomic import write_atomic
from securitynet.records import fingerprint
from securitynet.targets.networks import build_network
from securitynet.targets.target import as_pixels
from securitynet.training.trainer import Recipe, fit

FLOOR_VERSION = 1
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Copyist:
    """Trains one kind of network on query images and answers the evaluation images.

    Attributes:
        data: Views of the data.
        network: Name of the surrogate's architecture.
        recipe: How to train it.
        device: Where.
    """

    data: AuditData
    network: str
    recipe: Recipe
    device: torch.device

    def answers(self, budget: int, targets: NDArray[Any], seed: int) -> NDArray[np.float64]:
        """Train on the first ``budget`` queries; return log posteriors on the evaluation images.

        Args:
            budget: Number of query images.
            targets: Labels ``[budget]`` or posteriors ``[budget, K]``.
            seed: Seed of weights, order and augmentation.
        """
        *sides, channels = self.data.queries.shape
        module = build_network(
            self.network, channels=channels, sides=tuple(sides),
            num_classes=self.data.num_classes, seed=seed,
        )  # fmt: skip
        pixels = self.data.queries.pixels(0, budget)
        fit(module, pixels, targets, recipe=self.recipe, seed=seed, device=self.device)
        return _log_scores(module, self.data.evaluation, self.device)

    def floor(self, budget: int, seed: int, cache: Path | None) -> Labels:
        """Return predictions of the same recipe trained on true labels, cached across models.

        Args:
            budget: Number of query images.
            seed: Seed of weights, order and augmentation.
            cache: Folder shared by all models; ``None`` keeps nothing.

        Returns:
            Labels of the evaluation images, int64 ``[m]``.
        """
        path = None if cache is None else cache / "floors" / f"{self._key(budget, seed)}.npz"
        known = None if path is None else _kept_labels(path, len(self.data.evaluation))
        if known is not None:
            return known
        truth = self.data.queries.labels[:budget]
        labels = np.asarray(self.answers(budget, truth, seed).argmax(1), dtype=np.int64)
        if path is not None:
            write_atomic(path, lambda file: np.savez(file, labels=labels))
        return labels

    def _key(self, budget: int, seed: int) -> str:
        views = [self.data.queries.fingerprint, self.data.evaluation.fingerprint]
        parts = [FLOOR_VERSION, *views, self.network, asdict(self.recipe), budget, seed]
        return fingerprint([*parts, self.device.type])


def _kept_labels(path: Path, n: int) -> Labels | None:
    """Return what is kept; a missing or damaged file costs a training, no figure."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            labels: Labels = np.asarray(archive["labels"], dtype=np.int64)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    return labels if labels.shape == (n,) else None


def _log_scores(
    module: torch.nn.Module, images: Images, device: torch.device
) -> NDArray[np.float64]:
    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), 256):
            batch = as_pixels(images.pixels(start, start + 256)).to(device)
            parts.append(torch.log_softmax(module(batch).double(), 1).cpu().numpy())
    return np.concatenate(parts)


def mean_kl(log_p: NDArray[np.float64], log_q: NDArray[np.float64]) -> float:
    """Return the mean KL divergence of q from p in nats, both ``[n, K]`` log posteriors."""
    p = np.exp(log_p)
    return float(np.where(p > 0, p * (log_p - log_q), 0.0).sum(1).mean())
