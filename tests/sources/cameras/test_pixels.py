"""Pixels of each format, against bytes that were laid out by hand after the convention's drawings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inspector.errors import BadFrameError
from inspector.sources.cameras.pixels import _FORMS, FORMATS, read_pixels
from inspector.types import PixelFormat

PFNC = {
    "Mono8": 0x01080001, "Mono10": 0x01100003, "Mono10p": 0x010A0046, "Mono10Packed": 0x010C0004,
    "Mono12": 0x01100005, "Mono12p": 0x010C0047, "Mono12Packed": 0x010C0006, "Mono16": 0x01100007,
    "BayerGR8": 0x01080008, "BayerRG8": 0x01080009, "BayerGB8": 0x0108000A, "BayerBG8": 0x0108000B,
    "RGB8": 0x02180014, "BGR8": 0x02180015, "RGBa8": 0x02200016, "BGRa8": 0x02200017,
}  # fmt: skip


def read(name: str, content: bytes, hw: tuple[int, int], padding: int = 0) -> tuple[list[Any], PixelFormat]:
    pixels, pixel_format = read_pixels(content, PFNC[name], hw, padding)
    assert pixels.dtype == (np.uint16 if pixel_format is PixelFormat.MONO16 else np.uint8)
    return pixels.tolist(), pixel_format


def test_every_format_that_may_be_asked_for_can_be_read() -> None:
    assert set(PFNC) == set(FORMATS)
    assert set(PFNC.values()) == set(_FORMS)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("Mono8", "01 ff", [[1, 255]]),
        ("Mono10", "01 02 ff 03", [[0x201, 0x3FF]]),
        ("Mono12", "34 02 ff 0f", [[0x234, 0xFFF]]),
        ("Mono16", "34 12 ff ff", [[0x1234, 0xFFFF]]),
        # 0x2AB, 0x155, 0x3FF, 0x001: the lowest bits first
        ("Mono10p", "ab 56 f5 7f 00", [[0x2AB, 0x155, 0x3FF, 0x001]]),
        # the same, less the last: three pixels are 30 bits, in 4 bytes
        ("Mono10p", "ab 56 f5 3f", [[0x2AB, 0x155, 0x3FF]]),
        ("Mono12p", "bc 1a 23", [[0xABC, 0x231]]),
        ("Mono12p", "bc 1a 23 ef 0d", [[0xABC, 0x231, 0xDEF]]),
        # upper 8 bits of each pixel outside, lower ones between them
        ("Mono10Packed", "aa 13 55", [[0x2AB, 0x155]]),
        ("Mono12Packed", "ab 1c 23", [[0xABC, 0x231]]),
        ("Mono12Packed", "ab 1c 23 de 0f", [[0xABC, 0x231, 0xDEF]]),
    ],
)
def test_grey_values_are_those_in_the_bytes(name: str, content: str, expected: list[list[int]]) -> None:
    assert read(name, bytes.fromhex(content), (1, len(expected[0])))[0] == expected


@pytest.mark.parametrize(
    ("name", "content", "expected", "pixel_format"),
    [
        ("RGB8", "01 02 03 04 05 06", [[[1, 2, 3], [4, 5, 6]]], PixelFormat.RGB8),
        ("BGR8", "01 02 03 04 05 06", [[[1, 2, 3], [4, 5, 6]]], PixelFormat.BGR8),
        ("RGBa8", "01 02 03 ff 04 05 06 00", [[[1, 2, 3], [4, 5, 6]]], PixelFormat.RGB8),
        ("BGRa8", "01 02 03 ff 04 05 06 00", [[[1, 2, 3], [4, 5, 6]]], PixelFormat.BGR8),
    ],
)
def test_colours_are_those_in_the_bytes(
    name: str, content: str, expected: list[Any], pixel_format: PixelFormat
) -> None:
    assert read(name, bytes.fromhex(content), (1, 2)) == (expected, pixel_format)


PATTERNS = {"BayerRG8": "RGGB", "BayerGR8": "GRBG", "BayerGB8": "GBRG", "BayerBG8": "BGGR"}


def lay_out(pattern: str, colours: dict[str, int], hw: tuple[int, int]) -> np.ndarray[Any, Any]:
    """What a sensor with this pattern gives of one colour."""
    return np.array([[colours[pattern[2 * (y % 2) + x % 2]] for x in range(hw[1])] for y in range(hw[0])], np.uint8)


@pytest.mark.parametrize(("name", "pattern"), PATTERNS.items())
@pytest.mark.parametrize("hw", [(4, 6), (5, 7), (3, 3)])
def test_bayer_pattern_gives_the_colour_that_was_seen(name: str, pattern: str, hw: tuple[int, int]) -> None:
    raw = lay_out(pattern, {"R": 200, "G": 100, "B": 30}, hw)
    pixels, pixel_format = read_pixels(raw.tobytes(), PFNC[name], hw)
    assert pixel_format is PixelFormat.RGB8
    np.testing.assert_array_equal(pixels, np.full((*hw, 3), (200, 100, 30), np.uint8))


def test_bayer_pattern_is_interpolated_bilinearly_and_mirrored_at_the_edge() -> None:
    raw = np.zeros((4, 4), np.uint8)
    raw[0, 0] = 80  # red, in the corner
    raw[2, 3] = 60  # green, at the right edge
    raw[1, 1] = 40  # blue
    pixels, _ = read_pixels(raw.tobytes(), PFNC["BayerRG8"], (4, 4))
    red, green, blue = (pixels[..., channel].tolist() for channel in range(3))
    assert red == [[80, 40, 0, 0], [40, 20, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert green == [[0, 0, 0, 0], [0, 0, 0, 15], [0, 0, 15, 60], [0, 0, 0, 30]]
    assert blue == [[40, 40, 20, 0], [40, 40, 20, 0], [20, 20, 10, 0], [0, 0, 0, 0]]


def test_bytes_after_rows_and_after_the_image_are_no_pixels() -> None:
    assert read("Mono8", bytes([1, 2, 99, 99, 3, 4, 99, 99, 7]), (2, 2), padding=2)[0] == [[1, 2], [3, 4]]
    assert read("Mono12Packed", bytes.fromhex("ab1c23 99 ab1c23 99"), (2, 2), padding=1)[0] == [[0xABC, 0x231]] * 2
    assert read("Mono16", bytes([1, 0, 2, 0, 99]), (1, 2))[0] == [[1, 2]]


@pytest.mark.parametrize(
    ("number", "size", "hw", "padding", "problem"),
    [
        (PFNC["Mono8"], 3, (2, 2), 0, "pixels: must be 4 bytes, got 3"),
        (PFNC["Mono12p"], 4, (1, 3), 0, "pixels: must be 5 bytes, got 4"),
        (PFNC["Mono8"], 5, (2, 2), 1, "pixels: must be 6 bytes, got 5"),
        (PFNC["Mono12p"], 99, (3, 3), 1, "padding: must be 0 where a row ends within a byte, got 1"),
        (PFNC["BayerRG8"], 8, (2, 4), 0, "Bayer pattern: must be more than 2 pixels"),
        (0x0110000D, 99, (2, 2), 0, "pixel format: must be one of Mono8, .*, got PFNC number 0x0110000D"),
    ],
)
def test_what_is_no_image_of_its_format_is_refused(
    number: int, size: int, hw: tuple[int, int], padding: int, problem: str
) -> None:
    with pytest.raises(BadFrameError, match=problem):
        read_pixels(bytes(size), number, hw, padding)


def test_pixels_of_a_whole_frame_are_unpacked_as_they_were_packed() -> None:
    values = np.random.default_rng(1).integers(0, 4096, (33, 40), dtype=np.uint16)
    first, second = values.reshape(-1, 2).T
    packed = np.stack([first & 0xFF, first >> 8 | (second & 0xF) << 4, second >> 4], axis=1).astype(np.uint8)
    pixels, _ = read_pixels(packed.tobytes(), PFNC["Mono12p"], (33, 40))
    np.testing.assert_array_equal(pixels, values)
