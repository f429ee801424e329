"""Checks before any figure is computed: does the model work, and is it the one that was claimed?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from securitynet.datasets.images import Audit, Images
from securitynet.errors import RefusedError
from securitynet.metrics.intervals import clopper_pearson
from securitynet.models.target import Target

MAX_CLAIM_DIFFERENCE = 0.01
PROBE_SIZE = 64


@dataclass(frozen=True)
class Gate:
    """Outcome of pre-flight and accuracy gate.

    Attributes:
        accuracy: Measured clean accuracy on the test images.
        n: Number of test images.
        claimed: The published accuracy, ``None`` if nobody published one.
        flags: ``accuracy-gate``, ``no-claim``, ``chance-level``, ``outputs-softmax``...
        refusal: One line why the run should be refused, ``None`` if it should not.
    """

    accuracy: float
    n: int
    claimed: float | None
    flags: tuple[str, ...]
    refusal: str | None


def problems(target: Target, images: Images) -> list[str]:
    """Probe a target with two small batches and return every problem found.

    Args:
        target: The model.
        images: Images to probe with.

    Returns:
        One line a problem; empty if the model can be audited.
    """
    probe = images.take(slice(PROBE_SIZE)).pixels()
    before = probe.copy()
    try:
        first, second = target.logits(probe), target.logits(probe)
    except RefusedError as error:
        return [error.what]
    found = []
    if not np.array_equal(before, probe):
        found.append("the model edits its input in place")
    if not np.allclose(first, second, rtol=1e-4, atol=1e-4):
        found.append("the same images get different answers: dropout or another random layer is on")
    if len(probe) > 1 and np.ptp(first, axis=0).max() == 0:
        found.append("the output is the same for every image")
    if np.abs(first).max() > 1e6:
        found.append(f"logits of size {np.abs(first).max():.0e}: the normalisation is likely wrong")
    return found


def accuracy_gate(target: Target, audit: Audit) -> Gate:
    """Compare measured clean accuracy with the published claim (``docs/soundness.md``).

    A difference beyond one point (plus sampling error where only some test images are used)
    points to wrong preprocessing, a wrong class order or altered images.

    Args:
        target: The model.
        audit: The data of the evaluation.
    """
    logits = target.logits(audit.test)
    correct = int((logits.argmax(1) == audit.test.labels).sum())
    n = len(audit.test)
    accuracy = correct / n
    low, _ = clopper_pearson(correct, n)
    flags = list(_softmax_flag(logits[:PROBE_SIZE]))
    refusal = None
    if low <= 1 / target.num_classes:
        flags.append("chance-level")
        refusal = f"accuracy {accuracy:.3f} on {n:,} test images is no better than chance"
    claim = target.card.claim("test_accuracy")
    if claim is None:
        flags.append("no-claim")
    elif abs(accuracy - claim.value) > _tolerance(claim.value, n, claim.n):
        flags.append("accuracy-gate")
        refusal = _explain(accuracy, claim.value, n, audit.notes)
    return Gate(accuracy, n, claim.value if claim else None, tuple(flags), refusal)


def _tolerance(claimed: float, n: int, n_claimed: int | None) -> float:
    """One point, and the sampling error where the claim rests on more images than we use."""
    if n_claimed == n:
        return MAX_CLAIM_DIFFERENCE
    return MAX_CLAIM_DIFFERENCE + 1.96 * float(np.sqrt(claimed * (1 - claimed) / n))


def _explain(accuracy: float, claimed: float, n: int, notes: tuple[str, ...]) -> str:
    reason = "wrong preprocessing, class order or altered images"
    if "jpeg-compressed" in notes:
        reason = "these images are JPEG-compressed copies of a lossless data set"
    points = abs(accuracy - claimed) * 100
    return (
        f"measured accuracy {accuracy:.3f} on {n:,} test images is {points:.1f} points off the "
        f"published {claimed:.3f}; likely cause: {reason}"
    )


def _softmax_flag(logits: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> tuple[str, ...]:
    is_softmax = logits.min() >= 0 and np.allclose(logits.sum(1), 1, atol=1e-3)
    return ("outputs-softmax",) if is_softmax else ()
