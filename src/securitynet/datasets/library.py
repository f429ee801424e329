"""Data sets by name or folder. No torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from securitynet.datasets.decode import as_dataset, load_decoded
from securitynet.datasets.images import Dataset
from securitynet.datasets.sources import SPLITS, find_source
from securitynet.errors import ResourceError, SecurityNetError, unknown_id
from securitynet.files.folders import cache_folder, data_folders

Progress = Callable[[float, str], None]
HUB = "https://huggingface.co/datasets"
DIGITS_TRAIN = 597
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
TEN_DIGITS = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a named data set.

    Attributes:
        name: Its name here.
        title: Its full name.
        classes: Class names, in order of their labels.
        channels: 1 or 3.
        height: Rows.
        width: Columns.
        n_train: Images in the train split.
        n_test: Images in the test split.
        licence: SPDX id or the licence in words; ``None`` = not stated.
        source: Hugging Face repository, or the package that carries it.
        files: Parquet file of each split in the repository.
        is_lossless: Whether the published images are lossless.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    channels: int
    height: int
    width: int
    n_train: int
    n_test: int
    licence: str | None
    source: str
    files: dict[str, str] | None = None
    is_lossless: bool = True


def _shards(folder: str) -> dict[str, str]:
    return {split: f"{folder}/{split}-00000-of-00001.parquet" for split in SPLITS}


DATASETS = {
    info.name: info
    for info in (
        DatasetInfo(
            "cifar10", "CIFAR-10", CIFAR10_CLASSES, 3, 32, 32, 50_000, 10_000, None,
            "uoft-cs/cifar10", _shards("plain_text"),
        ),
        DatasetInfo(
            "digits", "Optical recognition of handwritten digits (scikit-learn)", TEN_DIGITS,
            1, 8, 8, DIGITS_TRAIN, 1797 - DIGITS_TRAIN, "CC-BY-4.0", "scikit-learn",
        ),
        DatasetInfo(
            "mnist", "MNIST", TEN_DIGITS, 1, 28, 28, 60_000, 10_000, None, "ylecun/mnist",
            _shards("mnist"),
        ),
    )
}  # fmt: skip
"""The named data sets."""


def load_dataset(name: str, *, progress: Progress | None = None) -> Dataset:
    """Return a data set by name or folder; decoded once, then memory-mapped.

    Args:
        name: ``digits``, ``cifar10``, ``mnist``, or a folder of images or parquet files.
        progress: Told the share done and a few words.

    Raises:
        UsageError: If the name is unknown or the folder's layout does not fit.
        ResourceError: If a known data set is not on this machine and cannot be downloaded.
        IntegrityError: If images cannot be read.
    """
    if name == "digits":
        return _digits()
    cache = cache_folder() / "datasets"
    if name in DATASETS:
        info = DATASETS[name]
        folder = _find(info) or _download(info, progress)
        dataset = load_decoded(find_source(folder), name, cache, progress)
        return _named(dataset, info)
    if os.sep in name or Path(name).is_dir():
        return load_decoded(find_source(Path(name)), name, cache, progress)
    raise unknown_id("data set", name, DATASETS, listing="securitynet list datasets")


def dataset_rows() -> list[dict[str, Any]]:
    """Return one JSON object a named data set, with what is available on this machine."""
    rows = []
    for info in DATASETS.values():
        row = asdict(info)
        row["classes"] = list(info.classes)
        is_here = info.source == "scikit-learn" or _find(info) is not None
        rows.append({**row, "num_classes": len(info.classes), "is_available": is_here})
    return rows


def _find(info: DatasetInfo) -> Path | None:
    for base in data_folders():
        folder = base / info.name
        is_partial = base == cache_folder() / "data" and not (folder / "test.parquet").is_file()
        if folder.is_dir() and not is_partial:  # an interrupted download is taken up again
            return folder
    return None


def _named(dataset: Dataset, info: DatasetInfo) -> Dataset:
    """Name the classes, and note where this copy differs from the published one."""
    notes = [note for note in dataset.notes if note != "jpeg-compressed" or info.is_lossless]
    sizes = len(dataset.train), len(dataset.test)
    if sizes != (info.n_train, info.n_test):
        notes.append(f"other-size:{sizes[0]}+{sizes[1]}")
    fits = dataset.num_classes == len(info.classes)
    return replace(dataset, classes=info.classes if fits else dataset.classes, notes=tuple(notes))


def _download(info: DatasetInfo, progress: Progress | None) -> Path:
    from securitynet.files.download import download

    folder = cache_folder() / "data" / info.name
    hub = os.environ.get("SECURITYNET_HUB", HUB)
    try:
        for i, (split, file) in enumerate((info.files or {}).items()):
            if progress is not None:
                progress(i / 2, f"downloading {info.name} {split}")
            if (folder / f"{split}.parquet").is_file():
                continue
            download(f"{hub}/{info.source}/resolve/main/{file}", folder / f"{split}.parquet")
    except SecurityNetError as error:
        raise ResourceError(
            f"data set {info.name} is not on this machine ({error.what})",
            hint=f"put train.parquet and test.parquet of the Hugging Face data set {info.source} "
            f"into FOLDER/{info.name} and set SECURITYNET_DATA=FOLDER",
        ) from error
    return folder


def _digits() -> Dataset:
    """Load scikit-learn's digits; per class the first third is the train split."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = np.asarray(bunch.target, dtype=np.int64)
    rank = np.zeros(len(labels), dtype=np.int64)
    for digit in range(10):
        rank[labels == digit] = np.arange((labels == digit).sum())
    order = np.argsort(rank, kind="stable")  # round-robin over classes
    train, test = np.sort(order[:DIGITS_TRAIN]), np.sort(order[DIGITS_TRAIN:])
    both = np.concatenate([train, test])
    pixels, labels = pixels[both], labels[both]
    digest = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    meta = {"classes": TEN_DIGITS, "n_train": DIGITS_TRAIN, "notes": (), "fingerprint": digest}
    return as_dataset("digits", pixels, labels, meta)
