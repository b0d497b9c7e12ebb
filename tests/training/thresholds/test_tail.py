"""Peaks of maps, and the law over the highest of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from inspector.training.thresholds.tail import FEWEST_PEAKS, PlacedPeak, find_peaks, fit_tail


def test_peak_of_each_cell_is_found_highest_first() -> None:
    anomaly_map = np.zeros((64, 96), np.float32)
    anomaly_map[10, 20], anomaly_map[40, 70], anomaly_map[5, 90] = 3.0, 5.0, 4.0
    assert find_peaks(anomaly_map, 32)[:3] == [PlacedPeak(5.0, 40, 70), PlacedPeak(4.0, 5, 90), PlacedPeak(3.0, 10, 20)]


def test_two_peaks_of_one_blemish_count_once_when_it_lies_on_a_border() -> None:
    anomaly_map = np.zeros((32, 64), np.float32)
    anomaly_map[15, 31], anomaly_map[15, 33], anomaly_map[15, 60] = 4.0, 5.0, 1.0
    assert [peak.value for peak in find_peaks(anomaly_map, 32)] == [5.0]
    anomaly_map[15, 33] = 0.0
    assert [peak.value for peak in find_peaks(anomaly_map, 32)] == [4.0, 1.0]


def test_first_peak_is_the_maps_maximum_whatever_its_size() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (31, 33), (200, 70)):
        anomaly_map = rng.random(shape).astype(np.float32)
        assert find_peaks(anomaly_map, 32)[0].value == anomaly_map.max()


def test_no_law_is_fitted_when_peaks_are_few_or_all_alike() -> None:
    assert fit_tail([]) is None
    assert fit_tail([np.array([float(n)]) for n in range(FEWEST_PEAKS - 1)]) is None
    assert fit_tail([np.full(10, 2.0)] * 10) is None


def test_law_says_how_many_frames_exceed_a_level_when_each_has_many_peaks() -> None:
    rng = np.random.default_rng(1)
    peaks = [rng.exponential(size=20) for _ in range(400)]
    fit = fit_tail(peaks)
    assert fit is not None
    for level in (5.0, 6.0):
        true = 1 - (1 - stats.expon.sf(level)) ** 20
        assert fit.compute_rate(level) == pytest.approx(true, rel=0.35)
        low, high = fit.compute_interval(level)
        assert low < true < high
    assert fit.compute_rate(fit.find_level(0.01)) == pytest.approx(0.01)


def test_doubt_is_that_of_frames_when_peaks_of_a_frame_are_alike() -> None:
    rng = np.random.default_rng(2)
    frames = rng.exponential(size=(30, 1)) + 0.1 * rng.exponential(size=(30, 10))
    alike = fit_tail(list(frames))
    mixed = fit_tail(list(rng.permutation(frames.ravel()).reshape(30, 10)))
    assert alike is not None
    assert mixed is not None
    level = float(frames.max())

    def width(interval: tuple[float, float]) -> float:
        return interval[1] - interval[0]

    assert width(alike.compute_interval(level)) > 1.2 * width(mixed.compute_interval(level))


def test_interval_holds_the_true_rate_in_most_draws_when_frames_have_many_peaks() -> None:
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(100):
        fit = fit_tail([rng.exponential(size=10) for _ in range(20)])
        assert fit is not None
        low, high = fit.compute_interval(7.0)
        inside += low <= 1 - (1 - stats.expon.sf(7.0)) ** 10 <= high
    assert inside >= 80
