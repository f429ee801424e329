"""Sound references: models of ours whose training sets are known image by image.

Models of others were trained on the train split, every one: they are IN for all members and OUT for
all non-members, so as references they answer the question by who was asked. Ours are trained

- ``out``: on folds of the *test* split. Every sample is audited by the references of one fold,
  which never saw it: a test image by those of its own fold, which were trained on the other folds,
  and a member by those of a fold drawn for it, so that both sides have as many;
- ``online``: in pairs that share the audited samples, members and non-members alike, by a coin
  flip for each: every sample is IN for one of a pair and OUT for the other.

They are kept by data set, and every model of the data set is audited with the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securitynet.datasets.images import Dataset, Indices, make_audit
from securitynet.datasets.members import near_duplicates
from securitynet.errors import IntegrityError, UsageError
from securitynet.files.atomic import write_text
from securitynet.records import fingerprint
from securitynet.training.manifests import (
    LIST,
    ReferenceSet,
    folds_of,
    indices_sha256,
    load_references,
    reference_folder,
)
from securitynet.training.selftrained import TrainingPlan, train_models
from securitynet.training.trainer import Recipe

Progress = Callable[[float, str], None]
KINDS = ("out", "online")


@dataclass(frozen=True)
class ReferencePlan:
    """Which references to train.

    Attributes:
        kind: ``out`` or ``online``.
        n_folds: Folds of the test split (``out``).
        n_models: References a fold (``out``), or in all (``online``: an even number).
        architecture: As in a card.
        recipe: How to train.
        seed: Seed of folds and halves; each model has its own on top.
        also: Source indices of images that are audited besides those of the data set's own audit
            (``online``), such as the members of a model of one's own.
    """

    kind: str = "out"
    n_folds: int = 2
    n_models: int = 4
    architecture: str = "securitynet/cnn_small"
    recipe: Recipe = field(default_factory=Recipe)
    seed: int = 0
    also: tuple[int, ...] = ()

    def check(self) -> None:
        """Raise `UsageError` if no sound references can be made this way."""
        if self.kind not in KINDS:
            raise UsageError(f"references of kind {self.kind!r}", hint="out or online")
        if self.kind == "out" and self.also:
            raise UsageError(
                "references that saw none of the audited images share none out",
                hint="--also goes with --kind online",
            )
        if self.kind == "out" and (self.n_folds < 2 or self.n_models < 1):
            raise UsageError(
                f"{self.n_folds} folds of {self.n_models} references leave samples without one",
                hint="give at least 2 folds and 1 reference a fold",
            )
        if self.kind == "online" and (self.n_models < 2 or self.n_models % 2):
            raise UsageError(
                f"{self.n_models} references: every sample is IN for one half of them",
                hint="give an even number",
            )


def train_references(
    plan: ReferencePlan, dataset: Dataset, progress: Progress
) -> tuple[ReferenceSet, Path]:
    """Train a data set's references; those that are there already are kept.

    Args:
        plan: Which.
        dataset: For whose models.
        progress: Told the share done and a few words.

    Returns:
        The set and its folder.

    Raises:
        UsageError: If the plan leaves samples without references, or folds are too small.
    """
    plan.check()
    folder = reference_folder(dataset, plan.kind)
    listed: list[dict[str, Any]] = []
    parts = _parts(plan, dataset)
    for i, (name, fold, chosen, seed) in enumerate(parts):
        wanted = TrainingPlan(
            name=name,
            architecture=plan.architecture,
            recipe=plan.recipe,
            seed=seed,
            chosen=np.sort(chosen),
        )
        title = f"reference {i + 1}/{len(parts)} on {len(chosen):,} images"
        train_models(wanted, dataset, folder, _part(progress, i, len(parts), title))
        listed.append({"folder": wanted.name, "fold": fold})
    facts = {
        "kind": plan.kind,
        "dataset": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "n_folds": plan.n_folds if plan.kind == "out" else 1,
        "seed": plan.seed,
        "models": listed,
    }
    write_text(folder / LIST, json.dumps(facts, indent=1) + "\n")
    found = load_references(dataset, plan.kind)
    if found is None:
        raise IntegrityError("the references that were just trained are gone", where=folder)
    return found, folder


def _part(progress: Progress, i: int, n: int, title: str) -> Progress:
    return lambda share, what: progress((i + share) / n, f"{title}: {what}")


def _parts(plan: ReferencePlan, dataset: Dataset) -> list[tuple[str, int, Indices, int]]:
    """Return (name, fold, training images, seed) of every reference."""
    usable = _without_copies(dataset)
    recipe = [asdict(plan.recipe), plan.architecture, plan.seed]
    if plan.kind == "online":
        audited = make_audit(dataset, nonmembers=usable).data.audit.indices
        pool = np.union1d(audited, np.array(plan.also, dtype=np.int64))
        mark = fingerprint([*recipe, indices_sha256(pool)])[:8]
        return [
            (f"half{r}-{mark}", -1, pool[half], plan.seed + r)
            for r, half in enumerate(_halves(len(pool), plan.n_models, plan.seed))
        ]
    folds = folds_of(dataset, plan.n_folds, plan.seed)[usable]
    return [
        (f"fold{fold}-{r}-{fingerprint(recipe)[:8]}", fold, usable[folds != fold], plan.seed + r)
        for fold in range(plan.n_folds)
        for r in range(plan.n_models)
    ]


def _without_copies(dataset: Dataset) -> Indices:
    """Return the test images that are audited; a copy of one would make its references IN."""
    copies = near_duplicates(dataset)
    return dataset.test.indices if copies is None else np.setdiff1d(dataset.test.indices, copies)


def _halves(n: int, n_models: int, seed: int) -> list[NDArray[np.bool_]]:
    """Return which samples each model is trained on, bool ``[n]``: every sample in one of a pair.

    Each pair draws for itself, so that more pairs leave those that are there as they are.
    """
    halves: list[NDArray[np.bool_]] = []
    for pair in range(n_models // 2):
        is_first = np.random.default_rng([seed, pair]).permutation(n) < n // 2
        halves += [is_first, ~is_first]
    return halves
