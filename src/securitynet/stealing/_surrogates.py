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

FLOOR_VERSION = 2
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Copyist:
    """Trains one kind of network on images and answers the evaluation images.

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

    def train(self, asked: Images, targets: NDArray[Any], seed: int) -> torch.nn.Module:
        """Return a network of the copy's kind trained on some images.

        Args:
            asked: The images.
            targets: Labels ``[n]`` or posteriors ``[n, K]``.
            seed: Seed of weights, order and augmentation.
        """
        *sides, channels = asked.shape
        module = build_network(
            self.network, channels=channels, sides=tuple(sides),
            num_classes=self.data.num_classes, seed=seed,
        )  # fmt: skip
        recipe, device = self.recipe, self.device
        return fit(module, asked.pixels(), targets, recipe=recipe, seed=seed, device=device)

    def log_scores(self, module: torch.nn.Module, images: Images) -> NDArray[np.float64]:
        """Return a network's log posteriors on some images, float64 ``[n, K]``."""
        parts = []
        with torch.inference_mode():
            for start in range(0, len(images), 256):
                batch = as_pixels(images.pixels(start, start + 256)).to(self.device)
                parts.append(torch.log_softmax(module(batch).double(), 1).cpu().numpy())
        return np.concatenate(parts)

    def copied(
        self,
        asked: Images,
        answers: NDArray[Any],
        seed: int,
        log_p: NDArray[np.float64] | None = None,
    ) -> tuple[Labels, float | None]:
        """Train a copy; return its labels of the evaluation images and its divergence.

        Args:
            asked: Images that the target was asked about.
            answers: Its labels ``[n]`` or posteriors ``[n, K]``.
            seed: Seed of weights, order and augmentation.
            log_p: The target's log posteriors on the evaluation images, if it shows them.

        Returns:
            Labels int64 ``[m]``, and the mean KL divergence in nats where ``log_p`` is known.
        """
        log_q = self.log_scores(self.train(asked, answers, seed), self.data.evaluation)
        labels = np.asarray(log_q.argmax(1), dtype=np.int64)
        return labels, None if log_p is None else mean_kl(log_p, log_q)

    def floor(self, asked: Images, seed: int, cache: Path | None) -> Labels | None:
        """Return predictions of the same recipe trained on true labels, cached across models.

        Args:
            asked: The images.
            seed: Seed of weights, order and augmentation.
            cache: Folder shared by all models; ``None`` keeps nothing.

        Returns:
            Labels of the evaluation images, int64 ``[m]``, or ``None``: images of another data set
            have no true labels, and whoever has only these and never asks learns nothing.
        """
        if asked.labels.min() < 0:
            return None
        path = None if cache is None else cache / "floors" / f"{self._key(asked, seed)}.npz"
        known = None if path is None else _kept_labels(path, len(self.data.evaluation))
        if known is not None:
            return known
        labels, _ = self.copied(asked, asked.labels, seed)
        if path is not None:
            write_atomic(path, lambda file: np.savez(file, labels=labels))
        return labels

    def _key(self, asked: Images, seed: int) -> str:
        views = [asked.fingerprint, self.data.evaluation.fingerprint]
        parts = [FLOOR_VERSION, *views, self.network, asdict(self.recipe), seed]
        return fingerprint([*parts, self.device.type])


def _kept_labels(path: Path, n: int) -> Labels | None:
    """Return what is kept; a missing or damaged file costs a training, no figure."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            labels: Labels = np.asarray(archive["labels"], dtype=np.int64)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    return labels if labels.shape == (n,) else None


def mean_kl(log_p: NDArray[np.float64], log_q: NDArray[np.float64]) -> float:
    """Return the mean KL divergence of q from p in nats, both ``[n, K]`` log posteriors."""
    p = np.exp(log_p)
    return float(np.where(p > 0, p * (log_p - log_q), 0.0).sum(1).mean())
