"""What becomes of a frame's pixels before the network sees them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inspector.config import Preprocessing
from inspector.detection.preprocessing import check_frame, preprocess
from inspector.errors import FrameMismatchError
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


@pytest.mark.parametrize(
    ("frame_hw", "expected"), [((100, 300), (256, 768)), ((300, 100), (768, 256)), ((7, 7), (256, 256))]
)
def test_shorter_side_is_what_the_recipe_says_when_frames_are_enlarged(
    frame_hw: tuple[int, int], expected: tuple[int, int]
) -> None:
    preprocessing = Preprocessing(short_side=256)
    image = preprocess(np.zeros((*frame_hw, 3), np.uint8), PixelFormat.RGB8, preprocessing)
    assert image.shape == (3, *expected)
    assert Preprocessing(short_side=256, frame_hw=frame_hw).map_hw == expected


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 65_536), st.integers(1, 65_536), st.integers(32, 4096))
def test_shorter_side_is_exact_and_the_longer_one_rounded_at_any_size(height: int, width: int, short_side: int) -> None:
    scaled = Preprocessing(short_side=short_side).scale_hw((height, width))
    exact = short_side * max(height, width) / min(height, width)
    assert min(scaled) == short_side
    assert abs(max(scaled) - exact) <= 0.5 + 1e-9 * exact
    assert np.argmax(scaled) == np.argmax((height, width)) or scaled[0] == scaled[1]


def test_frame_is_enlarged_between_its_pixels_when_it_is_smaller() -> None:
    # By hand: a pixel of the 4 lies at (x + 0.5) / 2 - 0.5 of the 2, held at the ends.
    preprocessing = Preprocessing(short_side=32, pixel_format=PixelFormat.MONO8)
    pixels = np.repeat(np.array([[0], [160]], np.uint8), 2, axis=1)
    column = preprocess(pixels, PixelFormat.MONO8, preprocessing)[0, :, 5].numpy()
    expected = np.clip(((np.arange(32) + 0.5) / 16 - 0.5), 0, 1) * 160
    assert np.abs(column - expected).max() <= 0.5


def test_frame_is_averaged_when_the_short_side_shrinks_it() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (128, 192), dtype=np.uint8)
    preprocessing = Preprocessing(short_side=32, pixel_format=PixelFormat.MONO8)
    image = preprocess(pixels, PixelFormat.MONO8, preprocessing)[0].numpy()
    assert np.abs(image - pixels.reshape(32, 4, 48, 4).mean(axis=(1, 3))).max() <= 0.5


def test_mono16_stays_in_range_when_a_hard_edge_is_enlarged() -> None:
    preprocessing = Preprocessing(short_side=64, pixel_format=PixelFormat.MONO16)
    pixels = np.zeros((8, 8), np.uint16)
    pixels[:, 4:] = 65_535
    image = preprocess(pixels, PixelFormat.MONO16, preprocessing)
    assert (image.dtype, image.shape) == (torch.float32, (3, 64, 64))
    assert (float(image.min()), float(image.max())) == (0.0, 255.0)


def test_thin_strip_is_refused_when_enlarging_it_would_take_gigabytes() -> None:
    preprocessing = Preprocessing(short_side=256, pixel_format=PixelFormat.MONO8)
    check_frame(np.zeros((1, 256), np.uint8), PixelFormat.MONO8, preprocessing)
    rule = r"^short_side: must give the longer side at most 65536 pixels, got 256 for a frame of \(1, 257\)"
    with pytest.raises(FrameMismatchError, match=rule):
        check_frame(np.zeros((1, 257), np.uint8), PixelFormat.MONO8, preprocessing)
    check_frame(np.zeros((1, 70_000), np.uint8), PixelFormat.MONO8, Preprocessing(pixel_format=PixelFormat.MONO8))


def test_colours_are_refused_with_a_hint_when_the_recipe_is_for_grey() -> None:
    grey = Preprocessing.model_validate({"pixel_format": "Mono8"})
    with pytest.raises(FrameMismatchError, match=r"expects Mono8, got RGB8 .every WebP is RGB8, and so is a palette"):
        check_frame(np.zeros((4, 4, 3), np.uint8), PixelFormat.RGB8, grey)
    with pytest.raises(FrameMismatchError, match=r"expects Mono8, got Mono16$"):
        check_frame(np.zeros((4, 4), np.uint16), PixelFormat.MONO16, grey)
