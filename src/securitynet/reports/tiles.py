"""Small pictures with a few words below them, as a report lays them out side by side."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIDE = 80
"""Wanted side of a picture, in pixels: small ones are shown enlarged by a whole factor, large ones
shrink."""


@dataclass(frozen=True)
class Tile:
    """One small picture.

    Attributes:
        label: Its number, for file names.
        name: What is below it in full.
        note: What is below that, smaller.
        alt: The text read out instead of the picture.
        is_marked: Whether it stands out from the others.
        png: The picture, one pixel a pixel.
        factor: How many times larger it is shown.
    """

    label: int
    name: str
    note: str
    alt: str
    is_marked: bool
    png: bytes
    factor: int

    @property
    def width(self) -> int:
        """Width to show it at, in pixels."""
        return int.from_bytes(self.png[16:20]) * self.factor  # PNG keeps it in its first chunk


def factor_of(pixels: NDArray[np.uint8]) -> int:
    """Return how many times larger a small picture ``[H, W, 3]`` is shown."""
    return max(SIDE // int(max(pixels.shape[:2])), 1)


def shrunk(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return uint8 pixels ``[H, W, 3]``, of a large image fewer by averaging."""
    from PIL import Image

    longest = max(pixels.shape[:2])
    if longest <= SIDE:
        return pixels
    height, width = (max(round(side * SIDE / longest), 1) for side in pixels.shape[:2])
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)
    return np.asarray(resized)


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    """Return uint8 pixels ``[H, W, 3]`` as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def enlarged(tile: Tile) -> bytes:
    """Return a tile as PNG at the size it is shown at, for programs that smooth what they scale."""
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(tile.png)))
    return encoded(pixels.repeat(tile.factor, axis=0).repeat(tile.factor, axis=1))


def png_uri(data: bytes) -> str:
    """Return a PNG as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
