"""Masks of a recipe's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inspector.config import Recipe
from inspector.errors import RecipeError
from inspector.masks import load_roi, load_zones
from inspector.model.checkpoint import compute_sha256


def write_zones(folder: Path, frame_hw: list[int] | None = None, **masks: Any) -> Recipe:
    zones = []
    for name, mask in masks.items():
        cv2.imwrite(str(folder / f"{name}.png"), mask)
        sha256 = compute_sha256(folder / f"{name}.png")
        zones.append({"name": name, "mask": f"{name}.png", "mask_sha256": sha256})
    return Recipe.model_validate(
        {
            "recipe_id": "r",
            "backbone": "resnet18",
            "weights_sha256": "0" * 64,
            "preprocessing": {"frame_hw": frame_hw},
            "zones": zones,
        }
    )


def columns(start: int, stop: int, height: int = 40, width: int = 60) -> Any:
    mask = np.zeros((height, width), np.uint8)
    mask[:, start:stop] = 255
    return mask


def test_zones_are_read_by_name_when_they_share_no_pixel(tmp_path: Path) -> None:
    recipe = write_zones(tmp_path, [400, 600], left=columns(0, 20), right=columns(20, 60))
    zones = load_zones(tmp_path, recipe)
    assert list(zones) == ["left", "right"]
    assert np.array_equal(zones["right"], columns(20, 60))
    assert load_roi(tmp_path, recipe) is None


@pytest.mark.parametrize("size", [(40, 60), (80, 120)])
def test_zones_are_refused_by_name_when_they_overlap(tmp_path: Path, size: tuple[int, int]) -> None:
    far = columns(50, 60)
    recipe = write_zones(tmp_path, left=columns(0, 21), far=far, right=columns(size[1] // 3, size[1] // 2, *size))
    with pytest.raises(RecipeError, match="zones: must not overlap, but left and right do"):
        load_zones(tmp_path, recipe)


def test_zone_is_refused_when_its_aspect_is_not_the_frames(tmp_path: Path) -> None:
    recipe = write_zones(tmp_path, [600, 400], seam=columns(0, 20))
    with pytest.raises(RecipeError, match=r"zone seam: must have the frame's aspect, \(600, 400\), got .*\(40, 60\)"):
        load_zones(tmp_path, recipe)


def test_zone_is_refused_when_altered_missing_or_black(tmp_path: Path) -> None:
    recipe = write_zones(tmp_path, seam=columns(0, 20))
    cv2.imwrite(str(tmp_path / "seam.png"), columns(0, 21))
    with pytest.raises(RecipeError, match=r"seam\.png: altered"):
        load_zones(tmp_path, recipe)
    (tmp_path / "seam.png").unlink()
    with pytest.raises(RecipeError, match=r"seam\.png: cannot be read"):
        load_zones(tmp_path, recipe)
    with pytest.raises(
        RecipeError, match=r"seam\.png: zone seam: must be a grey image with at least one pixel above 0"
    ):
        load_zones(tmp_path, write_zones(tmp_path, seam=columns(0, 0)))
