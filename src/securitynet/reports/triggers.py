"""Reversed triggers as small pictures, one a class."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securitynet.records import Evaluation
from securitynet.reports.wording import number, plain, shortened

MOST_TILES = 20
SIDE = 80
"""Wanted side of an image in pixels: small ones grow by a whole factor, large ones shrink."""


@dataclass(frozen=True)
class Tile:
    """The reversed trigger of one class.

    Attributes:
        label: The class.
        name: Its name, or its number.
        norm: L1 norm of the mask in pixels, as text.
        is_infected: Whether it is the most suspicious class.
        png: Mask and pattern through the mask, side by side.
    """

    label: int
    name: str
    norm: str
    is_infected: bool
    png: bytes

    @property
    def alt(self) -> str:
        """The text read out instead of the picture."""
        suspicion = ", the most suspicious class" if self.is_infected else ""
        return f"Reversed trigger for class {self.name}{suspicion}; mask L1 norm {self.norm}"


def trigger_tiles(
    record: Evaluation, read_array: Callable[[str], NDArray[Any]]
) -> tuple[Tile, ...] | None:
    """Draw the reversed triggers: of many classes, those with the smallest masks.

    Args:
        record: A record with the blobs ``masks`` ``[K, H, W]`` and ``patterns``
            ``[K, H, W, C]``, both in [0, 1].
        read_array: Gives the array of a blob's sha256.

    Returns:
        Tiles in class order, or ``None`` if the record has no such blobs.
    """
    if not {"masks", "patterns"} <= set(record.blobs):
        return None
    masks = np.nan_to_num(np.asarray(read_array(record.blobs["masks"]), dtype=np.float32))
    patterns = np.nan_to_num(np.asarray(read_array(record.blobs["patterns"]), dtype=np.float32))
    norms = np.abs(masks).sum(axis=(1, 2))
    chosen = sorted(np.argsort(norms, kind="stable")[:MOST_TILES].tolist())
    infected = record.measures.get("infected_label")
    suspect = None if infected is None else infected.value
    classes = record.details.get("classes") or []
    return tuple(
        Tile(
            label=k,
            name=shortened(plain(classes[k]), 24) if k < len(classes) else str(k),
            norm=number(float(norms[k])),
            is_infected=k == suspect,
            png=_png(masks[k], patterns[k]),
        )
        for k in chosen
    )


def _png(mask: NDArray[np.float32], pattern: NDArray[np.float32]) -> bytes:
    from PIL import Image

    colour = pattern if pattern.shape[-1] == 3 else np.repeat(pattern[..., :1], 3, axis=-1)
    grey = np.repeat(mask[..., None], 3, axis=-1)
    images = [_sized(image) for image in (grey, mask[..., None] * colour)]
    gap = np.full((images[0].shape[0], 4, 3), 128, dtype=np.uint8)
    buffer = io.BytesIO()
    sheet = np.concatenate([images[0], gap, images[1]], axis=1)
    Image.fromarray(sheet).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _sized(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return 8-bit pixels, enlarged by repeating them or shrunk by averaging."""
    from PIL import Image

    pixels = np.round(image.clip(0, 1) * 255).astype(np.uint8)
    longest = max(pixels.shape[:2])
    if longest <= SIDE:
        factor = max(SIDE // longest, 1)
        return np.asarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))
    height, width = (max(round(side * SIDE / longest), 1) for side in pixels.shape[:2])
    shrunk = Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)
    return np.asarray(shrunk)
