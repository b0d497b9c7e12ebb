"""Thresholds from good scores."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from inspector.errors import TrainingError
from inspector.training.calibrate import compute_false_reject_bound, compute_threshold


def test_threshold_is_the_order_statistic_when_there_are_enough_frames() -> None:
    threshold = compute_threshold([float(n) for n in range(1, 201)], 0.01)
    assert (threshold.value, threshold.method, threshold.n_good) == (198.0, "order_statistic", 200)
    assert threshold.false_reject_bound == pytest.approx(stats.beta.ppf(0.95, 3, 198))


def test_threshold_extrapolates_the_tail_when_frames_are_few() -> None:
    scores = [1.0, 1.1, 1.2, 1.3]
    threshold = compute_threshold(scores, 0.01)
    spread = np.sqrt(6) / np.pi * np.std(scores, ddof=1)
    expected = np.mean(scores) - np.euler_gamma * spread - spread * np.log(-np.log(0.99))
    assert threshold.method == "gumbel"
    assert threshold.value == pytest.approx(expected)
    assert threshold.value > max(scores)


@pytest.mark.parametrize("n", [1, 10, 300])
def test_bound_is_the_rule_of_three_when_nothing_was_rejected(n: int) -> None:
    assert compute_false_reject_bound(0, n) == pytest.approx(1 - 0.05 ** (1 / n))


@pytest.mark.parametrize("scores", [[], [1.0], [1.0, float("nan")], [1.0, float("inf")]])
def test_calibration_is_refused_when_scores_are_too_few_or_not_finite(scores: list[float]) -> None:
    with pytest.raises(TrainingError, match="at least 2 finite scores"):
        compute_threshold(scores, 0.01)
