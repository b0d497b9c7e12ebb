"""TIFF: a strip that is lost is never black, and values are what the tags say."""

from __future__ import annotations

import io
import struct
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from inspector.codec import read_picture
from inspector.errors import BadFrameError
from tests.codec.forms import draw, save_tiff

GREY = np.random.default_rng(0).integers(0, 60, (97, 131), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 60, (97, 131, 3), np.uint8)
LAYOUTS = {"strips": {"rowsperstrip": 16}, "one strip": {"rowsperstrip": 97}, "tiles": {"tile": (32, 48)}}


def segments(tiff: bytes) -> list[tuple[int, int]]:
    page = tifffile.TiffFile(io.BytesIO(tiff)).pages[0]
    return list(zip(page.dataoffsets, page.databytecounts, strict=True))


def make(*tags: tuple[int, int, int, int], pixels: bytes = bytes(range(64))) -> bytes:
    """An 8 × 8 grey TIFF, little end first: tags as (number, type, count, value); others replace those it has."""
    size = 8
    plain = [(256, 4, 1, size), (257, 4, 1, size), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 200),
             (277, 3, 1, 1), (278, 4, 1, size), (279, 4, 1, size * size)]  # fmt: skip
    merged = {tag[0]: tag for tag in [*plain, *tags]}
    entries = b"".join(struct.pack("<HHII", *merged[number]) for number in sorted(merged))
    directory = struct.pack("<H", len(merged)) + entries + bytes(4)
    return (b"II*\0" + struct.pack("<I", 8) + directory).ljust(200, b"\0") + pixels


@pytest.mark.parametrize(
    ("compression", "damage"),
    [
        (compression, damage)
        for compression in ("lzw", "zlib", "packbits")
        for damage in ("last lost", "middle lost", "last half lost", "cut")
        # Zeros within pixels that were stored as they are cannot be told from black ones.
        if (compression, damage) != ("packbits", "last half lost")
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_tiff_is_refused_when_part_of_it_is_lost(layout: str, compression: str, damage: str, planes: str) -> None:
    stored = COLOUR if planes == "contig" else np.moveaxis(COLOUR, -1, 0).copy()
    whole = save_tiff(stored, compression=compression, photometric="rgb", planarconfig=planes, **LAYOUTS[layout])
    assert np.array_equal(read_picture(whole).pixels, COLOUR)
    parts = segments(whole)
    at, size = parts[len(parts) // 2 if damage.startswith("middle") else -1]
    keep = size // 2 if "half" in damage else 0
    data = bytearray(whole)
    data[at + keep : at + size] = bytes(size - keep)
    if damage == "cut":
        data = bytearray(whole[: max(start + length for start, length in parts) - 1])
    with pytest.raises(BadFrameError, match="image: must be a complete TIFF"):
        read_picture(bytes(data))


def test_opencv_would_have_shown_black_when_a_strip_is_lost() -> None:
    whole = save_tiff(COLOUR, compression="lzw", rowsperstrip=16)
    at, size = segments(whole)[-1]
    lost = whole[:at] + bytes(size) + whole[at + size :]
    assert not cv2.imdecode(np.frombuffer(lost, np.uint8), cv2.IMREAD_UNCHANGED)[-1].any()


@pytest.mark.parametrize("compression", ["lzw", "zlib"])
def test_tiff_is_refused_when_it_has_a_hole(compression: str) -> None:
    whole = save_tiff(GREY, compression=compression, rowsperstrip=97)
    at, size = segments(whole)[0]
    hole = whole[: at + size // 3] + bytes(80) + whole[at + size // 3 + 80 :]
    with pytest.raises(BadFrameError, match="strip 0 is damaged"):
        read_picture(hole)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ([(278, 4, 1, 4)], "got 1 strips, too few"),
        ([(278, 4, 1, 2**32 - 1)], None),
        ([(279, 4, 1, 63)], "strip 0 at 200 of 63 bytes"),
        ([(279, 4, 1, 0)], "strip 0 at 200 of 0 bytes"),
        ([(273, 4, 1, 201)], "strip 0 at 201 of 64 bytes"),
        ([(273, 4, 1, 0)], "strip 0 at 0 of 64 bytes"),
        ([(273, 4, 2**30, 200)], "tag 273 lies beyond the end"),
        ([(324, 4, 1, 200), (325, 4, 1, 64)], "must have tiles with pixels, got 0 × 0"),
        ([(330, 4, 1, 100)], "must contain one image, got 2"),
        ([(339, 3, 1, 2)], "got 1 × int8"),
        ([(258, 3, 1, 12)], "got 1 × uint12"),
        ([(259, 3, 1, 50_000)], "got compression 50000"),
        ([(259, 3, 1, 4)], "got compression 4"),
        ([(262, 3, 1, 8)], "must be grey or RGB, got CIE L"),
        ([(262, 3, 1, 32_803)], "got a colour filter array"),
        ([(277, 3, 1, 3)], "must have 1 samples per pixel, plus at most an alpha channel, got 3"),
        ([(274, 3, 1, 2)], "orientation: must be 1"),
        ([(274, 8, 1, 6)], "orientation: must be one unsigned whole number, got 1 of TIFF type 8"),
        ([(256, 4, 1, 0)], "must have pixels, got 8 × 0"),
    ],
)  # fmt: skip
def test_tags_are_held_against_the_file(tags: list[tuple[int, int, int, int]], words: str | None) -> None:
    if words is None:
        assert read_picture(make(*tags)).pixels[1].tolist() == list(range(8, 16))
        return
    with pytest.raises(BadFrameError, match=words):
        read_picture(make(*tags))


def test_a_directory_without_the_place_of_the_next_is_refused_when_the_file_ends_there() -> None:
    data = make()
    directory = data[8 : 8 + 2 + 9 * 12]
    moved = data[:4] + struct.pack("<I", len(data)) + data[8:].rjust(len(data) - 8, b"\0") + directory
    with pytest.raises(BadFrameError, match="its end is missing"):
        read_picture(moved)


def test_pictures_are_counted_when_their_directories_lead_round_in_a_circle() -> None:
    data = bytearray(make())
    end = 8 + 2 + 9 * 12
    data[end : end + 4] = struct.pack("<I", 8)
    with pytest.raises(BadFrameError, match="must contain one image, got 1000"):
        read_picture(bytes(data))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_values_are_turned_round_when_they_count_from_white(dtype: Any) -> None:
    grey = draw(defective=True).astype(dtype)
    picture = read_picture(save_tiff(grey, photometric="miniswhite"))
    assert np.array_equal(picture.pixels, np.iinfo(dtype).max - grey)
    assert "values: stored from white to black, inverted" in picture.assumed


def test_bits_are_spread_over_the_range_when_a_mask_has_one() -> None:
    mask = GREY > 30
    assert np.array_equal(read_picture(save_tiff(mask)).pixels, mask * np.uint8(255))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_is_looked_up_when_its_indexes_have_few_bits(bits: int) -> None:
    count = 2**bits
    palette = np.random.default_rng(bits).integers(0, 256, (3, count), np.uint16) * 257
    indexes = (np.arange(64 * 8).reshape(8, 64) % count).astype(np.uint8)
    packed = np.packbits(np.unpackbits(indexes[..., None], axis=2)[..., -bits:].reshape(8, -1), axis=1).tobytes()
    tags = [(256, 4, 1, 64), (257, 4, 1, 8), (258, 3, 1, bits), (262, 3, 1, 3), (278, 4, 1, 8),
            (279, 4, 1, len(packed)), (320, 3, 3 * count, 200 + len(packed))]  # fmt: skip
    picture = read_picture(make(*tags, pixels=packed + palette.astype("<u2").tobytes()))
    assert np.array_equal(picture.pixels, (palette.T >> 8)[indexes])
    with pytest.raises(BadFrameError, match=f"palette: must have {3 * count} values, got 3"):
        read_picture(make(*tags[:-1], (320, 3, 3, 200), pixels=packed))


def test_tags_we_do_not_know_change_nothing() -> None:
    assert read_picture(make((283, 5, 2**20, 2**31), (50_000, 2, 7, 9))).pixels[0].tolist() == list(range(8))
    with pytest.raises(BadFrameError, match="highest bit first"):
        read_picture(make((266, 3, 1, 2)))
