"""BMP and PNM: plain pixels, read as they are."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from inspector.codec import decode_image
from inspector.errors import BadFrameError
from inspector.types import PixelFormat
from tests.codec.forms import colour, draw, save, save_cv, with_alpha

GREY = draw(defective=True)


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("is_top_down", [False, True])
def test_bmp_palette_is_looked_up_from_the_lowest_row_up(bits: int, is_top_down: bool) -> None:
    width, height = 13, 5
    palette = np.random.default_rng(bits).integers(0, 256, (2**bits, 3), np.uint8)
    indexes = np.random.default_rng(9).integers(0, 2**bits, (height, width), np.uint8)
    bit_rows = np.unpackbits(indexes[..., None], axis=2)[..., -bits:].reshape(height, -1)
    stride = (width * bits + 31) // 32 * 4
    rows = [np.packbits(row).tobytes().ljust(stride, b"\0") for row in bit_rows]
    entries = b"".join(bytes([blue, green, red, 0]) for red, green, blue in palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, -height if is_top_down else height, 1, bits, 0, 0, 0, 0, 0, 0)
    start = struct.pack("<2sIHHI", b"BM", 0, 0, 0, 54 + len(entries))
    pixels, pixel_format = decode_image(start + header + entries + b"".join(rows if is_top_down else rows[::-1]))
    assert pixel_format is PixelFormat.RGB8
    assert np.array_equal(pixels, palette[indexes])


def test_bmp_is_refused_when_it_is_see_through_or_compressed() -> None:
    with pytest.raises(BadFrameError, match="alpha: must be opaque"):
        decode_image(save_cv(with_alpha(colour(GREY), 0), ".bmp"))
    packed = bytearray(save(GREY, "BMP"))
    packed[30:34] = struct.pack("<I", 1)
    with pytest.raises(BadFrameError, match="got 8 bits, compression 1"):
        decode_image(bytes(packed))


def test_bmp_is_refused_when_a_pixel_has_no_entry() -> None:
    data = bytearray(save(GREY, "BMP"))
    data[46:50] = struct.pack("<I", 100)
    with pytest.raises(
        BadFrameError, match="palette: must have an entry for each pixel value, got 100 entries and pixel value 255"
    ):
        decode_image(bytes(data))


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"P5 2 2 100\n", "maximum value 255 or 65535, got 100"),
        (b"P5 2 2 4095\n", "maximum value 255 or 65535, got 4095"),
        (b"P6 2 2 65535\n", "got 3 × uint16"),
        (b"P2 2 2 255\n", r"must be a binary PNM \(P5 or P6\)"),
        (b"P4 2 2\n", r"must be a binary PNM \(P5 or P6\)"),
        (b"P5 2 9 255\n", "its end is missing"),
    ],
)
def test_pnm_is_refused_when_it_is_of_another_kind_or_range(head: bytes, words: str) -> None:
    with pytest.raises(BadFrameError, match=words):
        decode_image(head + bytes(12))


def test_pnm_is_read_past_its_comments() -> None:
    assert decode_image(b"P5\n# camera 7\n2 # width\n2\n255\n\1\2\3\4")[0].tolist() == [[1, 2], [3, 4]]
