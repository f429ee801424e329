"""ROC figures with intervals. Positives should score higher; ties count half or against us."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from securitynet.metrics.intervals import Z95, clopper_pearson, difference, proportion
from securitynet.records import Measure

Floats = NDArray[np.float64]

FEW_NONMEMBERS = "few-nonmembers"
"""Flag: a TPR is unknown because its FPR allows less than one of the negatives."""


def _midranks(values: Floats) -> Floats:
    """Return 1-based ranks, ties sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)


def _placements(positives: Floats, negatives: Floats) -> tuple[Floats, Floats]:
    """Return each positive's share of negatives below it, and each negative's of positives above.

    Source: Sun & Xu, IEEE SPL 21 (2014): DeLong's structural components by midranks.
    """
    m, n = len(positives), len(negatives)
    joint = _midranks(np.concatenate([positives, negatives]))
    above = (joint[:m] - _midranks(positives)) / n
    below = 1.0 - (joint[m:] - _midranks(negatives)) / m
    return above, below


def auc(positives: Floats, negatives: Floats) -> float:
    """Return the probability that a positive outscores a negative, ties counting half."""
    return float(_placements(*_checked(positives, negatives))[0].mean())


def delong_standard_error(positives: Floats, negatives: Floats) -> float:
    """Return DeLong's standard error of the AUC.

    Source: DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988).
    """
    return _standard_error(*_placements(*_checked(positives, negatives)))


def _standard_error(above: Floats, below: Floats) -> float:
    return float(np.sqrt(above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below)))


def auc_delong(positives: Floats, negatives: Floats) -> Measure:
    """Return the AUC with its DeLong interval, computed on the logit scale.

    DeLong's variance vanishes where the groups do not overlap at all (AUC 0 or 1) or all scores
    are equal (0.5). There the interval is exact and conservative: of ``min(m, n)`` disjoint
    pairs of a positive and a negative all came out alike, so Clopper-Pearson bounds the share
    of pairs that would not. ``n`` is the number of positives and negatives together.

    Source: DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988); logit scale: Pepe 2003, 5.2.

    Args:
        positives: Scores of members, ``[m]``; infinities are ranked, NaN is not.
        negatives: Scores of non-members, ``[n]``.

    Raises:
        ValueError: If a group has fewer than two samples or a score is NaN.
    """
    positives, negatives = _checked(positives, negatives)
    above, below = _placements(positives, negatives)
    value, error = float(above.mean()), _standard_error(above, below)
    size = len(positives) + len(negatives)
    if error == 0.0 or value in (0.0, 1.0):
        unseen = 1.0 - clopper_pearson(pairs := min(len(positives), len(negatives)), pairs)[0]
        margin = unseen if value in (0.0, 1.0) else unseen / 2
        return Measure(value, max(0.0, value - margin), min(1.0, value + margin), size)
    centre, width = np.log(value / (1 - value)), Z95 * error / (value * (1 - value))
    low, high = 1 / (1 + np.exp(width - centre)), 1 / (1 + np.exp(-width - centre))
    return Measure(value, float(low), float(high), size)


def _checked(positives: Floats, negatives: Floats) -> tuple[Floats, Floats]:
    pair = np.asarray(positives, np.float64), np.asarray(negatives, np.float64)
    if min(map(len, pair)) < 2 or any(np.isnan(group).any() for group in pair):
        raise ValueError("a ROC needs two samples a side and no NaN")
    return pair


def tpr_at_fpr(positives: Floats, negatives: Floats, fpr: float) -> Measure:
    """Return the largest TPR whose FPR does not exceed ``fpr``, with a Clopper-Pearson interval.

    Conservative with ties: a threshold takes all samples that share its score. The value is
    unknown where the FPR allows less than one negative (:func:`is_estimable`; the flag for it
    is :data:`FEW_NONMEMBERS`). The interval takes the threshold as given; at k false positives
    allowed, the FPR it really holds is itself known to about 1 / sqrt(k) only.

    Args:
        positives: Scores of members, ``[m]``.
        negatives: Scores of non-members, ``[n]``.
        fpr: False positive rate in (0, 1).

    Returns:
        The TPR; its ``n`` is the number of positives.

    Raises:
        ValueError: If a group has fewer than two samples, a score is NaN, or ``fpr`` is no rate.
    """
    positives, negatives = _checked(positives, negatives)
    if not 0 < fpr < 1:
        raise ValueError(f"a false positive rate of {fpr}")
    if not is_estimable(len(negatives), fpr):
        return Measure(None, n=len(positives))
    # the threshold is the first negative beyond those allowed: only what exceeds it is called
    threshold = np.sort(negatives)[::-1][_allowed(len(negatives), fpr)]
    return proportion(int((positives > threshold).sum()), len(positives))


def is_estimable(n_negatives: int, fpr: float) -> bool:
    """Return whether a false positive rate allows at least one of the negatives."""
    return _allowed(n_negatives, fpr) >= 1


def _allowed(n_negatives: int, fpr: float) -> int:
    return int(np.floor(fpr * n_negatives + 1e-9))  # 0.29 * 100 is just below 29 in binary


def balanced_accuracy(positives: Floats, negatives: Floats) -> Measure:
    """Return (TPR + TNR) / 2 with the threshold chosen on other samples than it is judged on.

    Two folds, swapped: the threshold that is best on one half is applied to the other. Choosing
    and judging on the same samples would report more than 0.5 for pure noise. Folds are every
    other sample, so the order must not depend on the scores (the audit is shuffled). The
    interval joins the two rates' exact bounds and takes the two thresholds as given.

    Raises:
        ValueError: If a group has fewer than two samples or a score is NaN.
    """
    positives, negatives = _checked(positives, negatives)
    hits, alarms = 0, 0
    for fold in (0, 1):
        threshold = _best_threshold(positives[fold::2], negatives[fold::2])
        hits += int((positives[1 - fold :: 2] >= threshold).sum())
        alarms += int((negatives[1 - fold :: 2] >= threshold).sum())
    youden = difference(hits, len(positives), alarms, len(negatives))
    low, high = youden.low or 0.0, youden.high or 0.0
    return Measure((1 + (youden.value or 0.0)) / 2, (1 + low) / 2, (1 + high) / 2, youden.n)


def _best_threshold(positives: Floats, negatives: Floats) -> float:
    values = np.unique(np.concatenate([positives, negatives]))
    tpr = 1 - np.searchsorted(np.sort(positives), values, side="left") / len(positives)
    fpr = 1 - np.searchsorted(np.sort(negatives), values, side="left") / len(negatives)
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
    """Return the ROC curve at up to ``2 n_points`` false positive rates, linear and log spaced.

    Points are as conservative with ties as :func:`tpr_at_fpr`; the last one is (1, 1).

    Raises:
        ValueError: If a group has fewer than two samples or a score is NaN.
    """
    positives, negatives = _checked(positives, negatives)
    m, n = len(positives), len(negatives)
    grid = np.concatenate([np.linspace(0, 1, n_points), np.geomspace(1 / n, 1, n_points)])
    allowed = np.unique(np.floor(grid * n + 1e-9).astype(int))
    rising = np.sort(negatives)
    thresholds = rising[::-1][allowed[allowed < n]]
    hits = m - np.searchsorted(np.sort(positives), thresholds, side="right")
    false = n - np.searchsorted(rising, thresholds, side="right")
    false, first = np.unique(np.append(false, n), return_index=True)  # ties: one point each
    hits = np.append(hits, m)[first]
    bounds = np.array([clopper_pearson(int(k), m) for k in hits])
    return Curve(false / n, hits / m, bounds[:, 0], bounds[:, 1])


def histogram(values: Floats, edges: Floats) -> list[float]:
    """Return the share of values in each bin; values beyond the edges fall in the outer bins."""
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return [round(float(count) / max(len(values), 1), 6) for count in counts]


def common_edges(*groups: Floats, n_bins: int = 40) -> Floats:
    """Return finite bin edges, ``[n_bins + 1]``, over the central 99% of all finite values."""
    joint = np.concatenate(groups)
    joint = joint[np.isfinite(joint)]
    low, high = np.quantile(joint, [0.005, 0.995]) if len(joint) else (0.0, 0.0)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, n_bins + 1)
