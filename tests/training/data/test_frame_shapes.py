"""What training says of the shape of good frames."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from inspector.config import Preprocessing
from inspector.training.data.frame_shapes import warn_of_shapes


@pytest.fixture(autouse=True)
def _level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def messages(caplog: pytest.LogCaptureFixture, sizes: list[tuple[int, int]], **preprocessing: Any) -> list[str]:
    warn_of_shapes(sizes, Preprocessing(**preprocessing), 256)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(("odd", "factor"), [((100, 300), "3.00"), ((300, 100), "3.00"), ((100, 111), "1.11")])
def test_squeezing_is_said_with_its_extent_when_the_aspect_changes(
    caplog: pytest.LogCaptureFixture, odd: tuple[int, int], factor: str
) -> None:
    (message,) = messages(caplog, [(300, 300), odd, (300, 300)], resize_hw=(256, 256))
    assert message == (
        f"--resize 256 256 distorts 1 of 3 frames, most of all those of {odd[0]} × {odd[1]}: one side is scaled "
        f"{factor} times as much as the other; --short-side keeps the aspect"
    )


def test_squeezing_is_measured_against_the_size_asked_for_when_it_is_no_square(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert messages(caplog, [(100, 300)], resize_hw=(256, 768)) == []
    (message,) = messages(caplog, [(300, 100), (100, 300)], resize_hw=(256, 768))
    assert message.startswith("--resize 256 768 distorts 1 of 2 frames, most of all those of 300 × 100: one")
    assert "9.00 times" in message


@pytest.mark.parametrize("preprocessing", [{"short_side": 256}, {"resize_hw": (256, 256)}, {}])
def test_nothing_is_said_when_shape_and_size_are_kept(
    caplog: pytest.LogCaptureFixture, preprocessing: dict[str, Any]
) -> None:
    assert messages(caplog, [(256, 256), (256, 280)], **preprocessing) == []


@pytest.mark.parametrize(
    ("preprocessing", "count", "size", "filled"),
    [
        ({}, 1, "100 × 300", "256 × 300"),
        ({"short_side": 200}, 3, "200 × 600", "256 × 600"),
        ({"scale": 0.5}, 2, "50 × 150", "256 × 256"),
    ],
)
def test_mirroring_is_said_when_frames_are_smaller_than_a_tile(
    caplog: pytest.LogCaptureFixture, preprocessing: dict[str, Any], count: int, size: str, filled: str
) -> None:
    (message,) = messages(caplog, [(100, 300), (300, 900), (600, 600)], **preprocessing)
    assert message == (
        f"{count} of 3 frames are smaller than a tile and are mirrored to fill it ({size} up to {filled}); "
        "--short-side 256 enlarges them instead"
    )
