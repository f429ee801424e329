"""What our own models were trained on, image by image: manifests, and references judged by them.

No torch: a run is planned by manifests alone.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from securitynet.catalogue.cards import ModelCard, load_card
from securitynet.datasets.images import Dataset, Indices
from securitynet.errors import IntegrityError, SecurityNetError
from securitynet.files.folders import cache_folder
from securitynet.records import fingerprint

TRAINED_ON = "train_indices.npy"
"""File beside a card: source indices of the images its model was trained on, int64 ``[n]``."""
LIST = "references.json"
"""File that lists the references of a folder."""


@dataclass(frozen=True, eq=False)
class Reference:
    """One reference and its manifest.

    Attributes:
        card: The model.
        trained_on: Source indices of its training images, sorted, int64.
        fold: The fold it audits (``out``), or -1.
    """

    card: ModelCard
    trained_on: Indices
    fold: int


@dataclass(frozen=True, eq=False)
class ReferenceSet:
    """All references of a data set of one kind.

    Attributes:
        kind: ``out`` or ``online``.
        models: The references.
        n_folds: Folds of the test split (``out``), else 1.
        seed: Seed of the folds.
    """

    kind: str
    models: tuple[Reference, ...]
    n_folds: int
    seed: int

    @property
    def fingerprint(self) -> str:
        """Identity of the weights and of what they were trained on."""
        parts = [[m.card.weights.checksum, indices_sha256(m.trained_on)] for m in self.models]
        return fingerprint([self.kind, self.n_folds, self.seed, sorted(map(str, parts))])


def reference_folder(dataset: Dataset, kind: str) -> Path:
    """Return where a data set's references lie: in the cache, by the identity of its images."""
    return cache_folder() / "references" / dataset.fingerprint[:32] / kind


def folds_of(dataset: Dataset, n_folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of every source image, int64 ``[N]``, balanced by class in the test split.

    Test images are dealt out class by class; all others get a fold at random, for the references
    they are audited with.
    """
    rng = np.random.default_rng([seed, int(dataset.fingerprint[:8], 16)])
    folds = rng.integers(0, n_folds, len(dataset.test.source))
    for label in range(dataset.num_classes):
        mine = rng.permutation(dataset.test.indices[dataset.test.labels == label])
        folds[mine] = (np.arange(len(mine)) + label) % n_folds
    return folds


def indices_sha256(indices: Indices) -> str:
    """Return the identity of a list of training images."""
    return hashlib.sha256(np.ascontiguousarray(indices, dtype="<i8").tobytes()).hexdigest()


def training_images(card: ModelCard) -> Indices | None:
    """Return the source indices of the images a self-trained model was trained on.

    Returns:
        int64 ``[n]``, or ``None`` if it is the whole train split, the card is not one of ours, or
        the model was fine-tuned: then its members are those of the model it started from.

    Raises:
        IntegrityError: If the list beside the card is missing or not the one of the manifest.
    """
    facts = card.training or {}
    is_whole = facts.get("is_whole_train_split", True) or facts.get("from") is not None
    if card.origin != "self-trained" or is_whole:
        return None
    where = Path(card.folder or "") / TRAINED_ON
    hint = "train the model again: who is a member is known from this file alone"
    try:
        indices: Indices = np.load(where, allow_pickle=False).astype(np.int64)
    except (OSError, ValueError, EOFError) as error:
        raise IntegrityError(f"cannot be read: {error}", where=where, hint=hint) from None
    if indices_sha256(indices) != facts.get("train_indices_sha256"):
        raise IntegrityError("is not the list of the card's manifest", where=where, hint=hint)
    return indices


def load_references(dataset: Dataset, kind: str) -> ReferenceSet | None:
    """Return a data set's references, every one with the manifest it is judged by.

    Returns:
        The set, or ``None`` if none was trained.

    Raises:
        IntegrityError: If the set is damaged.
    """
    folder = reference_folder(dataset, kind)
    if not (folder / LIST).is_file():
        return None
    hint = "`securitynet train references` makes them again"
    try:
        facts = json.loads((folder / LIST).read_text(encoding="utf-8"))
        models = tuple(_read(folder / row["folder"], int(row["fold"])) for row in facts["models"])
        return ReferenceSet(kind, models, int(facts["n_folds"]), int(facts["seed"]))
    except (OSError, ValueError, KeyError, TypeError, EOFError, SecurityNetError) as error:
        raise IntegrityError(f"references are damaged: {error}", where=folder, hint=hint) from error


def _read(folder: Path, fold: int) -> Reference:
    card = load_card(folder / "card.json")
    indices = np.load(folder / TRAINED_ON, allow_pickle=False).astype(np.int64)
    if indices_sha256(indices) != (card.training or {}).get("train_indices_sha256"):
        raise IntegrityError(f"{TRAINED_ON} is not the list of the manifest", where=folder)
    return Reference(card, indices, fold)
