"""What becomes of a frame's pixels before the network sees them."""

from __future__ import annotations

import numpy as np

from inspector.config import Preprocessing
from inspector.preprocessing import preprocess
from inspector.types import PixelFormat


def test_mono16_is_clipped_when_outside_its_range() -> None:
    preprocessing = Preprocessing.model_validate({"pixel_format": "Mono16", "mono16_range": [100, 200]})
    image = preprocess(np.array([[0, 100, 150, 200, 65_535]], np.uint16), PixelFormat.MONO16, preprocessing)
    assert image[1].tolist() == [[0.0, 0.0, 127.5, 255.0, 255.0]]


def test_frame_is_scaled_by_area_when_the_recipe_scales() -> None:
    preprocessing = Preprocessing.model_validate({"scale": 0.5, "frame_hw": [4, 6]})
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0:2, 0:2, 0] = [[10, 20], [30, 40]]
    image = preprocess(pixels, PixelFormat.RGB8, preprocessing)
    assert image[0].tolist() == [[25, 0, 0], [0, 0, 0]]


def test_frame_is_preprocessed_without_a_warning_when_its_pixels_are_read_only() -> None:
    frame = np.random.default_rng(5).integers(0, 256, (100, 130, 3), dtype=np.uint8)
    frame.flags.writeable = False  # as pixels that came over the wire are
    image = preprocess(frame, PixelFormat.RGB8, Preprocessing())
    assert np.array_equal(image.permute(1, 2, 0).numpy(), frame)
