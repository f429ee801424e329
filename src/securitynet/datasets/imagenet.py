"""ImageNet, and Imagenette's ten classes of it, split as ImageNet's models were trained. No torch.

Imagenette's own two folders are a new draw from ImageNet's training and validation images together,
so they say nothing of membership. The names of the files do: a training image of ImageNet is called
by its synset (``n01440764_10026.JPEG``), a validation image ``ILSVRC2012_val_00000293.JPEG``.

Of ImageNet itself, whose 1.3 million images would take 250 GB decoded, a fixed subset is used: of
every class 50 training images and all 50 validation images, 20 GB.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np

from securitynet.datasets.images import Part
from securitynet.datasets.pictures import SUFFIXES
from securitynet.datasets.sources import Splits, image_files
from securitynet.errors import ResourceError, UsageError

SIDE = 256
"""Pixels: the shorter side becomes this long, bilinear and antialiased, then the centre is cut."""
PER_CLASS = 50
"""Images of a class in either split of the subset of ImageNet."""
IMAGENETTE = {
    "n01440764": (0, "tench"),
    "n02102040": (217, "English springer"),
    "n02979186": (482, "cassette player"),
    "n03000684": (491, "chain saw"),
    "n03028079": (497, "church"),
    "n03394916": (566, "French horn"),
    "n03417042": (569, "garbage truck"),
    "n03425413": (571, "gas pump"),
    "n03445777": (574, "golf ball"),
    "n03888257": (701, "parachute"),
}
"""Synset -> label among ImageNet's 1000 classes, and name."""
IMAGENETTE_CLASSES = tuple(name for _, name in IMAGENETTE.values())
IMAGENETTE_PART = Part(
    "imagenet1k", 1000, tuple(label for label, _ in IMAGENETTE.values()), "imagenet-proxy"
)
FOLDERS = ("imagenette2", "imagenette2-320", "imagenette2-160", "imagenette")
"""Names of the published folders, those with the largest images first."""
OUTSIDE = "ILSVRC2012_val_"
LAYOUT = "keep the published layout: imagenette2/{train,val}/nXXXXXXXX/*.JPEG"
WHOLE_LAYOUT = "put the images into {train,val}/nXXXXXXXX/*.JPEG, a folder for each class"
KEEP_NAMES = "membership is read from the published file names: keep them"
_SYNSET = re.compile(r"n\d{8}")


def imagenette_splits(root: Path) -> Splits:
    """Sort Imagenette's files into ImageNet's training images and its validation images.

    Args:
        root: A published folder, or one that holds it.

    Raises:
        UsageError: If the layout or a file's name is another, or a split is empty.
        ResourceError: If a folder cannot be listed.
    """
    with _listing(root):
        place = _published(root)
        files = sorted(
            (file for part in ("train", "val") for file in image_files(place / part)),
            key=lambda file: (file.parent.name, file.name),
        )
    for first, second in pairwise(files):
        if (first.parent.name, first.name) == (second.parent.name, second.name):
            raise UsageError("the same image is in train and in val", where=second, hint=LAYOUT)
    members = tuple(file for file in files if _is_member(file))
    others = tuple(file for file in files if not _is_member(file))
    if not members or not others:
        missing = "validation" if members else "training"
        raise UsageError(f"no {missing} images of ImageNet", where=place, hint=LAYOUT)
    return Splits(place, "folder", members, others, side=SIDE)


def imagenet_splits(root: Path) -> Splits:
    """Draw the subset of ImageNet that is used: the same files give the same subset.

    Args:
        root: Folder with ``train/nXXXXXXXX/*.JPEG`` and ``val/nXXXXXXXX/*.JPEG``.

    Raises:
        UsageError: If the layout, the classes or a file's name are others.
        ResourceError: If a folder cannot be listed.
    """
    members: list[Path] = []
    others: list[Path] = []
    n_files = 0
    with _listing(root):
        for synset in _synsets(root):
            for split, kept, start in (("train", members, f"{synset}_"), ("val", others, OUTSIDE)):
                names = _image_names(root / split / synset, start)
                kept += [root / split / synset / name for name in _drawn(names, synset)]
                n_files += len(names)
    is_all = n_files == len(members) + len(others)
    notes = () if is_all else (f"subset:{len(members)}",)
    return Splits(root, "folder", tuple(members), tuple(others), notes, SIDE)


def _synsets(root: Path) -> list[str]:
    """Return the class folders, which are in the order of the labels."""
    synsets = [_class_folders(root / split) for split in ("train", "val")]
    for found, split in zip(synsets, ("train", "val"), strict=True):
        if len(found) != IMAGENETTE_PART.num_classes:
            raise UsageError(
                f"{len(found)} class folders, not 1000", where=root / split, hint=WHOLE_LAYOUT
            )
    is_ordered = all(synsets[0][label] == synset for synset, (label, _) in IMAGENETTE.items())
    if synsets[0] != synsets[1] or not is_ordered:
        raise UsageError("the classes are not those of ILSVRC 2012", where=root, hint=WHOLE_LAYOUT)
    return synsets[0]


def _class_folders(split: Path) -> list[str]:
    if not split.is_dir():
        return []
    with os.scandir(split) as entries:
        return sorted(one.name for one in entries if _SYNSET.fullmatch(one.name) and one.is_dir())


def _image_names(folder: Path, start: str) -> list[str]:
    """Return the names of a class's images, of which every one must begin as its split says."""
    with os.scandir(folder) as entries:
        found = [one.name for one in entries if not one.name.startswith(".")]
    names = sorted(name for name in found if Path(name).suffix.lower() in SUFFIXES)
    wrong = next((name for name in names if not name.startswith(start)), None)
    if wrong is not None:
        raise UsageError(f"the name is not {start}*", where=folder / wrong, hint=KEEP_NAMES)
    if not names:
        raise UsageError("no images", where=folder, hint=WHOLE_LAYOUT)
    return names


def _drawn(names: Sequence[str], synset: str) -> list[str]:
    """Draw a class's images, by a seed of its own, so that classes do not depend on each other."""
    order = np.random.default_rng(int(synset[1:])).permutation(len(names))
    return [names[i] for i in sorted(order[:PER_CLASS].tolist())]


@contextmanager
def _listing(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"cannot be listed: {error.strerror}", where=error.filename or root,
            hint="give read permission",
        ) from error  # fmt: skip


def _published(root: Path) -> Path:
    places = [root, *(root / name for name in FOLDERS)]
    for place in places:
        if all((place / part).is_dir() for part in ("train", "val")):
            return place
    raise UsageError("no train and val folder", where=root, hint=LAYOUT)


def _is_member(file: Path) -> bool:
    """Return whether an image is one of ImageNet's training images.

    Raises:
        UsageError: If its name or class does not say.
    """
    synset = file.parent.name
    if synset not in IMAGENETTE:
        what = "is a class of another data set" if _SYNSET.fullmatch(synset) else "is no synset"
        raise UsageError(f"{synset!r} {what}", where=file.parent.parent, hint=LAYOUT)
    if file.name.startswith(f"{synset}_"):
        return True
    if file.name.startswith(OUTSIDE):
        return False
    raise UsageError(
        f"the name says neither {synset}_* (a training image of ImageNet) nor {OUTSIDE}*",
        where=file,
        hint=KEEP_NAMES,
    )
