"""HopSkipJump: the L2 distance to the decision boundary from labels alone. Imports torch.

All samples go in step: every round asks for all of them at once, in batches that fit the memory.

Source: Chen, Jordan & Wainwright, S&P 2020, arXiv 1904.02144, algorithm 2, untargeted, L2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BATCH = 1024
N_STARTS = 20  # noise images tried as a start, as many others of the audit
N_HALVINGS = 20  # of a step that ends on the wrong side
FIRST_DELTA = 0.1  # of the pixel range; the paper's first probe
MOST_PROBES = 10_000


@dataclass(frozen=True)
class HopSkipJump:
    """One attack on many samples.

    Attributes:
        ask: Labels of images ``[m, C, H, W]`` in [0, 1], int64 ``[m]``.
        iterations: Rounds of probing, stepping and searching.
        probes: Probes of the first round; round t has this times sqrt(t).
        generator: Draws starts and probes.
    """

    ask: Callable[[Tensor], NDArray[np.int64]]
    iterations: int
    probes: int
    generator: torch.Generator

    def distances(self, images: Tensor, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return each image's L2 distance to the nearest image found that is labelled otherwise.

        An image whose own label is wrong lies beyond the boundary: 0. One for which no other label
        is found at all gets the largest distance there is, the diagonal of the pixel box.

        Args:
            images: ``[n, C, H, W]``, or volumes ``[n, C, D, H, W]``, in [0, 1].
            labels: True labels, int64 ``[n]``.
        """
        if images.ndim == 5:
            sides = images.shape[1:]
            flat = replace(self, ask=lambda pixels: self.ask(pixels.reshape(-1, *sides)))
            return flat.distances(images.flatten(1, 2), labels)
        found = np.full(len(images), float(images[0].numel() ** 0.5))
        right = self._labels(images) == labels
        found[~right] = 0.0
        at = np.flatnonzero(right)
        start, is_found = self._starts(images[at], labels[at])
        at, start = at[is_found], start[torch.from_numpy(is_found)]
        if len(at):
            found[at] = self._descend(images[at], start, labels[at])
        return found

    def _descend(self, x: Tensor, start: Tensor, y: NDArray[np.int64]) -> NDArray[np.float64]:
        edge = self._search(x, start, y)
        best = _norm(edge - x)
        for t in range(1, self.iterations + 1):
            distance = _norm(edge - x)
            width = float(x[0].numel() ** 0.5) * self._tolerance(x)
            delta = distance * width if t > 1 else torch.full_like(distance, FIRST_DELTA)
            n_probes = min(int(self.probes * t**0.5), MOST_PROBES)
            direction = self._direction(edge, y, delta, n_probes)
            edge = self._search(x, self._step(edge, direction, distance / t**0.5, y), y)
            best = torch.minimum(best, _norm(edge - x))
        return np.asarray(best.numpy(), dtype=np.float64)

    def _starts(self, x: Tensor, y: NDArray[np.int64]) -> tuple[Tensor, NDArray[np.bool_]]:
        """Return an image of another label for each: noise, else another image of the audit."""
        start, is_found = x.clone(), np.zeros(len(x), dtype=bool)
        for i in range(2 * N_STARTS):
            left = np.flatnonzero(~is_found)
            if not len(left):
                break
            if i < N_STARTS:
                tried = torch.rand((len(left), *x.shape[1:]), generator=self.generator)
            else:
                tried = x[torch.randint(len(x), (len(left),), generator=self.generator)]
            fits = self._labels(tried) != y[left]
            start[left[fits]] = tried[torch.from_numpy(fits)]
            is_found[left[fits]] = True
        return start, is_found

    def _tolerance(self, x: Tensor) -> float:
        return float(x[0].numel() ** -1.5)

    def _search(self, x: Tensor, beyond: Tensor, y: NDArray[np.int64]) -> Tensor:
        """Return the point beside the boundary on the line to ``x`` that is labelled otherwise."""
        low, high = torch.zeros(len(x)), torch.ones(len(x))
        while float((high - low).max()) > self._tolerance(x):
            middle = (low + high) / 2
            is_beyond = torch.from_numpy(self._labels(_mix(x, beyond, middle)) != y)
            high = torch.where(is_beyond, middle, high)
            low = torch.where(is_beyond, low, middle)
        return _mix(x, beyond, high)

    def _direction(
        self, edge: Tensor, y: NDArray[np.int64], delta: Tensor, n_probes: int
    ) -> Tensor:
        """Estimate the boundary's normal from the labels of probes around each edge point."""
        step = max(1, BATCH // n_probes)
        parts = [
            self._some_directions(
                edge[i : i + step], y[i : i + step], delta[i : i + step], n_probes
            )
            for i in range(0, len(edge), step)
        ]
        return torch.cat(parts)

    def _some_directions(
        self, edge: Tensor, y: NDArray[np.int64], delta: Tensor, n_probes: int
    ) -> Tensor:
        shape = (len(edge), n_probes, *edge.shape[1:])
        noise = torch.randn(shape, generator=self.generator)
        noise /= _norm(noise.flatten(0, 1)).view(len(edge), n_probes, 1, 1, 1)
        width = delta.view(-1, 1, 1, 1, 1)
        probes = (edge[:, None] + width * noise).clamp_(0, 1)
        seen = (probes - edge[:, None]) / width  # what is left after cutting to the pixel range
        is_beyond = self._labels(probes.flatten(0, 1)).reshape(len(edge), n_probes) != y[:, None]
        sign = torch.from_numpy(np.where(is_beyond, 1.0, -1.0).astype(np.float32))
        mean = sign.mean(1, keepdim=True)
        # all alike: their mean is all that is known, and the baseline would erase it
        weight = torch.where(mean.abs() == 1, sign, sign - mean)
        direction: Tensor = (weight.view(len(edge), n_probes, 1, 1, 1) * seen).mean(1)
        direction /= _norm(direction).clamp_min(1e-12).view(-1, 1, 1, 1)
        return direction

    def _step(self, edge: Tensor, direction: Tensor, size: Tensor, y: NDArray[np.int64]) -> Tensor:
        """Step along the direction, by half as far until the label is another; or stay."""
        size, reached = size.clone(), edge.clone()
        left = np.arange(len(edge))
        for _ in range(N_HALVINGS):
            moved = (edge[left] + size[left].view(-1, 1, 1, 1) * direction[left]).clamp_(0, 1)
            fits = self._labels(moved) != y[left]
            reached[left[fits]] = moved[torch.from_numpy(fits)]
            left = left[~fits]
            if not len(left):
                break
            size[left] /= 2
        return reached

    def _labels(self, images: Tensor) -> NDArray[np.int64]:
        parts = [self.ask(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def n_queries(iterations: int, probes: int, n_pixels: int) -> int:
    """Return about how many queries one sample takes."""
    search = int(np.ceil(1.5 * np.log2(n_pixels)))
    rounds = sum(int(probes * t**0.5) for t in range(1, iterations + 1))
    return rounds + (iterations + 1) * search + 3 * iterations


def _mix(x: Tensor, other: Tensor, share: Tensor) -> Tensor:
    return torch.lerp(x, other, share.view(-1, 1, 1, 1))


def _norm(images: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(images.flatten(1), dim=1)
    return norms
