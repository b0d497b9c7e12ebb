"""The stated bounds, against distributions whose true rates are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from inspector.config import GoodScores, Threshold
from inspector.detection.parts import compute_gain
from inspector.errors import TrainingError
from inspector.training.thresholds.policy import (
    REST,
    build_frame_threshold,
    check_groups,
    choose_area,
    compute_false_reject_bound,
    compute_frame_bound,
    compute_frame_scores,
    compute_interval,
    compute_order_statistic,
    compute_threshold,
    compute_threshold_from_defects,
    compute_thresholds,
    compute_warn_level,
)

Array = np.ndarray[Any, np.dtype[np.float64]]
Rng = np.random.Generator


@pytest.fixture
def _rough_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few resamples: they say how well the tail is known, which moves neither threshold nor bound."""
    monkeypatch.setattr("inspector.training.thresholds.tail._RESAMPLES", 20)


DRAWS = 10_000
"""Ten times the thousand promised: the share of draws that fail is then known to 0.2 %."""


def draw_mixture(rng: Rng, size: tuple[int, ...]) -> Array:
    return rng.normal(10.0, 1.0, size) + 10.0 * (rng.random(size) < 0.05)


def mixture_rate(value: Array) -> Array:
    return 0.95 * stats.norm.sf(value, 10) + 0.05 * stats.norm.sf(value, 20)


# Ties at three levels, placed so that the rejects counted there mislead most often.
LEVELS, LEVEL_RATES = np.array([3.0, 2.0, 1.0, 0.5]), np.array([0.0, 3.0 / 200, 4.75 / 200, 1.0])


def draw_three_levels(rng: Rng, size: tuple[int, ...]) -> Array:
    return np.asarray(LEVELS[np.searchsorted(LEVEL_RATES, rng.random(size), side="left").clip(1) - 1])


def three_levels_rate(value: Array) -> Array:
    return np.asarray(LEVEL_RATES[np.searchsorted(-LEVELS, -value)])


def law(distribution: Any) -> tuple[Callable[[Rng, tuple[int, ...]], Array], Callable[[Array], Array]]:
    return (lambda rng, size: distribution.rvs(size, random_state=rng), distribution.sf)


LAWS = {
    "normal": law(stats.norm(10, 1)),
    "lognormal": law(stats.lognorm(1.0)),
    "exponential": law(stats.expon()),
    "student_t2": law(stats.t(2, 50)),
    "pareto_1": law(stats.pareto(1.0)),
    "uniform": law(stats.uniform(1, 1)),
    "bimodal": (draw_mixture, mixture_rate),
    "rounded": (lambda rng, size: np.round(rng.normal(10, 1, size)), lambda value: stats.norm.sf(value + 0.5, 10)),
    "three_levels": (draw_three_levels, three_levels_rate),
}


@pytest.mark.parametrize("name", LAWS)
def test_true_rate_exceeds_the_bound_in_at_most_six_of_a_hundred_draws(name: str) -> None:
    draw, true_rate = LAWS[name]
    rng = np.random.default_rng(1)
    for n in (6, 20, 50, 200, 1000):
        values = np.sort(draw(rng, (DRAWS if n < 1000 else 4000, n)), axis=1)
        for rate in (0.01, 0.05, 0.2):
            found, allowed = compute_order_statistic(values, rate)
            rates = true_rate(found)
            assert np.mean(rates > compute_false_reject_bound(allowed, n)) <= 0.06, (n, rate)
            if allowed and name in {"normal", "pareto_1"}:  # the simulation does tell a bound from an estimate
                assert np.mean(rates > allowed / n) > 0.3, (n, rate)
                assert np.mean(rates > compute_false_reject_bound(allowed, n)) >= 0.04, (n, rate)


def test_bound_from_the_rejects_counted_would_fail_when_scores_tie() -> None:
    values = np.sort(draw_three_levels(np.random.default_rng(2), (DRAWS, 200)), axis=1)
    found, allowed = compute_order_statistic(values, 0.005)
    counted = (values > found[:, None]).sum(axis=1)
    bounds = np.array([compute_false_reject_bound(k, 200) for k in range(allowed + 1)])
    assert np.mean(three_levels_rate(found) > bounds[counted]) > 0.065
    assert np.mean(three_levels_rate(found) > bounds[allowed]) <= 0.05


@pytest.mark.parametrize("n", [6, 20, 50])
@pytest.mark.usefixtures("_rough_doubt")
def test_bound_holds_for_the_whole_function_when_the_tail_is_extrapolated(n: int) -> None:
    rng = np.random.default_rng(3)
    for draw, true_rate in (LAWS["normal"], LAWS["student_t2"]):
        thresholds = [compute_threshold(draw(rng, (n,)), 0.01, policy="extrapolate") for _ in range(500)]
        failures = [true_rate(np.array(t.value)) > t.false_reject_bound for t in thresholds]
        assert np.mean(failures) <= 0.06
        assert any(each.method == ("gumbel" if n < 20 else "generalised_pareto") for each in thresholds)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.usefixtures("_rough_doubt")
def test_bound_holds_for_the_frame_when_it_has_zones(together: bool) -> None:
    rng = np.random.default_rng(4)
    failures = 0
    for _ in range(1000):
        seam = rng.exponential(size=60)
        scores = {REST: seam + 1 if together else rng.normal(10, 1, 60), "seam": seam}
        thresholds = compute_thresholds(scores, 0.1)
        rest = stats.expon.sf(thresholds[REST].value - 1) if together else stats.norm.sf(thresholds[REST].value, 10)
        zone = stats.expon.sf(thresholds["seam"].value)
        failures += (max(rest, zone) if together else 1 - (1 - rest) * (1 - zone)) > compute_frame_bound(thresholds)
    assert failures <= 60


@pytest.mark.usefixtures("_rough_doubt")
def test_bound_holds_for_the_area_chosen_when_each_of_four_was_tried() -> None:
    rng = np.random.default_rng(5)
    failures = {0.95: 0, 0.9875: 0}
    for _ in range(1000):
        scores = {area: {REST: rng.exponential(size=60)} for area in (1, 4, 16, 64)}
        for confidence in failures:
            fitted = {area: compute_thresholds(each, 0.1, confidence=confidence) for area, each in scores.items()}
            found = fitted[choose_area(fitted, sigma=1e6)]  # so wide that the lowest threshold is taken
            failures[confidence] += stats.expon.sf(found[REST].value) > compute_frame_bound(found)
    assert failures[0.9875] <= 62
    assert failures[0.95] > 100  # what the share of confidence is for


# ---------------------------------------------------------------- values


def test_threshold_is_the_order_statistic_when_there_are_enough_frames() -> None:
    threshold = compute_threshold([float(n) for n in range(1, 201)], 0.01)
    assert (threshold.value, threshold.method, threshold.n_good) == (198.0, "order_statistic", 200)
    assert threshold.false_reject_bound == pytest.approx(stats.beta.ppf(0.95, 3, 198))
    assert threshold.warn_above == 190.0


def test_threshold_extrapolates_by_gumbel_when_frames_are_a_handful() -> None:
    scores = [1.0, 1.1, 1.2, 1.3]
    threshold = compute_threshold(scores, 0.01, policy="extrapolate")
    spread = np.sqrt(6) / np.pi * np.std(scores, ddof=1)
    expected = np.mean(scores) - np.euler_gamma * spread - spread * np.log(-np.log(0.99))
    assert threshold.method == "gumbel"
    assert threshold.value == pytest.approx(expected)
    assert threshold.value > max(scores)
    assert threshold.warn_above == 1.3  # above all that good frames showed


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.3])
def test_tail_is_the_law_that_scores_follow_when_fitted(shape: float) -> None:
    scores = 5 + stats.genpareto.ppf((np.arange(900) + 0.5) / 900, shape, scale=2.0)  # its quantiles, without noise
    threshold = compute_threshold(scores, 0.0003, policy="extrapolate")
    tail = threshold.tail
    assert tail is not None
    assert (threshold.method, tail.exceedances) == ("generalised_pareto", 90)
    assert tail.shape == pytest.approx(shape, abs=0.06)
    assert tail.scale == pytest.approx(2.0 + shape * (tail.location - 5), rel=0.06)
    assert stats.genpareto.sf(threshold.value - 5, shape, scale=2.0) == pytest.approx(0.0003, rel=0.25)
    assert tail.rate_interval[0] < 0.0003 < tail.rate_interval[1]
    assert threshold.false_reject_bound == pytest.approx(1 - 0.05 ** (1 / 900))  # the fit earns no better bound


def test_interval_of_the_tail_holds_the_true_rate_when_scores_follow_many_laws() -> None:
    rng = np.random.default_rng(6)
    for name in ("normal", "exponential", "student_t2"):
        draw, true_rate = LAWS[name]
        inside = 0
        for _ in range(200):
            threshold = compute_threshold(draw(rng, (50,)), 0.01, policy="extrapolate", outliers=False)
            assert threshold.tail is not None
            low, high = threshold.tail.rate_interval
            inside += low <= true_rate(np.array(threshold.value)) <= high
        assert inside >= 0.8 * 200, name


@pytest.mark.parametrize("n", [20, 50, 99])
def test_threshold_lies_at_the_highest_score_or_above_when_the_tail_is_short(n: int) -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        scores = rng.uniform(1, 2, n) ** 0.2
        assert compute_threshold(scores, 0.0099, policy="extrapolate").value >= scores.max()


def test_tail_is_the_same_when_computed_again() -> None:
    scores = np.random.default_rng(8).exponential(size=40)
    assert compute_threshold(scores, 0.01) == compute_threshold(scores[::-1], 0.01)


@pytest.mark.parametrize("n", [1, 10, 300])
def test_bound_is_the_rule_of_three_when_nothing_was_rejected(n: int) -> None:
    assert compute_false_reject_bound(0, n) == pytest.approx(1 - 0.05 ** (1 / n))
    assert compute_false_reject_bound(n, n) == 1.0


@pytest.mark.parametrize(("count", "n", "low", "high"), [(0, 10, 0.0, 0.30850), (3, 20, 0.03207, 0.37893)])
def test_interval_is_clopper_and_pearsons(count: int, n: int, low: float, high: float) -> None:
    assert compute_interval(count, n) == pytest.approx((low, high), abs=1e-5)


@pytest.mark.parametrize("scores", [[], [1.0], [1.0, float("nan")], [1.0, float("inf")]])
def test_calibration_is_refused_when_scores_are_too_few_or_not_finite(scores: list[float]) -> None:
    with pytest.raises(TrainingError, match="at least 2 finite scores"):
        compute_threshold(scores, 0.01)


def test_calibration_is_refused_when_the_threshold_would_not_lie_above_zero() -> None:
    with pytest.raises(TrainingError, match="threshold: must lie above 0, got 0"):
        compute_threshold([0.0] * 10, 0.5)
    with pytest.raises(TrainingError, match="threshold: must lie above 0, got 0"):
        compute_threshold([0.0] * 10, 0.01)  # no tail over nothing
    with pytest.raises(TrainingError, match="zone seam: threshold: must lie above 0, got 0"):
        compute_thresholds({REST: np.arange(10.0), "seam": np.zeros(10)}, 0.5)


@pytest.mark.parametrize("n", [5, 50])
def test_threshold_lies_just_above_the_scores_when_all_are_alike(n: int) -> None:
    threshold = compute_threshold([0.5] * n, 0.01)
    assert threshold.value == pytest.approx(0.5)
    assert threshold.value >= 0.5


def test_at_most_the_share_asked_for_is_rejected_when_scores_tie() -> None:
    threshold = compute_threshold([1.0] * 5 + [2.0] * 5, 0.2)
    assert (threshold.value, threshold.method, threshold.warn_above) == (2.0, "order_statistic", 1.0)
    assert threshold.false_reject_bound == pytest.approx(stats.beta.ppf(0.95, 3, 8))


def test_warn_band_is_none_when_it_would_not_lie_below_the_threshold() -> None:
    scores = np.arange(1.0, 101.0)
    assert compute_warn_level(scores, 0.1, 99.0) == 90.0
    assert compute_warn_level(scores, 0.001, 100.0) is None
    assert compute_warn_level(scores - 95, 0.1, 4.0) is None
    assert compute_threshold(scores, 0.01, warn_rate=0.01).warn_above is None


# ---------------------------------------------------------------- zones, defects, areas, groups


def test_good_scores_are_those_of_whole_frames_when_zones_weigh_them() -> None:
    scores = {REST: np.arange(1.0, 21.0), "seam": np.full(20, 4.0)}
    thresholds = compute_thresholds(scores, 0.01)
    assert thresholds[REST].good_scores == GoodScores(median=10.5, p95=19.05)
    thresholds["seam"] = Threshold(value=thresholds[REST].value / 10, method="manual")  # there scores weigh tenfold
    good = build_frame_threshold(scores, thresholds, 0.01).good_scores
    assert good is not None
    assert (good.median, good.p95) == (pytest.approx(40), pytest.approx(40))


def test_zones_share_the_rate_and_the_confidence_when_there_are_several() -> None:
    scores = {REST: np.arange(1.0, 101.0), "seam": np.arange(101.0, 201.0), "edge": np.arange(1.0, 101.0) / 10}
    thresholds = compute_thresholds(scores, 0.09)
    assert [t.value for t in thresholds.values()] == [97.0, 197.0, 9.7]
    share = stats.beta.ppf(1 - 0.05 / 3, 4, 97)
    assert thresholds["seam"].false_reject_bound == pytest.approx(share)
    whole = build_frame_threshold(scores, thresholds, 0.09)
    assert whole.false_reject_bound == pytest.approx(3 * share)
    assert (whole.value, whole.target_false_reject_rate, whole.n_good) == (97.0, 0.09, 100)
    frames = compute_frame_scores(scores, thresholds)
    assert frames[:3] == pytest.approx([101 * 97 / 197, 102 * 97 / 197, 103 * 97 / 197])
    assert (frames > 97).sum() == 3
    assert whole.warn_above == np.sort(frames)[54]  # 45 of 100 lie above


@pytest.mark.parametrize("whole", [0.37, 1.0, 12.7])
def test_frame_is_not_rejected_when_its_score_equals_the_zones_threshold(whole: float) -> None:
    for score in np.random.default_rng(9).uniform(0.1, 50, 2000).astype(np.float32):
        gain = np.float32(compute_gain(whole, float(score)))
        assert float(score * gain) <= whole
        assert float(np.nextafter(score, np.float32(100)) * np.float32(1.00001) * gain) > whole


def test_threshold_is_just_below_the_weakest_defect_that_must_fail() -> None:
    good = np.arange(1.0, 101.0)
    defects = np.array([95.0, 90.0, 300.0, 400.0])
    none_passes = compute_threshold_from_defects(good, defects, 0.0)
    assert none_passes.value == math.nextafter(90.0, 0)
    assert (none_passes.method, none_passes.target_escape_rate) == ("defects", 0.0)
    assert none_passes.target_false_reject_rate is None
    assert none_passes.false_reject_bound == compute_false_reject_bound(11, 100)
    one_passes = compute_threshold_from_defects(good, defects, 0.25)
    assert one_passes.value == math.nextafter(95.0, 0)
    with pytest.raises(TrainingError, match="got 100 good, 0 defects"):
        compute_threshold_from_defects(good, defects[:0], 0.0)
    with pytest.raises(TrainingError, match="must lie above 0"):
        compute_threshold_from_defects(good, np.array([0.0, 1.0]), 0.0)


def fitted(**values: float) -> dict[str, Threshold]:
    return {name.replace("rest", REST): Threshold(value=value, method="manual") for name, value in values.items()}


@pytest.mark.parametrize(
    ("values", "sigma", "area"),
    [
        ({1: 10.0, 4: 9.9, 16: 9.8}, 4.0, 1),  # a point's own blob asks for 3 and 16 % more
        ({1: 10.0, 4: 9.5, 16: 9.4}, 4.0, 4),
        ({1: 10.0, 4: 9.5, 16: 5.0}, 4.0, 16),
        ({1: 10.0, 4: 5.0, 16: 1.0}, 0.0, 1),  # unsmoothed, a real defect may be one pixel
        ({5: 10.0}, 4.0, 5),
    ],
)
def test_area_is_the_one_at_which_a_point_needs_the_lowest_peak(
    values: dict[int, float], sigma: float, area: int
) -> None:
    assert choose_area({tried: fitted(rest=value) for tried, value in values.items()}, sigma) == area


def test_area_is_kept_when_one_zone_would_lose_by_a_larger_one() -> None:
    assert choose_area({1: fitted(rest=10, seam=10), 4: fitted(rest=5, seam=9.9)}, 4.0) == 1


def test_each_group_is_judged_by_the_others_when_left_out() -> None:
    rng = np.random.default_rng(10)
    scores = np.concatenate([rng.normal(10, 1, 60), rng.normal(14, 1, 20)])
    groups = ["a"] * 20 + ["b"] * 20 + ["c"] * 20 + ["odd"] * 20
    check, faults = check_groups({REST: scores}, groups, lambda kept: compute_thresholds(kept, 0.05))
    limit = np.sort(scores[:60])[56]
    rejected = int((scores[60:] > limit).sum())
    assert rejected > 10
    assert (check.n_groups, check.worst_group) == (4, "odd")
    assert check.worst_false_reject_rate == rejected / 20
    assert check.false_reject_rate == rejected / 80  # with the odd ones in, the others' limit is far above them
    assert check.interval == compute_interval(rejected, 80)
    (fault,) = faults
    assert fault.startswith(f"group odd: {rejected} of 20 good frames rejected, bound 12.4%")


def test_no_group_is_named_when_all_are_alike() -> None:
    scores = {REST: np.random.default_rng(11).normal(10, 1, 200)}
    check, faults = check_groups(scores, [str(n % 5) for n in range(200)], lambda kept: compute_thresholds(kept, 0.05))
    assert faults == []
    assert 0.02 < check.false_reject_rate < 0.1


# ---------------------------------------------------------------- few frames, outliers, folds


@pytest.mark.parametrize("n", [6, 16, 32, 64])
def test_threshold_lies_near_the_highest_score_when_frames_are_too_few_for_the_target(n: int) -> None:
    scores = np.random.default_rng(12).normal(10, 1, n)
    threshold = compute_threshold(scores, 0.01)
    median = np.median(scores)
    assert threshold.method == "near_highest"
    assert scores.max() < threshold.value <= scores.max() + (scores[scores > median] - median).mean()
    assert threshold.false_reject_bound == pytest.approx(1 - 0.05 ** (1 / n))  # the margin earns no better bound


def test_margin_shrinks_to_nothing_when_frames_become_enough() -> None:
    scores = np.arange(1.0, 100.0)  # 99
    assert compute_threshold(scores, 0.01).value == pytest.approx(99 - 25 * math.log(0.99), rel=1e-3)
    assert compute_threshold(np.arange(1.0, 101.0), 0.01).method == "order_statistic"


def test_outliers_lie_above_the_threshold_and_count_as_rejects() -> None:
    scores = np.concatenate([np.random.default_rng(13).normal(10, 1, 30), [40.0, 60.0]])
    threshold = compute_threshold(scores, 0.01)
    assert scores[:30].max() <= threshold.value < 15
    assert threshold.n_outliers == 2
    assert threshold.false_reject_bound == compute_false_reject_bound(2, 32, 1 - 0.05 / 8)  # 1 to 8 might have been
    kept = compute_threshold(scores, 0.01, outliers=False)
    assert (kept.value > 60, kept.n_outliers) == (True, 0)
    assert kept.false_reject_bound == compute_false_reject_bound(0, 32)


def test_threshold_never_lies_below_a_good_frame_that_is_no_outlier() -> None:
    rng = np.random.default_rng(14)
    for _ in range(200):
        scores = rng.lognormal(2, 0.4, int(rng.integers(8, 99)))
        threshold = compute_threshold(scores, 0.01)
        assert (scores > threshold.value).sum() == threshold.n_outliers


def draw_folds(rng: Rng, n: int, law: Any, contaminated: int) -> Array:
    """Scores by the networks of two folds, the highest of them replaced by defects that nobody saw.

    Their scale is known from the n / 2 frames that each shares with the network that judges. Ratios of scores of the
    same frame varied by 0.4 of what scores do (magnetic tiles), a median by 1.25 of their mean's error.
    """
    error = 0.4 * 1.25 * law.std() / law.mean() / math.sqrt(n / 2)
    scores = np.maximum(law.rvs(n, random_state=rng), 0.1) * np.where(np.arange(n) % 2, *rng.normal(1, error, 2))
    scores[:contaminated] = law.ppf(0.99) * rng.uniform(1, 4, contaminated)
    return scores


@pytest.mark.parametrize("contamination", [0.0, 0.05, 0.1])
@pytest.mark.parametrize("name", ["normal", "lognormal", "student_t"])
@pytest.mark.usefixtures("_rough_doubt")
def test_bound_holds_when_scores_come_from_folds_and_frames_are_contaminated(name: str, contamination: float) -> None:
    law = {"normal": stats.norm(10, 2), "lognormal": stats.lognorm(0.5, scale=10), "student_t": stats.t(3, 20, 3)}[name]
    rng = np.random.default_rng(15)
    for n in (16, 32, 64, 128):
        thresholds = [compute_threshold(draw_folds(rng, n, law, round(contamination * n)), 0.01) for _ in range(150)]
        failures = sum(law.sf(each.value) > (each.false_reject_bound or 0) for each in thresholds)
        assert failures <= 0.08 * 150, n
