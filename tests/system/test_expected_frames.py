"""A real station whose recipe says what good frames show: whatever shows no part is ERROR, though its score is low."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zmq

from inspector.config import dump_recipe, load_recipe
from inspector.detection.looks import compute_look
from inspector.testing.station_process import FRAME_HW, StartStation, base_config, next_result, send_frame, write_recipe
from inspector.training.expectations import adopt_expectation
from inspector.types import PixelFormat


def draw_part(seed: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    frame = np.full((*FRAME_HW, 3), 90, np.float32)
    cv2.rectangle(frame, (20 + int(rng.integers(4)), 20), (90, 60), (200, 200, 200), -1)
    return np.clip(frame + rng.normal(0, 3, frame.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def expecting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that lets every frame pass by its score."""
    folder = write_recipe(tmp_path_factory.mktemp("recipes") / "expecting", threshold=1e6, frame_hw=None)
    looks = [compute_look(draw_part(seed), PixelFormat.RGB8) for seed in range(20)]
    recipe = adopt_expectation(load_recipe(folder), looks, folder)
    (folder / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    return folder


def test_frames_that_show_no_part_are_errors_with_reasons_of_their_own(start: StartStation, expecting: Path) -> None:
    station = start(config=base_config(expecting))
    results, push = station.subscribe(), station.open(zmq.PUSH, "frames")
    time.sleep(0.3)
    good = draw_part(100)
    frames = {
        "good": good,
        "again": good,
        "another": draw_part(101),
        "lens cap": np.random.default_rng(0).integers(0, 4, good.shape, dtype=np.uint8),
        "turned": draw_part(102)[::-1, ::-1].copy(),
        "swapped": draw_part(103).reshape(FRAME_HW[1], FRAME_HW[0], 3),
        "last": draw_part(104),
    }
    for name, frame in frames.items():
        send_frame(push, frame, name)
    got = {result["frame_id"]: result for result in (next_result(results) for _ in frames)}
    assert {name: (result["verdict"], result["reason"], result["reason_code"]) for name, result in got.items()} == {
        "good": ("PASS", "OK", 0),
        "again": ("ERROR", "REPEATED_FRAME", 22),
        "another": ("PASS", "OK", 0),
        "lens cap": ("ERROR", "IMAGE_HEALTH", 23),
        "turned": ("ERROR", "UNLIKE_GOOD", 24),
        "swapped": ("ERROR", "FRAME_MISMATCH", 21),
        "last": ("PASS", "OK", 0),
    }
    assert "brightness must be " in got["lens cap"]["message"]
    assert got["lens cap"]["score"] is None
    assert station.metric("inspector_results_total", camera="top", reason="UNLIKE_GOOD") == 1
    assert station.stop() == 0
