"""WebP (RFC 9649): chunks are walked here, pixels decoded by libwebp through OpenCV."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import cv2
import numpy as np

from inspector.codec.picture import (
    Bounds,
    Bytes,
    Picture,
    check_orientation,
    from_opencv,
    refuse_cut,
    refuse_several,
)
from inspector.codec.tags import read_exif_orientation
from inspector.errors import BadFrameError

_LOSSY, _LOSSLESS, _FRAME = b"VP8 ", b"VP8L", b"ANMF"
_MAX_CHUNKS = 4096
_MAX_ZEROS = 64
"""In a row, in lossless data: its encoders write a run as a distance."""


def is_webp(data: memoryview) -> bool:
    """Whether it starts as a WebP file does."""
    return bytes(data[:4]) == b"RIFF" and bytes(data[8:12]) == b"WEBP"


def read_webp(array: Bytes, bounds: Bounds) -> Picture:
    """Decode a WebP; it always comes as RGB8, for the format has no grey.

    Raises:
        BadFrameError, FrameMismatchError: cut, damaged, several pictures, turned, see-through or too large.
    """
    data = array.data
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        refuse_cut(len(data))
    chunks = list(_walk(data[:end]))
    stills = [(name, body) for name, body in chunks if name in {_LOSSY, _LOSSLESS}]
    refuse_several(len(stills) + sum(name == _FRAME for name, _ in chunks))
    if len(stills) != 1:
        raise BadFrameError(f"image: must be a WebP with one still image, got {[name for name, _ in chunks]!r:.80}")
    kind, body = stills[0]
    height, width = _read_size(kind, body)
    bounds.check(height, width, 4)
    _check_holes(kind, body, height * width)
    for name, exif in chunks:
        if name == b"EXIF":
            check_orientation(read_exif_orientation(exif))
    pixels = cv2.imdecode(array[:end], cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise BadFrameError(f"image: must be a complete WebP, got {array.size} bytes that libwebp cannot read")
    stored = f"8 bits, colours, {'lossy' if kind == _LOSSY else 'lossless'}"
    rgb, pixel_format, assumed = from_opencv(np.asarray(pixels))
    return Picture(rgb, pixel_format, "WebP", stored, end, assumed, any(name == b"ICCP" for name, _ in chunks))


def _walk(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    at = 12
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            return
        name, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > len(data):
            refuse_cut(len(data))
        yield name, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    raise BadFrameError(f"image: must have at most {_MAX_CHUNKS} chunks, got more")


def _read_size(kind: bytes, body: memoryview) -> tuple[int, int]:
    """Height and width (RFC 6386, 9.1; RFC 9649, 3.4)."""
    if len(body) < 10:
        raise BadFrameError(f"image: must be a complete WebP, got {len(body)} bytes of pixels")
    if kind == _LOSSY:
        width, height = struct.unpack_from("<HH", body, 6)
        return height & 0x3FFF, width & 0x3FFF
    bits = int.from_bytes(body[1:5], "little")
    return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1


def _check_holes(kind: bytes, body: memoryview, pixels: int) -> None:
    """See that nothing was lost: there is no checksum, and libwebp makes pixels out of zeros.

    Lossy, a flat area of 41 blocks of 16 × 16 pixels takes a zero byte (256 / ln 256 × 1 / 25 tokens, measured).
    """
    longest = _MAX_ZEROS if kind == _LOSSLESS else _MAX_ZEROS + pixels // (256 * 32)
    if bytes(longest + 1) in bytes(body):
        raise BadFrameError(f"image: must be a complete WebP, but has more than {longest} zero bytes in a row")
