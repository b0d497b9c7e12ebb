"""From an anomaly map to a verdict. Pure: no state, no device, no clock."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from inspector.errors import FrameMismatchError, NotFiniteError
from inspector.types import Reason, Region, Verdict

Map = np.ndarray[Any, np.dtype[np.float32]]
Mask = np.ndarray[Any, np.dtype[np.uint8]]

MAX_REGIONS = 100
"""Regions reported per frame, strongest first. A frame with more is a reject all the same."""

_HALVINGS = 10
"""Of a map's range, before its values are looked at one by one."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on one anomaly map.

    `score > threshold` holds exactly when the verdict is FAIL. `warn`: it is PASS, but only just.
    """

    verdict: Verdict
    reason: Reason
    score: float
    regions: tuple[Region, ...]
    warn: bool = False


def decide(
    anomaly_map: Map,
    threshold: float,
    *,
    min_region_area: int = 1,
    roi: Mask | None = None,
    scale_hw: tuple[float, float] = (1.0, 1.0),
    warn_above: float | None = None,
) -> Decision:
    """Judge one frame.

    Args:
        anomaly_map: (H, W) float32.
        threshold: a frame whose score lies above fails; also the pixel threshold of the regions.
        min_region_area: smallest area that counts, in pixels of the map.
        roi: (H, W) uint8, zero where anomalies do not count; None: everywhere they do.
        scale_hw: map pixels per sensor pixel, down and across, so that regions come out in sensor pixels.
        warn_above: a frame that passes with a score above carries a warning; None: none does.

    Raises:
        NotFiniteError: NaN or infinity anywhere, inside the region of interest or not.
        FrameMismatchError: a map that no region of the smallest area fits into.
    """
    if not (np.isfinite(anomaly_map.max()) and np.isfinite(anomaly_map.min())):  # both carry NaN on
        bad = int(anomaly_map.size - np.isfinite(anomaly_map).sum())
        raise NotFiniteError(f"anomaly map: all {anomaly_map.size} values must be finite, but {bad} are not")
    if min_region_area > anomaly_map.size:
        raise FrameMismatchError(
            f"min_region_area: must be at most the {anomaly_map.size} pixels of the map, got {min_region_area}"
        )
    if roi is not None:
        anomaly_map = np.where(roi > 0, anomaly_map, np.float32(0))
    score = compute_score(anomaly_map, min_region_area)
    if score <= threshold:
        return Decision(Verdict.PASS, Reason.OK, score, (), warn=warn_above is not None and score > warn_above)
    regions = find_regions(anomaly_map, threshold, min_region_area, scale_hw)
    return Decision(Verdict.FAIL, Reason.DEFECT, score, regions)


def merge(decisions: Sequence[Decision]) -> Decision:
    """The decision on a frame from those on its parts, at one threshold: the highest score's, with all regions."""
    worst = max(decisions, key=lambda decision: decision.score)
    return dataclasses.replace(worst, regions=rank(region for decision in decisions for region in decision.regions))


def rank(regions: Iterable[Region]) -> tuple[Region, ...]:
    """Highest peak first, at most `MAX_REGIONS`; of equal peaks the higher up, then the farther left."""
    ordered = sorted(regions, key=lambda region: (-region.peak, region.xyxy[1], region.xyxy, region.area))
    return tuple(ordered[:MAX_REGIONS])


def compute_score(anomaly_map: Map, min_region_area: int = 1) -> float:
    """The frame's score: the highest level that a connected area of `min_region_area` pixels reaches.

    With an area of 1 this is the maximum (paper, section 3.3).
    """
    if min_region_area <= 1:
        return float(anomaly_map.max())
    level = find_level(anomaly_map, min_region_area, -np.inf)
    return float(anomaly_map.min()) if level is None else level


def find_level(anomaly_map: Map, area: int, floor: float) -> float | None:
    """The highest value of a map (H, W) such that a connected area of `area` pixels has it or more.

    By bisection: first between numbers, since a map's own values are many, then between the values that leaves.
    None: no such area lies above `floor`.
    """
    large = _find_large(anomaly_map > np.float64(floor), area)
    if not len(large):
        return None
    anomaly_map = _crop(anomaly_map, large)
    low, high = max(floor, float(np.nextafter(anomaly_map.min(), np.float32(-np.inf)))), float(anomaly_map.max())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        large = _find_large(anomaly_map > np.float64(middle), area)
        if len(large):
            low = middle
            anomaly_map = _crop(anomaly_map, large)  # a higher level's areas lie inside this one's
        else:
            high = middle
    levels = np.unique(anomaly_map[(anomaly_map > np.float64(low)) & (anomaly_map <= np.float64(high))])
    reached, missed = 0, len(levels)
    while missed - reached > 1:
        between = (reached + missed) // 2
        if len(_find_large(anomaly_map >= levels[between], area)):
            reached = between
        else:
            missed = between
    return float(levels[reached])


def find_regions(
    anomaly_map: Map,
    threshold: float,
    min_region_area: int = 1,
    scale_hw: tuple[float, float] = (1.0, 1.0),
    corner: tuple[int, int] = (0, 0),
) -> tuple[Region, ...]:
    """Connected areas (8 neighbours) above the threshold, as `rank` orders them.

    `corner`: row and column of the first pixel, where `anomaly_map` is a piece of the map.
    """
    labels, stats = _components(anomaly_map > np.float64(threshold))
    large = [i for i in range(1, len(stats)) if stats[i, cv2.CC_STAT_AREA] >= min_region_area]
    return rank(_region(anomaly_map, labels, stats[i], i, scale_hw, corner) for i in large)


def _find_large(above: np.ndarray[Any, np.dtype[np.bool_]], area: int) -> np.ndarray[Any, Any]:
    _, stats = _components(above)
    found: np.ndarray[Any, Any] = stats[1:][stats[1:, cv2.CC_STAT_AREA] >= area]
    return found


def _components(above: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(above.view(np.uint8), connectivity=8)
    return labels, stats


def _crop(anomaly_map: Map, stats: np.ndarray[Any, Any]) -> Map:
    left, top = stats[:, :2].min(axis=0)
    right, bottom = (stats[:, :2] + stats[:, 2:4]).max(axis=0)
    return anomaly_map[top:bottom, left:right]


def _region(
    anomaly_map: Map,
    labels: np.ndarray[Any, Any],
    stats: np.ndarray[Any, Any],
    label: int,
    scale_hw: tuple[float, float],
    corner: tuple[int, int],
) -> Region:
    x, y, width, height, area = (int(value) for value in stats)
    inside = labels[y : y + height, x : x + width] == label
    peak = float(anomaly_map[y : y + height, x : x + width][inside].max())
    down, across = scale_hw
    left, right = _to_sensor(corner[1] + x, corner[1] + x + width, across)
    top, bottom = _to_sensor(corner[0] + y, corner[0] + y + height, down)
    return Region((left, top, right, bottom), peak, max(1, round(area / (down * across))))


def _to_sensor(start: int, stop: int, scale: float) -> tuple[int, int]:
    """The nearest whole sensor pixels, at least one: in an enlarged map a region can be smaller."""
    first, last = round(start / scale), round(stop / scale)
    return (first, last) if first < last else (int(start / scale), int(start / scale) + 1)
