"""Lists of images by number: who is a member of own data, and which test images copy training ones.

No torch.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from securitynet.datasets.images import Dataset, Indices
from securitynet.errors import ResourceError, UsageError
from securitynet.files.folders import data_folders

FORM = "one image a line: train:17, test:3, or its number with the test split after the train split"
HAVE_COPIES = ("cifar10", "cifar100")
"""Data sets that are known to hold near-duplicates across their splits."""
KEPT = "near-duplicates-kept"
"""Flag of a data set whose near-duplicates could not be left out."""
SAME_LABEL = 0.8
"""Share of pairs that must agree in label; in another order of the images it is about 1 / K."""


def read_list(path: Path, dataset: Dataset) -> Indices:
    """Return the source indices of the images that a file lists, each once.

    Args:
        path: A text file (see `FORM`; blank lines and ``#`` comments are skipped) or a ``.npy``
            array of numbers.
        dataset: The data set that the numbers refer to; images are numbered in its own order.

    Raises:
        ResourceError: If the file cannot be read.
        UsageError: If a line is no image of the data set, is listed twice, or none is.
    """
    try:
        if path.suffix == ".npy":
            lines = [str(item) for item in np.load(path, allow_pickle=False).ravel().tolist()]
        else:
            lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ResourceError(f"cannot be read: {error.strerror}", where=path) from error
    except (ValueError, EOFError) as error:
        raise UsageError(f"is no list of images: {error}", where=path, hint=FORM) from error
    found: dict[int, int] = {}
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if text:
            index = _index(text, dataset, f"{path}:{number}")
            if index in found:
                raise UsageError(
                    f"lists the image of line {found[index]} again", where=f"{path}:{number}"
                )
            found[index] = number
    if not found:
        raise UsageError("lists no image", where=path, hint=FORM)
    return np.array(list(found), dtype=np.int64)


def _index(text: str, dataset: Dataset, where: str) -> int:
    name, colon, digits = text.rpartition(":")
    splits = {"train": dataset.train.indices, "test": dataset.test.indices}
    whole = np.concatenate([*splits.values()])
    among = splits.get(name) if colon else whole
    if among is None or not digits.isdecimal() or int(digits) >= len(among):
        raise UsageError(
            f"{text[:40]!r} is no image of {dataset.name} ({len(splits['train']):,} train, "
            f"{len(splits['test']):,} test)",
            where=where,
            hint=FORM,
        )
    return int(among[int(digits)])


def near_duplicates(dataset: Dataset) -> Indices | None:
    """Return test images that nearly repeat another image, if their published list is at hand.

    The lists of ciFAIR (Barz & Denzler, J. Imaging 2020) number the images in the official order:
    ``FOLDER/cifair/duplicates_NAME.csv`` (test against train) and ``duplicates_NAME_test.csv``
    (within the test split) in a folder of ``SECURITYNET_DATA``. A copy of the data set in another
    order is noticed by the labels of the pairs, and then no list counts.

    Returns:
        Source indices, sorted, or ``None`` if there is no list that fits.
    """
    name = Path(dataset.name).name
    train, test = dataset.train, dataset.test
    places = [folder / "cifair" / f"duplicates_{name}.csv" for folder in data_folders()]
    place = next((place for place in places if place.is_file()), None)
    if name not in HAVE_COPIES or place is None:
        return None
    pairs = _pairs(place)
    within = place.with_name(f"duplicates_{name}_test.csv")
    inner = _pairs(within) if within.is_file() else pairs[:0]
    is_inside = pairs[:, 0].max() < len(test) and pairs[:, 1].max() < len(train)
    if not is_inside or np.mean(test.labels[pairs[:, 0]] == train.labels[pairs[:, 1]]) < SAME_LABEL:
        return None
    return np.unique(test.indices[np.concatenate([pairs[:, 0], inner[:, 0]])])


def _pairs(path: Path) -> Indices:
    """Return the numbers of a list of pairs, int64 ``[n, 2]``."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(int(row["TestID"]), int(row["TrainID"])) for row in csv.DictReader(file)]
    except OSError as error:
        raise ResourceError(f"cannot be read: {error.strerror}", where=path) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"is no list of near-duplicates: {error}", where=path) from error
    if not rows:
        raise UsageError("lists no near-duplicates", where=path)
    return np.array(rows, dtype=np.int64)
