"""Frames of any shape: the aspect is kept unless a recipe squeezes, and regions lie where the defect is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from inspector.config import Recipe
from inspector.detection.detector import Detector
from inspector.detection.parts import check_aspect
from inspector.detection.run import Judgement
from inspector.engine.eager import EagerEngine
from inspector.types import PixelFormat, Verdict

TILE = 64


class Brightness(nn.Module):
    """A network whose maps are the tiles themselves: what is bright is a defect."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :1]


def judge(pixels: Any, preprocessing: dict[str, Any], roi: Any = None) -> Judgement:
    recipe = Recipe.model_validate(
        {
            "recipe_id": "bright",
            "backbone": "resnet18",
            "weights_sha256": "0" * 64,
            "preprocessing": {"pixel_format": "Mono8"} | preprocessing,
            "tiling": {"tile_size": TILE, "stride": 48},
            "threshold": {"value": 0.5, "method": "manual"},
        }
    )
    engine = EagerEngine(Brightness(), (0, 0, 0), (1, 1, 1), side=TILE, device=torch.device("cpu"))
    return Detector(recipe, engine, roi=roi).judge(pixels, PixelFormat.MONO8)


def frame_with_defect(frame_hw: tuple[int, int], xyxy: tuple[int, int, int, int]) -> Any:
    pixels = np.zeros(frame_hw, np.uint8)
    left, top, right, bottom = xyxy
    pixels[top:bottom, left:right] = 255
    return pixels


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("preprocessing", "map_hw", "tiles"),
    [
        ({}, (100, 300), 2 * 6),
        ({"short_side": 64}, (64, 192), 4),
        ({"short_side": 160}, (160, 480), 3 * 10),
    ],
)
def test_frame_keeps_its_aspect_and_its_regions_lie_where_the_defect_is(
    preprocessing: dict[str, Any], map_hw: tuple[int, int], tiles: int, turned: bool
) -> None:
    pixels, expected = frame_with_defect((100, 300), (220, 30, 250, 45)), (220, 30, 250, 45)
    if turned:
        pixels, expected, map_hw = pixels.T.copy(), (30, 220, 45, 250), map_hw[::-1]
    judgement = judge(pixels, preprocessing)
    assert judgement.anomaly_map.shape == map_hw
    assert judgement.tiles == tiles
    (region,) = judgement.decision.regions
    assert np.abs(np.array(region.xyxy) - expected).max() <= 1
    assert region.area == pytest.approx(30 * 15, rel=0.1)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_region_lies_where_the_defect_is_at_any_size_and_short_side(data: st.DataObject) -> None:
    height, width = data.draw(st.tuples(st.integers(12, 160), st.integers(12, 160)), "frame_hw")
    short_side = data.draw(st.integers(32, 160), "short_side")
    pixel = min(height, width) / short_side  # of the map, in sensor pixels
    least = math.ceil(2 * pixel)
    tall, wide = data.draw(st.tuples(st.integers(least, height), st.integers(least, width)), "defect_hw")
    top, left = data.draw(st.integers(0, height - tall), "top"), data.draw(st.integers(0, width - wide), "left")
    expected = (left, top, left + wide, top + tall)
    judgement = judge(frame_with_defect((height, width), expected), {"short_side": short_side})
    assert min(judgement.anomaly_map.shape) == short_side
    assert judgement.decision.verdict is Verdict.FAIL
    (region,) = judgement.decision.regions
    assert np.abs(np.array(region.xyxy) - expected).max() <= pixel + 1
    left, top, right, bottom = region.xyxy
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


@settings(deadline=None, max_examples=30)
@given(st.integers(8, 400), st.integers(8, 400), st.integers(32, 128))
def test_mask_of_a_frames_own_size_fits_whatever_the_short_side(height: int, width: int, short_side: int) -> None:
    pixels, roi = frame_with_defect((height, width), (0, 0, width, height)), np.full((height, width), 255, np.uint8)
    check_aspect(roi, "roi_mask", (height, width))
    assert judge(pixels, {"short_side": short_side, "frame_hw": [height, width]}, roi).decision.verdict is Verdict.FAIL
