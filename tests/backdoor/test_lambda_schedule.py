import numpy as np
import pytest

from securitynet.backdoor._optimise import FALL, PATIENCE, LambdaSchedule


def feed(schedule, *outcomes, times=1):
    for _ in range(times):
        schedule.update(np.array(outcomes))


def test_starts_at_zero_and_needs_a_whole_streak():
    schedule = LambdaSchedule(1, 1e-3)
    feed(schedule, True, times=PATIENCE - 1)
    feed(schedule, False)
    feed(schedule, True, times=PATIENCE - 1)
    assert schedule.value[0] == 0
    feed(schedule, True)
    assert schedule.value[0] == 1e-3


def test_rises_and_falls():
    schedule = LambdaSchedule(1, 1e-3)
    feed(schedule, True, times=3 * PATIENCE)
    assert schedule.value[0] == pytest.approx(4e-3) and schedule.has_risen[0]
    assert not schedule.has_fallen[0]
    feed(schedule, False, times=PATIENCE)
    assert schedule.value[0] == pytest.approx(4e-3 / 2**1.5) and schedule.has_fallen[0]
    feed(schedule, True, times=PATIENCE)
    assert schedule.value[0] == pytest.approx(8e-3 / FALL)


def test_switching_on_is_not_a_rise_and_zero_cannot_fall():
    schedule = LambdaSchedule(1, 1e-3)
    feed(schedule, False, times=2 * PATIENCE)
    assert schedule.value[0] == 0 and not schedule.has_fallen[0]
    feed(schedule, True, times=PATIENCE)
    assert not schedule.has_risen[0]


def test_classes_do_not_leak_into_each_other():
    together, alone = LambdaSchedule(3, 1e-3), LambdaSchedule(1, 1e-3)
    rng = np.random.default_rng(0)
    for _ in range(200):
        outcome = rng.random(3) < (0.95, 0.8, 0.0)
        together.update(outcome)
        alone.update(outcome[:1])
    assert together.value[0] == alone.value[0] > 0
    assert together.value[2] == 0
