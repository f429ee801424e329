"""Neural Cleanse, with a p-value that knows the number of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from securitynet.backdoor import _anomaly
from securitynet.errors import RefusedError
from securitynet.evidence import TriggerEvidence
from securitynet.registry import Access, method, option

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from securitynet.backdoor._optimise import Found, Search
    from securitynet.datasets.images import AuditData, Images
    from securitynet.targets.context import Context
    from securitynet.targets.target import Target

WORKING_TRIGGER = 0.75
MIN_OTHERS = 8  # images of other classes, in either half, for every class


@method(
    "backdoor.neural_cleanse",
    access=Access.GRADIENTS,
    paper="Wang et al., S&P 2019, sections IV-B and IV-C",
    cost="steps x images x classes x restarts forward and backward passes: 38,400 at 10 classes, "
    "about 40 s for ResNet-20 on two cores",
    version=2,
    soundness="Triggers are found, and checked again, on one half of the clean images and judged "
    "on the other. The p-value compares the smallest log norm with independent normal ones, a "
    "tenth of the classes (those with the largest norms) left out and a spread below 0.15 not "
    "believed; needs at least 4 classes and "
    "assumes that one class at most is infected. The paper's 'anomaly index above 2' flags a "
    "third of all clean models with 10 classes and is kept for comparison only.",
    is_seeded=True,
)
@dataclass(frozen=True, kw_only=True)
class NeuralCleanse:
    """Neural Cleanse: is one class reached by a far smaller trigger than the others?

    For every class, the smallest patch that turns images of other classes to it is found; all
    classes share one batch. The statistic is the largest leave-one-out deviate of the log mask
    norms; the paper's anomaly index stands beside it in the details. A class whose trigger never
    reached the threshold has the norm of the whole image, the largest there is, so it cannot be
    called infected.

    The search checks a trigger on few images at a time, and the smallest of many that passed is
    the luckiest. So the smallest ones are checked again on more images, in full precision, where
    they must keep ``check_threshold``.
    """

    n_steps: int = option(240, "Optimiser steps of one search.", low=10)
    batch_size: int = option(16, "Images a class and step.", low=2)
    n_restarts: int = option(1, "Searches from other starts; the log norms are averaged.", low=1)
    lambda_start: float = option(1e-3, "First positive weight of the mask norm.", low=1e-9)
    threshold: float = option(0.99, "Attack success wanted in the search.", low=0.5, high=1)
    check_threshold: float = option(
        0.95, "Attack success a trigger must keep when checked again.", low=0.5, high=1
    )
    n_checked: int = option(256, "Images a class that check its triggers again.", low=20)
    n_judged: int = option(200, "Held-out images a class that judge its trigger.", low=20)

    def __call__(self, target: Target, data: AuditData, context: Context) -> TriggerEvidence:
        """Search on one half of the clean images, judge on the other.

        Raises:
            RefusedError: If there are too few classes or clean images.
        """
        half = len(data.clean) // 2
        searched, held_out = data.clean.take(slice(half)), data.clean.take(slice(half, None))
        _check(target.num_classes, searched, held_out)
        runs = [self._search(target, searched, context, i) for i in range(self.n_restarts)]
        norms = np.stack([run.norms for run in runs])
        masks, patterns = _smallest(runs)
        success, n_judged = self._judge(target, masks, patterns, held_out)
        mean_norms = np.exp(np.log(norms).mean(0))
        deviates = _anomaly.deviates(np.log(mean_norms))
        infected = int(deviates.argmax())
        is_reached = np.logical_or.reduce([run.is_reached for run in runs])
        return TriggerEvidence(
            norms=mean_norms,
            attack_success=success,
            statistic=float(deviates[infected]),
            p_value=_anomaly.p_value(float(deviates[infected]), target.num_classes),
            infected_label=infected,
            n_images=n_judged,
            masks=masks[:, 0],
            patterns=np.ascontiguousarray(np.moveaxis(patterns, 1, -1)),
            flags=_flags(is_reached, float(success[infected])),
            details={
                "anomaly_index": _anomaly.anomaly_index(mean_norms),
                "deviates": deviates.tolist(),
                "is_reached": is_reached.tolist(),
                "norms_by_restart": norms.tolist(),
                "n_gradient_queries": sum(run.n_queries for run in runs),
            },
        )

    def _search(self, target: Target, images: Images, context: Context, restart: int) -> Found:
        from securitynet.backdoor._optimise import find_triggers
        from securitynet.targets.target import as_pixels

        found = find_triggers(
            target.module(),
            as_pixels(images.pixels()).to(target.device),
            images.labels,
            target.num_classes,
            self._settings(target),
            (context.seed, restart),
            lambda share: context.progress((restart + share) / self.n_restarts, "searching"),
        )
        target.count(found.n_queries)
        return found

    def _settings(self, target: Target) -> Search:
        from securitynet.backdoor._optimise import Search
        from securitynet.targets.engine import has_native_bf16

        is_bf16 = has_native_bf16(target.device)  # found triggers are checked in full precision
        return Search(
            n_steps=self.n_steps,
            batch_size=self.batch_size,
            lambda_start=self.lambda_start,
            threshold=self.threshold,
            use_bf16=is_bf16,
            n_checked=self.n_checked,
            check_threshold=self.check_threshold,
        )

    def _judge(
        self,
        target: Target,
        masks: NDArray[np.float32],
        patterns: NDArray[np.float32],
        images: Images,
    ) -> tuple[NDArray[np.float64], int]:
        """Return the share of held-out images of other classes turned to each class, and n."""
        import torch

        from securitynet.targets.target import as_pixels

        pixels, labels = as_pixels(images.pixels()), images.labels
        n_judged = min(self.n_judged, _fewest_others(images, len(masks)))
        shares = np.zeros(len(masks))
        for k in range(len(shares)):
            mask, pattern = torch.from_numpy(masks[k]), torch.from_numpy(patterns[k])
            others = pixels[np.flatnonzero(labels != k)[:n_judged]]
            stamped = (1 - mask) * others + mask * pattern
            shares[k] = (target.labels(stamped) == k).mean()
        return shares, n_judged


def _check(n_classes: int, *halves: Images) -> None:
    where = "backdoor.neural_cleanse"
    if n_classes < _anomaly.MIN_CLASSES:
        raise RefusedError(
            f"needs at least {_anomaly.MIN_CLASSES} classes, the model has {n_classes}",
            where=where,
            hint="one norm cannot stand out from fewer",
            flags=["few-classes"],
        )
    if min(_fewest_others(half, n_classes) for half in halves) < MIN_OTHERS:
        raise RefusedError(
            f"{sum(map(len, halves))} clean images are too few to search and to judge on",
            where=where,
            hint="raise --limit",
            flags=["few-images"],
        )


def _fewest_others(images: Images, n_classes: int) -> int:
    counts = np.bincount(images.labels, minlength=n_classes)
    return int(len(images) - counts.max())


def _smallest(runs: Sequence[Found]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return each class's smallest mask and its pattern over the restarts, NCHW."""
    winner = np.argmin([run.norms for run in runs], axis=0)
    classes = np.arange(len(winner))

    def pick(values: list[Any]) -> NDArray[np.float32]:
        stacked = np.stack([value.float().cpu().numpy() for value in values])
        return np.asarray(stacked[winner, classes], dtype=np.float32)

    return pick([run.masks for run in runs]), pick([run.patterns for run in runs])


def _flags(is_reached: NDArray[np.bool_], success: float) -> tuple[str, ...]:
    flags = [] if is_reached.all() else ["trigger-not-reached"]
    return (*flags, "weak-trigger") if success < WORKING_TRIGGER else tuple(flags)
