"""Every mode of image, and damaged ones."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from securitynet.datasets import pictures
from securitynet.datasets.pictures import UnreadableImageError, header, open_image, pixels_of


def saved(image: Image.Image, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def decoded(content: bytes, *, size=None, is_gray=None) -> np.ndarray:
    image = open_image(content)
    seen = header(image)
    return pixels_of(image, size or seen.size, is_gray=seen.is_gray if is_gray is None else is_gray)


def png_header(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    crc = struct.pack(">I", zlib.crc32(chunk))
    end = b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(head)) + chunk + crc + end


def test_lossless_formats_are_bit_exact(noise, encode):
    pixels = noise(1, 7, 9, 3)[0]
    for form in ("PNG", "BMP", "PPM", "TIFF"):
        assert (decoded(encode(pixels, form)) == pixels).all(), form


def test_gray_keeps_one_channel_unless_colour_is_wanted(noise, encode):
    gray = noise(1, 4, 5)[0]
    assert (decoded(encode(gray))[..., 0] == gray).all()
    as_colour = decoded(encode(gray), is_gray=False)
    assert as_colour.shape == (4, 5, 3)
    assert (as_colour == gray[..., None]).all()


def test_one_bit_becomes_black_and_white():
    bits = np.array([[0, 255], [255, 0]], np.uint8)
    found = decoded(saved(Image.fromarray(bits).convert("1")))
    assert (found[..., 0] == bits).all()


def test_sixteen_bit_is_scaled_not_clipped():
    values = np.array([[0, 128, 257], [32768, 65278, 65535]], np.uint16)
    found = decoded(saved(Image.fromarray(values)))
    assert found[..., 0].tolist() == [[0, 0, 1], [128, 254, 255]]


def test_palette_and_cmyk_become_rgb():
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    assert (decoded(saved(red.convert("P"))) == [255, 0, 0]).all()
    cmyk = decoded(saved(red.convert("CMYK"), "TIFF"))
    assert (cmyk == [255, 0, 0]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_composited_on_white(mode):
    clear = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    clear.putpixel((1, 0), (0, 0, 0, 255))
    found = decoded(saved(clear.convert(mode)))
    assert found.shape[2] == (3 if mode == "RGBA" else 1)
    assert (found[0, 0] == 255).all()
    assert (found[0, 1] == 0).all()


def test_transparent_palette_entry_is_white():
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    found = decoded(saved(image, transparency=0))
    assert found.tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (3, 3), colour) for colour in ("red", "blue")]
    content = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decoded(content, is_gray=False) == [255, 0, 0]).all()


def test_exif_orientation_is_ignored():
    image = Image.new("RGB", (6, 2), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decoded(saved(image, "JPEG", exif=exif)).shape == (2, 6, 3)


def test_another_size_is_covered_and_cropped_at_the_centre():
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200
    found = decoded(saved(Image.fromarray(wide)), size=(8, 8))
    assert (found == 200).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no bytes"),
        (None, "no bytes"),
        (b"not an image at all", "known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 2\n", "known format"),
        (png_header(9000, 9000), "64 million"),
        (png_header(30000, 30000), "64 million"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_reasons(content, reason):
    with pytest.raises(UnreadableImageError, match=reason):
        open_image(content)


def test_floats_have_no_meaning():
    content = saved(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF")
    with pytest.raises(UnreadableImageError, match="floating-point"):
        open_image(content)


def test_huge_files_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_FILE_BYTES", 10)
    (tmp_path / "a.png").write_bytes(b"x" * 11)
    with pytest.raises(UnreadableImageError, match="more than"):
        open_image(tmp_path / "a.png")


def test_a_missing_file_is_a_reason(tmp_path):
    with pytest.raises(UnreadableImageError, match="cannot be read"):
        open_image(tmp_path / "gone.png")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_damage_never_raises_anything_else(form, noise):
    """Cut and flipped files decode or give a reason; no other error comes out."""
    content = saved(Image.fromarray(noise(1, 12, 12, 3)[0]), form)
    rng = np.random.default_rng(0)
    n_refused = 0
    for trial in range(150):
        damaged = bytearray(content)
        if trial % 2:
            del damaged[int(rng.integers(len(damaged))) :]
        for _ in range(4):
            if damaged:
                damaged[int(rng.integers(len(damaged)))] ^= int(rng.integers(1, 256))
        try:
            with pictures.quiet_pillow():
                assert decoded(bytes(damaged), size=(12, 12), is_gray=False).shape == (12, 12, 3)
        except UnreadableImageError:
            n_refused += 1
    assert n_refused > 20
