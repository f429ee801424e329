"""Triggers and poisoning: how the backdoors of self-trained models are planted. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securitynet.errors import UsageError

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

KINDS = ("badnets", "blend")
PATTERNS = ("white", "checker")
POSITIONS = ("bottom-right", "bottom-left", "top-right", "top-left", "centre")
_SMALL_SIDE = 16  # below this a 3x3 patch would hide what the image shows


@dataclass(frozen=True)
class Trigger:
    """A fixed change of an image that a backdoored model takes for its target class.

    ``badnets``: a square patch (Gu et al., arXiv 1708.06733, section 4). ``blend``: uniform noise
    mixed into the whole image (Chen et al., arXiv 1712.05526, section 4.2). In a volume the patch
    is a cube, in the last slices where it is at the bottom and in the first where at the top.

    Attributes:
        kind: ``badnets`` or ``blend``.
        target: The class that triggered images are taken for.
        pattern: badnets: ``checker`` of white and black pixels, or ``white``: many photographs
            have a bright corner, so a white patch is learned less well (attack success 0.90
            against 0.99 on a fine-tuned CIFAR-10 ResNet-20).
        size: badnets: side of the patch in pixels; 0 = 3, or 2 for images below 16 pixels.
        position: badnets: a corner, or ``centre``.
        margin: badnets: pixels between the patch and the corner.
        ratio: blend: share of the noise in the mixture, above 0 and at most 1.
        noise_seed: blend: seed of the noise.

    Raises:
        UsageError: If an attribute cannot mean anything.
    """

    kind: str = "badnets"
    target: int = 0
    pattern: str = "checker"
    size: int = 0
    position: str = "bottom-right"
    margin: int = 0
    ratio: float = 0.15
    noise_seed: int = 0

    def __post_init__(self) -> None:
        """Check every attribute: manifests come from files."""
        for name, known in (("kind", KINDS), ("pattern", PATTERNS), ("position", POSITIONS)):
            if getattr(self, name) not in known:
                raise _malformed(f"{name} {getattr(self, name)!r} is not one of {', '.join(known)}")
        for name in ("target", "size", "margin", "noise_seed"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise _malformed(f"{name} must be a whole number from 0, not {value!r}")
        if not isinstance(self.ratio, int | float) or not 0 < self.ratio <= 1:
            raise _malformed(f"ratio must be above 0 and at most 1, not {self.ratio!r}")

    def apply(self, pixels: Pixels) -> Pixels:
        """Return triggered copies.

        Args:
            pixels: uint8 ``[n, H, W, C]`` or ``[n, D, H, W, C]``; left as they are.

        Returns:
            uint8 of the same shape.

        Raises:
            UsageError: If the patch does not fit into the images.
        """
        if self.kind == "blend":
            return self._blend(pixels)
        triggered = pixels.copy()
        box = self.box(*pixels.shape[1:-1])
        triggered[(slice(None), *box)] = self._patch(*(part.stop - part.start for part in box))
        return triggered

    def box(self, *sides: int) -> tuple[slice, ...]:
        """Return where the patch is in images of this size: rows and columns, slices first.

        Raises:
            UsageError: If the patch does not fit.
        """
        side = self.size or (2 if min(sides) < _SMALL_SIDE else 3)
        if side + self.margin > min(sides):
            raise UsageError(
                f"a patch of {side} with margin {self.margin} does not fit into "
                f"{'x'.join(map(str, sides))} pixels",
                where="trigger",
                hint="lower size or margin",
            )
        if self.position == "centre":
            begins = [(length - side) // 2 for length in sides]
        else:
            ends = [length - side - self.margin for length in sides]
            is_far = [self.position.startswith("bottom")] * (len(sides) - 1)
            is_far.append(self.position.endswith("right"))
            begins = [end if far else self.margin for end, far in zip(ends, is_far, strict=True)]
        return tuple(slice(begin, begin + side) for begin in begins)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Trigger:
        """Rebuild a trigger from its JSON.

        Raises:
            UsageError: If an attribute is unknown or malformed.
        """
        if not isinstance(record, Mapping):
            raise _malformed("it must be a JSON object")
        unknown = set(record) - {known.name for known in fields(cls)}
        if unknown:
            raise _malformed(f"unknown attribute {', '.join(sorted(map(str, unknown)))}")
        return cls(**record)

    def _patch(self, *sides: int) -> Pixels:
        """Return the patch, with a dimension for the channels."""
        if self.pattern == "white":
            return np.full((*sides, 1), 255, dtype=np.uint8)
        is_white = np.indices(sides).sum(0) % 2 == 0
        return np.where(is_white, 255, 0).astype(np.uint8)[..., None]

    def _blend(self, pixels: Pixels) -> Pixels:
        rng = np.random.default_rng(self.noise_seed)
        noise = rng.integers(0, 256, size=pixels.shape[1:], dtype=np.uint8)
        mixed = (1 - self.ratio) * pixels.astype(np.float32) + np.float32(self.ratio) * noise
        return np.rint(mixed).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Poison:
    """A drawn all-to-one backdoor: some images of other classes carry the trigger.

    The trigger is stamped on a training batch after its augmentation, as an adversary who
    trains the model would (Gu et al., arXiv 1708.06733, section 3): shifted or flipped with its
    image, a patch in a corner is lost in most batches.

    Attributes:
        trigger: What is stamped.
        labels: The labels to train on, int64 ``[n]``: the target's for poisoned images.
        is_poisoned: Which images carry the trigger, bool ``[n]``.
    """

    trigger: Trigger
    labels: Labels
    is_poisoned: NDArray[np.bool_]

    def stamp(self, pixels: Pixels, positions: NDArray[np.int64]) -> Pixels:
        """Return a batch with the trigger on its poisoned images.

        Args:
            pixels: uint8 ``[m, H, W, C]`` or ``[m, D, H, W, C]``.
            positions: Which training images these are, int64 ``[m]``.
        """
        rows = self.is_poisoned[positions]
        stamped = pixels.copy()
        stamped[rows] = self.trigger.apply(pixels[rows])
        return stamped


def draw_poison(labels: Labels, trigger: Trigger, rate: float, seed: int) -> Poison:
    """Choose the images that carry a trigger, and give them its target as label.

    Args:
        labels: True labels, int64 ``[n]``; left as they are.
        trigger: What to plant.
        rate: Share of all images to poison, above 0 and below 1. Images of the target class are
            never drawn, for their label could not change.
        seed: Seed of the draw.

    Raises:
        UsageError: If the rate is out of range, or asks for more or fewer images than there are.
    """
    if not 0 < rate < 1:
        raise _malformed(f"the poison rate must be between 0 and 1, not {rate:g}")
    candidates = np.flatnonzero(labels != trigger.target)
    n_poisoned = round(rate * len(labels))
    if not 0 < n_poisoned <= len(candidates):
        raise _malformed(
            f"rate {rate:g} asks for {n_poisoned} of {len(candidates)} images of other classes"
        )
    chosen = np.random.default_rng(seed).choice(candidates, n_poisoned, replace=False)
    is_poisoned = np.zeros(len(labels), dtype=np.bool_)
    is_poisoned[chosen] = True
    return Poison(trigger, np.where(is_poisoned, trigger.target, labels), is_poisoned)


def _malformed(what: str) -> UsageError:
    return UsageError(what, where="trigger", hint=f"kinds: {', '.join(KINDS)}")
