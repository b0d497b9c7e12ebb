"""Responses to artificial defects: each by its own place, on tiles apart, only where anomalies count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inspector.config import Recipe
from inspector.detection.detector import Detector
from inspector.engine.eager import EagerEngine
from inspector.errors import FrameMismatchError, TrainingError
from inspector.training.thresholds.artificial_defects import ArtificialDefect, DefectKind
from inspector.training.thresholds.qualification import measure, qualify
from inspector.types import PixelFormat

GREY = 128


class _Difference(nn.Module):
    """A network whose map is how far each pixel is from middle grey; counts the tiles it was shown."""

    tiles = 0

    def forward(self, images: Tensor) -> Tensor:
        self.tiles += len(images)
        return (images[:, :1] - GREY).abs()


def build(roi: Any = None, masks: Any = None, network: Any = None, **changes: Any) -> Detector:
    values = {
        "recipe_id": "difference",
        "backbone": "resnet18",
        "sigma": 1.0,
        "tiling": {"tile_size": 64, "stride": 64},
        "preprocessing": {"pixel_format": "Mono8"},
        "weights_sha256": "0" * 64,
    }
    recipe = Recipe.model_validate(values | changes)
    raw = (1 / 255,) * 3
    mono16 = recipe.preprocessing.pixel_format is PixelFormat.MONO16
    engine = EagerEngine(
        network or _Difference(),
        (0.0, 0.0, 0.0),
        raw,
        side=recipe.tiling.tile_size,
        dtype=torch.float32 if mono16 else torch.uint8,
        device=torch.device("cpu"),
    )
    return Detector(recipe, engine, roi=roi, zones=masks)


def spots(*contrasts: float, size: float = 8.0) -> list[ArtificialDefect]:
    return [ArtificialDefect(DefectKind.SPOT, size, contrast, size, angle=0.0) for contrast in contrasts]


def frame(height: int = 128, width: int = 192) -> Any:
    return np.full((height, width), GREY, dtype=np.uint8)


def respond(detector: Detector, pixels: Any, defects: Any, seed: int = 0) -> list[float]:
    found = measure(detector, pixels, PixelFormat.MONO8, defects, np.random.default_rng(seed))
    return [each.response for each in found]


@pytest.mark.parametrize("seed", range(5))
def test_response_is_each_defects_own_when_a_frame_carries_many(seed: int) -> None:
    contrasts = [10.0, 100.0, 20.0, 80.0, 40.0, 60.0]
    pixels = frame()
    assert respond(build(), pixels, spots(*contrasts), seed) == pytest.approx(contrasts, abs=0.51)
    assert (pixels == GREY).all()  # a copy carried them


def test_frame_carries_one_defect_a_tile_and_the_rest_has_no_response() -> None:
    assert len(respond(build(), frame(), spots(*[50.0] * 20))) == 6
    assert len(respond(build(), frame(64, 64), spots(50.0, 60.0))) == 1
    overlapping = build(tiling={"tile_size": 64, "stride": 32})
    assert 2 <= len(respond(overlapping, frame(), spots(*[50.0] * 20))) <= 6


def test_defect_that_fits_no_tile_is_left_out_and_the_next_is_placed() -> None:
    large, small = spots(50.0, size=70.0), spots(40.0)
    assert respond(build(), frame(64, 64), [*large, *small]) == pytest.approx([40], abs=0.51)
    assert respond(build(), frame(6, 6), small) == []


def test_response_is_no_background_of_another_place() -> None:
    pixels = frame(64, 256)
    pixels[:, ::64] = 0  # at the edges of the tiles, far above what is added
    detector = build(tiling={"tile_size": 64, "stride": 64})
    roi = np.zeros((64, 256), dtype=np.uint8)
    roi[28:36, 32::64] = 1
    assert max(respond(build(roi=roi), pixels, spots(20.0, 20.0, 20.0, 20.0, size=4.0))) == pytest.approx(20, abs=0.51)
    assert detector.compute_anomaly_map(torch.from_numpy(pixels).expand(3, 64, 256)).max() == 128


def test_defects_lie_where_anomalies_count_and_other_tiles_do_not_run() -> None:
    roi = np.zeros((128, 192), dtype=np.uint8)
    roi[20:40, 150:170] = 1
    network = _Difference()
    for seed in range(5):
        assert respond(build(roi=roi, network=network), frame(), spots(50.0, 50.0), seed) == pytest.approx(
            [50], abs=0.51
        )
    assert network.tiles == 5


@pytest.mark.parametrize("seed", [0, 5, 8])  # with the last two the second tile is looked at first
def test_tile_in_which_nothing_counts_takes_no_place_from_one_that_overlaps_it(seed: int) -> None:
    roi = np.zeros((64, 128), dtype=np.uint8)
    roi[20:44, 100:110] = 1  # in the last of three tiles alone, which the second overlaps
    detector = build(roi=roi, tiling={"tile_size": 64, "stride": 32})
    assert len(respond(detector, frame(64, 128), spots(50.0), seed)) == 1


def test_response_is_weighed_as_the_zone_is() -> None:
    threshold = {"value": 10.0, "method": "manual"}
    zone = {"name": "rim", "mask": "rim.png", "mask_sha256": "0" * 64, "threshold": threshold | {"value": 40.0}}
    everywhere = np.ones((64, 64), dtype=np.uint8)
    detector = build(masks={"rim": everywhere}, threshold=threshold, zones=[zone])
    assert respond(detector, frame(64, 64), spots(80.0)) == pytest.approx([20], abs=0.2)


def test_response_needs_an_area_as_large_as_a_region() -> None:
    assert respond(build(min_region_area=30), frame(64, 64), spots(50.0)) == pytest.approx([50], abs=2)
    assert respond(build(min_region_area=100), frame(64, 64), spots(50.0))[0] < 5  # a disc of 8 px has 50


def test_sizes_are_in_sensor_pixels_when_frames_are_scaled() -> None:
    pixels = frame(256, 256)
    half = build(preprocessing={"pixel_format": "Mono8", "scale": 0.5}, min_region_area=10)
    assert respond(half, pixels, spots(50.0))[0] == pytest.approx(40, abs=5)  # 4 px wide in the map: the tenth pixel
    coarse = build(preprocessing={"pixel_format": "Mono8", "scale": 0.25}, min_region_area=10)
    assert respond(coarse, pixels, spots(50.0))[0] < 10
    squeezed = build(preprocessing={"pixel_format": "Mono8", "resize_hw": [64, 64]})
    assert respond(squeezed, frame(512, 128), spots(50.0, size=30.0))[0] == pytest.approx(50, abs=2)


def test_contrast_is_of_the_recipes_range_when_frames_have_16_bits() -> None:
    detector = build(preprocessing={"pixel_format": "Mono16", "mono16_range": [0, 2550]})
    pixels = np.full((64, 64), 10 * GREY, dtype=np.uint16)
    found = measure(detector, pixels, PixelFormat.MONO16, spots(50.0), np.random.default_rng(0))
    assert [each.response for each in found] == pytest.approx([50], abs=0.1)


def test_frame_of_another_format_is_refused() -> None:
    with pytest.raises(FrameMismatchError, match="pixel_format"):
        measure(build(), np.zeros((64, 64, 3), np.uint8), PixelFormat.RGB8, spots(50.0), np.random.default_rng(0))


def write_frames(folder: Path, n: int, height: int, width: int) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(n)]
    for path in paths:
        cv2.imwrite(str(path), frame(height, width))
    return paths


@pytest.mark.parametrize(("n", "side"), [(3, 64), (2, 256), (100, 64)])
def test_all_defects_are_tried_whether_frames_are_few_or_small(tmp_path: Path, n: int, side: int) -> None:
    told: list[tuple[int, int]] = []
    paths = write_frames(tmp_path, n, side, side)
    responses, n_frames = qualify(
        build(), paths, np.random.default_rng(0), per_kind=10, advance=lambda *count: told.append(count)
    )
    assert [sum(each.kind is kind for each in responses) for kind in DefectKind] == [10, 10, 10]
    assert n_frames == min(n, 30)
    assert told[-1] == (30, 30)
    lines = [each for each in responses if each.kind is DefectKind.LINE and each.size_px > 3]
    assert [each.response for each in lines] == pytest.approx([each.contrast for each in lines], abs=1)


def test_responses_are_the_same_when_the_generator_is(tmp_path: Path) -> None:
    paths = write_frames(tmp_path, 2, 128, 128)
    first, same = (qualify(build(), paths, np.random.default_rng(4), per_kind=5) for _ in range(2))
    assert first == same


def test_frames_that_cannot_be_judged_are_named_and_left_out(tmp_path: Path, caplog: Any) -> None:
    paths = write_frames(tmp_path, 2, 64, 64)
    paths[0].write_bytes(b"no image")
    responses, n_frames = qualify(build(), paths, np.random.default_rng(0), per_kind=2)
    assert (len(responses), n_frames) == (6, 1)
    assert "0.png" in caplog.text


def test_qualification_is_refused_when_no_defect_has_room_where_anomalies_count(tmp_path: Path) -> None:
    roi = np.zeros((64, 64), dtype=np.uint8)
    roi[0, 0] = 1
    paths = write_frames(tmp_path, 2, 64, 64)
    with pytest.raises(TrainingError, match="--roi-mask: must leave room for artificial defects"):
        qualify(build(roi=roi), paths, np.random.default_rng(0), per_kind=2)
    with pytest.raises(TrainingError, match="at least one good frame"):
        qualify(build(), [tmp_path / "none.png"], np.random.default_rng(0), per_kind=2)
