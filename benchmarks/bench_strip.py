"""STRIP: inputs superimposed and asked in batches, against one input at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ground import Ground, uncached
from pairs import Comparison, Quality, compare_aucs
from securitynet.backdoor._inputs import disjoint_parts
from securitynet.backdoor.strip import Strip
from securitynet.targets.context import Context
from securitynet.targets.engine import as_logits
from securitynet.targets.target import as_pixels

Pixels = NDArray[np.uint8]
Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class StripBatched:
    """STRIP in batches against one input at a time.

    Attributes:
        n_overlays: Overlays an input.
        n_scored: Inputs of each kind (clean, triggered), and calibration images; at least 20.
    """

    n_overlays: int = 32
    n_scored: int = 60

    def __call__(self, ground: Ground) -> Comparison[Pair, Pair]:
        """Prepare both sides on the very same inputs and overlays."""
        planted, data = ground.planted, ground.subject.audit.data
        target, context = planted.target, Context(trigger=planted.trigger)
        method = Strip(n_overlays=self.n_overlays, n_scored=self.n_scored)
        bank, *parts = (
            part.pixels()
            for part in disjoint_parts(
                data.clean.take(context.rng.permutation(len(data.clean))),
                self.n_overlays,
                self.n_scored,
                planted.trigger.target,
                "backdoor.strip",
            )
        )
        parts[2] = planted.trigger.apply(parts[2])

        def batched() -> Pair:
            evidence = method(uncached(target), data, context)
            return evidence.clean_scores, evidence.triggered_scores

        def one_by_one() -> Pair:
            engine = target.engine
            scores = [plain_scores(engine.plain, part, bank, engine.device) for part in parts]
            return scores[1], scores[2]  # the first are the calibration images

        return Comparison(
            ours=f"inputs and {len(bank)} overlays each in batches, {target.precision}",
            other=f"one input and its {len(bank)} overlays at a time, fp32, the module as given",
            run_ours=batched,
            run_other=one_by_one,
            judge=judged,
            n_items=sum(map(len, parts)),
            item="input",
        )


def plain_scores(
    module: nn.Module, inputs: Pixels, bank: Pixels, device: torch.device
) -> NDArray[np.float64]:
    """Score inputs in a plain loop: minus the mean entropy over overlays, in nats, ``[n]``.

    Source: Gao et al., ACSAC 2019, section 4.
    """
    scores = []
    for image in inputs:
        mixed = [np.minimum(image.astype(np.uint16) + overlay, 255) for overlay in bank]
        batch = as_pixels(np.stack(mixed).astype(np.uint8)).to(device)
        with torch.inference_mode():
            log_p = as_logits(module(batch)).double().log_softmax(1)
        scores.append(float((log_p.exp() * log_p).sum(1).mean()))
    return np.array(scores)


def judged(ours: Pair, other: Pair) -> Quality:
    """Compare the AUROC of triggered inputs against clean ones."""
    aucs = compare_aucs(ours[::-1], other[::-1])
    largest = max(float(np.abs(a - b).max()) for a, b in zip(ours, other, strict=True))
    return Quality(
        f"{aucs.figures}, triggered against clean inputs; a score differs by at most "
        f"{largest:.4f} nats",
        aucs.is_equal,
    )


BENCHMARK = StripBatched()
QUICK = StripBatched(n_overlays=8, n_scored=20)
