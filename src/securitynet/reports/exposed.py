"""The training images that an attack finds first, as small pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securitynet.records import Evaluation
from securitynet.reports.tiles import Tile, encoded, factor_of, shrunk
from securitynet.reports.wording import shown


def exposed_tiles(
    record: Evaluation, read_array: Callable[[str], NDArray[Any]]
) -> tuple[Tile, ...] | None:
    """Draw the members that an attack ranks highest.

    Args:
        record: A record with the blob ``exposed`` (uint8 ``[m, H, W, C]``) and, one each,
            ``details.exposed`` (``class``, ``n_above``: non-members scoring at least as high).
        read_array: Gives the array of a blob's sha256.

    Returns:
        Tiles, the most exposed first, or ``None`` if the record has none.

    Raises:
        ValueError: If pixels and details do not fit.
    """
    facts = record.details.get("exposed")
    if "exposed" not in record.blobs or not facts:
        return None
    images = np.asarray(read_array(record.blobs["exposed"]))
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(facts):
        raise ValueError("exposed images and their details do not fit")
    return tuple(_tile(i, images[i], facts[i]) for i in range(len(facts)))


def _tile(i: int, image: NDArray[np.uint8], facts: dict[str, Any]) -> Tile:
    pixels = shrunk(image if image.shape[-1] == 3 else np.repeat(image[..., :1], 3, axis=-1))
    name, n_above = shown(facts["class"], 24), int(facts["n_above"])
    note = f"{n_above:,} non-member{'' if n_above == 1 else 's'} above"
    return Tile(
        label=i,
        name=name,
        note=note,
        alt=f"Training image of class {name}; {note}",
        is_marked=n_above == 0,
        png=encoded(pixels),
        factor=factor_of(pixels),
    )
