"""The decision from the blocks that matter: the same as from the whole map."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inspector.detection import partial
from inspector.detection.decision import Decision, decide, merge
from inspector.detection.partial import BLOCK, decide_partially, gather, parse, shrink, summarise
from inspector.types import Verdict

Map = np.ndarray[Any, np.dtype[np.float32]]


class Reader:
    """Gives blocks of a map, and notes how many it was asked for."""

    def __init__(self, anomaly_map: Map) -> None:
        self.asked = 0
        self._map = torch.from_numpy(anomaly_map)

    def __call__(self, blocks: Any) -> Any:
        self.asked += len(blocks)
        return gather(self._map, blocks).numpy()


def summary_of(anomaly_map: Map, masks: Any = (None,)) -> Any:
    counted = [mask > 0 for mask in masks if mask is not None]
    counts = torch.from_numpy(np.logical_or.reduce(counted)) if counted else None
    return parse(summarise(torch.from_numpy(anomaly_map), counts).numpy(), anomaly_map.shape)


def decide_both(anomaly_map: Map, threshold: float, masks: Any, area: int, **more: Any) -> tuple[Decision | None, Any]:
    reader = Reader(anomaly_map)
    options = {"min_region_area": area, **more}
    found = decide_partially(summary_of(anomaly_map, masks), reader, threshold, masks=masks, **options)
    return found, merge([decide(anomaly_map, threshold, roi=mask, **options) for mask in masks])


def make_map(height: int, width: int, seed: int, kind: str) -> Map:
    random = np.random.default_rng(seed)
    if kind == "noise":
        values = random.random((height, width))
    elif kind == "steps":  # many equal values
        values = random.integers(0, 5, (height, width))
    else:  # a calm field with peaks, some of them across blocks
        values = 0.1 * random.random((height, width))
        for _ in range(random.integers(1, 30)):
            y, x = random.integers(0, height), random.integers(0, width)
            tall, wide = random.integers(1, 40, 2)
            values[y : y + tall, x : x + wide] += random.integers(1, 5) / 4
    return np.asarray(values, np.float32)


def make_masks(height: int, width: int, seed: int, kind: str) -> tuple[Any, ...]:
    if kind == "none":
        return (None,)
    random = np.random.default_rng(seed)
    roi = np.zeros((height, width), np.uint8)
    roi[random.integers(0, height) :, random.integers(0, width) :] = 255
    if kind == "roi":
        return (roi,)
    zone = np.zeros((height, width), np.uint8)
    zone[: random.integers(1, height + 1), : random.integers(1, width + 1)] = 1
    return ((zone == 0).astype(np.uint8), zone)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 260),
    st.integers(1, 260),
    st.integers(0, 10_000),
    st.sampled_from(["peaks", "noise", "steps"]),
    st.sampled_from(["none", "roi", "zones"]),
    st.sampled_from([1, 2, 20, 300]),
    st.floats(-0.5, 1.3),
    st.booleans(),
)
def test_decision_equals_the_whole_maps_whatever_map_masks_area_and_threshold(
    height: int, width: int, seed: int, kind: str, masked: str, area: int, share: float, below_zero: bool
) -> None:
    anomaly_map = make_map(height, width, seed, kind) - np.float32(below_zero)
    masks = make_masks(height, width, seed, masked)
    area = min(area, anomaly_map.size)
    level = merge([decide(anomaly_map, math.inf, roi=mask, min_region_area=area) for mask in masks]).score
    for threshold in (share * level, level, float(np.nextafter(level, -np.inf))):
        more = {"scale_hw": (0.5, 1.7), "warn_above": 0.9 * threshold}
        found, expected = decide_both(anomaly_map, threshold, masks, area, **more)
        assert found is None or found == expected


def test_few_blocks_are_read_when_a_large_map_has_a_small_defect() -> None:
    anomaly_map = make_map(3000, 4096, 1, "peaks") % np.float32(0.1)
    anomaly_map[1000:1010, 2040:2060] = 2.0
    for masks in ((None,), make_masks(3000, 4096, 5, "zones")):
        for area, most in ((1, 4), (20, 40)):
            reader = Reader(anomaly_map)
            summary = summary_of(anomaly_map, masks)
            found = decide_partially(summary, reader, 1.0, masks=masks, min_region_area=area)
            assert found is not None
            assert found.verdict is Verdict.FAIL
            assert [region.xyxy for region in found.regions] == [(2040, 1000, 2060, 1010)]
            assert reader.asked <= most


def test_score_of_an_area_is_found_in_few_blocks_when_the_map_passes() -> None:
    anomaly_map = make_map(3000, 4096, 1, "peaks") % np.float32(0.1)
    anomaly_map[5, 5] = 0.5  # a speck
    anomaly_map[1000:1010, 2040:2060] = 0.3
    found, expected = decide_both(anomaly_map, 1.0, (None,), 20)
    assert found == expected
    assert found is not None
    assert found.score == pytest.approx(0.3)
    reader = Reader(anomaly_map)
    decide_partially(summary_of(anomaly_map), reader, 1.0, min_region_area=20)
    assert reader.asked < 100


def test_no_block_is_read_when_the_map_passes_and_each_pixel_counts() -> None:
    reader = Reader(np.zeros((100, 100), np.float32))
    found = decide_partially(summary_of(np.zeros((100, 100), np.float32)), reader, 1.0, warn_above=-1.0)
    assert found is not None
    assert (found.verdict, found.warn, reader.asked) == (Verdict.PASS, True, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [(0, 0), (40, 70), (99, 129)])
def test_whole_map_is_asked_for_when_a_value_is_not_finite(value: float, at: tuple[int, int]) -> None:
    anomaly_map = np.zeros((100, 130), np.float32)
    anomaly_map[at] = value
    roi = np.zeros((100, 130), np.uint8)
    roi[10:20, 10:20] = 1
    for masks in ((None,), (roi,)):  # outside the region of interest, too
        assert decide_partially(summary_of(anomaly_map, masks), Reader(anomaly_map), 1.0, masks=masks) is None


def test_whole_map_is_asked_for_when_too_many_blocks_are_hot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "_MOST_BLOCKS", 3)
    anomaly_map = np.zeros((64, 64), np.float32)
    anomaly_map[0, 0] = anomaly_map[0, 40] = anomaly_map[40, 0] = 2.0
    assert decide_partially(summary_of(anomaly_map), Reader(anomaly_map), 1.0) is not None
    anomaly_map[40, 40] = 2.0
    assert decide_partially(summary_of(anomaly_map), Reader(anomaly_map), 1.0) is None


def test_areas_are_apart_when_one_lies_in_a_bay_of_another() -> None:
    anomaly_map = np.zeros((7 * BLOCK, 7 * BLOCK), np.float32)
    anomaly_map[:10] = anomaly_map[-10:] = 2.0
    anomaly_map[:, :10] = 2.0
    anomaly_map[110:120, 110:120] = 3.0  # within the box of the first, whose blocks do not touch its own
    found, expected = decide_both(anomaly_map, 1.0, (None,), 1)
    assert found == expected
    assert [region.peak for region in expected.regions] == [3.0, 2.0]


def test_shrunken_map_covers_edges_that_are_no_whole_step_and_carries_nan_on() -> None:
    values = torch.arange(35.0).reshape(5, 7)
    assert shrink(values, 3).tolist() == [[16, 19, 20], [30, 33, 34]]
    assert shrink(values, 1) is values
    values[4, 6] = torch.nan
    assert shrink(values, 3).isnan().tolist() == [[False] * 3, [False, False, True]]
