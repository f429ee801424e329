import numpy as np
import pytest

from securitynet.backdoor import _anomaly


def slow_deviate(logs, i):
    others = np.sort(np.delete(logs, i))
    others = others[: len(others) - len(logs) // 10]
    return (others.mean() - logs[i]) / (others.std(ddof=1) * np.sqrt(1 + 1 / len(others)))


@pytest.mark.parametrize("n_classes", [4, 7, 10, 25])
def test_deviates_agree_with_the_definition(n_classes):
    logs = np.random.default_rng(0).normal(4, 1.5, (3, n_classes))
    expected = [[slow_deviate(row, i) for i in range(n_classes)] for row in logs]
    np.testing.assert_allclose(_anomaly.deviates(logs), expected, rtol=1e-10)


def test_deviates_ignore_location_and_scale():
    logs = np.random.default_rng(1).normal(size=10)
    np.testing.assert_allclose(_anomaly.deviates(logs), _anomaly.deviates(5 + 3 * logs))


def test_only_low_norms_are_suspicious():
    logs = np.array([4.0, 4.1, 3.9, 4.05, 9.0])
    found = _anomaly.deviates(logs)
    assert found.argmax() != 4 and found[4] < 0


def test_a_search_that_went_astray_does_not_hide_the_infected_class():
    norms = np.array([54.7, 52.4, 50.2, 62.1, 87.5, 59.7, 57.2, 16.4, 287.9, 76.9])
    with_stray = _anomaly.deviates(np.log(norms))
    norms[8] = 90.0
    without = _anomaly.deviates(np.log(norms))
    assert with_stray.argmax() == without.argmax() == 7
    assert with_stray.max() == pytest.approx(without.max())
    assert _anomaly.p_value(with_stray.max(), 10) < 0.01


def test_equal_norms_are_no_evidence():
    assert _anomaly.deviates(np.full(10, 6.9)).max() == 0
    assert _anomaly.p_value(0.0, 10) > 0.99
    assert _anomaly.anomaly_index(np.full(10, 1024.0)) == 0


def test_median_is_the_true_one_for_even_k():
    # median 2.5, deviations 1.5 .5 .5 1.5: MAD 1.0; a lower median would give 2 and another index
    assert _anomaly.anomaly_index(np.array([1.0, 2, 3, 4])) == pytest.approx(1.5 / 1.4826)


def test_index_is_one_sided():
    low, high = np.array([1.0, 9, 10, 11, 12]), np.array([8.0, 9, 10, 11, 99])
    assert _anomaly.anomaly_index(low) == pytest.approx(9 / 1.4826)
    assert _anomaly.anomaly_index(high) == pytest.approx(2 / 1.4826)


@pytest.mark.parametrize("n_classes", [4, 10, 43, 100])
def test_p_value_is_uniform_for_clean_models(n_classes):
    logs = np.random.default_rng(123).normal(3, 2, (20_000, n_classes))
    p = np.array([_anomaly.p_value(x, n_classes) for x in _anomaly.deviates(logs).max(-1)])
    for level in (0.01, 0.05, 0.5):
        assert np.mean(p < level) == pytest.approx(level, rel=0.2)
    assert 0.04 < np.mean(p < 0.05) < 0.06


def test_anomaly_index_above_two_would_flag_a_third_of_clean_models():
    norms = np.random.default_rng(5).normal(100, 10, (2000, 10))
    flagged = np.mean([_anomaly.anomaly_index(row) > 2 for row in norms])
    assert 0.28 < flagged < 0.38


def test_p_value_is_never_zero_and_falls_with_the_statistic():
    p = [_anomaly.p_value(x, 10) for x in (1.0, 2.0, 4.0, 6.0, 1e9)]
    assert p == sorted(p, reverse=True) and p[-1] == 1 / (len(_anomaly.null_statistics(10)) + 1)


def test_null_is_the_same_every_time():
    first = _anomaly.null_statistics(12)
    _anomaly.null_statistics.cache_clear()
    assert np.array_equal(first, _anomaly.null_statistics(12))


def test_a_tight_bunch_does_not_turn_the_easiest_class_into_an_alarm():
    # A clean model of digits; one whose trigger takes a fifth of the others' pixels is found.
    norms = np.array([10.1, 10.3, 10.4, 10.5, 10.6, 7.9, 10.8, 11.0, 11.1, 13.4])
    assert _anomaly.p_value(_anomaly.deviates(np.log(norms)).max(), 10) > 0.1
    norms[5] = 2.1
    assert _anomaly.p_value(_anomaly.deviates(np.log(norms)).max(), 10) < 0.001
