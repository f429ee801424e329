"""How many threads of torch small images are worth."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

SMALL_PIXELS = 256


@contextlib.contextmanager
def threads_for(height: int, width: int) -> Iterator[None]:
    """Use one thread for images of up to 16 x 16 pixels: there a second one only costs time.

    Args:
        height: Rows of an image.
        width: Columns of an image.
    """
    before = torch.get_num_threads()
    if height * width <= SMALL_PIXELS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
