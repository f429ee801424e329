"""ROC figures with intervals. Positives should score higher; ties count half or against us."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from securitynet.metrics.intervals import clopper_pearson, proportion
from securitynet.records import Measure

Floats = NDArray[np.float64]
Z95 = 1.959963984540054


def _midranks(values: Floats) -> Floats:
    """Return 1-based ranks, ties sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)


def auc(positives: Floats, negatives: Floats) -> float:
    """Return the probability that a positive outscores a negative, ties counting half."""
    return float(_placements(positives, negatives)[0].mean())


def _placements(positives: Floats, negatives: Floats) -> tuple[Floats, Floats]:
    """Return each positive's share of negatives below it, and each negative's of positives above.

    Source: Sun & Xu, IEEE SPL 21 (2014): DeLong's structural components by midranks.
    """
    m, n = len(positives), len(negatives)
    joint = _midranks(np.concatenate([positives, negatives]))
    above = (joint[:m] - _midranks(positives)) / n
    below = 1.0 - (joint[m:] - _midranks(negatives)) / m
    return above, below


def auc_delong(positives: Floats, negatives: Floats) -> Measure:
    """Return the AUC with its DeLong interval, computed on the logit scale.

    At 0 or 1 the DeLong variance vanishes; there the interval rests on the rule of three for the
    smaller group. ``n`` is the number of positives and negatives together.

    Source: DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988); logit scale: Pepe 2003, 5.2.

    Raises:
        ValueError: If a group has fewer than two samples or a score is NaN.
    """
    positives, negatives = np.asarray(positives, float), np.asarray(negatives, float)
    m, n = len(positives), len(negatives)
    if min(m, n) < 2 or np.isnan(positives).any() or np.isnan(negatives).any():
        raise ValueError("an AUC needs two samples a side and no NaN")
    above, below = _placements(positives, negatives)
    value = float(above.mean())
    error = float(np.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n))
    if value in (0.0, 1.0):
        margin = 3.0 / min(m, n)
        return Measure(value, max(0.0, value - margin), min(1.0, value + margin), m + n)
    centre, width = np.log(value / (1 - value)), Z95 * error / (value * (1 - value))
    low, high = 1 / (1 + np.exp(-(centre - width))), 1 / (1 + np.exp(-(centre + width)))
    return Measure(value, float(low), float(high), m + n)


def delong_standard_error(positives: Floats, negatives: Floats) -> float:
    """Return DeLong's standard error of the AUC."""
    above, below = _placements(np.asarray(positives, float), np.asarray(negatives, float))
    variance = above.var(ddof=1) / len(positives) + below.var(ddof=1) / len(negatives)
    return float(np.sqrt(variance))


def tpr_at_fpr(positives: Floats, negatives: Floats, fpr: float) -> Measure:
    """Return the largest TPR whose FPR does not exceed ``fpr``, with a Clopper-Pearson interval.

    Conservative with ties: a threshold takes all samples that share its score. The value is
    unknown where fewer than one false positive is allowed.

    Args:
        positives: Scores of members, ``[m]``.
        negatives: Scores of non-members, ``[n]``.
        fpr: False positive rate in (0, 1).
    """
    allowed = int(np.floor(fpr * len(negatives) + 1e-9))
    if allowed < 1:
        return Measure(None, n=len(positives))
    ordered = np.sort(np.asarray(negatives, float))[::-1]
    threshold = ordered[allowed] if allowed < len(ordered) else -np.inf
    return proportion(int((np.asarray(positives) > threshold).sum()), len(positives))


def balanced_accuracy(positives: Floats, negatives: Floats) -> Measure:
    """Return (TPR + TNR) / 2 with the threshold chosen on other samples than it is judged on.

    Two folds, swapped: the threshold that is best on one half is applied to the other. Choosing
    and judging on the same samples would report more than 0.5 for pure noise.
    """
    positives, negatives = np.asarray(positives, float), np.asarray(negatives, float)
    hits, rejections = 0, 0
    for fold in (0, 1):
        threshold = _best_threshold(positives[fold::2], negatives[fold::2])
        hits += int((positives[1 - fold :: 2] >= threshold).sum())
        rejections += int((negatives[1 - fold :: 2] < threshold).sum())
    m, n = len(positives), len(negatives)
    tpr, tnr = hits / m, rejections / n
    value = (tpr + tnr) / 2
    width = Z95 / 2 * np.sqrt(tpr * (1 - tpr) / m + tnr * (1 - tnr) / n)
    return Measure(value, max(0.0, value - width), min(1.0, value + width), m + n)


def _best_threshold(positives: Floats, negatives: Floats) -> float:
    values = np.unique(np.concatenate([positives, negatives]))
    if len(values) == 0:
        return np.inf
    p, n = np.sort(positives), np.sort(negatives)
    tpr = 1 - np.searchsorted(p, values, side="left") / max(len(p), 1)
    fpr = 1 - np.searchsorted(n, values, side="left") / max(len(n), 1)
    return float(values[np.argmax(tpr - fpr)])


@dataclass(frozen=True, eq=False)
class Curve:
    """A ROC curve thinned for drawing, with pointwise 95% Clopper-Pearson bounds on the TPR."""

    fpr: Floats
    tpr: Floats
    low: Floats
    high: Floats

    def to_json(self) -> dict[str, list[float]]:
        """Return plain lists, rounded for drawing."""
        return {
            name: np.round(getattr(self, name), 6).tolist()
            for name in ("fpr", "tpr", "low", "high")
        }


def roc_curve(positives: Floats, negatives: Floats, n_points: int = 100) -> Curve:
    """Return the ROC curve at up to ``2 n_points`` false positive rates, linear and log spaced."""
    positives, negatives = np.asarray(positives, float), np.asarray(negatives, float)
    m, n = len(positives), len(negatives)
    grid = np.concatenate([np.linspace(0, 1, n_points), np.geomspace(1 / n, 1, n_points)])
    rates = np.unique(np.round(grid * n).astype(int))
    ordered = np.sort(negatives)[::-1]
    thresholds = np.where(rates < n, ordered[np.minimum(rates, n - 1)], -np.inf)
    rising = np.sort(positives)
    hits = m - np.searchsorted(rising, thresholds, side="right")
    false = n - np.searchsorted(np.sort(negatives), thresholds, side="right")
    bounds = np.array([clopper_pearson(int(k), m) for k in hits])
    return Curve(false / n, hits / m, bounds[:, 0], bounds[:, 1])


def histogram(values: Floats, edges: Floats) -> list[float]:
    """Return the share of values in each bin; values beyond the edges fall in the outer bins."""
    inside = np.clip(values, edges[0], edges[-1])
    counts, _ = np.histogram(inside, edges)
    return np.round(counts / max(len(values), 1), 6).tolist()


def common_edges(*groups: Floats, n_bins: int = 40) -> Floats:
    """Return bin edges that cover the central 99% of all groups together."""
    joint = np.concatenate(groups)
    low, high = np.quantile(joint, [0.005, 0.995])
    if not high > low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, n_bins + 1)
