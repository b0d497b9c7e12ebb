"""JPEG: its true end, and scans that never came."""

from __future__ import annotations

import numpy as np
import pytest
import simplejpeg

from inspector.codec import decode_image, read_picture
from inspector.errors import BadFrameError
from tests.codec.forms import colour, draw, orient, save

PICTURE = colour(draw(defective=True))
PROGRESSIVE = save(PICTURE, "JPEG", progressive=True, quality=95)


def scans(jpeg: bytes) -> list[int]:
    """Where each scan's tables begin: after the scan before it."""
    starts = [at for at in range(len(jpeg) - 1) if jpeg[at : at + 2] == b"\xff\xda"]
    assert len(starts) > 5
    return starts


def test_jpeg_is_refused_when_its_last_scans_never_came_though_its_decoder_is_content() -> None:
    starts = scans(PROGRESSIVE)
    tables = PROGRESSIVE.rfind(b"\xff\xc4", 0, starts[-1])
    shortened = PROGRESSIVE[: tables if tables > starts[-2] else starts[-1]] + b"\xff\xd9"
    simplejpeg.decode_jpeg(shortened, strict=True)  # without a word: what is missing is smoothed over
    with pytest.raises(BadFrameError, match=f"scans are missing after {len(starts) - 1}"):
        decode_image(shortened)


def test_end_is_found_past_the_preview_within() -> None:
    exif = orient(1)
    preview = save(PICTURE[:8, :8], "JPEG")
    jpeg = save(PICTURE, "JPEG", exif=exif)
    body = b"Exif\0\0" + preview
    nested = jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]
    for rest in (b"", bytes(512), b"\xff" * 100, b"camera 7, line 3"):
        picture = read_picture(nested + rest)
        assert picture.end == len(nested)
        assert np.array_equal(picture.pixels, decode_image(jpeg)[0])
    with pytest.raises(BadFrameError, match="must contain one image, got 2"):
        read_picture(nested + bytes(512) + nested)


def test_jpeg_is_refused_when_its_end_is_only_that_of_its_preview() -> None:
    jpeg = save(PICTURE, "JPEG")
    body = b"Exif\0\0" + save(PICTURE[:8, :8], "JPEG")
    nested = jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:-2]
    with pytest.raises(BadFrameError, match="its end is missing"):
        decode_image(nested)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\xff\xd8\xff\xc3\0\x0b\x08\0\x08\0\x08\1\1\x11\0\xff\xd9", "got a lossless or hierarchical one"),
        (b"\xff\xd8\xff\xc1\0\x0b\x0c\0\x08\0\x08\1\1\x11\0\xff\xd9", "must be an 8-bit JPEG, got bit depth 12"),
        (b"\xff\xd8\xff\xc0\0\x0b\x08\0\0\0\x08\1\1\x11\0\xff\xd9", "must have pixels, got 0 × 8"),
        (b"\xff\xd8\xff\xc0\0\x0e\x08\0\x08\0\x08\2\1\x11\0\2\x11\0\xff\xd9", "got 2 components"),
        (b"\xff\xd8\xff\xe0\0\1\xff\xd9", "a segment of 1"),
    ],
)
def test_jpeg_is_refused_by_its_headers(head: bytes, words: str) -> None:
    with pytest.raises(BadFrameError, match=words):
        decode_image(head)
