"""What other thresholds would cost."""

from __future__ import annotations

import numpy as np
import pytest

from inspector.config import CrossValidation
from inspector.config.qualification import DefectKind
from inspector.training.thresholds.policy import compute_false_reject_bound
from inspector.training.thresholds.qualification import Response
from inspector.training.thresholds.score_record import GoodFrame, ScoreRecord
from inspector.training.thresholds.trade_off import compute_trade_off


def record_of(scores: list[float], responses: list[float]) -> ScoreRecord:
    frames = [
        GoodFrame(path=f"{n}.png", sha256="0", scores={"": score}, peaks=[score, score / 2], xy=(0, 0))
        for n, score in enumerate(scores)
    ]
    return ScoreRecord(frames=frames, responses=[Response(DefectKind.SPOT, 3.0, 30.0, each) for each in responses])


def test_rows_count_good_frames_and_artificial_defects_on_either_side() -> None:
    scores = np.random.default_rng(2).exponential(size=50).tolist()
    rows = compute_trade_off(record_of(scores, [0.5, 1.0, 2.0, 9.0]), threshold=2.0)
    (chosen,) = [row for row in rows if row.chosen]
    assert chosen.threshold == 2.0
    assert (chosen.rejected, chosen.n_good) == (sum(score > 2.0 for score in scores), 50)
    assert chosen.bound == compute_false_reject_bound(chosen.rejected, 50)
    assert chosen.passed == 0.75  # one that scores the threshold passes
    assert [row.threshold for row in rows] == sorted(row.threshold for row in rows)
    assert [row.rejected for row in rows] == sorted((row.rejected for row in rows), reverse=True)
    assert max(row.threshold for row in rows) > max(scores)  # what these frames cannot show is foretold
    for row in rows:
        assert (row.expected is None) == (row.interval is None)
        if row.expected is not None and row.interval is not None:
            assert row.interval[0] <= row.expected <= row.interval[1]


def test_bound_of_each_row_allows_for_a_network_that_scores_unseen_frames_higher_than_the_folds() -> None:
    record = record_of([float(n) for n in range(1, 21)], [])
    record.cross_validated = CrossValidation(n_folds=2, steps=5, gains=(1.0, 1.0), unseen_ratio=1.5, n_deployed=3)
    (row,) = [row for row in compute_trade_off(record, threshold=21.0) if row.chosen]
    assert (row.rejected, row.bound) == (0, compute_false_reject_bound(6, 20))  # 15 to 20, times 1.5


def test_no_law_and_no_defects_leave_their_columns_empty() -> None:
    rows = compute_trade_off(record_of([1.0, 2.0, 3.0], []), threshold=3.5)
    assert {(row.expected, row.passed) for row in rows} == {(None, None)}
    assert [(row.rejected, row.chosen) for row in rows] == [(0, True)]


def test_recipe_s_threshold_has_one_row_when_it_is_one_of_the_rates() -> None:
    scores = [float(n) for n in range(1, 101)]
    rows = compute_trade_off(record_of(scores, []), threshold=float(np.quantile(scores, 0.9)))
    assert sum(row.chosen for row in rows) == 1
    assert len({row.threshold for row in rows}) == len(rows)
    assert pytest.approx(10) == next(row.rejected for row in rows if row.chosen)
