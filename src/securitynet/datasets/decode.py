"""All images of a source to one uint8 array ``[N, H, W, C]``, in order and in bounded memory."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np

from securitynet.datasets.images import Pixels
from securitynet.datasets.pictures import (
    Encoded,
    Header,
    Size,
    UnreadableImageError,
    header,
    open_image,
    pixels_of,
    quiet_pillow,
)
from securitynet.datasets.sources import Source
from securitynet.errors import IntegrityError

Progress = Callable[[float, str], None]

MAX_UNREADABLE = 0.01
MAX_EQUAL_SIDE = 512
MAX_RESIZED_SIDE = 256
# Below this, Pillow holds the interpreter lock for most of an image and threads only cost time
# (measured on 2 cores: 32x32 1.3 times slower, 64x64 equal, 224x224 1.3 times faster).
THREADED_PIXELS = 64 * 64
SLICE = 16
HELD_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Shape:
    """What all images are decoded to.

    Attributes:
        size: Height and width in pixels.
        is_gray: Whether to keep one channel.
        is_strict: Whether an image of another kind stops the decoding instead of being adapted.
        is_bilinear: Whether images are resized bilinearly instead of bicubically.
    """

    size: Size
    is_gray: bool
    is_strict: bool
    is_bilinear: bool = False


@dataclass
class Tally:
    """What became of the images.

    Attributes:
        is_kept: Per image, whether it was decoded.
        formats: How many images of which file format.
        sizes: How many images of which height and width.
        reasons: How many images could not be decoded for which reason.
        first: Position of the first image that could not be decoded.
    """

    is_kept: list[bool] = field(default_factory=list)
    formats: Counter[str] = field(default_factory=Counter)
    sizes: Counter[Size] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    first: int | None = None

    def add(self, outcome: Header | str) -> None:
        """Count one image: its header, or the reason why there is none."""
        self.is_kept.append(not isinstance(outcome, str))
        if isinstance(outcome, str):
            self.reasons[outcome] += 1
            self.first = len(self.is_kept) - 1 if self.first is None else self.first
        else:
            self.formats[outcome.format] += 1
            self.sizes[outcome.size] += 1

    @property
    def n_unreadable(self) -> int:
        """Number of images that could not be decoded."""
        return self.reasons.total()


class UnequalImagesError(ValueError):
    """Raised when an image differs from those before it; never leaves the decoding."""


def decode_images(
    source: Source, write: Callable[[Pixels], object], progress: Progress, shape: Shape
) -> Tally:
    """Decode all images in order.

    Args:
        source: The encoded images.
        write: Receives the pixels of the readable images, uint8 ``[m, H, W, C]``, in order.
        progress: Told the share done and a few words.
        shape: What to decode to.

    Raises:
        IntegrityError: If more than 1% of the images cannot be decoded.
        UnequalImagesError: If ``shape.is_strict`` and the images differ.
    """
    tally = Tally()
    with quiet_pillow(), _executor(shape) as executor:
        for encoded in _chunks(source, progress, "decoding images"):
            for part in _parts(encoded, _held(shape)):
                outcomes = _decode_part(part, shape, executor)
                for outcome in outcomes:
                    tally.add(outcome if isinstance(outcome, str) else outcome[0])
                if kept := [outcome[1] for outcome in outcomes if not isinstance(outcome, str)]:
                    write(np.stack(kept))
    check_readable(source, tally)
    return tally


def equal_shape(source: Source) -> Shape | None:
    """Guess from the first readable image what all images are; ``None`` if too large to keep."""
    with quiet_pillow():
        for encoded in source.chunks():
            for one in encoded:
                outcome = _look(one)
                if not isinstance(outcome, str):
                    is_small = max(outcome.size) <= MAX_EQUAL_SIDE
                    return Shape(outcome.size, outcome.is_gray, True) if is_small else None
    return None


def common_shape(source: Source, progress: Progress) -> Shape:
    """Read all headers and choose the median size, at most 256 a side, and the channels.

    Images of one size are kept at it up to 512 a side. One channel is kept only if all images
    are gray.

    Raises:
        IntegrityError: If more than 1% of the images cannot be opened.
    """
    tally = Tally()
    is_gray = True
    with quiet_pillow():
        for encoded in _chunks(source, progress, "reading image sizes"):
            for one in encoded:
                outcome = _look(one)
                tally.add(outcome)
                is_gray = is_gray and (isinstance(outcome, str) or outcome.is_gray)
    check_readable(source, tally)
    return Shape(_common_size(tally.sizes), is_gray, False)


def check_readable(source: Source, tally: Tally) -> None:
    """Refuse a source of which more than 1% cannot be decoded.

    Raises:
        IntegrityError: With the count, the reasons and the place of the first.
    """
    n_images = len(tally.is_kept)
    if tally.first is None or tally.n_unreadable <= MAX_UNREADABLE * n_images:
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in tally.reasons.most_common(3))
    raise IntegrityError(
        f"{tally.n_unreadable} of {n_images} images cannot be read ({reasons}), this one first",
        where=source.place(tally.first),
        hint="fetch the data again or remove what is no image",
    )


def _chunks(source: Source, progress: Progress, text: str) -> Iterator[Sequence[Encoded]]:
    total = len(source.train) + len(source.test)
    n_done = 0
    for encoded in source.chunks():
        progress(n_done / total, text)
        yield encoded
        n_done += len(encoded)
    progress(1.0, text)


def _look(encoded: Encoded) -> Header | str:
    try:
        with open_image(encoded) as image:
            return header(image)
    except UnreadableImageError as error:
        return str(error)


def _held(shape: Shape) -> int:
    """Choose how many decoded images to hold at a time."""
    n_bytes = shape.size[0] * shape.size[1] * (1 if shape.is_gray else 3)
    return max(SLICE, HELD_BYTES // n_bytes)


def _parts(encoded: Sequence[Encoded], length: int) -> Iterator[Sequence[Encoded]]:
    for start in range(0, len(encoded), length):
        yield encoded[start : start + length]


def _decode_part(
    encoded: Sequence[Encoded], shape: Shape, executor: Executor | None
) -> list[tuple[Header, Pixels] | str]:
    if executor is None:
        return [_decode(one, shape) for one in encoded]
    slices = _parts(encoded, SLICE)
    done = executor.map(lambda part: [_decode(one, shape) for one in part], slices)
    return [outcome for part in done for outcome in part]


def _decode(encoded: Encoded, shape: Shape) -> tuple[Header, Pixels] | str:
    try:
        with open_image(encoded) as image:
            seen = header(image)
            if shape.is_strict and (seen.size, seen.is_gray) != (shape.size, shape.is_gray):
                raise UnequalImagesError(f"{seen.size} after {shape.size}")
            options = {"is_gray": shape.is_gray, "is_bilinear": shape.is_bilinear}
            return seen, pixels_of(image, shape.size, **options)
    except UnreadableImageError as error:
        return str(error)


def _common_size(sizes: Counter[Size]) -> Size:
    if len(sizes) == 1 and max(next(iter(sizes))) <= MAX_EQUAL_SIDE:
        return next(iter(sizes))
    every = np.array(list(sizes.elements()))
    height, width = (int(side) for side in np.median(every, axis=0).astype(int))
    scale = min(1.0, MAX_RESIZED_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _executor(shape: Shape) -> AbstractContextManager[Executor | None]:
    if shape.size[0] * shape.size[1] < THREADED_PIXELS:
        return nullcontext()
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1))
