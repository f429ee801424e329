"""Which format a file is in, told by its bytes: its name is only believed about texts."""

from __future__ import annotations

import tarfile
import zipfile
from typing import BinaryIO

from securitynet.weights.keras_file import SIGNATURE as HDF5
from securitynet.weights.legacy import MAGIC_BYTES, looks_like_pickle
from securitynet.weights.npy import MAGIC as NUMPY
from securitynet.weights.onnx_walk import looks_like_onnx, looks_like_saved_model
from securitynet.weights.zipped import IS_SCRIPT, LOCAL, ZIP_ERRORS, open_zip

SIGNATURES = {
    NUMPY: "npy",
    HDF5: "hdf5",
    b"GGUF": "gguf",
    b"\x1f\x8b": "compressed",
    b"BZh": "compressed",
    b"\xfd7zXZ\0": "compressed",
    b"\x5d\0\0": "compressed",
    b"\x78\x01": "compressed",
    b"\x78\x5e": "compressed",
    b"\x78\x9c": "compressed",
    b"\x78\xda": "compressed",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"\x04\x22\x4d\x18": "lz4",
    b"7z\xbc\xaf\x27\x1c": "7-zip",
    b"Rar!\x1a\x07": "rar",
    b"\x7fELF": "program",
    b"MZ": "program",
    b"\xcf\xfa\xed\xfe": "program",
    b"MATLAB 5.0": "matlab",
    b"PK\x05\x06": "empty zip",
}
NAMED_ONLY = {
    "gguf": "GGUF", "zstandard": "Zstandard", "lz4": "LZ4", "7-zip": "7-Zip", "rar": "RAR",
    "matlab": "MATLAB", "program": "a program", "empty zip": "an empty zip archive",
    "tf-savedmodel": "a TensorFlow SavedModel, which is a program",
    "tflite": "TensorFlow Lite", "msgpack": "MessagePack, as flax writes it",
}  # fmt: skip
"""Formats that are recognised and not inspected -> their name."""
USERBLOCKS = (512, 1024, 2048, 4096)
MAX_TEXT_BYTES = 16 * 2**20


def sniff(file: BinaryIO) -> str | None:
    """Return the format, as the loaders of each format would tell it; ``None`` = not known."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(512)
    if head.startswith(LOCAL):
        return _zip_kind(file)
    if head[2:9] == b"\0\0\0\0\0\0{" or (head[8:9] == b"{" and head[4:8] == b"\0\0\0\0"):
        return "safetensors"  # and no pickle: none has a zero byte in third place
    if head[:1] == b"\x80" and head[1:2] in (b"\x00", b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"):
        return "torch-legacy" if MAGIC_BYTES in head[:32] else "pickle"
    for signature, form in SIGNATURES.items():
        if head.startswith(signature):
            return form
    return _late(file, head) or _unsigned(file, head, size)


def _late(file: BinaryIO, head: bytes) -> str | None:
    """Formats whose signature is not at the beginning."""
    if head[4:8] == b"TFL3":
        return "tflite"
    if len(head) == 512 and _is_tar(head):
        return "tar"
    for position in USERBLOCKS:
        file.seek(position)
        if file.read(len(HDF5)) == HDF5:
            return "hdf5"
    return "safetensors" if head[8:9] == b"{" else None


def _is_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _unsigned(file: BinaryIO, head: bytes, size: int) -> str | None:
    """Formats without any signature: told by whether their structure holds."""
    if head[:1] in (b"\x08", b"\x3a", b"\x42", b"\x12", b"\x0a") and looks_like_onnx(file):
        return "onnx"
    if head[:2] == b"\x08\x01" and looks_like_saved_model(file):
        return "tf-savedmodel"
    is_name = head[1:2] and (0xA0 <= head[1] <= 0xBF or head[1] == 0xD9)
    if head[:1] and 0x81 <= head[0] <= 0x8F and is_name:
        return "msgpack"
    if head and looks_like_pickle(file):
        return "pickle"
    return _text_kind(file, head, size)


def _text_kind(file: BinaryIO, head: bytes, size: int) -> str | None:
    file.seek(0)
    data = file.read(MAX_TEXT_BYTES) if size <= MAX_TEXT_BYTES else head
    try:
        text = data.decode("utf-8") if size <= MAX_TEXT_BYTES else data.decode("ascii")
    except UnicodeDecodeError:
        return None
    if not text.strip() or "\0" in text:
        return None
    return "json" if text.lstrip()[0] in "{[" else "text"


def _zip_kind(file: BinaryIO) -> str:
    """Torch's archives are told by the members that torch looks for; fail towards torch."""
    try:
        with open_zip(file) as archive:
            return _kind_of(archive.infolist())
    except ZIP_ERRORS:
        return "torch-zip"


def _kind_of(items: list[zipfile.ZipInfo]) -> str:
    names = [item.filename for item in items]
    inner = {name.partition("/")[2].lower() or name.lower() for name in names}
    if any(IS_SCRIPT.fullmatch(name) for name in inner & {"constants.pkl", "attributes.pkl"}) or (
        "data.pkl" in inner and any(name.startswith("code/") for name in inner)
    ):
        return "torchscript"
    if "data.pkl" in inner:
        return "torch-zip"
    if inner & {"archive_format", "serialized_exported_program.json"}:
        return "pt2"
    if {"config.json", "metadata.json"} <= set(names):
        return "keras"
    return "npz" if names and all(name.endswith(".npy") for name in names) else "zip"
