"""JPEG (ITU-T T.81), by libjpeg-turbo itself: OpenCV keeps its warnings to itself, such as that rows were made up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import simplejpeg

from inspector.codec.picture import Bounds, Bytes, Picture, check_orientation, refuse_cut
from inspector.codec.tags import read_exif_orientation
from inspector.errors import BadFrameError
from inspector.types import PixelFormat

START = b"\xff\xd8"
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""Within a scan: a 0 after 255 is stuffing, 208 to 215 are restarts."""
_FRAMES = {0xC0: "baseline", 0xC1: "sequential", 0xC2: "progressive", 0xC9: "sequential", 0xCA: "progressive"}
_OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF}
_SCAN, _END, _APP1, _APP2 = 0xDA, 0xD9, 0xE1, 0xE2
_MAX_SCANS = 100
"""A progressive one has about ten; thousands of empty ones, each over all pixels, fit into a small file."""
_MAX_SEGMENTS = 4096


@dataclass(slots=True)
class _Layout:
    """What the segments say. `missing`: the coefficients of each component that no scan has brought whole yet."""

    kind: str = ""
    height: int = 0
    width: int = 0
    missing: dict[int, set[int]] = field(default_factory=dict)
    scans: int = 0
    has_profile: bool = False
    end: int = 0


def read_jpeg(array: Bytes, bounds: Bounds) -> Picture:
    """Decode a JPEG; bytes after its end are not looked at.

    Raises:
        BadFrameError, FrameMismatchError: cut, damaged, incomplete, turned, not grey or RGB, or too large.
    """
    layout = _read_layout(array.data)
    channels = len(layout.missing)
    if not channels:
        raise BadFrameError(f"image: must be a complete JPEG, got {array.size} bytes without a frame header")
    if channels not in {1, 3}:
        what = "CMYK" if channels == 4 else f"{channels} components"
        raise BadFrameError(f"image: must be a JPEG in grey or RGB, got {what}")
    bounds.check(layout.height, layout.width, channels)
    if any(layout.missing.values()):
        raise BadFrameError(f"image: must be a complete JPEG, but scans are missing after {layout.scans}")
    try:
        pixels = simplejpeg.decode_jpeg(
            array[: layout.end],
            colorspace="GRAY" if channels == 1 else "RGB",
            fastdct=False,
            fastupsample=False,
            strict=True,
        )
    except ValueError as error:
        raise BadFrameError(f"image: must be a complete JPEG, got {array.size} bytes: {error}") from error
    return Picture(
        pixels[..., 0] if channels == 1 else pixels,
        PixelFormat.MONO8 if channels == 1 else PixelFormat.RGB8,
        "JPEG",
        f"8 bits, {'grey' if channels == 1 else 'colours'}, {layout.kind}",
        layout.end,
        has_profile=layout.has_profile,
    )


def find_end(data: memoryview) -> int:
    """Where a JPEG that starts here ends.

    Raises:
        BadFrameError: it does not.
    """
    return next(end for code, _, end in _walk(data) if code == _END)


def _read_layout(data: memoryview) -> _Layout:
    layout = _Layout()
    for code, body, end in _walk(data):
        if code in _FRAMES:
            _read_frame(layout, code, body)
        elif code in _OTHER_FRAMES:
            raise BadFrameError("image: must be a baseline or progressive JPEG, got a lossless or hierarchical one")
        elif code == _SCAN:
            _read_scan(layout, body)
        elif code == _APP1 and bytes(body[:6]) == b"Exif\0\0":
            check_orientation(read_exif_orientation(body))
        elif code == _APP2 and bytes(body[:11]) == b"ICC_PROFILE":
            layout.has_profile = True
        layout.end = end
    return layout


def _walk(data: memoryview) -> Iterator[tuple[int, memoryview, int]]:
    """Each marker, what its segment holds, and where that ends; the last is the end of the picture.

    Raises:
        BadFrameError: there is no end, or there are too many segments.
    """
    at = len(START)
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None:
            refuse_cut(len(data))
        code, at = data[found.end() - 1], found.end()
        if code == _END:
            yield code, data[at:at], at
            return
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2:
            raise BadFrameError(f"image: must be a complete JPEG, got {len(data)} bytes with a segment of {length}")
        yield code, data[at + 2 : at + length], at + length
        at += length
    raise BadFrameError(f"image: must have at most {_MAX_SEGMENTS} segments, got more")


def _read_frame(layout: _Layout, code: int, body: memoryview) -> None:
    if layout.missing or len(body) < 6 or len(body) != 6 + 3 * body[5]:
        raise BadFrameError("image: must be a complete JPEG with one frame header")
    if body[0] != 8:
        raise BadFrameError(f"image: must be an 8-bit JPEG, got bit depth {body[0]}")
    layout.kind = _FRAMES[code]
    layout.height, layout.width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    layout.missing = {component: set(range(64)) for component in body[6::3]}


def _read_scan(layout: _Layout, body: memoryview) -> None:
    """A decoder shows what scans have brought, without a word of those that never came (T.81, B.2.3)."""
    layout.scans += 1
    if layout.scans > _MAX_SCANS:
        raise BadFrameError(f"image: must have at most {_MAX_SCANS} scans, got more")
    if not body or len(body) != 4 + 2 * body[0]:
        raise BadFrameError("image: must be a complete JPEG, got a damaged scan header")
    first, last, approximation = body[-3:]
    if approximation & 15:
        return  # refined later
    for component in body[1 : 1 + 2 * body[0] : 2]:
        layout.missing.get(component, set()).difference_update(range(first, last + 1))
