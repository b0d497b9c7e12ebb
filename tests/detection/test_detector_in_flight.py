"""The detector over a device that computes on while nobody waits; the device is simulated."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from inspector.config import Recipe
from inspector.detection.detector import Detector
from inspector.detection.run import FrameRun
from inspector.testing.simulated_device import SimulatedDevice, SimulatedEngine
from inspector.types import PixelFormat

SIDE = 64


def build(device: SimulatedDevice, *, batch: int = 2, **changes: Any) -> Detector:
    values = {
        "recipe_id": "bright",
        "backbone": "resnet18",
        "weights_sha256": "0" * 64,
        "preprocessing": {"pixel_format": "Mono8"},
        "tiling": {"tile_size": SIDE, "stride": SIDE},
        "threshold": {"value": 0.5, "method": "manual"},
    }
    recipe = Recipe.model_validate(values | changes)
    return Detector(recipe, SimulatedEngine(device, batch=batch, side=SIDE, batch_s=1.0), downloads=device)


@pytest.mark.parametrize(
    ("preprocessing", "shape", "dtype"),
    [
        ({"pixel_format": "Mono8", "frame_hw": [128, 192]}, (128, 192), np.uint8),
        ({"pixel_format": "RGB8", "frame_hw": [128, 192]}, (128, 192, 3), np.uint8),
        ({"pixel_format": "Mono8"}, (128, 128), np.uint8),
    ],
)
def test_warm_up_takes_three_blank_frames_of_the_recipes_size_all_the_way(
    monkeypatch: pytest.MonkeyPatch, preprocessing: dict[str, Any], shape: tuple[int, ...], dtype: type
) -> None:
    device = SimulatedDevice()
    detector = build(device, preprocessing=preprocessing)
    bring, frames = detector._bring, []

    def note(pixels: Any, pixel_format: PixelFormat, fixture: None) -> FrameRun:
        frames.append((pixels.shape, pixels.dtype, pixel_format.value))
        return bring(pixels, pixel_format, fixture)

    monkeypatch.setattr(detector, "_bring", note)
    detector.warm_up()
    assert frames == [(shape, dtype, preprocessing["pixel_format"])] * 3
    tiles = 3 * (shape[0] // SIDE) * (shape[1] // SIDE)
    assert device.compute.busy_s == pytest.approx(2 + tiles / 2, abs=0.01)  # and a full batch and a single tile
    assert len(device.fetched_bytes) == 3  # their maps, as the overlays fetch them
    assert device.clock.now_s >= 2 + tiles / 2  # all have come when it returns


def test_warm_up_ends_without_frames_when_nothing_can_be_judged_yet() -> None:
    device = SimulatedDevice()
    build(device, threshold=None).warm_up()
    assert device.compute.busy_s == 2


@pytest.mark.parametrize(("columns", "shape"), [(32, (32, 32)), (50, (64, 64)), (100, (128, 128)), (999, (128, 128))])
def test_picture_takes_no_more_of_the_map_off_the_device_than_it_shows_and_no_peak_is_lost(
    columns: int, shape: tuple[int, int]
) -> None:
    device = SimulatedDevice()
    detector = build(device)
    pixels = np.zeros((128, 128), np.uint8)
    pixels[9, 70] = 100
    judgement = detector.judge(pixels, PixelFormat.MONO8)
    small = judgement.fetch_map(columns)
    assert small.shape == shape
    step = 128 // shape[0]
    assert np.flatnonzero(small).tolist() == [9 // step * shape[1] + 70 // step]
    assert small.max() == judgement.anomaly_map.max()
    assert device.fetched_bytes == [4 * shape[0] * shape[1], 4 * 128 * 128]


class TurningUploader:
    """As `Uploader` towards a GPU, on the CPU."""

    can_turn = True

    def upload(self, image: Tensor, *, turn: bool = False) -> Tensor:
        return image.flip(0) if turn else image


@pytest.mark.parametrize("preprocessing", [{}, {"resize_hw": [70, 101]}, {"short_side": 200}], ids=str)
def test_colours_that_the_device_exchanges_give_the_same_bytes_as_on_the_host(preprocessing: dict[str, Any]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (128, 192, 3), np.uint8)
    images = []
    for uploader in (None, TurningUploader()):
        detector = build(SimulatedDevice(), preprocessing={"pixel_format": "RGB8"} | preprocessing)
        detector._uploader = uploader or detector._uploader
        images += [
            detector.begin(pixels[..., ::-1], PixelFormat.BGR8).image,
            detector.begin(pixels, PixelFormat.RGB8).image,
        ]
    assert all(torch.equal(image, images[0]) for image in images)


def test_judgement_keeps_the_map_and_not_the_frame_and_fetches_it_once() -> None:
    device = SimulatedDevice()
    detector = build(device)
    pixels = np.zeros((128, 128), np.uint8)
    pixels[:40, :40] = 255
    run = detector.begin(pixels, PixelFormat.MONO8)
    while not run.is_done:
        detector.advance([run])
    judgement, image = detector.finish(run), weakref.ref(run.image)
    del run
    gc.collect()
    assert image() is None
    assert device.fetched_bytes == [4 * 32 * 32 * 4]  # the four blocks of the defect
    assert judgement.anomaly_map is judgement.anomaly_map
    assert device.fetched_bytes[1:] == [128 * 128 * 4]
