"""Reversed triggers as small pictures, one a class."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securitynet.records import Evaluation
from securitynet.reports.wording import nth_class, pixels

MOST_TILES = 20
SIDE, GAP = 80, 4
"""Wanted side of an image and what lies between two, in pixels: small images are shown enlarged by
a whole factor, large ones shrink."""


@dataclass(frozen=True)
class Tile:
    """The reversed trigger of one class.

    Attributes:
        label: The class.
        name: Its name, or its number.
        norm: L1 norm of the mask in pixels, as text.
        is_infected: Whether it is the most suspicious class.
        png: Mask and pattern through the mask, side by side, one pixel a pixel.
        factor: How many times larger it is shown.
        layer: Of a volume: which slice this is and of how many, as text; else empty.
    """

    label: int
    name: str
    norm: str
    is_infected: bool
    png: bytes
    factor: int
    layer: str = ""

    @property
    def width(self) -> int:
        """Width to show it at, in pixels."""
        return int.from_bytes(self.png[16:20]) * self.factor  # PNG keeps it in its first chunk

    @property
    def alt(self) -> str:
        """The text read out instead of the picture."""
        suspicion = ", the most suspicious class" if self.is_infected else ""
        layer = f", {self.layer}" if self.layer else ""
        return f"Reversed trigger for class {self.name}{suspicion}; mask L1 norm {self.norm}{layer}"


def trigger_tiles(
    record: Evaluation, read_array: Callable[[str], NDArray[Any]]
) -> tuple[Tile, ...] | None:
    """Draw the reversed triggers: of many classes, the suspect and those with the smallest masks.

    Args:
        record: A record with the blobs ``masks`` ``[K, H, W]`` and ``patterns``
            ``[K, H, W, C]``, both in [0, 1]. Of volumes ``[K, D, H, W]`` and ``[K, D, H, W, C]``
            the slice is drawn on which the mask is heaviest.
        read_array: Gives the array of a blob's sha256.

    Returns:
        Tiles in class order, or ``None`` if the record has no such blobs.

    Raises:
        ValueError: If their shapes are others.
    """
    if not {"masks", "patterns"} <= set(record.blobs):
        return None
    masks = np.nan_to_num(np.asarray(read_array(record.blobs["masks"]), dtype=np.float32))
    patterns = np.nan_to_num(np.asarray(read_array(record.blobs["patterns"]), dtype=np.float32))
    is_drawable = masks.ndim in (3, 4) and patterns.shape[-1] in (1, 3)
    if masks.shape != patterns.shape[:-1] or not is_drawable:
        raise ValueError("masks and patterns do not fit")
    norms = np.abs(masks).reshape(len(masks), -1).sum(axis=1)
    infected = record.measures.get("infected_label")
    suspect = None if infected is None else infected.value
    order = sorted(range(len(norms)), key=lambda k: (k != suspect, norms[k]))
    chosen = sorted(order[:MOST_TILES])
    tiles = []
    for k in chosen:
        mask, pattern, layer = _flat(masks[k], patterns[k])
        png, factor = _png(mask, pattern)
        tile = Tile(
            label=k,
            name=nth_class(record, k) or str(k),
            norm=pixels(float(norms[k])),
            is_infected=k == suspect,
            png=png,
            factor=factor,
            layer=layer,
        )
        tiles.append(tile)
    return tuple(tiles)


def _flat(
    mask: NDArray[np.float32], pattern: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], str]:
    """Return a picture's mask and pattern, or a volume's slice and which one it is."""
    if mask.ndim == 2:
        return mask, pattern, ""
    heaviest = int(mask.sum(axis=(1, 2)).argmax())
    return mask[heaviest], pattern[heaviest], f"slice {heaviest + 1} of {len(mask)}"


def _png(mask: NDArray[np.float32], pattern: NDArray[np.float32]) -> tuple[bytes, int]:
    """Return the picture with one pixel a pixel, and how many times larger to show it."""
    colour = pattern if pattern.shape[-1] == 3 else np.repeat(pattern[..., :1], 3, axis=-1)
    grey = np.repeat(mask[..., None], 3, axis=-1)
    left, right = (_pixels(image) for image in (grey, mask[..., None] * colour))
    factor = max(SIDE // max(left.shape[:2]), 1)
    gap = np.full((len(left), max(GAP // factor, 1), 3), 128, dtype=np.uint8)
    return _encoded(np.concatenate([left, gap, right], axis=1)), factor


def _pixels(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return 8-bit pixels, of a large image fewer by averaging."""
    from PIL import Image

    pixels = np.round(image.clip(0, 1) * 255).astype(np.uint8)
    longest = max(pixels.shape[:2])
    if longest <= SIDE:
        return pixels
    height, width = (max(round(side * SIDE / longest), 1) for side in pixels.shape[:2])
    shrunk = Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)
    return np.asarray(shrunk)


def _encoded(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def enlarged(tile: Tile) -> bytes:
    """Return a tile as PNG at the size it is shown at, for programs that smooth what they scale."""
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(tile.png)))
    return _encoded(pixels.repeat(tile.factor, axis=0).repeat(tile.factor, axis=1))


def png_uri(data: bytes) -> str:
    """Return a PNG as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
