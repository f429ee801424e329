"""Agreement of stolen copies with their target: means over seeds, corrected for the floor.

Indicators are float64 ``[seeds, images]``: one row a copy, 1.0 where it is right (or agrees).

Every half width joins two sources of error: the sampling of evaluation images, from the
indicator averaged over seeds, and the spread over seeds:
``sqrt((z SE_images)^2 + (t_{s-1} sd_seeds / sqrt(s))^2)``. Copies that share a target and
evaluation images are not independent samples of images, so seeds never multiply n.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from securitynet.metrics.intervals import Z95, clopper_pearson
from securitynet.records import Measure

Floats = NDArray[np.float64]


def mean_share(hits: Floats) -> Measure:
    """Return the mean of an indicator ``[seeds, images]``; ``n`` = images; unknown without any.

    Where every copy has the same 0 or 1 on every image both errors vanish; there the interval is
    Clopper-Pearson's on the images.
    """
    n = hits.shape[1]
    if n == 0:
        return Measure(None, n=0)
    value = float(hits.mean())
    if value in (0.0, 1.0):
        return Measure(value, *clopper_pearson(round(value * n), n), n)
    width = _half_width(hits)
    return Measure(value, max(0.0, value - width), min(1.0, value + width), n)


def excess_share(agree: Floats, floor: Floats) -> Measure:
    """Return (agreement - floor) / (1 - floor): 0 = as a copy that never asked, 1 = identical.

    The interval is the delta method's, paired over images and seeds; there is no lower limit to
    the range. Unknown where the floor is 1, for nothing is left to steal.

    Args:
        agree: Agreement of the copies with the target, ``[seeds, images]``.
        floor: Agreement of their floors with the target, ``[seeds, images]``.
    """
    base, n = float(floor.mean()), agree.shape[1]
    if base >= 1.0:
        return Measure(None, n=n)
    value = float((agree.mean() - base) / (1 - base))
    if value == 1.0:
        exact, _ = clopper_pearson(n, n)
        return Measure(value, (exact - base) / (1 - base), 1.0, n)
    # d value = (d agreement - (1 - value) d floor) / (1 - floor)
    width = _half_width((agree - (1 - value) * floor) / (1 - base))
    return Measure(value, value - width, min(1.0, value + width), n)


def paired_gain(agree: Floats, control: Floats) -> Measure:
    """Return the mean of agreement minus control, both ``[seeds, images]``, paired over both.

    Where no copy differs from its control on any image both errors vanish; there the ends are how
    many such images Clopper-Pearson's interval leaves open, for and against.
    """
    gains, n = agree - control, agree.shape[1]
    value = float(gains.mean())
    width = _half_width(gains) if gains.any() else clopper_pearson(0, n)[1]
    return Measure(value, max(-1.0, value - width), min(1.0, value + width), n)


def _half_width(values: Floats) -> float:
    from scipy.special import stdtrit  # Student's quantile; scipy.stats takes seconds to import

    by_image, by_seed = values.mean(0), values.mean(1)
    images = Z95 * _standard_error(by_image)
    if len(by_seed) < 2:
        return images
    quantile = float(stdtrit(len(by_seed) - 1, 0.975))
    return float(np.hypot(images, quantile * _standard_error(by_seed)))


def _standard_error(values: Floats) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def under_budget_curve(hits: Sequence[Floats], budgets: Sequence[int]) -> Floats:
    """Return indicators averaged over the logarithm of the budget, by trapezoids.

    The area is divided by the width of the axis, so that it is a share itself; its mean and
    interval are :func:`mean_share`'s, its excess :func:`excess_share`'s.

    Args:
        hits: One ``[seeds, images]`` a budget, of the same seeds.
        budgets: At least two rising query budgets, at least 1 each.

    Returns:
        Shares ``[seeds, images]`` in [0, 1].
    """
    steps = np.diff(np.log(budgets))
    weights = (np.append(steps, 0.0) + np.append(0.0, steps)) / (2 * steps.sum())
    # Rounded, so that copies that are always right have an area of exactly one.
    return np.asarray(np.tensordot(weights, np.stack(hits), axes=1).round(12))
