"""Where anomalies count: the region of interest and the zones, stretched to maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from inspector.config import Recipe
from inspector.detection.decision import Map, Mask
from inspector.errors import RecipeError

MASK_ASPECT_TOLERANCE = 0.02
"""How far a mask's aspect may be from the frame's: sizes are rounded when frames are scaled."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Where anomalies count in maps of one size: outside all zones, then zone by zone.

    Attributes:
        masks: (H, W) uint8 of each part, above 0 inside; None: everywhere.
        gain: (H, W) float32 that a map is multiplied by, so that one threshold holds in all parts; None: 1.
    """

    masks: tuple[Mask | None, ...]
    gain: Map | None = None

    def hide_uncounted(self, anomaly_map: Map) -> Map:
        """A map (h, w) with 0 where anomalies do not count."""
        counted = [mask > 0 for mask in self.masks if mask is not None]
        return np.where(np.logical_or.reduce(counted), anomaly_map, np.float32(0)) if counted else anomaly_map


def build_parts(shape: tuple[int, ...], roi: Mask | None, zones: Sequence[tuple[Mask, float]]) -> Parts:
    """Stretch a region of interest, and zones with their gains, to maps of `shape`."""
    if not zones:
        return Parts((None if roi is None else stretch(roi, shape),))
    free = np.ones(shape, dtype=np.bool_) if roi is None else stretch(roi, shape) > 0
    gain = np.ones(shape, dtype=np.float32)
    masks = []
    for mask, factor in zones:
        zone = free & (stretch(mask, shape) > 0)
        free = free & ~zone
        gain[zone] = factor
        masks.append(zone.view(np.uint8))
    return Parts((free.view(np.uint8), *masks), gain)


def compute_gain(threshold: float, zone_threshold: float) -> float:
    """What a map is multiplied by inside a zone, so that `threshold` holds there as `zone_threshold` would.

    Lower by more than float32 rounds: a score equal to the zone's threshold must not end above the frame's.
    """
    return threshold / zone_threshold * (1 - 2**-22)


def measure_largest(mask: Mask | None, shape: tuple[int, ...]) -> int:
    """Pixels of the largest connected area (8 neighbours) of a mask; None: of all of `shape`."""
    if mask is None:
        return shape[0] * shape[1]
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    return int(stats[1:, cv2.CC_STAT_AREA].max(initial=0))


def stretch(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """A mask at another size (H, W), by nearest neighbour; where it shrinks, all that any marked pixel touches."""
    if mask.shape == shape:
        return mask
    if mask.shape[0] <= shape[0] and mask.shape[1] <= shape[1]:
        return np.asarray(cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
    # A thin part must not fall between two pixels: first the axes that shrink, by area (which OpenCV does only where
    # none grows), then those that grow.
    small = (min(mask.shape[0], shape[0]), min(mask.shape[1], shape[1]))
    share = cv2.resize((mask > 0).astype(np.float32), small[::-1], interpolation=cv2.INTER_AREA)
    touched = np.asarray(share > 0, dtype=np.uint8)
    return np.asarray(cv2.resize(touched, shape[::-1], interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


def check_parts(recipe: Recipe, parts: Parts, shape: tuple[int, ...]) -> None:
    """See that an area as large as a region must be fits in where anomalies count, in maps of `shape`.

    Where there are zones it must fit into each; what they leave over may be too narrow.

    Raises:
        RecipeError: it does not: nothing there could ever fail.
    """
    if recipe.threshold is None:
        return  # nothing is judged, and `calibrate` may bring another area
    places = {f"zone {zone.name}": mask for zone, mask in zip(recipe.zones, parts.masks[1:], strict=True)}
    for place, mask in (places or {"the region of interest": parts.masks[0]}).items():
        if recipe.min_region_area == 1 and mask is not None and mask.any():
            continue  # as nearly always; to look for pieces takes milliseconds
        largest = measure_largest(mask, shape)
        if recipe.min_region_area > largest:
            raise RecipeError(
                f"min_region_area: must be at most {largest}, the largest connected area of {place} in a map "
                f"of {shape[0]}x{shape[1]}, else no defect there could fail, got {recipe.min_region_area}"
            )


def check_aspect(mask: Mask, field: str, frame_hw: tuple[int, int] | None) -> None:
    """Refuse a mask that would be squeezed onto the frame.

    Raises:
        RecipeError: it has another aspect.
    """
    if frame_hw is None:
        return  # told when a frame comes
    if abs(mask.shape[1] * frame_hw[0] / (mask.shape[0] * frame_hw[1]) - 1) > MASK_ASPECT_TOLERANCE:
        raise RecipeError(f"{field}: must have the frame's aspect ratio, {frame_hw}, got a mask of {mask.shape}")
