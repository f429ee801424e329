"""How many threads of torch small images are worth."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch

SMALL_PIXELS = 256


@contextlib.contextmanager
def threads_for(*sides: int) -> Iterator[None]:
    """Use one thread for images of up to 16 x 16 pixels: there a second one only costs time.

    Args:
        sides: Rows and columns of an image; of a volume slices, rows and columns.
    """
    before = torch.get_num_threads()
    if math.prod(sides) <= SMALL_PIXELS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
