"""Reversed triggers as small pictures, one a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securitynet.records import Evaluation
from securitynet.reports.tiles import Tile, encoded, factor_of, shrunk
from securitynet.reports.wording import nth_class, pixels

MOST_TILES = 20
GAP = 4
"""What lies between mask and pattern, in pixels as shown."""


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
        name, norm = nth_class(record, k) or str(k), pixels(float(norms[k]))
        suspicion = ", the most suspicious class" if k == suspect else ""
        tile = Tile(
            label=k,
            name=name,
            note=f"L1 {norm}{layer}{', most suspicious' if k == suspect else ''}",
            alt=f"Reversed trigger for class {name}{suspicion}; mask L1 norm {norm}{layer}",
            is_marked=k == suspect,
            png=png,
            factor=factor,
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
    return mask[heaviest], pattern[heaviest], f", slice {heaviest + 1} of {len(mask)}"


def _png(mask: NDArray[np.float32], pattern: NDArray[np.float32]) -> tuple[bytes, int]:
    """Return the picture with one pixel a pixel, and how many times larger to show it."""
    colour = pattern if pattern.shape[-1] == 3 else np.repeat(pattern[..., :1], 3, axis=-1)
    grey = np.repeat(mask[..., None], 3, axis=-1)
    both = (np.round(image.clip(0, 1) * 255) for image in (grey, mask[..., None] * colour))
    left, right = (shrunk(image.astype(np.uint8)) for image in both)
    factor = factor_of(left)
    gap = np.full((len(left), max(GAP // factor, 1), 3), 128, dtype=np.uint8)
    return encoded(np.concatenate([left, gap, right], axis=1)), factor
