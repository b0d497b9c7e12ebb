"""From map to verdict, on maps made by hand and against brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from inspector.detection.decision import MAX_REGIONS, Decision, compute_score, decide, find_regions, merge
from inspector.detection.parts import build_parts, stretch
from inspector.errors import FrameMismatchError, NotFiniteError
from inspector.types import Reason, Region, Verdict

Map = np.ndarray[Any, np.dtype[np.float32]]
EIGHT = np.ones((3, 3))

maps = hnp.arrays(np.float32, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.integers(0, 9).map(float))


def blank(height: int = 20, width: int = 30) -> Map:
    return np.zeros((height, width), np.float32)


def largest_area(anomaly_map: Map, level: float, *, inclusive: bool = False) -> int:
    above = anomaly_map >= level if inclusive else anomaly_map > level
    labels, found = ndimage.label(above, EIGHT)
    return max((int((labels == label).sum()) for label in range(1, found + 1)), default=0)


def brute_force_score(anomaly_map: Map, area: int) -> float:
    """The highest level that a connected area of that many pixels reaches, by trying every level."""
    levels = [v for v in np.unique(anomaly_map) if largest_area(anomaly_map, v, inclusive=True) >= area]
    return float(max(levels, default=anomaly_map.min()))


def test_frame_passes_when_the_map_stays_below_the_threshold() -> None:
    anomaly_map = blank()
    anomaly_map[3, 4] = 0.5
    decision = decide(anomaly_map, 0.75)
    assert (decision.verdict, decision.reason, decision.score, decision.regions) == (Verdict.PASS, Reason.OK, 0.5, ())


def test_frame_passes_when_the_score_equals_the_threshold() -> None:
    anomaly_map = blank()
    anomaly_map[3, 4] = 0.5
    assert decide(anomaly_map, 0.5).verdict is Verdict.PASS


def test_frame_fails_with_regions_when_areas_lie_above_the_threshold() -> None:
    anomaly_map = blank()
    anomaly_map[2:5, 10:14] = 1.0
    anomaly_map[3, 11] = 2.5
    anomaly_map[15, 20] = 4.0
    decision = decide(anomaly_map, 0.75)
    assert (decision.verdict, decision.reason, decision.score) == (Verdict.FAIL, Reason.DEFECT, 4.0)
    assert decision.regions == (Region((20, 15, 21, 16), 4.0, 1), Region((10, 2, 14, 5), 2.5, 12))


def test_region_is_one_when_pixels_touch_at_a_corner() -> None:
    anomaly_map = blank()
    anomaly_map[4, 4] = anomaly_map[5, 5] = 1.0
    assert find_regions(anomaly_map, 0.5) == (Region((4, 4, 6, 6), 1.0, 2),)


def test_peak_is_its_own_when_another_region_lies_in_the_box() -> None:
    anomaly_map = blank()
    anomaly_map[2, 2:9] = anomaly_map[2:9, 2] = 1.0
    anomaly_map[7, 7] = 9.0
    assert find_regions(anomaly_map, 0.5) == (Region((7, 7, 8, 8), 9.0, 1), Region((2, 2, 9, 9), 1.0, 13))


def test_score_ignores_specks_when_a_region_must_have_an_area() -> None:
    anomaly_map = blank()
    anomaly_map[0, 0] = 9.0
    anomaly_map[5:8, 5:8] = 3.0
    assert compute_score(anomaly_map, 1) == 9.0
    assert compute_score(anomaly_map, 9) == pytest.approx(3.0, abs=9e-6)
    decision = decide(anomaly_map, 2.0, min_region_area=9)
    assert decision.regions == (Region((5, 5, 8, 8), 3.0, 9),)
    assert decide(anomaly_map, 2.0, min_region_area=10).verdict is Verdict.PASS


@settings(max_examples=200, deadline=None)
@given(maps, st.integers(1, 70))
def test_score_equals_brute_force_when_regions_must_have_an_area(anomaly_map: Map, area: int) -> None:
    expected = brute_force_score(anomaly_map, area)
    score = compute_score(anomaly_map, area)
    tolerance = 1e-6 * float(anomaly_map.max() - anomaly_map.min())
    assert expected <= score <= expected + tolerance + 1e-12


@settings(max_examples=300, deadline=None)
@given(maps, st.integers(1, 12), st.integers(-1, 19))
def test_verdict_score_and_regions_agree_when_the_threshold_is_anywhere(
    anomaly_map: Map, area: int, twice: int
) -> None:
    threshold = twice / 2  # on the levels and between them
    area = min(area, anomaly_map.size)
    decision = decide(anomaly_map, threshold, min_region_area=area)
    assert (decision.verdict is Verdict.FAIL) == (decision.score > threshold)
    assert (decision.verdict is Verdict.FAIL) == bool(decision.regions)
    assert (decision.verdict is Verdict.FAIL) == (largest_area(anomaly_map, threshold) >= area)


def test_score_counts_only_inside_when_there_is_a_region_of_interest() -> None:
    anomaly_map = blank()
    anomaly_map[2, 2], anomaly_map[10, 10] = 9.0, 3.0
    roi = np.zeros((20, 30), np.uint8)
    roi[8:, 8:] = 255
    decision = decide(anomaly_map, 1.0, roi=roi)
    assert decision.score == 3.0
    assert decision.regions == (Region((10, 10, 11, 11), 3.0, 1),)
    assert anomaly_map[2, 2] == 9.0  # the caller's map is left alone
    roi[10, 10] = 0
    assert decide(anomaly_map, 1.0, roi=roi).verdict is Verdict.PASS


def test_regions_are_in_sensor_pixels_when_the_frame_was_scaled() -> None:
    anomaly_map = blank()
    anomaly_map[4:6, 8:12] = 2.0
    assert decide(anomaly_map, 1.0, scale_hw=(0.5, 0.5)).regions == (Region((16, 8, 24, 12), 2.0, 32),)
    assert decide(anomaly_map, 1.0, scale_hw=(0.5, 0.25)).regions == (Region((32, 8, 48, 12), 2.0, 64),)
    assert decide(anomaly_map, 1.0, scale_hw=(0.25, 0.25)).regions == (Region((32, 16, 48, 24), 2.0, 128),)


@pytest.mark.parametrize(("column", "left"), [(0, 0), (3, 1), (29, 11)])
def test_region_has_a_sensor_pixel_when_it_is_smaller_in_an_enlarged_map(column: int, left: int) -> None:
    anomaly_map = blank()  # 20 × 30, of a frame of 8 × 12
    anomaly_map[7, column] = 2.0
    assert decide(anomaly_map, 1.0, scale_hw=(2.5, 2.5)).regions == (Region((left, 2, left + 1, 3), 2.0, 1),)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("outside", [False, True])
def test_frame_is_refused_when_the_map_is_not_finite(value: float, outside: bool) -> None:
    anomaly_map = blank()
    anomaly_map[2, 2] = value
    roi = np.ones((20, 30), np.uint8)
    roi[2, 2] = 0 if outside else 1
    with pytest.raises(NotFiniteError, match="all 600 values must be finite, but 1 are not"):
        decide(anomaly_map, 1.0, roi=roi)


def test_regions_are_the_strongest_when_there_are_too_many() -> None:
    anomaly_map = blank(60, 60)
    peaks = np.random.default_rng(0).permutation(400).astype(np.float32) + 1
    anomaly_map[::3, ::3] = peaks.reshape(20, 20)
    decision = decide(anomaly_map, 0.5)
    assert MAX_REGIONS == 100
    assert [region.peak for region in decision.regions] == [float(peak) for peak in range(400, 300, -1)]


@pytest.mark.parametrize(
    ("score", "warn_above", "warn", "verdict"),
    [
        (0.5, 0.5, False, Verdict.PASS),
        (0.51, 0.5, True, Verdict.PASS),
        (1.0, 0.5, True, Verdict.PASS),
        (1.01, 0.5, False, Verdict.FAIL),
        (1.0, None, False, Verdict.PASS),
    ],
)
def test_frame_carries_a_warning_when_it_passes_in_the_warn_band(
    score: float, warn_above: float | None, warn: bool, verdict: Verdict
) -> None:
    anomaly_map = blank()
    anomaly_map[3, 4] = np.float32(score)
    decision = decide(anomaly_map, 1.0, warn_above=warn_above)
    assert (decision.warn, decision.verdict) == (warn, verdict)


# ---------------------------------------------------------------- zones


def test_parts_cover_the_frame_once_when_zones_lie_in_a_region_of_interest() -> None:
    roi, left, low = np.ones((4, 6), np.uint8), np.zeros((4, 6), np.uint8), np.zeros((2, 3), np.uint8)
    roi[0] = 0
    left[:, :2] = 200
    low[1, 1:] = 1  # at half the size
    parts = build_parts((4, 6), roi, [(left, 0.5), (low, 3.0)])
    assert parts.masks[0].tolist() == [[0] * 6, [0, 0, 1, 1, 1, 1], [0] * 6, [0] * 6]
    assert parts.masks[1].tolist() == [[0] * 6] + [[1, 1, 0, 0, 0, 0]] * 3
    assert parts.masks[2].tolist() == [[0] * 6] * 2 + [[0, 0, 1, 1, 1, 1]] * 2
    assert np.sum(parts.masks, axis=0).tolist() == roi.tolist()
    assert parts.gain.tolist()[1:3] == [[0.5, 0.5, 1, 1, 1, 1], [0.5, 0.5, 3, 3, 3, 3]]


def test_frame_has_one_part_and_no_gain_when_there_are_no_zones() -> None:
    assert build_parts((4, 6), None, []).masks == (None,)
    parts = build_parts((4, 6), np.array([[0, 1]], np.uint8), [])
    assert parts.gain is None
    assert parts.masks[0].tolist() == [[0, 0, 0, 1, 1, 1]] * 4


def test_frame_has_the_highest_parts_verdict_and_all_regions_when_merged() -> None:
    calm = Decision(Verdict.PASS, Reason.OK, 0.9, (), warn=True)
    first = Decision(Verdict.FAIL, Reason.DEFECT, 2.0, (Region((0, 0, 1, 1), 2.0, 1),))
    second = Decision(Verdict.FAIL, Reason.DEFECT, 3.0, (Region((5, 5, 6, 6), 3.0, 1), Region((7, 7, 8, 8), 1.5, 1)))
    merged = merge([calm, first, second])
    assert (merged.verdict, merged.score, merged.warn) == (Verdict.FAIL, 3.0, False)
    assert [region.peak for region in merged.regions] == [3.0, 2.0, 1.5]
    assert merge([Decision(Verdict.PASS, Reason.OK, 0.1, ()), calm]) == calm
    many = Decision(Verdict.FAIL, Reason.DEFECT, 2.0, first.regions * 80)
    assert len(merge([many, many]).regions) == MAX_REGIONS


def test_map_is_refused_when_no_region_of_the_smallest_area_fits_into_it() -> None:
    anomaly_map = np.zeros((8, 8), np.float32)
    anomaly_map[2, 2] = 9.0
    with pytest.raises(FrameMismatchError, match="min_region_area: must be at most the 64 pixels of the map, got 65"):
        decide(anomaly_map, 1.0, min_region_area=65)


def test_thin_parts_of_a_mask_stay_when_it_shrinks() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[3:5] = 255
    assert (stretch(mask, (8, 8)) > 0).any(axis=1).tolist() == [True] + [False] * 7
    assert stretch(stretch(mask, (64, 64)), (128, 128)).sum() == 4 * mask.sum()
