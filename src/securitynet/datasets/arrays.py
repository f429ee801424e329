"""Images that are published as arrays: the ``.npz`` files of MedMNIST, copied to the cache.

Four axes mean two things, pictures ``[n, H, W, C]`` and volumes ``[n, D, H, W]``, and no file says
which. The last axis decides: 1 or 3 is the channels of pictures, anything else the side of volumes.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from securitynet.datasets.decoded import (
    alone,
    open_decoded,
    pixel_fingerprint,
    publish,
    reopened,
    scratch_prefix,
)
from securitynet.datasets.images import Dataset, Labels
from securitynet.datasets.medmnist import versions
from securitynet.errors import IntegrityError, ResourceError, UsageError

SPLITS = ("train", "test")
CHUNK = 1 << 22
LAYOUT = "give a file with train_images, train_labels, test_images and test_labels"
COPIER = 1  # rises when the same file is copied to other pixels or labels


def find_arrays(place: Path) -> Path | None:
    """Return the one ``.npz`` file that a place is or holds.

    Raises:
        UsageError: If a folder holds several.
    """
    if place.is_file():
        return place if place.suffix == ".npz" else None
    files = sorted(place.glob("*.npz"))
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:4])
        raise UsageError(f"several data sets: {names}", where=place, hint="name one of them")
    return files[0] if files else None


def load_arrays(file: Path, name: str, cache: Path) -> Dataset:
    """Return the data set of an ``.npz`` file; its arrays are copied once, then memory-mapped.

    Only the train and the test split are used: models were chosen on the third.

    Args:
        file: With ``{train,test}_images`` uint8 ``[n, H, W]``, ``[n, H, W, 3]`` or, of volumes,
            ``[n, D, H, W]``; and ``{train,test}_labels`` ``[n]`` or ``[n, 1]``.
        name: What to call it; ``-v2`` and ``-v3`` at its end are checked against the file.
        cache: Folder of decoded sets.

    Raises:
        UsageError: If arrays are missing or do not fit together, or labels are of several kinds
            each, or the file is of another version than the name says.
        IntegrityError: If the file is damaged.
        ResourceError: If it cannot be read or the cache not be written.
    """
    try:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        folder = cache / hashlib.sha256(f"npz {COPIER} {digest}".encode()).hexdigest()
        dataset = reopened(folder, name)
        if dataset is None:
            with alone(folder):
                if reopened(folder, name) is None:  # another process may have copied meanwhile
                    _copy(file, folder)
            dataset = open_decoded(folder, name)
    except OSError as error:
        raise ResourceError(
            f"cannot be read or kept: {error.strerror or error}", where=file,
            hint="give read permission, free some disk space or set SECURITYNET_CACHE",
        ) from error  # fmt: skip
    _check_version(name, len(dataset.train), file)
    return dataset


def _check_version(name: str, n_train: int, file: Path) -> None:
    flag, _, wanted = name.partition("-")
    known = versions(flag)
    found = known.get(n_train)
    if wanted in known.values() and found is not None and found != wanted:
        raise UsageError(
            f"is MedMNIST {found} ({n_train:,} training images), not {wanted}",
            where=file,
            hint=f"{wanted} has {next(n for n, v in known.items() if v == wanted):,}",
        )


def _copy(file: Path, folder: Path) -> None:
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=scratch_prefix(folder)))
    try:
        with _opened(file) as archive:
            labels, sizes = _labels(archive, file), []
            with (scratch / "pixels.raw").open("wb") as pixels:
                for split in SPLITS:
                    sizes.append(_pixels(archive, f"{split}_images", pixels, file))
        _write_meta(scratch, labels, sizes, file)
        publish(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise IntegrityError(
            f"not a readable npz file: {error}", where=file, hint="fetch it again"
        ) from None


def _labels(archive: zipfile.ZipFile, file: Path) -> list[Labels]:
    found = []
    for split in SPLITS:
        with _member(archive, f"{split}_labels", file) as member:
            labels = npy.read_array(member, allow_pickle=False)
        if labels.ndim == 2 and labels.shape[1] > 1:
            raise UsageError(f"{labels.shape[1]} labels an image", where=file, hint="one is needed")
        if labels.ndim not in (1, 2) or labels.dtype.kind not in "iu":
            raise UsageError("the labels are not whole numbers", where=file, hint=LAYOUT)
        found.append(labels.reshape(-1).astype(np.int64))
    return found


def _member(archive: zipfile.ZipFile, name: str, file: Path) -> IO[bytes]:
    if f"{name}.npy" not in archive.namelist():
        raise UsageError(f"has no array {name}", where=file, hint=LAYOUT)
    return archive.open(f"{name}.npy")


def _pixels(archive: zipfile.ZipFile, name: str, out: IO[bytes], file: Path) -> tuple[int, ...]:
    """Copy an array's bytes without holding it in memory; return its shape with channels."""
    with _member(archive, name, file) as member:
        version = npy.read_magic(member)
        read: Any = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read(member)
        if len(shape) not in (3, 4):
            raise UsageError(f"{name} holds no pictures or volumes: {shape}", where=file,
                             hint="use [n, H, W], [n, H, W, 3] or [n, D, H, W]")  # fmt: skip
        if dtype != np.uint8 or is_fortran:
            raise UsageError(f"{name} holds {dtype}", where=file, hint="use uint8, in C order")
        shutil.copyfileobj(member, out, CHUNK)
    return tuple(shape) if len(shape) == 4 and shape[3] in (1, 3) else (*shape, 1)


def _write_meta(
    scratch: Path, labels: list[Labels], sizes: list[tuple[int, ...]], file: Path
) -> None:
    both = np.concatenate(labels)
    counts = [len(split) for split in labels]
    if sizes[0][1:] != sizes[1][1:] or [size[0] for size in sizes] != counts or min(counts) == 0:
        raise UsageError(f"images {sizes} and labels {counts} differ", where=file, hint=LAYOUT)
    shape = (sum(counts), *sizes[0][1:])
    if (scratch / "pixels.raw").stat().st_size != math.prod(shape):
        raise IntegrityError("an array ends too early", where=file, hint="fetch it again")
    n_classes = int(both.max()) + 1
    if both.min() < 0 or len(np.unique(labels[0])) != n_classes:
        raise UsageError(
            f"labels are not 0 to {n_classes - 1} in the train split", where=file, hint=LAYOUT
        )
    np.save(scratch / "labels.npy", both, allow_pickle=False)
    meta = {
        "shape": shape,
        "classes": [str(label) for label in range(n_classes)],
        "n_train": counts[0],
        "notes": [],
        "fingerprint": pixel_fingerprint(scratch / "pixels.raw", shape, both, counts[0]),
    }
    (scratch / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
