"""Good frames that stand out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from inspector.training.thresholds.outliers import FEWEST, MANY, count_outliers, find_outliers


def test_frames_far_above_the_rest_are_found() -> None:
    scores = np.concatenate([np.random.default_rng(0).normal(10, 1, 30), [30.0, 45.0]])
    assert np.flatnonzero(find_outliers(scores)).tolist() == [30, 31]


def test_a_tenth_of_defects_among_the_good_does_not_hide_itself() -> None:
    scores = np.concatenate([np.random.default_rng(1).normal(10, 1, 29), [28.0, 29.0, 30.0]])
    assert np.flatnonzero(find_outliers(scores)).tolist() == [29, 30, 31]


@pytest.mark.parametrize("law", [stats.norm(10, 1), stats.gumbel_r(10, 2), stats.expon(5, 2), stats.lognorm(0.5)])
@pytest.mark.parametrize("n", [16, 64])
def test_few_plausible_frames_are_taken_for_outliers(law: stats.rv_continuous, n: int) -> None:
    rng = np.random.default_rng(2)
    shares = [find_outliers(law.rvs(n, random_state=rng)).mean() for _ in range(300)]
    assert np.mean(shares) <= 0.08


def test_none_is_found_when_scores_are_few_or_tie() -> None:
    assert count_outliers(np.array([1.0] * (FEWEST - 2) + [100.0])) == 0
    assert count_outliers(np.full(20, 3.0)) == 0
    assert count_outliers(np.array([3.0] * 19 + [3.05])) == 0
    assert count_outliers(np.zeros(20)) == 0


def test_more_than_a_quarter_is_how_good_frames_are() -> None:
    rng = np.random.default_rng(3)
    low, high = rng.normal(10, 1, 22), rng.normal(40, 1, 10)
    assert count_outliers(np.concatenate([low, high])) == 0
    assert count_outliers(np.concatenate([low, high[:6]])) == 6


def test_frames_of_a_blemish_are_found_together_when_all_show_it() -> None:
    # Scores of lenses, of which five have the same bright speck.
    plausible = [14, 14.5, 15, 15.3, 15.9, 16.2, 16.6, 17, 17.3, 17.5, 17.7, 17.8, 17.8, 17.8, 17.8, 18.3, 18.6, 19,
                 19.8, 20.3, 20.4, 20.5, 20.7, 21, 21.7, 22.7]  # fmt: skip
    assert count_outliers(np.array([*plausible, 28.6, 29.3, 30.8, 41.0, 41.5])) == 5


def test_blemishes_are_found_when_no_gap_cuts_them_off() -> None:
    # Scores of 32 lenses by another network: the same bright speck, and smaller blemishes all the way down to it.
    plausible = [13.4, 14.5, 15.8, 16.6, 16.9, 16.9, 17.0, 17.8, 17.8, 18.0, 18.1, 18.1, 18.2, 18.3, 18.5, 18.7, 19.2,
                 19.4, 19.5, 20.6, 21.1, 21.2, 22.2, 22.5]  # fmt: skip
    blemished = [24.3, 24.4, 24.7, 27.9, 29.7, 30.3, 41.6, 42.1]
    assert np.flatnonzero(find_outliers(np.array([*blemished, *plausible]))).tolist() == list(range(8))


def test_no_law_is_held_against_many_frames() -> None:
    scores = 5 + stats.expon.ppf((np.arange(MANY) + 0.5) / MANY)  # falls off more slowly than Gumbel's lower half says
    assert count_outliers(scores) == 0
    assert count_outliers(5 + stats.expon.ppf((np.arange(60) + 0.5) / 60)) > 0
