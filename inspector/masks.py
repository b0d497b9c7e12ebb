"""Masks of a recipe's folder: the region of interest, and the zones that have thresholds of their own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from inspector.codec import decode_image
from inspector.config import Recipe
from inspector.decision import Mask, Parts, build_parts, measure_largest
from inspector.errors import BadFrameError, RecipeError
from inspector.files import read_whole
from inspector.model.checkpoint import verify_sha256

MASK_ASPECT_TOLERANCE = 0.02
"""How far a mask's aspect may be from the frame's: sizes are rounded when frames are scaled."""


def load_roi(folder: Path, recipe: Recipe) -> Mask | None:
    """The recipe's region of interest (H, W) uint8, its checksum verified; None: everywhere.

    Raises:
        RecipeError: missing, altered or not usable.
    """
    if recipe.roi_mask is None or recipe.roi_mask_sha256 is None:
        return None
    path = folder / recipe.roi_mask
    verify_sha256(path, recipe.roi_mask_sha256)
    mask = read_roi(path)
    check_aspect(mask, "roi_mask", recipe.preprocessing.frame_hw)
    return mask


def load_zones(folder: Path, recipe: Recipe) -> dict[str, Mask]:
    """Masks (H, W) uint8 of the recipe's zones by name, checksums verified.

    Raises:
        RecipeError: missing, altered, not usable, of another aspect than the frame, or overlapping.
    """
    masks: dict[str, Mask] = {}
    for zone in recipe.zones:
        verify_sha256(folder / zone.mask, zone.mask_sha256)
        masks[zone.name] = read_roi(folder / zone.mask, f"zone {zone.name}")
        check_aspect(masks[zone.name], f"zone {zone.name}", recipe.preprocessing.frame_hw)
    for first, second in itertools.combinations(masks, 2):
        other = cv2.resize(masks[second], masks[first].shape[::-1], interpolation=cv2.INTER_NEAREST)
        if (other * masks[first].astype(bool)).any():
            raise RecipeError(f"zones: must not overlap, but {first} and {second} do")
    return masks


def check_area(recipe: Recipe, roi: Mask | None, zones: Mapping[str, Mask]) -> None:
    """As `check_parts`, where the recipe says what size all maps have; else it is told when a frame comes.

    Raises:
        RecipeError: some part could never fail.
    """
    shape = recipe.preprocessing.map_hw
    if shape is not None:
        check_parts(recipe, build_parts(shape, roi, [(zones[zone.name], 1.0) for zone in recipe.zones]), shape)


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
                f"min_region_area: must be at most {largest}, the pixels in one piece that count in {place} in a map "
                f"of {shape[0]}x{shape[1]}, or nothing there could ever fail, got {recipe.min_region_area}"
            )


def check_aspect(mask: Mask, field: str, frame_hw: tuple[int, int] | None) -> None:
    """Refuse a mask that would be squeezed onto the frame.

    Raises:
        RecipeError: it has another aspect.
    """
    if frame_hw is None:
        return  # told when a frame comes
    if abs(mask.shape[1] * frame_hw[0] / (mask.shape[0] * frame_hw[1]) - 1) > MASK_ASPECT_TOLERANCE:
        raise RecipeError(f"{field}: must have the frame's aspect, {frame_hw}, got a mask of {mask.shape}")


def read_roi(path: Path, field: str = "roi_mask") -> Mask:
    """Region of interest or zone (H, W) uint8 from an image file, by the rules for frames: anomalies count where it is
    above 0 in any channel.

    Raises:
        RecipeError: unreadable, or 0 everywhere.
    """
    try:
        pixels, _ = decode_image(read_whole(path))
    except (OSError, BadFrameError) as error:
        raise RecipeError(f"{path}: {field}: must be an image that can be read: {error}") from error
    if not pixels.any():
        raise RecipeError(f"{path}: {field}: must be a grey image with at least one pixel above 0")
    if pixels.ndim == 2 and pixels.dtype == np.uint8:
        return pixels
    return np.where(pixels if pixels.ndim == 2 else pixels.any(axis=2), np.uint8(255), np.uint8(0))
