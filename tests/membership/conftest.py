"""A made-up world of which everything is known: samples, a target, references, membership.

A model's scaled logit of a sample is its difficulty, noise of the model's own, and a gain if the
model was trained on it; so every attack's AUC follows from theory.
"""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from securitynet.datasets.images import AuditData, Images
from securitynet.metrics.roc import auc, delong_standard_error
from securitynet.registry import get_method
from securitynet.targets.context import Context
from securitynet.targets.references import References, Shadow


def posteriors(phi, labels, n_classes, rng):
    """Return log posteriors with this scaled logit; the other classes share the rest at random."""
    share = rng.normal(size=(len(phi), n_classes))
    share[np.arange(len(phi)), labels] = -np.inf
    share -= np.log(np.exp(share).sum(1, keepdims=True))
    log_p = share - np.logaddexp(0, phi)[:, None]
    log_p[np.arange(len(phi)), labels] = -np.logaddexp(0, -phi)
    return log_p


@dataclass
class FakeTarget:
    """Answers with given log posteriors; whatever else it is asked, by a function of pixels."""

    log_p: np.ndarray
    answer: object = None
    queries: int = 0

    def log_scores(self, images):
        self.queries += len(images)
        return self.log_p

    def labels(self, images):
        self.queries += len(images)
        if isinstance(images, Images):
            return self.log_p.argmax(1)
        return np.asarray(self.answer(images))


@dataclass
class World:
    """Samples, their membership, the target and the references.

    Attributes:
        target: The model under audit.
        data: What methods see of the samples.
        is_member: Whether the target was trained on each, bool ``[n]``.
        references: See `References`.
        phi: The target's scaled logits, ``[n]``.
        reference_phi: The references' scaled logits, ``[R, n]``.
    """

    target: FakeTarget
    data: AuditData
    is_member: np.ndarray
    references: References | None
    phi: np.ndarray
    reference_phi: np.ndarray
    seed: int = 0

    @property
    def labels(self):
        return self.data.audit.labels

    def context(self, **changes):
        """Return what the harness gives a method that needs no membership."""
        return Context(**{"seed": self.seed, "references": self.references, **changes})

    def run(self, name, **config):
        """Do as the harness does: one call, or two with half of the membership known each."""
        entry = get_method(f"mia.{name}")
        method = entry.configure(**config)
        if "membership" not in entry.needs_of(config):
            return method(self.target, self.data, self.context())
        parts = [method(self.target, self.data, self.context(known=k)) for k in self.folds()]
        unknown = self.folds()[0] < 0
        merged = {
            name: np.where(unknown, *(getattr(part, name) for part in parts))
            for name in ("scores", "target_free", "random_target")
            if getattr(parts[0], name) is not None
        }
        return replace(parts[0], **merged)

    def folds(self):
        """Return two halves of the membership, as balanced as the audit."""
        half = np.zeros(len(self.is_member), dtype=bool)
        for side in (True, False):
            half[np.flatnonzero(self.is_member == side)[::2]] = True
        return [
            np.where(half == side, self.is_member, -1).astype(np.int8) for side in (True, False)
        ]

    def auc(self, scores, index=None):
        """Return the AUC and its standard error."""
        scores, is_member = np.asarray(scores), self.is_member
        if index is not None:
            is_member = is_member[index]
        sides = scores[is_member], scores[~is_member]
        return auc(*sides), delong_standard_error(*sides)


def references_from(log_p, is_out, is_in=None, **more):
    """Return references from arrays: log posteriors ``[R, n, K]`` and masks ``[R, n]``."""
    return References(
        fingerprint="fake",
        is_out=np.asarray(is_out),
        is_in=np.zeros_like(is_out) if is_in is None else np.asarray(is_in),
        answers=lambda r: log_p[r],
        **{"shadow": no_shadow, **more},
    )


def no_shadow(r):
    raise AssertionError("this attack must not ask for shadow models")


def audit_data(labels, n_classes, pixels=None, indices=None):
    """Return the data of an audit whose other parts nobody needs."""
    n = len(labels)
    indices = np.arange(n) if indices is None else indices
    source = np.zeros((int(indices.max()) + 1, 4, 4, 1), np.uint8)
    source_labels = np.zeros(len(source), np.int64)
    source_labels[indices] = labels
    if pixels is not None:
        source = np.zeros((len(source), *pixels.shape[1:]), np.uint8)
        source[indices] = pixels
    images = Images(source, source_labels, indices, "fake")
    classes = tuple(map(str, range(n_classes)))
    return AuditData(images, images, images, images, n_classes, classes, is_mirrored=True)


def make_world(
    n=2000, n_classes=5, seed=0, gain=1.0, spread=2.0, noise=1.0, n_references=6, kind="out",
    target="model", level=2.0,
):  # fmt: skip
    """Draw a world.

    Args:
        n: Samples; every other one is a member.
        n_classes: Classes.
        seed: Of everything.
        gain: What membership adds to phi.
        spread: Standard deviation of difficulty.
        noise: Standard deviation of a model's own noise.
        n_references: How many.
        kind: ``out`` never saw a sample, two folds as `train references` makes them; ``half`` each
            saw a random half; ``all-in`` were trained on the target's split and say so;
            ``all-in, lying`` do not.
        level: Mean difficulty.
        target: ``model``, ``noise`` (knows nothing) or ``constant``.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    is_member = rng.permutation(np.arange(n) % 2 == 0)
    difficulty = rng.normal(level, spread, n)

    def model(trained_on):
        phi = difficulty + gain * trained_on + rng.normal(0, noise, n)
        return phi, posteriors(phi, labels, n_classes, rng)

    phi, log_p = model(is_member)
    if target == "noise":
        log_p = rng.normal(0, 2, (n, n_classes))
        log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
    if target == "constant":
        log_p = np.tile(np.log(np.full(n_classes, 1 / n_classes)), (n, 1))
    shape = (n_references, n)
    coins = rng.permuted(np.tile(np.arange(shape[0])[:, None] % 2 == 0, (1, n)), axis=0)
    saw = {"out": np.zeros(shape, bool), "half": coins}.get(kind, np.tile(is_member, (shape[0], 1)))
    answers = [model(row) for row in saw]
    log_ps = [answer[1] for answer in answers]
    is_out = ~saw if kind != "all-in, lying" else np.ones(shape, bool)
    if kind == "out":  # a non-member was training data of half of the references
        fold = rng.random(n) < 0.5
        is_out = np.array([is_member | (fold == bool(r % 2)) for r in range(shape[0])])

    def shadow(r):
        mine = np.random.default_rng([seed, r])
        trained_on = mine.random(n) < 0.5
        hard = mine.normal(level, spread, n)
        seen = hard + gain * trained_on + mine.normal(0, noise, n)
        rows = posteriors(seen, labels, n_classes, mine)
        return Shadow(rows, labels, trained_on, np.arange(n))

    references = references_from(log_ps, is_out, saw if kind == "half" else None, shadow=shadow)
    random_answers = np.random.default_rng([seed, 99])
    fake = FakeTarget(log_p, lambda pixels: random_answers.integers(0, n_classes, len(pixels)))
    data = audit_data(labels, n_classes)
    reference_phi = np.array([answer[0] for answer in answers])
    return World(fake, data, is_member, references, phi, reference_phi, seed)


@pytest.fixture(scope="session")
def world():
    """Return the function that draws a world."""
    return make_world


@pytest.fixture(scope="session")
def world_parts():
    """Return the makers of a world's parts: ``audit_data`` and ``references_from``."""
    return SimpleNamespace(audit_data=audit_data, references_from=references_from)
