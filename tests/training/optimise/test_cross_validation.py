"""Folds: who is in which, how long each learns, and how their scores come onto one scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest

from inspector.config import Preprocessing
from inspector.errors import TrainingError
from inspector.training.data.datasets import FrameSet
from inspector.training.optimise.cross_validation import (
    Fold,
    apply_folds,
    compute_gains,
    deal,
    describe_folds,
    find_suspects,
    plan_fold,
)
from inspector.training.optimise.options import OFFICIAL_STEPS, TrainOptions
from inspector.training.thresholds.policy import REST, compute_false_reject_bound, compute_threshold
from inspector.training.thresholds.score_record import GoodFrame, ScoreRecord
from inspector.training.thresholds.scoring import FrameScore

PATHS = [Path(f"{number:02}.png") for number in range(11)]


def fold(unseen: dict[str, float], seen: dict[str, float]) -> Fold:
    return Fold(
        cast("Any", None),
        cast("Any", None),
        10,
        {Path(name): FrameScore(score, (score,), (0, 0)) for name, score in unseen.items()},
        {Path(name): score for name, score in seen.items()},
    )


@pytest.mark.parametrize("count", [2, 3, 11])
def test_each_frame_is_in_one_fold_and_folds_are_about_as_large(count: int) -> None:
    folds = deal(PATHS, count, seed=0)
    assert sorted(path for each in folds for path in each) == PATHS
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    assert folds == deal(list(reversed(PATHS)), count, seed=0)
    assert folds != deal(PATHS, count, seed=1)


def test_frames_of_a_group_stay_in_one_fold() -> None:
    groups = {path: str(number // 3) for number, path in enumerate(PATHS)}
    folds = deal(PATHS, 2, seed=0, groups=groups)
    assert all(len({number for number, each in enumerate(folds) if path in each}) == 1 for path in PATHS)
    for group in set(groups.values()):
        assert len({number for number, each in enumerate(folds) for path in each if groups[path] == group}) == 1


def test_more_folds_than_frames_or_groups_are_refused() -> None:
    with pytest.raises(TrainingError, match="--folds: must be at most the number of good frames, 11, got 12"):
        deal(PATHS, 12, seed=0)
    with pytest.raises(TrainingError, match="--folds: must be at most the number of groups, 1, got 2"):
        deal(PATHS, 2, seed=0, groups=dict.fromkeys(PATHS, "a"))


@pytest.fixture
def frames(tmp_path: Path) -> FrameSet:
    for number in range(4):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((64, 64, 3), np.uint8))
    return FrameSet(sorted(tmp_path.iterdir()), Preprocessing())


@pytest.mark.parametrize(
    ("given", "steps", "minutes", "epochs"),
    [
        ({"steps": 9}, 5, None, None),
        ({}, OFFICIAL_STEPS // 2, None, None),
        ({"epochs": 7}, None, None, 7),
        ({"minutes": 3.0}, None, 1.5, None),
        ({"steps": 100, "minutes": 3.0}, 50, 1.5, None),
    ],
)
def test_fold_learns_for_as_many_epochs_when_it_has_half_the_frames(
    frames: FrameSet, given: dict[str, Any], steps: int | None, minutes: float | None, epochs: int | None
) -> None:
    options = TrainOptions(tile_size=64, **given)
    part = frames.select(frames.paths[:2])
    planned = plan_fold(options, frames, part, 0)
    assert (planned.steps, planned.minutes, planned.epochs) == (steps, minutes, epochs)
    assert planned.seed != options.seed
    assert planned.seed != plan_fold(options, frames, part, 1).seed


def test_selected_frames_share_memory_and_keep_their_order(frames: FrameSet) -> None:
    part = frames.select({frames.paths[3], frames.paths[1]})
    assert part.paths == [frames.paths[1], frames.paths[3]]
    assert part[1].data_ptr() == frames[3].data_ptr()
    assert (len(part), len(part.sizes), part.all_cached) == (2, 2, True)
    with pytest.raises(TrainingError, match="at least one must be usable"):
        frames.select(set())


def test_gain_is_the_median_ratio_on_frames_that_both_networks_were_trained_on() -> None:
    folds = [fold({"a": 1.0}, {"b": 2.0, "c": 4.0, "d": 5.0}), fold({"b": 9.0}, {"a": 10.0, "c": 10.0, "d": 10.0})]
    judged = {Path(name): score for name, score in {"a": 5.0, "b": 4.0, "c": 12.0, "d": 20.0}.items()}
    assert compute_gains([each.seen for each in folds], judged, trained={*map(Path, "abcd")}) == [3.0, 1.2]
    assert compute_gains([each.seen for each in folds], judged, trained={Path("b"), Path("a")}) == [2.0, 0.5]
    with pytest.raises(TrainingError, match="fold 1: scores must be above 0"):
        compute_gains([each.seen for each in folds], judged, trained=set())


def test_suspects_are_found_on_one_scale_when_folds_differ_in_theirs() -> None:
    rng = np.random.default_rng(0)
    first = {f"a{n}": float(score) for n, score in enumerate(rng.normal(10, 1, 12))}
    second = {f"b{n}": float(score) * 5 for n, score in enumerate(rng.normal(10, 1, 12))}
    seen = {"x": 9.0, "y": 10.0, "z": 11.0}
    folds = [fold(first | {"odd": 40.0}, seen), fold(second, {name: 5 * score for name, score in seen.items()})]
    assert find_suspects(folds) == {Path("odd")}


@pytest.mark.parametrize("seen", [{}, {"x": 0.0, "y": 0.0}])
def test_folds_that_show_nothing_are_refused_in_words(seen: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match="folds: frames that were trained on must score above 0, got a median of 0"):
        find_suspects([fold({"a": 1.0}, seen)])


def record_of(unseen: list[float], checked: list[float]) -> ScoreRecord:
    """Good frames as the folds score them, and the first of them as the network that judges does."""
    frames = [
        GoodFrame(path=f"{n}", sha256="0", scores={REST: score}, peaks=[score], xy=(0, 0), fold=n % 2)
        for n, score in enumerate(unseen)
    ]
    by_folds = {Path(frame.path): frame.scores[REST] for frame in frames}
    by_judge = {Path(f"{n}"): score for n, score in enumerate(checked)}
    return ScoreRecord(
        frames=frames,
        checked=[{REST: score} for score in checked],
        cross_validated=describe_folds([10, 12], [1.0, 1.1], by_folds, by_judge),
    )


@pytest.mark.parametrize(("checked", "ratio"), [([1.5, 2.0, 9.0], 2.0), ([0.5, 0.5, 0.5], 1.0), ([3.0], 3.0)])
def test_unseen_ratio_is_the_median_over_frames_new_to_both_and_at_least_one(
    checked: list[float], ratio: float
) -> None:
    folds = record_of([1.0, 1.0, 2.0, 4.0], [score * new for score, new in zip(checked, [1, 1, 2], strict=False)])
    assert folds.cross_validated is not None
    assert folds.cross_validated.unseen_ratio == ratio
    assert (folds.cross_validated.steps, folds.cross_validated.n_deployed) == (12, len(checked))


def test_bound_counts_frames_as_the_network_that_judges_would_score_them_and_the_threshold_stays() -> None:
    scores = [float(n) for n in range(1, 21)]
    threshold = compute_threshold(scores, 0.01)
    same = apply_folds(record_of(scores, [1.0, 2.0, 3.0]), {REST: threshold})
    higher = apply_folds(record_of(scores, [1.5, 3.0, 4.5]), {REST: threshold})
    assert same.false_reject_bound == threshold.false_reject_bound
    n_above = sum(score * 1.5 > threshold.value for score in scores)
    assert n_above > 0
    assert higher.false_reject_bound == compute_false_reject_bound(n_above, 20)
    assert higher.value == same.value == threshold.value


def test_bound_is_kept_when_the_network_that_judges_scores_unseen_frames_higher_than_the_folds() -> None:
    """By simulation: frames of a log-normal law, and the network that judges at 1.3 times the folds' scores."""
    rng = np.random.default_rng(7)
    unseen_by_judge = 1.3 * rng.lognormal(2, 0.3, 100_000)
    kept = {"folds alone": 0, "applied": 0}
    draws = 200
    for _ in range(draws):
        scores = rng.lognormal(2, 0.3, 32)
        checked = 1.3 * scores[:3] * rng.lognormal(0, 0.1, 3)
        threshold = compute_threshold(scores, 0.01)
        applied = apply_folds(record_of(scores.tolist(), checked.tolist()), {REST: threshold})
        rate = float((unseen_by_judge > threshold.value).mean())
        kept["folds alone"] += rate <= (threshold.false_reject_bound or 0)
        kept["applied"] += rate <= (applied.false_reject_bound or 0)
    assert kept["applied"] >= 0.93 * draws
    assert kept["folds alone"] < 0.85 * draws
