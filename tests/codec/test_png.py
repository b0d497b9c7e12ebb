"""PNG: chunks are whole, palettes have what pixels ask for, moving pictures are counted."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from inspector.codec import decode_image, read_picture
from inspector.errors import BadFrameError
from inspector.types import PixelFormat
from tests.codec.forms import chunk, colour, draw, insert, make_png, save, save_several

GREY = draw(defective=True)


@pytest.mark.parametrize("name", [b"IHDR", b"gAMA", b"IDAT", b"IEND"])
def test_png_is_refused_when_a_checksum_is_wrong(name: bytes) -> None:
    png = insert(save(GREY, "PNG"), b"gAMA", b"\0\1\x86\xa0")
    at = png.index(name)
    end = at + 4 + int.from_bytes(png[at - 4 : at], "big")
    with pytest.raises(BadFrameError, match="image: must be a complete PNG"):
        decode_image(png[:end] + bytes([png[end] ^ 1]) + png[end + 1 :])


@pytest.mark.parametrize("missing", [1, 65, 3000])
def test_png_is_refused_when_rows_are_missing_though_every_checksum_is_right(missing: int) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in GREY)[:-missing]
    png = save(GREY, "PNG")
    with pytest.raises(BadFrameError, match="libpng cannot read"):
        decode_image(png[:33] + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palette_is_looked_up_when_its_indexes_have_few_bits(depth: int) -> None:
    count = 2**depth
    palette = np.random.default_rng(depth).integers(0, 256, (count, 3), np.uint8)
    indexes = (np.arange(64 * 8).reshape(8, 64) % count).astype(np.uint8)
    bits = np.unpackbits(indexes[..., None], axis=2)[..., -depth:].reshape(8, -1)
    png = make_png(np.packbits(bits, axis=1), 3, (b"PLTE", palette.tobytes()), depth=depth)
    pixels, pixel_format = decode_image(png)
    assert pixel_format is PixelFormat.RGB8
    assert np.array_equal(pixels, palette[indexes])


def test_palette_is_grey_when_all_its_entries_are() -> None:
    palette = np.repeat(np.arange(255, -1, -1, dtype=np.uint8), 3).tobytes()
    picture = read_picture(make_png(GREY, 3, (b"PLTE", palette), interlaced=True))
    assert picture.pixel_format is PixelFormat.MONO8
    assert np.array_equal(picture.pixels, 255 - GREY)
    assert picture.assumed == ("palette: looked up, all entries are grey",)


@pytest.mark.parametrize(("alpha", "is_judged"), [(b"\xff\xff", True), (b"\xff\x80", False)])
def test_palette_is_refused_when_an_entry_in_use_is_see_through(alpha: bytes, is_judged: bool) -> None:
    png = make_png(GREY % 2, 3, (b"PLTE", bytes(range(6))), (b"tRNS", alpha))
    if is_judged:
        assert decode_image(png)[0][0, 0].tolist() in ([0, 1, 2], [3, 4, 5])
    else:
        with pytest.raises(BadFrameError, match="alpha: must be opaque, 255 everywhere, got 128"):
            decode_image(png)


def test_pictures_are_counted_when_the_first_is_not_of_the_animation() -> None:
    moving = save_several(colour(GREY), "PNG")
    for frames, count in ((1, 2), (2, 3)):
        still = insert(save(colour(GREY), "PNG"), b"acTL", frames.to_bytes(4, "big") + bytes(4))
        with pytest.raises(BadFrameError, match=f"must contain one image, got {count}"):
            decode_image(still)
    with pytest.raises(BadFrameError, match="must contain one image, got 2"):
        decode_image(moving)


def test_chunks_are_bounded() -> None:
    png = save(GREY, "PNG")
    with pytest.raises(BadFrameError, match="at most 131072 chunks, got more"):
        decode_image(png[:33] + 131_072 * chunk(b"tEXt", b"") + png[33:])
