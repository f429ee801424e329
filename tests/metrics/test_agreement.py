import numpy as np
import pytest

from securitynet.metrics.agreement import (
    excess_share,
    mean_share,
    paired_gain,
    under_budget_curve,
)


def draw(rng, n_seeds, n_images, share, seed_spread):
    """Indicators whose copies differ in skill and share the difficulty of images."""
    difficulty = rng.random(n_images)
    skills = share + seed_spread * rng.normal(size=(n_seeds, 1))
    return (difficulty[None] < skills).astype(float)


def test_mean_share_follows_its_formula():
    hits = draw(np.random.default_rng(1), 3, 200, 0.5, 0.02)
    by_image, by_seed = hits.mean(0), hits.mean(1)
    images = 1.959963984540054 * np.sqrt(by_image.var(ddof=1) / 200)
    seeds = 4.302652729911275 * np.sqrt(by_seed.var(ddof=1) / 3)  # t, 2 degrees of freedom
    width = np.hypot(images, seeds)
    measure = mean_share(hits)
    assert measure.value == hits.mean() and measure.n == 200
    assert (measure.low, measure.high) == pytest.approx((hits.mean() - width, hits.mean() + width))
    torn = mean_share(np.array([[1.0] * 8, [0.0] * 8]))  # copies that share nothing
    assert (torn.low, torn.high) == (0, 1)  # clipped to the range


def test_one_seed_rests_on_images_alone():
    hits = np.array([[1.0] * 60 + [0.0] * 40])
    measure = mean_share(hits)
    width = 1.959963984540054 * np.sqrt(0.24 / 99)
    assert (measure.low, measure.high) == pytest.approx((0.6 - width, 0.6 + width))


@pytest.mark.parametrize("seed_spread", [0.0, 0.05])
def test_mean_share_covers(seed_spread):
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(600):
        measure = mean_share(draw(rng, 3, 300, 0.7, seed_spread))
        covered += measure.low <= 0.7 <= measure.high
    assert covered / 600 >= 0.93


def test_seeds_do_not_multiply_the_images():
    one = np.array([[1.0] * 50 + [0.0] * 50])
    same = np.repeat(one, 10, axis=0)  # ten copies with the same answers know no more than one
    assert mean_share(same) == mean_share(one)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_unanimous_copies_have_width(value):
    measure = mean_share(np.full((3, 80), value))
    assert measure.value == value
    assert measure.high - measure.low == pytest.approx(1 - 0.025 ** (1 / 80))
    assert mean_share(np.empty((3, 0))).value is None


def test_excess_formula_and_its_ends():
    rng = np.random.default_rng(0)
    agree, floor = draw(rng, 3, 400, 0.8, 0.02), draw(rng, 3, 400, 0.6, 0.02)
    measure = excess_share(agree, floor)
    expected = (agree.mean() - floor.mean()) / (1 - floor.mean())
    assert measure.value == pytest.approx(expected)
    assert measure.low < measure.value < measure.high <= 1
    assert excess_share(floor, floor).value == 0
    assert excess_share(np.zeros((2, 9)), np.full((2, 9), 0.0)).value == 0
    assert excess_share(agree, np.ones((3, 400))).value is None


def test_identical_copies_have_excess_one_with_width():
    floor = draw(np.random.default_rng(0), 3, 200, 0.6, 0.0)
    measure = excess_share(np.ones((3, 200)), floor)
    assert measure.value == 1 == measure.high and 0.9 < measure.low < 1


def test_excess_below_the_floor_is_negative():
    measure = excess_share(np.zeros((2, 50)), np.array([[1.0] * 40 + [0.0] * 10] * 2))
    assert measure.value == pytest.approx(-4)


def test_excess_error_matches_the_jackknife():
    rng = np.random.default_rng(5)
    agree, floor = draw(rng, 1, 300, 0.9, 0.0), draw(rng, 1, 300, 0.5, 0.0)
    left_out = [
        excess_share(np.delete(agree, i, axis=1), np.delete(floor, i, axis=1)).value
        for i in range(300)
    ]
    error = np.sqrt(299 / 300 * np.sum((left_out - np.mean(left_out)) ** 2))
    measure = excess_share(agree, floor)
    assert measure.value - measure.low == pytest.approx(1.96 * error, rel=0.02)


def test_excess_covers():
    rng = np.random.default_rng(9)
    covered = 0
    for _ in range(600):
        agree, floor = draw(rng, 3, 300, 0.8, 0.03), draw(rng, 3, 300, 0.6, 0.03)
        measure = excess_share(agree, floor)
        covered += measure.low <= 0.5 <= measure.high
    assert covered / 600 >= 0.93


def area(budgets, shares):
    hits = [np.array([[1.0] * round(100 * share) + [0.0] * round(100 * (1 - share))])
            for share in shares]  # fmt: skip
    return mean_share(under_budget_curve(hits, budgets)).value


def test_area_is_the_mean_over_the_log_budget():
    assert area([10, 100, 1000], [0.5, 0.5, 0.5]) == pytest.approx(0.5)
    assert area([10, 100, 1000], [0.2, 0.4, 0.6]) == pytest.approx(0.4)
    # half of the log axis at .2 to .4, the other half at .4: not the mean of the three values
    assert area([1, 10, 100], [0.2, 0.4, 0.4]) == pytest.approx(0.35)
    assert area([3, 7, 50, 51], [1.0] * 4) == 1.0


def test_an_area_pairs_images_and_seeds_over_the_budgets():
    hits = draw(np.random.default_rng(1), 3, 300, 0.6, 0.05)
    assert mean_share(under_budget_curve([hits] * 4, [1, 5, 9, 80])) == mean_share(hits)
    floor = draw(np.random.default_rng(2), 3, 300, 0.4, 0.05)
    budgets = [10, 100]
    both = excess_share(*(under_budget_curve([one] * 2, budgets) for one in (hits, floor)))
    assert both == excess_share(hits, floor)


def test_an_area_covers():
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(600):
        curve = [draw(rng, 3, 300, share, 0.03) for share in (0.5, 0.6, 0.8)]
        measure = mean_share(under_budget_curve(curve, [100, 1000, 10_000]))
        covered += measure.low <= 0.625 <= measure.high
    assert covered / 600 >= 0.93


def test_gain_is_paired_over_images_and_seeds():
    rng = np.random.default_rng(2)
    control = draw(rng, 3, 400, 0.6, 0.0)
    agree = np.maximum(control, draw(rng, 3, 400, 0.1, 0.0))
    measure = paired_gain(agree, control)
    assert measure.value == pytest.approx(agree.mean() - control.mean()) and measure.n == 400
    alone = np.hypot(*(m.high - m.value for m in (mean_share(agree), mean_share(control))))
    assert 0 < measure.high - measure.value < 0.8 * alone
    assert paired_gain(control, agree).value == -measure.value


def test_gain_covers():
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(600):
        measure = paired_gain(draw(rng, 3, 300, 0.7, 0.03), draw(rng, 3, 300, 0.65, 0.03))
        covered += measure.low <= 0.05 <= measure.high
    assert covered / 600 >= 0.93


def test_no_difference_at_all_has_width():
    same = draw(np.random.default_rng(0), 3, 80, 0.5, 0.0)
    measure = paired_gain(same, same)
    assert (measure.value, measure.high) == (0, pytest.approx(1 - 0.025 ** (1 / 80)))
    assert measure.low == -measure.high
