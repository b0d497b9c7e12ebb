"""Raw pixels of a message and frames of a video: viewed as they are, or refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inspector.codec import decode_raw, name_video_format
from inspector.errors import BadFrameError
from inspector.types import PixelFormat

RAW = bytes(range(12))


@pytest.mark.parametrize("shape", [[3, 4], [3, 4, 1]], ids=str)
def test_raw_grey_keeps_rows_and_columns_when_read(shape: list[int]) -> None:
    pixels, pixel_format = decode_raw(RAW, "uint8", shape, PixelFormat.RGB8)
    assert pixel_format is PixelFormat.MONO8
    assert pixels.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_raw_sixteen_bits_are_little_endian_when_read() -> None:
    pixels, pixel_format = decode_raw(RAW, "uint16", [2, 3], PixelFormat.RGB8)
    assert pixel_format is PixelFormat.MONO16
    assert pixels.tolist() == [[0x0100, 0x0302, 0x0504], [0x0706, 0x0908, 0x0B0A]]


@pytest.mark.parametrize("colour", [PixelFormat.RGB8, PixelFormat.BGR8])
def test_raw_colours_keep_their_order_and_their_name_when_read(colour: PixelFormat) -> None:
    pixels, pixel_format = decode_raw(RAW, "uint8", [2, 2, 3], colour)
    assert pixel_format is colour
    assert pixels.tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]


def test_raw_pixels_are_a_view_when_read() -> None:
    data = bytearray(RAW)
    pixels, _ = decode_raw(memoryview(data), "uint8", [3, 4], PixelFormat.RGB8)
    data[5] = 99
    assert pixels[1, 1] == 99


@pytest.mark.parametrize("size", [0, 1, 11, 13, 24])
def test_raw_pixels_are_refused_when_the_byte_count_is_wrong(size: int) -> None:
    message = rf"pixels: shape \[2, 2, 3\] of uint8 must be 12 bytes, got {size}$"
    with pytest.raises(BadFrameError, match=message):
        decode_raw(bytes(size), "uint8", [2, 2, 3], PixelFormat.RGB8)


def test_raw_sixteen_bits_are_refused_when_there_is_one_byte_a_pixel() -> None:
    with pytest.raises(BadFrameError, match="of uint16 must be 12 bytes, got 6"):
        decode_raw(bytes(6), "uint16", [2, 3], PixelFormat.RGB8)


@pytest.mark.parametrize(
    "shape",
    [
        None, "12", {}, {"0": 3, "1": 4}, 12, (3, 4), [], [12], [1, 1, 3, 4], [3, None], [3, "4"], [3, [4]],
        [3.0, 4.0], [True, 12], [0, 4], [-3, -4], [3, -4], [float("nan"), 4], [float("inf"), 4],
        [2**31, 1], [2**64, 2**64], [10**30, 10**30], [10**4000, 10**4000], [3, 4, 10**4000],
    ],
    ids=lambda shape: f"{shape!r:.30}",
)  # fmt: skip
def test_raw_pixels_are_refused_when_the_shape_is_strange_or_huge(shape: Any) -> None:
    with pytest.raises(BadFrameError, match=r"^shape: must be \[H, W\] or \[H, W, C\]") as fault:
        decode_raw(RAW, "uint8", shape, PixelFormat.RGB8)
    assert len(str(fault.value)) < 200  # it goes into the journal and the log


def test_raw_pixels_are_refused_when_the_largest_shape_is_claimed() -> None:
    with pytest.raises(BadFrameError, match=f"must be {3 * (2**31 - 1) ** 2} bytes, got 12"):
        decode_raw(RAW, "uint8", [2**31 - 1, 2**31 - 1, 3], PixelFormat.RGB8)


@pytest.mark.parametrize(
    ("dtype", "channels"), [("uint8", 2), ("uint8", 4), ("uint8", 12), ("uint16", 2), ("uint16", 3)]
)
def test_raw_pixels_are_refused_when_the_channels_are_none_of_ours(dtype: str, channels: int) -> None:
    with pytest.raises(BadFrameError, match=f"1 channel, or 3 channels of uint8, got {channels} of {dtype}"):
        decode_raw(bytes(24), dtype, [1, 1, channels], PixelFormat.RGB8)


@pytest.mark.parametrize(
    "dtype",
    [None, "", "int8", "UINT8", "float32", "object", 8, ["uint8"], {}, "x" * 60_000],
    ids=lambda dtype: f"{dtype!r:.20}",
)
def test_raw_pixels_are_refused_when_the_dtype_is_none_of_ours(dtype: Any) -> None:
    with pytest.raises(BadFrameError, match="dtype: must be uint8 or uint16, got ") as fault:
        decode_raw(RAW, dtype, [3, 4], PixelFormat.RGB8)
    assert len(str(fault.value)) < 200


# ---------------------------------------------------------------- frames of a video


@pytest.mark.parametrize(
    ("shape", "named"), [((2, 3), PixelFormat.MONO8), ((2, 3, 3), PixelFormat.BGR8)], ids=["grey", "colours"]
)
def test_video_frame_is_named_by_its_channels_when_it_is_upright(shape: tuple[int, ...], named: PixelFormat) -> None:
    assert name_video_format(np.zeros(shape, np.uint8), 0) is named
    assert name_video_format(np.zeros(shape, np.uint8), 360) is named


@pytest.mark.parametrize(
    ("pixels", "turned", "words"),
    [
        (np.zeros((2, 3, 3), np.uint8), 90, "orientation: must be that of the pixels, got .* rotated by 90 degrees"),
        (np.zeros((2, 3), np.uint16), 0, "got 1 × uint16"),
        (np.zeros((2, 3, 4), np.uint8), 0, "got 4 × uint8"),
        (np.zeros((2, 3, 2), np.uint8), 0, "got 2 × uint8"),
    ],
)
def test_video_frame_is_refused_when_it_is_turned_or_of_another_depth(pixels: Any, turned: int, words: str) -> None:
    with pytest.raises(BadFrameError, match=words):
        name_video_format(pixels, turned)
