"""NEO: a triggered input carries a patch that decides its label, and that of other images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from securitynet.backdoor._inputs import MIN_SCORED, conformal_threshold, disjoint_parts
from securitynet.errors import RefusedError
from securitynet.evidence import InputEvidence
from securitynet.registry import Access, method, option
from securitynet.training.backdoors import Trigger

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from securitynet.datasets.images import AuditData
    from securitynet.targets.context import Context
    from securitynet.targets.target import Target

NAME = "backdoor.neo"
Box = tuple[slice, ...]
LOOKS = (4, 10)
"""Clean images after which a patch that turned fewer than half of them is given up."""
MOST_POSITIONS = 1024  # of one size in one image, unless pixels would be left out
COLOUR_LEVELS = 4  # cells a channel of the histogram that tells the dominant colour
_BATCH = 2048  # images put together at a time


@method(
    NAME,
    access=Access.LABELS,
    paper="Udeshi et al., arXiv 1908.02203",
    cost="inputs of all three kinds x (positions + 1), one a clean image of the bank, and a few "
    "for every block that changes a label: 110,000 to 130,000 for images of 32x32 pixels by "
    "default, about a minute for ResNet-20 on one core",
    soundness="Bank, calibration, clean and triggered inputs are four disjoint parts of the clean "
    "images, so the threshold never saw what it judges. Only triggers in one place that fit into "
    "the block can be found: noise blended into the whole image is outside of what it looks for, "
    "and is not found (AUROC 0.46 on both of two models, 1.00 on two with a patch). Where no "
    "trigger is known, a standard patch that the model never saw stands in as a control and is "
    "flagged: its AUROC should not lie above 0.5.",
    variants=(),
    is_seeded=True,
)
@dataclass(frozen=True, kw_only=True)
class Neo:
    """NEO: does a patch of the input turn other images to the input's label?

    A block in the input's dominant colour is moved over every position, the last row and column
    included. Wherever it changes the label, the patch that it hid is pasted in the same place on
    clean images that the model gives another label. The score is the largest share of them that
    turn to the input's label. Their labels without a patch are asked once for all inputs. A patch
    is given up after 4 and after 10 clean images if it turned fewer than half, and counts as
    turning none of those it was spared.

    The threshold is set on other clean images at a stated false-rejection rate; the authors' is a
    share of 0.8. The dominant colour is the mean of the fullest of 4^C cells of the colour
    histogram: no clustering, so no chance.
    """

    sizes: tuple[int, ...] = option(
        (), "Sides of the block in pixels; none = a sixth of the shorter side, at least 2.", low=1
    )
    stride: int = option(
        0,
        "Pixels between positions, never more than the block; 0 = 1, or as many as 1,024 "
        "positions of a size take.",
        low=0,
    )
    n_pasted: int = option(20, "Clean images that a patch is pasted on.", low=LOOKS[0])
    n_scored: int = option(40, "Inputs of each kind, and calibration images.", low=MIN_SCORED)
    false_rejection: float = option(0.05, "Share of clean inputs rejected.", low=0.001, high=0.5)

    def __call__(self, target: Target, data: AuditData, context: Context) -> InputEvidence:
        """Score clean and triggered inputs.

        Raises:
            RefusedError: If there are too few clean images, or a block is larger than they are.
        """
        trigger = context.trigger if isinstance(context.trigger, Trigger) else None
        used = trigger or Trigger()
        boxes = self._boxes(data.clean.shape[:-1])
        parts = disjoint_parts(
            data.clean.take(context.rng.permutation(len(data.clean))),
            2 * self.n_pasted,
            self.n_scored,
            None if trigger is None else trigger.target,
            NAME,
        )
        bank = parts.bank.pixels()
        scorer = _Scorer(target, bank, target.labels(bank), self.n_pasted, boxes, context)
        reference = scorer.scores(parts.calibration.pixels(), "calibration images", 0.0)[0]
        threshold, is_resolved = conformal_threshold(reference, self.false_rejection)
        clean = scorer.scores(parts.clean.pixels(), "clean inputs", 1 / 3)[0]
        found = scorer.scores(used.apply(parts.others.pixels()), "triggered inputs", 2 / 3)
        flags = [] if trigger else ["no-known-trigger"]
        flags += [] if is_resolved else ["coarse-threshold"]
        return InputEvidence(
            clean_scores=clean,
            triggered_scores=found[0],
            threshold=threshold,
            flags=tuple(flags),
            details={
                "trigger": used.to_json(),
                "attack_success": float((found[2] == used.target).mean()),
                "false_rejection": self.false_rejection,
                "n_calibration": len(reference),
                "n_positions": len(boxes),
                "patches": [_corners(boxes[i]) if i >= 0 else None for i in found[1]],
            },
        )

    def _boxes(self, sides: tuple[int, ...]) -> list[Box]:
        """Return every place of every block.

        Raises:
            RefusedError: If a block does not leave anything of the image.
        """
        sizes = self.sizes or (max(2, min(sides) // 6),)
        if max(sizes) >= min(sides):
            raise RefusedError(
                f"a block of {max(sizes)} hides images of {'x'.join(map(str, sides))} pixels",
                where=NAME,
                hint=f"lower -o {NAME}.sizes",
                flags=["block-size"],
            )
        return [box for size in dict.fromkeys(sizes) for box in places(sides, size, self.stride)]


def places(sides: tuple[int, ...], size: int, stride: int = 0) -> list[Box]:
    """Return the places of a block of ``size`` pixels a side in an image, row after row.

    Args:
        sides: Height and width of the image, depth first for volumes.
        size: Side of the block, at most the shortest side.
        stride: Pixels between places, at most ``size`` so that no pixel is left out; the last
            place of every side is always among them. 0 = the smallest that gives at most
            ``MOST_POSITIONS`` places.
    """
    if not stride:
        stride = next(k for k in range(1, size + 1) if k == size or _is_few(sides, size, k))
    begins = [_begins(side, size, min(stride, size)) for side in sides]
    return [tuple(slice(i, i + size) for i in corner) for corner in product(*begins)]


def _is_few(sides: tuple[int, ...], size: int, stride: int) -> bool:
    return int(np.prod([len(_begins(side, size, stride)) for side in sides])) <= MOST_POSITIONS


def _begins(side: int, size: int, stride: int) -> list[int]:
    last = side - size
    return sorted({*range(0, last + 1, stride), last})


def _corners(box: Box) -> list[list[int]]:
    return [[part.start, part.stop] for part in box]


def dominant_colour(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the mean of the fullest cell of an image's colour histogram, uint8 ``[C]``.

    Args:
        image: uint8 ``[..., C]``. Every channel is cut into ``COLOUR_LEVELS`` equal cells; of
            equally full cells the darkest counts.
    """
    pixels = image.reshape(-1, image.shape[-1])
    levels = pixels.astype(np.int64) * COLOUR_LEVELS // 256
    cells = levels @ COLOUR_LEVELS ** np.arange(pixels.shape[1])
    is_in = cells == np.bincount(cells).argmax()
    return np.asarray(np.rint(pixels[is_in].mean(0)), dtype=np.uint8)


@dataclass(frozen=True)
class _Scorer:
    target: Target
    bank: NDArray[np.uint8]
    bank_labels: NDArray[np.int64]  # without a patch: asked once for all inputs
    n_pasted: int
    boxes: list[Box]
    context: Context

    def scores(
        self, pixels: NDArray[np.uint8], what: str, share: float
    ) -> tuple[NDArray[np.float64], list[int], NDArray[np.int64]]:
        """Score inputs.

        Returns:
            The scores, float64 ``[n]``; which box holds the patch behind each, -1 if no block
            changed the label; and the labels of the inputs, int64 ``[n]``.
        """
        labels, found = self.target.labels(pixels), []
        for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            self.context.progress(share + i / len(pixels) / 3, f"scoring {what}")
            found.append(self._score(image, int(label)))
        return np.array([score for score, _ in found]), [box for _, box in found], labels

    def _score(self, image: NDArray[np.uint8], label: int) -> tuple[float, int]:
        colour = dominant_colour(image)
        changed = []
        for start in range(0, len(self.boxes), _BATCH):
            blocked = np.repeat(image[None], len(self.boxes[start : start + _BATCH]), axis=0)
            for copy, box in zip(blocked, self.boxes[start:], strict=False):
                copy[box] = colour
            changed += (start + np.flatnonzero(self.target.labels(blocked) != label)).tolist()
        others = self.bank[self.bank_labels != label][: self.n_pasted]
        if not changed or not len(others):
            return 0.0, -1
        turned = self._turned(image, label, [self.boxes[i] for i in changed], others)
        return float(turned.max()) / len(others), changed[int(turned.argmax())]

    def _turned(
        self,
        image: NDArray[np.uint8],
        label: int,
        boxes: Sequence[Box],
        others: NDArray[np.uint8],
    ) -> NDArray[np.int64]:
        """Count the clean images that each patch turns, until it is given up."""
        turned, alive, done = np.zeros(len(boxes), dtype=np.int64), np.arange(len(boxes)), 0
        for look in (*(look for look in LOOKS if look < len(others)), len(others)):
            fresh = others[done:look]
            per_pass = max(1, _BATCH // len(fresh))
            for start in range(0, len(alive), per_pass):
                part = alive[start : start + per_pass]
                pasted = np.repeat(fresh[None], len(part), axis=0)
                for copies, i in zip(pasted, part, strict=True):
                    copies[(slice(None), *boxes[i])] = image[boxes[i]]
                asked = self.target.labels(pasted.reshape(-1, *image.shape))
                turned[part] += (asked.reshape(len(part), -1) == label).sum(1)
            alive, done = alive[2 * turned[alive] >= look], look
        return turned
