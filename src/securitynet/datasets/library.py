"""Data sets by name or folder. No torch."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from securitynet.datasets.arrays import find_arrays, load_arrays
from securitynet.datasets.class_names import CIFAR10_CLASSES, CIFAR100_CLASSES, TEN_DIGITS
from securitynet.datasets.decoded import as_dataset, load_decoded
from securitynet.datasets.imagenet import (
    FOLDERS,
    IMAGENETTE,
    IMAGENETTE_CLASSES,
    IMAGENETTE_PART,
    SIDE,
    imagenet_splits,
    imagenette_splits,
)
from securitynet.datasets.images import Dataset, Labels, Pixels
from securitynet.datasets.info import Archive, DatasetInfo
from securitynet.datasets.medmnist import larger_sets, medmnist_sets
from securitynet.datasets.sources import find_splits
from securitynet.errors import (
    IntegrityError,
    ResourceError,
    SecurityNetError,
    UsageError,
    unknown_id,
)
from securitynet.files.atomic import write_atomic
from securitynet.files.folders import cache_folder, data_folders
from securitynet.files.hub import hub_datasets

Progress = Callable[[float, str], None]
SPLITS = ("train", "test")
DIGITS_TRAIN = 597
MAX_ARCHIVE = 64 * 2**30
"""Bytes of the largest published archive that is fetched."""
BIRDS = ("cub200", "CUB_200_2011")


def _shards(folder: str) -> dict[str, str]:
    return {split: f"{folder}/{split}-00000-of-00001.parquet" for split in SPLITS}


DATASETS = {
    info.name: info
    for info in (
        DatasetInfo(
            "cifar10", "CIFAR-10", CIFAR10_CLASSES, 3, 32, 32, 50_000, 10_000, None,
            "uoft-cs/cifar10", _shards("plain_text"), is_mirrored=True,
        ),
        DatasetInfo(
            "cifar100", "CIFAR-100", CIFAR100_CLASSES, 3, 32, 32, 50_000, 10_000, None,
            "uoft-cs/cifar100", _shards("cifar100"), is_mirrored=True,
        ),
        DatasetInfo(
            "cub200", "Caltech-UCSD Birds-200-2011", tuple(map(str, range(200))), 3, SIDE, SIDE,
            5_994, 5_794, "LicenseRef-non-commercial-research",
            "https://www.vision.caltech.edu/datasets/cub_200_2011/", is_lossless=False,
            is_mirrored=True,
            by_hand="unpack CUB_200_2011.tgz of https://www.vision.caltech.edu/datasets/"
            "cub_200_2011/ into FOLDER and set SECURITYNET_DATA=FOLDER",
        ),
        DatasetInfo(
            "digits", "Optical recognition of handwritten digits (scikit-learn)", TEN_DIGITS,
            1, 8, 8, DIGITS_TRAIN, 1797 - DIGITS_TRAIN, "CC-BY-4.0", "scikit-learn",
        ),
        DatasetInfo(
            "imagenet1k", "ImageNet-1k (ILSVRC 2012), 50 training images a class",
            tuple(map(str, range(1000))), 3, SIDE, SIDE, 50_000, 50_000,
            "LicenseRef-non-commercial-research",
            "https://www.image-net.org/", is_lossless=False, is_gated=True, is_mirrored=True,
            by_hand="ask for access at https://www.image-net.org/, put train/nXXXXXXXX/*.JPEG and "
            "val/nXXXXXXXX/*.JPEG into FOLDER/imagenet1k and set SECURITYNET_DATA=FOLDER; or take "
            "ten of its classes with --data imagenette",
        ),
        DatasetInfo(
            "imagenette", "Imagenette 2 (ten classes of ImageNet)", IMAGENETTE_CLASSES, 3, SIDE,
            SIDE, 12_894, 500, None, "https://github.com/fastai/imagenette", is_lossless=False,
            is_mirrored=True, part=IMAGENETTE_PART,
            by_hand="unpack imagenette2.tgz of https://github.com/fastai/imagenette into FOLDER "
            "and set SECURITYNET_DATA=FOLDER",
        ),
        DatasetInfo(
            "mnist", "MNIST", TEN_DIGITS, 1, 28, 28, 60_000, 10_000, None, "ylecun/mnist",
            _shards("mnist"),
        ),
        DatasetInfo(
            "svhn", "Street View House Numbers", TEN_DIGITS, 3, 32, 32, 73_257, 26_032,
            "LicenseRef-non-commercial", "ufldl-stanford/svhn", _shards("cropped_digits"),
        ),
        *medmnist_sets(),
    )
}  # fmt: skip
"""The named data sets."""
LARGER = {info.name: info for info in larger_sets()}
"""MedMNIST with larger sides: named too, but not listed, for no published model wants them."""


def load_dataset(
    name: str, *, num_classes: int | None = None, progress: Progress | None = None
) -> Dataset:
    """Return a data set by name or folder; decoded once, then memory-mapped.

    A name is looked for as ``FOLDER/NAME`` in the folders of ``SECURITYNET_DATA``, then in the
    cache, then downloaded if it is in `DATASETS`. A folder is given as a path, ``./cifar10``
    rather than ``cifar10`` where the two could be confused.

    Args:
        name: ``digits``, ``cifar10``, ``pathmnist``, ``pathmnist_224``, the name of another folder
            in ``SECURITYNET_DATA``, a folder of images or parquet files, or an ``.npz`` file. A
            folder called ``imagenet1k``, or by a published name of Imagenette or CUB-200-2011, is
            taken for that.
        num_classes: Refuse a data set with another number of classes.
        progress: Told the share done and a few words.

    Raises:
        UsageError: If the name is unknown or the folder's layout does not fit.
        ResourceError: If a known data set is not on this machine and cannot be downloaded.
        IntegrityError: If images cannot be read.
    """
    dataset = _load(name, progress or _silent)
    if num_classes is not None and dataset.num_classes != num_classes:
        raise UsageError(
            f"{dataset.num_classes} classes, not {num_classes}",
            where=name,
            hint="choose the data set that the model was made for",
        )
    return dataset


def _load(name: str, progress: Progress) -> Dataset:
    if name == "digits":
        return _digits()
    cache = cache_folder() / "datasets"
    base = Path(name).name
    if base in FOLDERS:
        info = DATASETS["imagenette"]
        splits, synsets = imagenette_splits(_placed(name, info)), tuple(IMAGENETTE)
        return _named(load_decoded(splits, name, cache, progress, expected=synsets), info)
    if base == "imagenet1k":
        info = DATASETS[base]
        splits = imagenet_splits(_placed(name, info))
        synsets = tuple(dict.fromkeys(file.parent.name for file in splits.train))
        found = load_decoded(splits, name, cache, progress, expected=synsets)
        return replace(_named(found, info), classes=synsets)
    if base in BIRDS:
        return _birds(name, cache, progress)
    known = DATASETS.get(name) or LARGER.get(name)
    if known is not None and known.archive is not None:
        file = _find_archive(name, known.archive) or _download_archive(
            known, known.archive, progress
        )
        return _named(load_arrays(file, name, cache), known)
    if known is not None:
        folder = _find(name) or _download(known, progress)
        return _named(load_decoded(folder, name, cache, progress, expected=known.classes), known)
    is_path = os.sep in name or name in {"", ".", ".."}
    place = None if is_path else _find(name)
    if place is None and name and (Path(name).is_dir() or Path(name).suffix == ".npz"):
        place = Path(name) if Path(name).exists() else None
    if place is not None:
        arrays = find_arrays(place)
        if arrays is not None:
            return load_arrays(arrays, name, cache)
        return load_decoded(place, name, cache, progress)
    if is_path:
        what = "not a folder" if name and Path(name).exists() else "no such data folder"
        raise UsageError(what, where=name or "''", hint="give a folder or a name")
    raise unknown_id("data set", name, DATASETS, listing="securitynet list datasets")


def _birds(name: str, cache: Path, progress: Progress) -> Dataset:
    """Load CUB-200-2011; photographs by their lists are cut as its models were tested."""
    info = DATASETS["cub200"]
    splits = find_splits(_placed(name, info))
    splits = replace(splits, side=SIDE) if splits.kind == "folder" else splits
    found = load_decoded(splits, name, cache, progress)
    return replace(_named(found, info), classes=found.classes)


def _placed(name: str, info: DatasetInfo) -> Path:
    """Return the folder of a data set that a user must bring."""
    if os.sep not in name:
        names = _folders(info) if name == info.name else (name,)
        found = next((place for one in names if (place := _find(one)) is not None), None)
        if found is not None:
            return found
    if Path(name).is_dir():
        return Path(name)
    if os.sep in name:
        raise UsageError("no such data folder", where=name, hint=info.how_to_get)
    raise ResourceError(f"data set {name} is not on this machine", hint=info.how_to_get)


def _silent(share: float, what: str) -> None:
    """Report progress to nobody."""


def dataset_rows() -> list[dict[str, Any]]:
    """Return one JSON object a named data set, with what is available on this machine."""
    return [
        {
            **asdict(info),
            "classes": list(info.classes),
            "num_classes": len(info.classes),
            "url": info.url,
            "how_to_get": info.how_to_get,
            "is_available": info.is_packaged or _is_here(info),
        }
        for info in DATASETS.values()
    ]


def _folders(info: DatasetInfo) -> tuple[str, ...]:
    """Return the names that a data set's folder may have."""
    known = (names for names in (FOLDERS, BIRDS) if info.name in names)
    return next(known, (info.name,))


def _is_here(info: DatasetInfo) -> bool:
    if info.archive is not None:
        return _find_archive(info.name, info.archive) is not None
    return any(map(_find, _folders(info)))


def _find_archive(name: str, archive: Archive) -> Path | None:
    """Find an npz file as it was published, renamed to its set, or alone in its set's folder."""
    for base in data_folders():
        folder, own = base / name, f"{name}.npz"
        for file in (folder / archive.file, folder / own, base / own):
            if file.is_file():
                return file
        others = list(folder.glob("*.npz"))
        if len(others) == 1:
            return others[0]
    return None


def _find(name: str) -> Path | None:
    for base in data_folders():
        folder = base / name
        if base == cache_folder() / "data" and name in DATASETS and not DATASETS[name].by_hand:
            # An interrupted download is taken up again.
            is_here = all((folder / f"{split}.parquet").is_file() for split in SPLITS)
        else:
            is_here = folder.is_dir() and _has_content(folder)
        if is_here:
            return folder
    return None


def _has_content(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(entries)
    except OSError:
        return True  # there, but closed to us: what loads it will say so


def _named(dataset: Dataset, info: DatasetInfo) -> Dataset:
    """Name the classes, and note where this copy differs from the published one."""
    notes = [note for note in dataset.notes if note != "jpeg-compressed" or info.is_lossless]
    sizes = len(dataset.train), len(dataset.test)
    if sizes != (info.n_train, info.n_test):
        notes.append(f"other-size:{sizes[0]}+{sizes[1]}")
    fits = dataset.num_classes == len(info.classes)
    return replace(
        dataset,
        classes=info.classes if fits else dataset.classes,
        notes=tuple(notes),
        is_mirrored=info.is_mirrored,
        part=info.part,
    )


def _download_archive(info: DatasetInfo, archive: Archive, progress: Progress) -> Path:
    """Fetch a published npz file and check it against its published md5."""
    from securitynet.files.download import download

    with _explained(info):
        return download(
            archive.url,
            cache_folder() / "data" / info.name / archive.file,
            checksum=archive.md5,
            algorithm="md5",
            max_bytes=MAX_ARCHIVE,
            progress=progress,
        )


@contextlib.contextmanager
def _explained(info: DatasetInfo) -> Iterator[None]:
    """Say how to have a data set that cannot be downloaded."""
    try:
        yield
    except IntegrityError as error:
        raise IntegrityError(error.what, where=error.where, hint=info.how_to_get) from error
    except SecurityNetError as error:
        raise ResourceError(
            f"data set {info.name} is not on this machine ({error.what})", hint=info.how_to_get
        ) from error


def _download(info: DatasetInfo, progress: Progress) -> Path:
    """Fetch both splits from the hub, or from ``SECURITYNET_HUB`` in its place."""
    from securitynet.files.download import download

    folder = cache_folder() / "data" / info.name
    with _explained(info):
        for split, file in (info.files or {}).items():
            if not (folder / f"{split}.parquet").is_file():
                url = f"{hub_datasets()}/{info.source}/resolve/main/{file}"
                download(url, folder / f"{split}.parquet", progress=progress)
    return folder


def _digits() -> Dataset:
    """Load scikit-learn's digits; per class a random third is the train split.

    The scans come in the order of their writers: a split by order would have other writers in the
    test split, and telling writers apart would look like telling members apart.
    """
    pixels, labels = _scans()
    rng = np.random.default_rng(0)
    rank = np.zeros(len(labels), dtype=np.int64)
    for digit in range(10):
        mine = np.flatnonzero(labels == digit)
        rank[mine] = rng.permutation(len(mine))
    order = np.argsort(rank, kind="stable")  # round-robin over classes
    train, test = np.sort(order[:DIGITS_TRAIN]), np.sort(order[DIGITS_TRAIN:])
    both = np.concatenate([train, test])
    pixels, labels = pixels[both], labels[both]
    digest = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    meta = {"classes": TEN_DIGITS, "n_train": DIGITS_TRAIN, "notes": (), "fingerprint": digest}
    return as_dataset("digits", pixels, labels, meta)


def _scans() -> tuple[Pixels, Labels]:
    """Return all digits; kept, because importing scikit-learn takes seconds."""
    path = cache_folder() / "datasets" / f"digits-{version('scikit-learn')}.npz"
    try:
        with np.load(path, allow_pickle=False) as kept:
            return kept["pixels"], kept["labels"]
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        pass  # not there yet, or damaged
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = np.asarray(bunch.target, dtype=np.int64)
    with contextlib.suppress(ResourceError):  # a cache that cannot be written costs only time
        write_atomic(path, lambda file: np.savez(file, pixels=pixels, labels=labels))
    return pixels, labels
