"""Decoded data sets on disk: decoded once, then memory-mapped. No torch."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from securitynet.datasets.decode import (
    Progress,
    Shape,
    Tally,
    UnequalImagesError,
    common_shape,
    decode_images,
    equal_shape,
)
from securitynet.datasets.images import Dataset, Images, Labels, Pixels
from securitynet.datasets.labels import check_classes, number_labels
from securitynet.datasets.sources import (
    Source,
    Splits,
    find_splits,
    open_source,
    source_fingerprint,
)
from securitynet.errors import IntegrityError, ResourceError

DECODER = 1  # rises when the same files are decoded to other pixels or notes
LOSSY = ("JPEG", "WEBP")


def load_decoded(
    root: Path | Splits,
    name: str,
    cache: Path,
    progress: Progress,
    *,
    expected: tuple[str, ...] = (),
) -> Dataset:
    """Return a data set that was decoded before, or decode it now.

    Args:
        root: Folder of parquet splits or image folders, or the splits themselves.
        name: What to call the data set.
        cache: Folder of decoded sets.
        progress: Told the share done and a few words.
        expected: Class names of a named data set, in their official order.

    Raises:
        UsageError: If layout or labels do not fit together.
        IntegrityError: If files are damaged or more than 1% of the images cannot be read.
        ResourceError: If the disk cannot be written.
    """
    splits = root if isinstance(root, Splits) else find_splits(root)
    folder = cache / _key(splits, expected)
    dataset = reopened(folder, name)
    if dataset is not None:
        return dataset
    source = open_source(splits)
    labels, classes = number_labels(
        source.train, source.test, source.classes, expected, splits.root
    )
    check_classes(labels, len(source.train), classes, splits.root)
    try:
        with alone(folder):
            dataset = reopened(folder, name)  # another process may have decoded meanwhile
            if dataset is not None:
                return dataset
            _decode(source, labels, classes, splits, folder, progress)
    except OSError as error:
        raise ResourceError(
            f"cannot keep the decoded images: {error.strerror or error}",
            where=folder,
            hint="free some disk space or set SECURITYNET_CACHE",
        ) from error
    return open_decoded(folder, name)


def _key(splits: Splits, expected: tuple[str, ...]) -> str:
    """Identify the decoded form: the files, the order of the classes, this decoder."""
    try:
        files = source_fingerprint(splits)
    except OSError as error:
        raise ResourceError(
            f"cannot be read: {error.strerror or error}",
            where=error.filename or splits.root,
            hint="give read permission",
        ) from error
    side = [] if splits.side is None else [splits.side]
    return hashlib.sha256(json.dumps([DECODER, files, expected, *side]).encode()).hexdigest()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process decode while others wait; clear what a killed one left behind.

    Only to save work: where a file system has no locks, the rename still keeps the result whole.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            yield
            return
        for left in folder.parent.glob(f"{scratch_prefix(folder)}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def scratch_prefix(folder: Path) -> str:
    """Return how the temporary folders begin in which a set is decoded."""
    return f".decoding-{folder.name}-"


def _decode(
    source: Source,
    labels: Labels,
    classes: tuple[str, ...],
    splits: Splits,
    folder: Path,
    progress: Progress,
) -> None:
    """Decode into a temporary folder and give it its name in one step."""
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=scratch_prefix(folder)))
    try:
        tally, shape = _write_pixels(source, scratch / "pixels.raw", progress, splits.side)
        kept = np.asarray(tally.is_kept)
        n_train = int(kept[: len(source.train)].sum())
        labels = labels[kept]
        check_classes(labels, n_train, classes, splits.root)
        size = (len(labels), *shape.size, 1 if shape.is_gray else 3)
        np.save(scratch / "labels.npy", labels, allow_pickle=False)
        meta = {
            "shape": size,
            "classes": classes,
            "n_train": n_train,
            "notes": [*splits.notes, *_notes(tally, splits.side)],
            "fingerprint": pixel_fingerprint(scratch / "pixels.raw", size, labels, n_train),
        }
        (scratch / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        publish(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def publish(scratch: Path, folder: Path) -> None:
    """Give the folder its name, in place of a damaged one; a whole one stays."""
    if reopened(folder, "") is None:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        scratch.rename(folder)
    except OSError:
        if reopened(folder, "") is None:  # else another process was first
            raise


def _write_pixels(
    source: Source, path: Path, progress: Progress, side: int | None
) -> tuple[Tally, Shape]:
    """Decode in one pass where the size is known or common, else look at all headers first."""
    shape = equal_shape(source) if side is None else Shape((side, side), False, False, True)
    if shape is not None:
        try:
            with path.open("wb") as file:
                return _decode_to(source, file, progress, shape), shape
        except UnequalImagesError:
            pass
    shape = common_shape(source, progress)
    with path.open("wb") as file:
        return _decode_to(source, file, progress, shape), shape


def _decode_to(source: Source, file: IO[bytes], progress: Progress, shape: Shape) -> Tally:
    return decode_images(source, lambda pixels: file.write(pixels.tobytes()), progress, shape)


def _notes(tally: Tally, side: int | None) -> list[str]:
    notes = [f"skipped-images:{tally.n_unreadable}"] if tally.n_unreadable else []
    if side is not None:
        notes += [f"resized-{side}"] if set(tally.sizes) != {(side, side)} else []
    else:
        notes += ["resized-images"] if len(tally.sizes) > 1 else []
    n_lossy = sum(tally.formats[form] for form in LOSSY)
    return notes + (["jpeg-compressed"] if 2 * n_lossy > tally.formats.total() else [])


def pixel_fingerprint(path: Path, shape: tuple[int, ...], labels: Labels, n_train: int) -> str:
    """Return the identity of decoded images: pixels, shape, labels and split."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(f"{shape} {n_train}".encode())
    digest.update(labels.astype("<i8").tobytes())
    return digest.hexdigest()


def reopened(folder: Path, name: str) -> Dataset | None:
    """Return a set decoded before; ``None`` if there is none or it is damaged."""
    if not folder.is_dir():
        return None
    try:
        return open_decoded(folder, name)
    except IntegrityError:
        return None


def open_decoded(folder: Path, name: str) -> Dataset:
    """Open a set that was decoded before.

    Raises:
        IntegrityError: If it is damaged.
    """
    try:
        meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        labels = np.load(folder / "labels.npy", allow_pickle=False)
        shape = tuple(meta["shape"])
        n_bytes = (folder / "pixels.raw").stat().st_size
        if len(labels) != shape[0] or n_bytes != math.prod(shape):
            raise ValueError(f"{len(labels)} labels, {n_bytes} bytes of pixels for {shape}")
        pixels = np.memmap(folder / "pixels.raw", dtype=np.uint8, mode="r", shape=shape)
        return as_dataset(name, pixels, labels, meta)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise IntegrityError(
            f"damaged cache of decoded images: {error}", where=folder, hint="delete this folder"
        ) from None


def as_dataset(name: str, pixels: Pixels, labels: Labels, meta: dict[str, Any]) -> Dataset:
    """Build a data set from one array whose first ``n_train`` images are the train split."""
    split = int(meta["n_train"])
    train = Images(pixels, labels, np.arange(split), meta["fingerprint"])
    test = Images(pixels, labels, np.arange(split, len(labels)), meta["fingerprint"])
    return Dataset(name, train, test, tuple(meta["classes"]), tuple(meta["notes"]))
