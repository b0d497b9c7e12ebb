"""Masks of a recipe's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from inspector.config import Recipe
from inspector.errors import RecipeError
from inspector.files import compute_sha256
from inspector.recipe.masks import check_area, load_roi, load_zones, read_roi


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
    with pytest.raises(
        RecipeError, match=r"zone seam: must have the frame's aspect ratio, \(600, 400\), got .*\(40, 60\)"
    ):
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


PREPROCESSING = {
    "scaled": {"frame_hw": [80, 120], "scale": 0.5},
    "squeezed": {"resize_hw": [40, 60]},
}


def area_recipe(area: int, preprocessing: dict[str, Any], zones: list[str] | None = None) -> Recipe:
    zone = {"mask": "m.png", "mask_sha256": "0" * 64}
    return Recipe.model_validate(
        {
            "recipe_id": "r",
            "backbone": "resnet18",
            "weights_sha256": "0" * 64,
            "preprocessing": preprocessing,
            "threshold": {"value": 1.0, "method": "manual"},
            "min_region_area": area,
            "zones": [zone | {"name": name} for name in zones or []],
        }
    )


@pytest.mark.parametrize("size", PREPROCESSING)
@pytest.mark.parametrize(
    ("roi", "zones", "largest", "place"),
    [
        (None, {}, 2400, "the region of interest in a map of 40x60"),
        (columns(0, 10) + columns(30, 35), {}, 400, "the region of interest"),  # in one piece, not in all
        (None, {"left": columns(0, 30), "right": columns(55, 60)}, 200, "zone right"),
        (columns(0, 32), {"left": columns(30, 40)}, 80, "zone left"),
    ],
)
def test_area_is_refused_when_no_region_of_it_fits_in_where_anomalies_count(
    size: str, roi: Any, zones: dict[str, Any], largest: int, place: str
) -> None:
    check_area(area_recipe(largest, PREPROCESSING[size], list(zones)), roi, zones)
    with pytest.raises(RecipeError, match=f"min_region_area: must be at most {largest}, .*{place}.*got {largest + 1}"):
        check_area(area_recipe(largest + 1, PREPROCESSING[size], list(zones)), roi, zones)


def test_zone_is_refused_when_nothing_of_it_lies_in_the_region_of_interest() -> None:
    recipe = area_recipe(1, PREPROCESSING["scaled"], ["seam"])
    with pytest.raises(RecipeError, match="must be at most 0, the largest connected area of zone seam"):
        check_area(recipe, columns(0, 10), {"seam": columns(20, 30)})


def test_area_is_not_judged_before_there_is_a_threshold_or_a_size() -> None:
    check_area(area_recipe(10**6, {}), None, {})
    recipe = area_recipe(10**6, PREPROCESSING["scaled"])
    check_area(recipe.model_copy(update={"threshold": None}), None, {})


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("suffix", ["png", "tiff", "bmp"])
def test_mask_counts_where_it_is_above_zero_in_any_channel_whatever_its_depth(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mask.{suffix}"
    colours = np.zeros((40, 60, 3), np.uint8)
    colours[:10, :, 0], colours[10:20, :, 2] = 1, 255
    deep = np.zeros((40, 60), np.uint16)
    deep[:20] = 1  # the high byte is 0
    for pixels in [colours, deep] if suffix != "bmp" else [colours]:
        cv2.imwrite(str(path), pixels)
        assert np.array_equal(read_roi(path), np.where(np.arange(40)[:, None] < 20, 255, np.zeros((40, 60))))


def test_mask_is_refused_by_the_rules_for_frames(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    exif = Image.Exif()
    exif[0x112] = 3
    Image.fromarray(columns(0, 20)).save(path, exif=exif)
    with pytest.raises(RecipeError, match=r"mask\.png: seam: must be .* orientation: must be 1 .* got 3"):
        read_roi(path, "seam")
    cv2.imwrite(str(path), columns(0, 20))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RecipeError, match="its end is missing"):
        read_roi(path)
