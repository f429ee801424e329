"""Response channels: what a service may answer instead of its full posteriors.

A channel is named by a short text, ``name`` or ``name:number``, which is also its identity in a
record. All of them keep the predicted label, so none costs accuracy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from securitynet.errors import UsageError, unknown_id
from securitynet.registry import Access

Floats = NDArray[np.float64]
SMALLEST = 1e-12
"""Stands for a posterior that was rounded to nothing."""


@dataclass(frozen=True)
class Defence:
    """One response channel.

    Attributes:
        name: Its text, e.g. ``temperature:4``.
        access: The most that still comes through.
        change: Log posteriors ``[n, K]`` -> what is answered.
    """

    name: str
    access: Access
    change: Callable[[Floats], Floats]

    def respond(self, log_p: Floats) -> Floats:
        """Return what is answered in place of log posteriors, float64 ``[n, K]``."""
        return self.change(np.asarray(log_p, dtype=np.float64))


@dataclass(frozen=True)
class _Kind:
    access: Access
    make: Callable[[float], Callable[[Floats], Floats]]
    help: str
    low: float | None = None
    high: float | None = None
    default: float | None = None
    is_whole: bool = False


def _top(k: float) -> Callable[[Floats], Floats]:
    """Keep the k largest posteriors; the rest of the mass is spread evenly over the others."""

    def change(log_p: Floats) -> Floats:
        n_kept = min(int(k), log_p.shape[1] - 1)
        order = np.argsort(-log_p, axis=1, kind="stable")
        kept, hidden = order[:, :n_kept], order[:, n_kept:]
        mass = np.exp(np.take_along_axis(log_p, hidden, 1)).sum(1, keepdims=True)
        answered = log_p.copy()
        even = np.log(np.maximum(mass, SMALLEST) / hidden.shape[1])
        # A hidden class must not overtake a shown one, or the label would change.
        floor = np.take_along_axis(log_p, kept[:, -1:], 1)
        np.put_along_axis(answered, hidden, np.minimum(even, floor), 1)
        return answered

    return change


def _rounded(digits: float) -> Callable[[Floats], Floats]:
    """Round posteriors; the label stays the largest where rounding makes several equal."""

    def change(log_p: Floats) -> Floats:
        rounded = np.log(np.maximum(np.round(np.exp(log_p), int(digits)), SMALLEST))
        rows, best = np.arange(len(log_p)), log_p.argmax(1)
        others = rounded.copy()
        others[rows, best] = -np.inf
        rounded[rows, best] = np.maximum(rounded[rows, best], np.nextafter(others.max(1), 1.0))
        return rounded

    return change


def _tempered(temperature: float) -> Callable[[Floats], Floats]:
    """Soften (above 1) or sharpen (below 1) the posteriors."""

    def change(log_p: Floats) -> Floats:
        scaled = log_p / temperature
        return _normalised(scaled - scaled.max(1, keepdims=True))

    return change


def _noisy(scale: float) -> Callable[[Floats], Floats]:
    """Add Gaussian noise to the logits, the same whenever the same answer is due.

    The noise is drawn from the answer itself, so asking twice averages nothing out; the label is
    put back where noise overtakes it. This is the channel of MemGuard (Jia et al., CCS 2019)
    without its search for the noise that misleads one given attack.
    """

    def change(log_p: Floats) -> Floats:
        finite = np.maximum(log_p, np.log(SMALLEST))
        noisy = finite + scale * _own_noise(finite)
        rows, best = np.arange(len(log_p)), log_p.argmax(1)
        top = noisy.argmax(1)
        noisy[rows, best], noisy[rows, top] = noisy[rows, top], noisy[rows, best].copy()
        return _normalised(noisy)

    return change


def _own_noise(answers: Floats) -> Floats:
    """Return standard normal noise that depends on each row alone, ``[n, K]``."""
    rows = np.ascontiguousarray(answers.astype(np.float32)).view(np.uint32).astype(np.uint64)
    seeds = np.zeros(len(rows), dtype=np.uint64)
    for column in rows.T:  # a hash of the row; overflow is meant
        seeds = (seeds ^ column) * np.uint64(0x9E3779B97F4A7C15)
        seeds ^= seeds >> np.uint64(29)
    drawn = [np.random.Generator(np.random.Philox(int(s))).standard_normal for s in seeds]
    return np.array([draw(answers.shape[1]) for draw in drawn]).reshape(answers.shape)


def _normalised(logits: Floats) -> Floats:
    shifted = logits - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def _as_they_are(log_p: Floats) -> Floats:
    return log_p


KINDS = {
    "label": _Kind(Access.LABELS, lambda _: _as_they_are, "only the predicted label"),
    "top": _Kind(
        Access.SCORES, _top, "the k largest posteriors (top1 = top:1)", 1, 1000, 1, is_whole=True
    ),
    "round": _Kind(Access.SCORES, _rounded, "posteriors to d digits", 0, 12, 2, is_whole=True),
    "temperature": _Kind(Access.SCORES, _tempered, "softmax at temperature t", 0.01, 1000.0),
    "noise": _Kind(Access.SCORES, _noisy, "noise of scale s on the logits, the same each time",
                   0.0, 100.0),
}  # fmt: skip
"""Channels by name."""


def parse_defence(text: str) -> Defence:
    """Return a channel by its text.

    Args:
        text: ``label``, ``top1``, ``top:3``, ``round:2``, ``temperature:4``, ``noise:1``.

    Raises:
        UsageError: If there is none of that name, or its number does not fit.
    """
    name, colon, number = text.strip().lower().partition(":")
    if not colon and name.rstrip("0123456789") == "top":
        name, number = "top", name[3:]
    if name not in KINDS:
        raise unknown_id("defence", name, KINDS, listing="securitynet run --help")
    kind = KINDS[name]
    if kind.low is None:
        if number:
            raise UsageError(f"defence {text!r}: {name} takes no number", hint=f"give {name}")
        return Defence(name, kind.access, kind.make(0.0))
    value = _number(text, name, number, kind)
    shown = f"{int(value)}" if kind.is_whole else f"{value:g}"
    return Defence(f"{name}:{shown}", kind.access, kind.make(value))


def _number(text: str, name: str, number: str, kind: _Kind) -> float:
    wanted = f"{'a whole number' if kind.is_whole else 'a number'} from {kind.low:g} to {kind.high}"
    try:
        value = float(number) if number or kind.default is None else kind.default
    except ValueError:
        value = float("nan")
    is_inside = kind.low is not None and kind.high is not None and kind.low <= value <= kind.high
    if not is_inside or (kind.is_whole and value != int(value)):
        raise UsageError(f"defence {text!r}: {name} needs {wanted}", hint=f"e.g. {name}:2")
    return value
