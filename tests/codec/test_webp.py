"""WebP: it has no checksum, so what was lost shows by its zeros."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from inspector.codec import decode_image
from inspector.errors import BadFrameError
from tests.codec.forms import colour, draw, save, with_alpha

NOISE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("place", ["end", "middle"])
def test_webp_is_refused_when_part_of_it_is_zeros_though_its_decoder_is_content(lossless: bool, place: str) -> None:
    whole = save(NOISE, "WEBP", lossless=lossless)
    start = len(whole) // 2
    stop = len(whole) if place == "end" else start + 200
    lost = whole[:start] + bytes(stop - start) + whole[stop:]
    assert cv2.imdecode(np.frombuffer(lost, np.uint8), cv2.IMREAD_UNCHANGED) is not None
    with pytest.raises(BadFrameError, match="zero bytes in a row"):
        decode_image(lost)


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("quality", [101, 90, 10])
def test_webp_is_judged_when_it_is_flat_and_so_mostly_zeros(value: int, quality: int) -> None:
    flat = np.full((1024, 1224, 3), value, np.uint8)
    webp = cv2.imencode(".webp", flat, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
    assert abs(int(decode_image(webp)[0].mean()) - value) <= 2


def test_webp_is_refused_when_it_is_see_through() -> None:
    assert decode_image(save(with_alpha(colour(draw(defective=False))), "WEBP", lossless=True, exact=True))
    with pytest.raises(BadFrameError, match="alpha: must be opaque"):
        decode_image(save(with_alpha(colour(draw(defective=False)), 7), "WEBP", lossless=True, exact=True))


def test_webp_is_refused_when_it_holds_no_picture() -> None:
    with pytest.raises(BadFrameError, match="must be a WebP with one still image"):
        decode_image(b"RIFF" + struct.pack("<I", 12) + b"WEBPEXIF" + bytes(4))
