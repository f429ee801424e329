"""One encoded image to uint8 pixels: every mode that Pillow reads, and a reason where it cannot.

What is done with what is not plain 8-bit gray or RGB:

* transparency (alpha channels, transparent palette entries) is composited on white;
* palette and CMYK images become RGB; 1-bit images become 0 and 255;
* 16-bit gray is scaled by 255/65535 and rounded;
* the EXIF orientation is ignored: pixels are taken as they are stored;
* of an animation, the first frame is taken.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from warnings import catch_warnings, simplefilter

import numpy as np
from PIL import Image, ImageOps

from securitynet.datasets.images import Pixels

Encoded = bytes | Path | None
Size = tuple[int, int]

MAX_PIXELS = 64_000_000
MAX_FILE_BYTES = 512 * 2**20
SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pnm"}
)
# Named one by one: among Pillow's other readers, one starts an external program (EPS).
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
WHITE = (255, 255, 255, 255)
SIXTEEN_BIT = 65535
_GRAY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"})
# What Pillow's readers raise on damaged files, as seen by cutting and flipping bytes.
_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    NotImplementedError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class UnreadableImageError(ValueError):
    """Raised for an image that cannot be decoded; the message is the reason. Never leaves here."""


@dataclass(frozen=True)
class Header:
    """What an image says of itself before its pixels are decoded.

    Attributes:
        size: Height and width in pixels.
        is_gray: Whether it has one channel.
        format: Pillow's name of the file format, e.g. ``"JPEG"``.
    """

    size: Size
    is_gray: bool
    format: str


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow's warnings off the terminal: what matters is counted as an unreadable image."""
    with catch_warnings():
        simplefilter("ignore", Image.DecompressionBombWarning)
        simplefilter("ignore", UserWarning)
        yield


def open_image(encoded: Encoded) -> Image.Image:
    """Open an image without decoding its pixels.

    Raises:
        UnreadableImageError: If it is empty, no image, too large or in a mode without a meaning.
    """
    content = _content(encoded)
    if not content:
        raise UnreadableImageError("no bytes")
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(_too_large()) from error
    except _BROKEN as error:
        raise UnreadableImageError("not an image of a known format") from error
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImageError(_too_large())
    if image.mode == "F":
        raise UnreadableImageError("floating-point pixels")
    return image


def _content(encoded: Encoded) -> bytes | None:
    if not isinstance(encoded, Path):
        return encoded
    try:
        if encoded.stat().st_size > MAX_FILE_BYTES:
            raise UnreadableImageError(f"more than {MAX_FILE_BYTES // 2**20} MiB")
        return encoded.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"cannot be read: {error.strerror}") from error


def _too_large() -> str:
    return f"more than {MAX_PIXELS // 1_000_000} million pixels"


def header(image: Image.Image) -> Header:
    """Describe an opened image."""
    size = (image.height, image.width)
    return Header(size, image.mode in _GRAY_MODES, image.format or "")


def pixels_of(
    image: Image.Image, size: Size, *, is_gray: bool, is_bilinear: bool = False
) -> Pixels:
    """Decode an opened image to uint8 ``[H, W, C]``, C = 1 if ``is_gray`` else 3.

    An image of another size is scaled to cover ``size``, with antialiasing and bicubic weights
    unless ``is_bilinear``, and cropped at its centre.

    Raises:
        UnreadableImageError: If the pixels cannot be decoded.
    """
    try:
        plain = _flat(image, "L" if is_gray else "RGB")
        if (plain.height, plain.width) != size:
            box = (size[1], size[0])
            kernel = Image.Resampling.BILINEAR if is_bilinear else Image.Resampling.BICUBIC
            plain = ImageOps.fit(plain, box, method=kernel)
        content = plain.tobytes()
    except _BROKEN as error:
        raise UnreadableImageError("damaged or truncated") from error
    # tobytes is a third faster than numpy's array protocol on images this small.
    return np.frombuffer(content, np.uint8).reshape(*size, 1 if is_gray else 3)


def _flat(image: Image.Image, mode: str) -> Image.Image:
    """Convert to ``L`` or ``RGB`` without transparency."""
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_sixteen_bit(image).convert(mode)
    if image.has_transparency_data:
        front = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", front.size, WHITE), front).convert(mode)
    return image.convert(mode)


def _from_sixteen_bit(image: Image.Image) -> Image.Image:
    """Scale 0..65535 to 0..255; Pillow itself would clip at 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > SIXTEEN_BIT:
        raise ValueError("32-bit pixels")
    scaled = (values * 255 + SIXTEEN_BIT // 2) // SIXTEEN_BIT
    return Image.fromarray(scaled.astype(np.uint8))
