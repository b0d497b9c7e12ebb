"""PNG (W3C, third edition): chunks are walked here, pixels decoded by libpng through OpenCV."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from inspector.codec.picture import (
    OPAQUE,
    Bounds,
    Bytes,
    Picture,
    Pixels,
    check_alpha,
    check_orientation,
    describe_palette,
    from_opencv,
    look_up,
    refuse_cut,
    refuse_depth,
    refuse_several,
)
from inspector.codec.tags import read_exif_orientation
from inspector.errors import BadFrameError
from inspector.types import PixelFormat

START = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_COLOURS = {0: "grey", 2: "colours", 3: "palette", 4: "grey and alpha", 6: "colours and alpha"}
_PALETTE, _GREY_ALPHA = 3, 4
_PROFILES = {b"gAMA", b"iCCP", b"sRGB", b"cHRM", b"cICP"}
_MAX_CHUNKS = 2**17
"""Encoders write pixels in chunks of 8 KiB and more."""


@dataclass(slots=True)
class _Layout:
    """What the chunks say. `header`: width, height, depth, colour type, and how these are packed."""

    header: bytes
    data: list[memoryview] = field(default_factory=list)
    palette: bytes = b""
    transparency: bytes | None = None
    pictures_claimed: int = 0
    pictures: int = 0
    starts_moving: bool = False
    has_profile: bool = False
    end: int = 0

    @property
    def depth(self) -> int:
        return self.header[8]

    @property
    def colour(self) -> int:
        return self.header[9]


def read_png(array: Bytes, bounds: Bounds) -> Picture:
    """Decode a PNG; bytes after its end are not looked at.

    Raises:
        BadFrameError, FrameMismatchError: cut, damaged, several pictures, turned, see-through, of another depth or
            too large.
    """
    layout = _read_header(array.data, bounds)
    for name, body, end in _walk(array.data):
        _read_chunk(layout, name, body)
        layout.end = end
    still = not layout.starts_moving and bool(layout.pictures or layout.pictures_claimed)
    refuse_several(max(layout.pictures, layout.pictures_claimed) + still)
    pixels, pixel_format, assumed = _decode(array, layout)
    stored = f"{layout.depth} bit{'s' * (layout.depth > 1)}, {_COLOURS[layout.colour]}"
    return Picture(pixels, pixel_format, "PNG", stored, layout.end, assumed, layout.has_profile)


def _read_header(data: memoryview, bounds: Bounds) -> _Layout:
    """It comes first (11.2.1): width, height, bit depth, colour type."""
    start = START + b"\0\0\0\rIHDR"
    if len(data) < 29 or data[: len(start)] != start or data[25] not in _CHANNELS:
        raise BadFrameError(f"image: must be a complete PNG, got {len(data)} bytes starting with {bytes(data[:26])!r}")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    if depth == 16 and colour in {2, 6}:
        refuse_depth(_CHANNELS[colour], np.dtype(np.uint16))
    # Two channels come from OpenCV as four.
    channels = 4 if colour == _GREY_ALPHA else 3 if colour == _PALETTE else _CHANNELS[colour]
    bounds.check(height, width, channels * (2 if depth == 16 else 1))
    return _Layout(bytes(data[16:29]))


def _walk(data: memoryview) -> Iterator[tuple[bytes, memoryview, int]]:
    """Each chunk, what it holds, and where it ends. Checksums of pixels are libpng's to check: these are large.

    Raises:
        BadFrameError: there is no end, a checksum is wrong, or there are too many chunks.
    """
    at = len(START)
    for _ in range(_MAX_CHUNKS):
        if at + 12 > len(data):
            refuse_cut(len(data))
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            refuse_cut(len(data))
        if name != b"IDAT" and zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise BadFrameError(
                f"image: must be a complete PNG, got {len(data)} bytes with a wrong checksum of {name!r}"
            )
        yield name, data[at + 8 : end - 4], end
        if name == b"IEND":
            return
        at = end
    raise BadFrameError(f"image: must have at most {_MAX_CHUNKS} chunks, got more")


def _read_chunk(layout: _Layout, name: bytes, body: memoryview) -> None:
    if name == b"IDAT":
        layout.data.append(body)
    elif name == b"PLTE":
        layout.palette = bytes(body)
    elif name == b"tRNS":
        layout.transparency = bytes(body)
    elif name == b"eXIf":
        check_orientation(read_exif_orientation(body))
    elif name == b"acTL":
        layout.pictures_claimed = int.from_bytes(body[:4], "big")
    elif name == b"fcTL":
        layout.pictures += 1
        layout.starts_moving |= not layout.data
    layout.has_profile |= name in _PROFILES


def _decode(array: Bytes, layout: _Layout) -> tuple[Pixels, PixelFormat, tuple[str, ...]]:
    if layout.colour == _PALETTE:
        return _decode_palette(layout)
    if layout.transparency is not None:
        raise BadFrameError("alpha: must be opaque, but a colour is marked as transparent (tRNS): remove the mark")
    pixels = _decode_whole(array[: layout.end])
    if layout.colour == _GREY_ALPHA:
        check_alpha(pixels[..., 3])
        grey, pixel_format, _ = from_opencv(np.ascontiguousarray(pixels[..., 0]))
        return grey, pixel_format, ("alpha: opaque, ignored",)
    return from_opencv(pixels)


def _decode_whole(data: Bytes) -> Pixels:
    pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise BadFrameError(f"image: must be a complete PNG, got {data.size} bytes that libpng cannot read")
    return np.asarray(pixels)


def _decode_palette(layout: _Layout) -> tuple[Pixels, PixelFormat, tuple[str, ...]]:
    """As the grey PNG of its indexes: libpng shows black where an index has no entry, without a word."""
    header = layout.header[:9] + b"\0" + layout.header[10:]
    chunks: list[tuple[bytes, bytes | memoryview]] = [
        (b"IHDR", header),
        *((b"IDAT", body) for body in layout.data),
        (b"IEND", b""),
    ]
    grey = b"".join([START, *(part for name, body in chunks for part in _pack(name, body))])
    indexes = _decode_whole(np.frombuffer(grey, np.uint8))
    if layout.depth < 8:
        indexes //= 255 // (2**layout.depth - 1)  # libpng spreads grey over 0 to 255
    palette = np.frombuffer(layout.palette[: len(layout.palette) // 3 * 3], np.uint8).reshape(-1, 3)
    alpha = np.full((len(palette), 1), OPAQUE, np.uint8)
    seen = np.frombuffer(layout.transparency or b"", np.uint8)[: len(palette)]
    alpha[: len(seen), 0] = seen
    pixels, pixel_format = look_up(indexes, np.hstack([palette, alpha]))
    return pixels, pixel_format, (describe_palette(pixel_format),)


def _pack(name: bytes, body: bytes | memoryview) -> tuple[bytes, bytes, bytes | memoryview, bytes]:
    return struct.pack(">I", len(body)), name, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))
