"""A snapshot is the last frame that had pixels, as people can look at it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from inspector.service.orders.snapshots import Snapshots
from inspector.sources.base import build_frame
from inspector.types import Frame, PixelFormat


@pytest.fixture
def snapshots() -> Snapshots:
    return Snapshots(("top", "side"))


def decode(answer: dict[str, Any]) -> np.ndarray[Any, Any]:
    """BGR."""
    return cv2.imdecode(np.frombuffer(base64.b64decode(answer["jpeg"]), np.uint8), cv2.IMREAD_COLOR)


def test_last_frame_with_pixels_is_shown_and_named(snapshots: Snapshots, make_frame: Callable[..., Frame]) -> None:
    for frame in (make_frame("f1"), make_frame("f2", captured_utc_ns=7), make_frame("f3", error="no JPEG")):
        snapshots.note(frame)
    snapshots.note(make_frame("other", "side"))
    answer = snapshots.answer({"camera": "top"}, "anna")
    assert decode(answer).shape == (1, 10, 3)
    del answer["jpeg"]
    assert answer.pop("received_utc_ns") > 0
    assert answer == {"camera": "top", "frame_id": "f2", "captured_utc_ns": 7}


@pytest.mark.parametrize("pixel_format", [PixelFormat.RGB8, PixelFormat.BGR8])
def test_colours_are_right_and_a_wide_frame_is_shrunk_not_a_small_one_enlarged(
    snapshots: Snapshots, pixel_format: PixelFormat
) -> None:
    pixels = np.zeros((40, 200, 3), np.uint8)
    pixels[..., 0 if pixel_format is PixelFormat.RGB8 else 2] = 200  # red
    snapshots.note(build_frame("top", "f1", pixels, pixel_format))
    assert decode(snapshots.answer({"camera": "top"}, "anna")).shape == (40, 200, 3)
    small = decode(snapshots.answer({"camera": "top", "width": 50}, "anna"))
    assert small.shape == (10, 50, 3)
    assert np.abs(small.mean(axis=(0, 1)) - (0, 0, 200)).max() < 5


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({}, "camera: must be one of"),
        ({"camera": "rear"}, "camera: must be one of"),
        ({"camera": "top", "width": 0}, "width: must be a whole number from 16 to 8192, got 0"),
        ({"camera": "top", "width": "wide"}, "width: must be a whole number"),
        ({"camera": "top"}, "camera top: no frame with pixels has come yet"),
    ],
)
def test_request_is_refused_with_the_rule_it_breaks(snapshots: Snapshots, request_: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        snapshots.answer(request_, "anna")


def test_frame_that_no_jpeg_can_hold_is_refused_and_ends_nothing(snapshots: Snapshots) -> None:
    snapshots.note(build_frame("top", "line scan", np.zeros((70_000, 20), np.uint8), PixelFormat.MONO8))
    with pytest.raises(ValueError, match="frame of 70000 x 20 pixels: too many rows for a JPEG of this width"):
        snapshots.answer({"camera": "top"}, "anna")
    assert decode(snapshots.answer({"camera": "top", "width": 16}, "anna")).shape == (56_000, 16, 3)
