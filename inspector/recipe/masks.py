"""Masks of a recipe's folder: the region of interest, and the zones that have thresholds of their own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from inspector.codec import decode_image
from inspector.config import Recipe
from inspector.detection.decision import Mask
from inspector.detection.parts import build_parts, check_aspect, check_parts
from inspector.errors import BadFrameError, RecipeError
from inspector.files import read_verified, read_whole


def load_roi(folder: Path, recipe: Recipe) -> Mask | None:
    """The recipe's region of interest (H, W) uint8, its checksum verified; None: everywhere.

    Raises:
        RecipeError: missing, altered or not usable.
    """
    if recipe.roi_mask is None or recipe.roi_mask_sha256 is None:
        return None
    path = folder / recipe.roi_mask
    mask = decode_mask(read_verified(path, recipe.roi_mask_sha256), path)
    check_aspect(mask, "roi_mask", recipe.preprocessing.frame_hw)
    return mask


def load_zones(folder: Path, recipe: Recipe) -> dict[str, Mask]:
    """Masks (H, W) uint8 of the recipe's zones by name, checksums verified.

    Raises:
        RecipeError: missing, altered, not usable, of another aspect than the frame, or overlapping.
    """
    masks: dict[str, Mask] = {}
    for zone in recipe.zones:
        path, field = folder / zone.mask, f"zone {zone.name}"
        masks[zone.name] = decode_mask(read_verified(path, zone.mask_sha256), path, field)
        check_aspect(masks[zone.name], field, recipe.preprocessing.frame_hw)
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


def read_roi(path: Path, field: str = "roi_mask") -> Mask:
    """As `decode_mask`, of a file that no recipe names yet.

    Raises:
        RecipeError: unreadable, or 0 everywhere.
    """
    try:
        content = read_whole(path)
    except (OSError, BadFrameError) as error:
        raise RecipeError(f"{path}: {field}: must be an image that can be read: {error}") from error
    return decode_mask(content, path, field)


def decode_mask(content: bytes, path: Path, field: str = "roi_mask") -> Mask:
    """Region of interest or zone (H, W) uint8 from an image file, by the rules for frames: anomalies count where it is
    above 0 in any channel. `path` is named in messages.

    Raises:
        RecipeError: unreadable, or 0 everywhere.
    """
    try:
        pixels, _ = decode_image(content)
    except BadFrameError as error:
        raise RecipeError(f"{path}: {field}: must be an image that can be read: {error}") from error
    if not pixels.any():
        raise RecipeError(f"{path}: {field}: must be a grey image with at least one pixel above 0")
    if pixels.ndim == 2 and pixels.dtype == np.uint8:
        return pixels
    return np.where(pixels if pixels.ndim == 2 else pixels.any(axis=2), np.uint8(255), np.uint8(0))
