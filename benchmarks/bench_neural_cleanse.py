"""Neural Cleanse: all classes in one batch, against one class after the other as published."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ground import Ground
from pairs import Comparison, Quality
from securitynet.backdoor import _anomaly
from securitynet.backdoor._optimise import (
    BETAS,
    LEARNING_RATE,
    RUNNING,
    LambdaSchedule,
    Search,
    find_triggers,
)
from securitynet.targets.engine import as_logits, has_native_bf16
from securitynet.targets.target import as_pixels

Norms = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class NeuralCleanse:
    """All classes in one batch against one class at a time.

    Attributes:
        n_steps: Steps of the optimiser, the same on both sides.
        batch_size: Images a class and step, the same on both sides.
        n_images: Clean images to draw from.
        n_checked: Images a class that check our triggers again; fewer than the method's own 256,
            because the search is as much shorter.
        lambda_start: First positive weight of the mask norm, on both sides; larger than the
            method's own, to arrive in few steps.
    """

    n_steps: int = 80
    batch_size: int = 8
    n_images: int = 500
    n_checked: int = 64
    lambda_start: float = 1e-2

    def __call__(self, ground: Ground) -> Comparison[Norms, Norms]:
        """Prepare both sides."""
        planted = ground.planted
        engine, n_classes = planted.target.engine, planted.target.num_classes
        images = ground.subject.audit.data.clean.take(slice(self.n_images))
        pixels, labels = as_pixels(images.pixels()).to(engine.device), images.labels
        search = Search(
            n_steps=self.n_steps,
            batch_size=self.batch_size,
            lambda_start=self.lambda_start,
            threshold=0.99,
            use_bf16=has_native_bf16(engine.device),
            n_checked=self.n_checked,
        )

        def together() -> Norms:
            found = find_triggers(
                engine.fast, pixels, labels, n_classes, search, 0, lambda share: None
            )
            return found.norms

        def one_by_one() -> Norms:
            rng = np.random.default_rng(0)
            each = range(n_classes)
            return np.array(
                [smallest_mask(engine.plain, pixels, labels, k, search, rng) for k in each]
            )

        precision = "bf16" if search.use_bf16 else "fp32"
        return Comparison(
            ours=f"{n_classes} classes in one batch, {precision}, triggers checked again in fp32",
            other=f"{n_classes} classes one after the other, fp32, the module as given, no check",
            run_ours=together,
            run_other=one_by_one,
            judge=lambda ours, other: judged(ours, other, planted.trigger.target),
            n_items=self.n_steps * self.batch_size * n_classes,
            item="stamped image",
        )


def smallest_mask(
    module: nn.Module,
    pixels: Tensor,
    labels: NDArray[np.int64],
    label: int,
    search: Search,
    rng: np.random.Generator,
) -> float:
    """Search a trigger for one class with a plain loop of Adam; return the norm of its mask.

    Source: Wang et al., S&P 2019, section IV-B, with the same rule of success as ours: the mean
    attack success over the last images reaches the threshold. The smallest such mask counts.
    """
    pool = np.flatnonzero(labels != label)
    shape = (1 + pixels.shape[1], *pixels.shape[2:])
    start = torch.from_numpy(rng.uniform(-1, 1, shape).astype(np.float32))
    raw = start.to(pixels.device).requires_grad_()
    optimiser = torch.optim.Adam([raw], lr=LEARNING_RATE, betas=BETAS)
    schedule = LambdaSchedule(1, search.lambda_start)
    recent: deque[float] = deque(maxlen=-(-RUNNING // search.batch_size))
    goal = torch.full((search.batch_size,), label, device=pixels.device)
    smallest = float(pixels[0, 0].numel())
    for _ in range(search.n_steps):
        images = pixels[torch.from_numpy(rng.choice(pool, search.batch_size)).to(pixels.device)]
        trigger = torch.tanh(raw) / 2 + 0.5
        mask, pattern = trigger[:1], trigger[1:]
        logits = as_logits(module((1 - mask) * images + mask * pattern))
        loss = functional.cross_entropy(logits, goal) + float(schedule.value[0]) * mask.sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        recent.append(float((logits.argmax(1) == goal).float().mean()))
        is_success = float(np.mean(recent)) >= search.threshold
        if is_success:
            smallest = min(smallest, float(mask.detach().sum()))
        schedule.update(np.array([is_success]))
        optimiser.step()
    return smallest


def judged(ours: Norms, other: Norms, planted: int) -> Quality:
    """Compare the classes that both sides find, and how far their norms stand out."""
    figures, found = [], []
    for name, norms in (("ours", ours), ("the other", other)):
        deviates = _anomaly.deviates(np.log(norms))
        label = int(deviates.argmax())
        found.append(label)
        rest = float(np.median(np.delete(norms, label)))
        p = _anomaly.p_value(float(deviates[label]), len(norms))
        figures.append(
            f"{name} finds class {label} (mask norm {norms[label]:.1f}, median of the rest "
            f"{rest:.1f}, p = {p:.1g})"
        )
    return Quality(f"planted class {planted}; {'; '.join(figures)}", found == [planted, planted])


BENCHMARK = NeuralCleanse()
QUICK = NeuralCleanse(n_steps=30, n_images=200)
