"""Training surrogates and their floors. The floor never sees the target, so models share it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from securitynet.datasets.images import AuditData, Images, Pixels
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

    def train(self, asked: Pixels, targets: NDArray[Any], seed: int) -> torch.nn.Module:
        """Return a network of the copy's kind trained on some images.

        Args:
            asked: The images, uint8 ``[n, H, W, C]`` or ``[n, D, H, W, C]``.
            targets: Labels ``[n]`` or posteriors ``[n, K]``.
            seed: Seed of weights, order and augmentation.
        """
        *sides, channels = asked.shape[1:]
        module = build_network(
            self.network, channels=channels, sides=tuple(sides),
            num_classes=self.data.num_classes, seed=seed,
        )  # fmt: skip
        return fit(module, asked, targets, recipe=self.recipe, seed=seed, device=self.device)

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
        asked: Pixels,
        answers: NDArray[Any],
        seed: int,
        log_p: NDArray[np.float64] | None = None,
    ) -> tuple[Labels, float | None]:
        """Train a copy; return its labels of the evaluation images and its divergence.

        Args:
            asked: Images that the target was asked about, uint8 ``[n, H, W, C]``.
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
        parts = [asked.fingerprint, seed]
        return self.kept(parts, cache, lambda: self.copied(asked.pixels(), asked.labels, seed)[0])

    def kept(self, parts: list[Any], cache: Path | None, train: Callable[[], Labels]) -> Labels:
        """Return a floor's labels of the evaluation images, trained once for all models.

        Args:
            parts: What tells it apart among floors of this recipe, JSON values.
            cache: Folder shared by all models; ``None`` keeps nothing.
            train: Trains it.
        """
        common = [FLOOR_VERSION, self.data.evaluation.fingerprint, self.network]
        key = fingerprint([*common, asdict(self.recipe), self.device.type, *parts])
        path = None if cache is None else cache / "floors" / f"{key}.npz"
        known = None if path is None else _kept_labels(path, len(self.data.evaluation))
        if known is not None:
            return known
        labels = train()
        if path is not None:
            write_atomic(path, lambda file: np.savez(file, labels=labels))
        return labels


def _kept_labels(path: Path, n: int) -> Labels | None:
    """Return what is kept; a missing or damaged file costs a training, no figure."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            labels: Labels = np.asarray(archive["labels"], dtype=np.int64)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    return labels if labels.shape == (n,) else None


def moved(
    module: torch.nn.Module, pixels: Pixels, labels: Labels, step: float, device: torch.device
) -> Pixels:
    """Return images moved along the sign of the gradient of their labels' log posterior.

    The posterior's own gradient has the same sign, and vanishes where it underflows.

    Args:
        module: Maps pixels in [0, 1] to logits; in evaluation mode.
        pixels: uint8 ``[n, H, W, C]`` or ``[n, D, H, W, C]``.
        labels: int64 ``[n]``.
        step: How far, of the pixel range; what leaves the range is cut off.
        device: Where the module is.
    """
    parts = []
    for start in range(0, len(pixels), 256):
        batch = as_pixels(pixels[start : start + 256]).to(device).requires_grad_(True)
        classes = torch.from_numpy(labels[start : start + 256]).to(device)
        chosen = torch.log_softmax(module(batch), 1).gather(1, classes[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, batch)
        made = (batch.detach() + step * gradient.sign()).clamp(0, 1)
        parts.append((made * 255).round().to(torch.uint8).movedim(1, -1).cpu().numpy())
    return np.concatenate(parts)


def mean_kl(log_p: NDArray[np.float64], log_q: NDArray[np.float64]) -> float:
    """Return the mean KL divergence of q from p in nats, both ``[n, K]`` log posteriors."""
    p = np.exp(log_p)
    return float(np.where(p > 0, p * (log_p - log_q), 0.0).sum(1).mean())
