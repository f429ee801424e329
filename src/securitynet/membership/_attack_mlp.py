"""The small network that learns to tell members from non-members by their posteriors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from securitynet.errors import RefusedError
from securitynet.evidence import MembershipEvidence
from securitynet.membership import _scores
from securitynet.membership._knowledge import FEW, known_of, references_of
from securitynet.membership._nulls import with_nulls
from securitynet.registry import option

if TYPE_CHECKING:
    from securitynet.datasets.images import AuditData
    from securitynet.targets.context import Context
    from securitynet.targets.references import References
    from securitynet.targets.target import Target

Floats = _scores.Floats
Labels = _scores.Labels
Rows = NDArray[np.float32]

N_HIDDEN = 32
N_STEPS = 150
BATCH = 500
RATE = 0.005
ALPHA = 3.0
"""Weight decay: a few hundred samples would be learned by heart without."""
MOST_ROWS = 20_000
"""Rows of shadow models that are learned from: more make it slower, not better."""
FLOOR = -60.0
"""Log posteriors below are taken as this: the standard deviation is not left to underflows."""
KNOWLEDGE = ("partial", "shadow")
SOUNDNESS = (
    "What it learns could be a difference between the splits instead of memory, so the "
    "figure counts only if the controls hold 0.5. Only samples that it did not learn from are "
    "scored: with partial knowledge those of unknown membership, with shadow models by networks "
    "that saw none of the same images. Shadow models must be OUT of every audited sample."
)
"""When the figure of such a network can be believed."""


@dataclass(frozen=True)
class AttackMLP:
    """The attack as configured: what it looks at and what it learns from.

    Attributes:
        name: Name of the method.
        top: How many of the largest posteriors it sees; ``None`` = all.
        knowledge: ``partial`` learns from the audited samples of known membership, ``shadow``
            from the references as shadow models.
        seed: Seed of the network.
    """

    name: str
    top: int | None
    knowledge: str
    seed: int

    def __call__(self, target: Target, data: AuditData, context: Context) -> MembershipEvidence:
        """Score ``data.audit``; higher = member.

        Raises:
            RefusedError: If the knowledge it needs is not there, or the references are unsound.
        """
        log_p = target.log_scores(data.audit)
        if self.knowledge == "partial":
            known = known_of(context, self.name)
            score = self._partial(known, data.audit.labels)
            return with_nulls(score, log_p, context.references, context.rng)
        references = references_of(context, self.name)
        references.gather(_scores.log_likelihood, data.audit.labels)  # refuses unsound ones
        score = self._shadow(references, data)
        return with_nulls(score, log_p, references, context.rng)

    def _partial(self, known: NDArray[np.int8], labels: Labels) -> Callable[[Floats], Floats]:
        held = known >= 0

        def score(log_p: Floats) -> Floats:
            x = features(log_p, labels, self.top)
            return learn(x[held], known[held] == 1, self.seed)(x)

        return score

    def _shadow(self, references: References, data: AuditData) -> Callable[[Floats], Floats]:
        x, is_member, indices = shadow_rows(references, self.top, np.random.default_rng(self.seed))
        parity = data.audit.indices % 2
        # what scores images of one parity has learned from those of the other
        networks = [
            learn(x[indices % 2 != side], is_member[indices % 2 != side], self.seed)
            for side in (0, 1)
        ]

        def score(log_p: Floats) -> Floats:
            seen = features(log_p, data.audit.labels, self.top)
            return np.where(parity == 0, networks[0](seen), networks[1](seen))

        return score


def features(log_p: Floats, labels: Labels, top: int | None) -> Floats:
    """Return the largest log posteriors in falling order, log(1 - p_1), and the correctness.

    The number of classes is that of the model, whatever labels a part of the samples has.

    Args:
        log_p: Log posteriors, float64 ``[n, K]``.
        labels: True labels, int64 ``[n]``.
        top: How many; ``None`` = all.

    Returns:
        float64 ``[n, min(top, K) + 2]``.
    """
    ordered = np.sort(log_p, axis=1)[:, ::-1]
    largest = log_p.argmax(1)
    rest = _scores.others(log_p, largest)
    kept = ordered[:, : top or log_p.shape[1]]
    columns = [np.maximum(kept, FLOOR), np.maximum(rest, FLOOR)[:, None]]
    return np.hstack([*columns, (largest == labels)[:, None].astype(float)])


def shadow_rows(
    references: References, top: int | None, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.bool_], Labels]:
    """Return features, membership and source index of the shadow models' images.

    As many members as non-members of every shadow model, and of all together at most `MOST_ROWS`.
    """
    parts = [_balanced(references, r, top, rng) for r in range(len(references))]
    x, is_member, indices = (np.concatenate(part) for part in zip(*parts, strict=True))
    return x, is_member, indices


def _balanced(
    references: References, r: int, top: int | None, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.bool_], Labels]:
    shadow = references.shadow(r)
    sides = [rng.permutation(np.flatnonzero(shadow.is_member == side)) for side in (True, False)]
    size = min(*map(len, sides), max(1, MOST_ROWS // (2 * len(references))))
    rows = np.concatenate([side[:size] for side in sides])
    x = features(shadow.log_p[rows], shadow.labels[rows], top)
    return x, shadow.is_member[rows], shadow.indices[rows]


def learn(x: Floats, is_member: NDArray[np.bool_], seed: int) -> Callable[[Floats], Floats]:
    """Train the network for a fixed number of steps; nothing is chosen by how well it does.

    Args:
        x: Features, float64 ``[n, d]``.
        is_member: Their membership, bool ``[n]``.
        seed: Seed of weights and batches.

    Returns:
        Function from features ``[m, d]`` to log odds of membership, float64 ``[m]``.

    Raises:
        RefusedError: If there are too few of either kind.
    """
    if min(is_member.sum(), (~is_member).sum()) < FEW:
        raise RefusedError(
            f"the network must learn from {FEW} members and {FEW} non-members",
            where="references",
            hint="train references on more images",
            flags=["few-known"],
        )
    centre, spread = x.mean(0), x.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    layers = _trained(((x - centre) / spread).astype(np.float32), is_member, seed)
    return lambda rows: _log_odds((rows - centre) / spread, layers)


def _trained(x: Rows, is_member: NDArray[np.bool_], seed: int) -> list[Rows]:
    """Minimise the logistic loss by Adam (Kingma & Ba, ICLR 2015, algorithm 1) on fresh batches.

    A network this small spends its time in calls, so the gradient is written out.
    """
    rng = np.random.default_rng(seed)
    layers = [w.astype(np.float32) for w in _initial(x.shape[1], rng)]
    mean, square = ([np.zeros_like(w) for w in layers] for _ in range(2))
    truth = is_member.astype(np.float32)[:, None]
    batch = max(1, min(BATCH, len(x) // 2))
    per_epoch = len(x) // batch
    order = np.arange(len(x))
    for t in range(N_STEPS):
        if t % per_epoch == 0:
            order = rng.permutation(len(x))
        at = t % per_epoch * batch
        rows = order[at : at + batch]
        for i, slope in enumerate(_slopes(x[rows], truth[rows], layers)):
            mean[i] += 0.1 * (slope - mean[i])
            square[i] += 0.001 * (slope**2 - square[i])
            unbiased = np.sqrt(square[i] / (1 - 0.999 ** (t + 1)))
            layers[i] -= RATE * mean[i] / (1 - 0.9 ** (t + 1)) / (unbiased + 1e-8)
    return layers


def _initial(n_inputs: int, rng: np.random.Generator) -> list[Floats]:
    """Return weights and offsets, uniform within Glorot & Bengio's bound (AISTATS 2010)."""
    sides = ((n_inputs, N_HIDDEN), (N_HIDDEN, 1))
    layers: list[Floats] = []
    for n_in, n_out in sides:
        bound = (6.0 / (n_in + n_out)) ** 0.5
        layers += [rng.uniform(-bound, bound, (n_in, n_out)), rng.uniform(-bound, bound, n_out)]
    return layers


def _slopes(x: Rows, truth: Rows, layers: list[Rows]) -> list[Rows]:
    """Return the gradient of the mean logistic loss plus weight decay, one array a layer's part."""
    w1, b1, w2, b2 = layers
    hidden = np.maximum(x @ w1 + b1, 0.0)
    odds = np.clip(hidden @ w2 + b2, -30.0, 30.0)
    error = (1 / (1 + np.exp(-odds)) - truth) / len(x)
    back = (error @ w2.T) * (hidden > 0)
    decay = ALPHA / len(x)
    return [x.T @ back + decay * w1, back.sum(0), hidden.T @ error + decay * w2, error.sum(0)]


def _log_odds(x: Floats, layers: list[Rows]) -> Floats:
    """Return the output before the sigmoid, which would tie the surest samples at 1."""
    w1, b1, w2, b2 = (np.asarray(part, dtype=np.float64) for part in layers)
    return np.asarray((np.maximum(x @ w1 + b1, 0.0) @ w2 + b2)[:, 0])


@dataclass(frozen=True, kw_only=True)
class Learning:
    """The option that both attacks share: what the network learns from."""

    knowledge: str = option(
        "partial",
        "Learn from half of the audited samples (partial) or from the references (shadow).",
        choices=KNOWLEDGE,
    )

    @property
    def needs(self) -> tuple[str, ...]:
        """What this configuration cannot do without, of `registry.KNOWLEDGE`."""
        return ("membership",) if self.knowledge == "partial" else ("references",)
