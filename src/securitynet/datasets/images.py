"""Labelled images in memory-mapped form, and the views that methods receive. No torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from securitynet.errors import UsageError

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Images:
    """Some images of a data set, by index; pixels stay on disk until they are read.

    Where the images are volumes, every ``[.., H, W, C]`` here and below is ``[.., D, H, W, C]``.

    Attributes:
        source: All images of the data set, uint8 ``[N, H, W, C]`` with C = 1 or 3.
        source_labels: Their labels, int64 ``[N]``.
        indices: Which of them these are, int64 ``[n]``.
        source_fingerprint: Identity of the source.
    """

    source: Pixels
    source_labels: Labels
    indices: Indices
    source_fingerprint: str

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.indices)

    @property
    def labels(self) -> Labels:
        """The true labels, int64 ``[n]``."""
        return np.asarray(self.source_labels[self.indices])

    @property
    def fingerprint(self) -> str:
        """Identity of exactly these images in this order."""
        digest = hashlib.sha256(self.source_fingerprint.encode())
        digest.update(np.ascontiguousarray(self.indices, dtype="<i8").tobytes())
        return digest.hexdigest()

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and channels of one image; of a volume depth, height, width, channels."""
        return tuple(self.source.shape[1:])

    def pixels(self, start: int = 0, stop: int | None = None) -> Pixels:
        """Read images ``start:stop`` as uint8 ``[m, H, W, C]``."""
        return np.ascontiguousarray(self.source[self.indices[start:stop]])

    def take(self, positions: NDArray[np.integer] | NDArray[np.bool_] | slice) -> Images:
        """Return the images at these positions of this view."""
        return replace(self, indices=self.indices[positions])


@dataclass(frozen=True)
class Part:
    """What a data set is a part of: all images of some classes of a larger one.

    Attributes:
        whole: Name of the larger data set; the part is split as models of that one were trained.
        num_classes: Its number of classes.
        labels: The label there of every class here, in order.
        flag: What every figure of a model of the larger one carries.
    """

    whole: str
    num_classes: int
    labels: tuple[int, ...]
    flag: str


@dataclass(frozen=True, eq=False)
class Dataset:
    """One data set with its two splits, both views of the same source array.

    Attributes:
        name: Catalogue name or folder.
        train: The split that models of this data set are trained on.
        test: The split that they are not trained on.
        classes: Class names, in order of their labels.
        notes: What to know of this copy, e.g. ``jpeg-compressed``.
        is_mirrored: Whether an image keeps its class when left and right are swapped.
        part: What it is a part of, ``None`` for a data set of its own.
    """

    name: str
    train: Images
    test: Images
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    is_mirrored: bool = False
    part: Part | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def fingerprint(self) -> str:
        """Identity of both splits."""
        both = self.train.fingerprint + self.test.fingerprint
        return hashlib.sha256(both.encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class AuditData:
    """What a method may see of the data. Membership stays with the harness.

    Attributes:
        audit: Members and non-members, class-balanced and shuffled, without saying which is which.
        queries: The thief's query pool: a half of the test split, or what a method's option
            ``queries`` names; images of another data set have the label -1.
        evaluation: The other half of the test split; nothing is trained or tuned on it.
        clean: The defender's held-out clean images: drawn from ``queries``.
        num_classes: Number of classes.
        classes: Class names.
        is_mirrored: Whether an image keeps its class when left and right are swapped.
    """

    audit: Images
    queries: Images
    evaluation: Images
    clean: Images
    num_classes: int
    classes: tuple[str, ...]
    is_mirrored: bool = False


@dataclass(frozen=True, eq=False)
class Audit:
    """The data of an evaluation: what the method sees and what only the harness knows.

    Attributes:
        data: The method's view.
        is_member: Membership of ``data.audit``, bool ``[n]``.
        test: The non-members of ``data.audit``: test images for gate and pre-flight.
        fingerprint: Identity of all views together.
        notes: Notes of the data set.
        part: What the data set is a part of.
        dataset: What it was drawn from; references know their training images by it.
    """

    data: AuditData
    is_member: NDArray[np.bool_]
    test: Images
    fingerprint: str
    notes: tuple[str, ...]
    part: Part | None = None
    dataset: Dataset | None = None


def make_audit(
    dataset: Dataset,
    *,
    limit: int | None = None,
    n_clean: int = 1000,
    members: Indices | None = None,
    nonmembers: Indices | None = None,
) -> Audit:
    """Draw the views of an evaluation from a data set; the same data set gives the same views.

    Members and non-members are balanced by class: per class, as many of the training split as
    of the test split. The test split is halved per class for the stealing views.

    Args:
        dataset: The data set.
        limit: At most this many members, and as many non-members.
        n_clean: At most this many clean images for a defender.
        members: Source indices of the images that the model was trained on, where it is not the
            train split.
        nonmembers: Source indices of images it was not trained on, where they are not the test
            split.

    Raises:
        UsageError: If a side is too small to audit, or an image is on both.
    """
    rng = np.random.default_rng(int(dataset.fingerprint[:16], 16))
    inside = dataset.train if members is None else replace(dataset.train, indices=members)
    outside = dataset.test if nonmembers is None else replace(dataset.test, indices=nonmembers)
    n_both = len(np.intersect1d(inside.indices, outside.indices))
    if n_both:
        raise UsageError(
            f"{n_both} images are members and non-members",
            where=dataset.name,
            hint="name each once",
        )
    chosen = _balanced(inside, outside, dataset.num_classes, rng, limit)
    if min(map(len, chosen)) < 2:
        raise UsageError(
            f"too few images to audit: {len(chosen[0])} members, {len(chosen[1])} non-members",
            where=dataset.name,
            hint="every class needs images on both sides",
        )
    audit, is_member = _mixed(*chosen, rng)
    queries, evaluation = _halves(dataset.test, rng)
    if limit is not None:
        queries, evaluation = queries.take(slice(limit)), evaluation.take(slice(limit))
    test = audit.take(~is_member)
    data = AuditData(
        audit=audit,
        queries=queries,
        evaluation=evaluation,
        clean=queries.take(slice(n_clean)),
        num_classes=dataset.num_classes,
        classes=dataset.classes,
        is_mirrored=dataset.is_mirrored,
    )
    parts = [view.fingerprint for view in (audit, queries, evaluation, test)]
    digest = hashlib.sha256("".join(parts).encode()).hexdigest()
    return Audit(data, is_member, test, digest, dataset.notes, dataset.part, dataset)


def _balanced(
    inside: Images, outside: Images, n_classes: int, rng: np.random.Generator, limit: int | None
) -> tuple[Images, Images]:
    """Return as many members as non-members in every class."""
    sides: tuple[list[Indices], list[Indices]] = ([], [])
    per_class = None if limit is None else -(-limit // n_classes)
    for label in range(n_classes):
        found = [
            rng.permutation(np.flatnonzero(side.labels == label)) for side in (inside, outside)
        ]
        size = min(len(found[0]), len(found[1]), per_class or len(found[0]))
        for side, positions in zip(sides, found, strict=True):
            side.append(positions[:size])
    members, outsiders = (np.concatenate(side) for side in sides)
    if limit is not None and len(members) > limit:
        kept = rng.permutation(len(members))[:limit]
        members, outsiders = members[kept], outsiders[kept]
    return inside.take(members), outside.take(outsiders)


def _mixed(
    members: Images, outsiders: Images, rng: np.random.Generator
) -> tuple[Images, NDArray[np.bool_]]:
    """Join members and non-members in one shuffled view over both splits."""
    indices = np.concatenate([members.indices, outsiders.indices])
    order = rng.permutation(len(indices))
    is_member = (np.arange(len(indices)) < len(members))[order]
    return replace(members, indices=indices[order]), is_member


def _halves(images: Images, rng: np.random.Generator) -> tuple[Images, Images]:
    first: list[Indices] = []
    second: list[Indices] = []
    for label in np.unique(images.labels):
        positions = rng.permutation(np.flatnonzero(images.labels == label))
        cut = (len(positions) + len(first) % 2) // 2
        first.append(positions[:cut])
        second.append(positions[cut:])
    pool, rest = np.concatenate(first), np.concatenate(second)
    return images.take(rng.permutation(pool)), images.take(rng.permutation(rest))
