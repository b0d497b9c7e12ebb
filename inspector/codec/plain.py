"""Files of plain pixels, read without a decoder: BMP (Windows GDI, BITMAPINFOHEADER) and PNM (netpbm: PGM, PPM)."""

from __future__ import annotations

import re
import struct

import cv2
import numpy as np

from inspector.codec.picture import (
    Bounds,
    Bytes,
    Picture,
    Pixels,
    check_alpha,
    describe_palette,
    look_up,
    refuse_cut,
    refuse_depth,
)
from inspector.errors import BadFrameError
from inspector.types import PixelFormat

BMP_START = b"BM"
_PLAIN, _MASKED = 0, 3
_BGR_MASKS = (0xFF0000, 0xFF00, 0xFF)
_ALPHA_MASK = 0xFF000000
_GAP = rb"\s+(?:#[^\n]*\n\s*)*"
_PNM = re.compile(rb"P([56])%b(\d{1,9})%b(\d{1,9})%b(\d{1,5})\s" % (_GAP, _GAP, _GAP))


def is_pnm(data: memoryview) -> bool:
    """Whether it starts as a PNM file does, of whatever kind."""
    return re.match(rb"P[1-7]\s", bytes(data[:3])) is not None


def read_pnm(array: Bytes, bounds: Bounds) -> Picture:
    """Read a binary PGM of 8 or 16 bits, or a PPM of 8.

    Raises:
        BadFrameError, FrameMismatchError: cut, of another kind or range, or too large.
    """
    head = array[:4096].tobytes()
    found = _PNM.match(head)
    if found is None:
        raise BadFrameError(f"image: must be a binary PNM (P5 or P6), got one starting with {head[:26]!r}")
    width, height, highest = (int(text) for text in found.groups()[1:])
    channels = 1 if found[1] == b"5" else 3
    is_deep = highest > 255
    if is_deep and channels == 3:
        refuse_depth(channels, np.dtype(np.uint16))
    if highest not in {255, 65_535}:
        # Zero to a lower value: what white is would have to be guessed or scaled.
        raise BadFrameError(f"image: must be a PNM with maximum value 255 or 65535, got {highest}")
    bounds.check(height, width, channels * (1 + is_deep))
    count = height * width * channels
    end = found.end() + count * (1 + is_deep)
    if end > array.size:
        refuse_cut(array.size)
    flat = np.frombuffer(array.data, ">u2" if is_deep else "u1", count, found.end())
    pixels = flat.reshape((height, width) if channels == 1 else (height, width, 3))
    pixel_format = PixelFormat.MONO16 if is_deep else PixelFormat.MONO8 if channels == 1 else PixelFormat.RGB8
    stored = f"{8 * (1 + is_deep)} bits, {'grey' if channels == 1 else 'colours'}"
    return Picture(pixels.astype(np.uint16) if is_deep else pixels, pixel_format, "PNM", stored, end)


def read_bmp(array: Bytes, bounds: Bounds) -> Picture:
    """Read an uncompressed BMP of 1, 4, 8, 24 or 32 bits.

    Raises:
        BadFrameError, FrameMismatchError: cut, of another kind, see-through, or too large.
    """
    data = array.data
    if len(data) < 54:
        refuse_cut(len(data))
    offset, header, width, height, _, bits, compression = struct.unpack_from("<IIiiHHI", data, 10)
    if header < 40 or bits not in {1, 4, 8, 24, 32} or compression not in {_PLAIN, _MASKED}:
        raise BadFrameError(
            f"image: must be an uncompressed BMP of 1, 4, 8, 24 or 32 bits, got {bits} bits, compression {compression}"
        )
    bounds.check(abs(height), width, 1 if bits <= 8 else bits // 8)
    has_alpha = compression == _MASKED and _read_masks(data, header)
    stride = (width * bits + 31) // 32 * 4
    end = offset + stride * abs(height)
    if end > len(data):
        refuse_cut(len(data))
    rows = np.frombuffer(data, np.uint8, stride * abs(height), offset).reshape(abs(height), stride)
    rows = rows[::-1] if height > 0 else rows  # the lowest row comes first, unless the height is negative
    if bits <= 8:
        pixels, pixel_format = look_up(_unpack(rows, bits, width), _read_palette(data, header, bits, offset))
        return Picture(pixels, pixel_format, "BMP", f"{bits} bits, palette", end, (describe_palette(pixel_format),))
    samples = rows[:, : width * bits // 8].reshape(abs(height), width, bits // 8)
    assumed: tuple[str, ...] = ("fourth byte: unused, ignored",) if bits == 32 else ()
    if has_alpha:
        check_alpha(samples[..., 3])
        assumed = ("alpha: opaque, ignored",)
    rgb = np.asarray(cv2.cvtColor(np.ascontiguousarray(samples[..., :3]), cv2.COLOR_BGR2RGB))
    return Picture(rgb, PixelFormat.RGB8, "BMP", f"{bits} bits, colours", end, assumed)


def _read_masks(data: memoryview, header: int) -> bool:
    """Whether one of 32 bits has alpha; its colours must lie as in one without masks."""
    masks = struct.unpack_from("<IIII", data, 54) if header >= 56 and len(data) >= 70 else (0, 0, 0, 0)
    if header < 56 and len(data) >= 66:
        masks = (*struct.unpack_from("<III", data, 54), 0)
    if masks[:3] != _BGR_MASKS or masks[3] not in {0, _ALPHA_MASK}:
        raise BadFrameError(f"image: must be a BMP with one byte each for blue, green and red, got masks {masks}")
    return bool(masks[3])


def _read_palette(data: memoryview, header: int, bits: int, offset: int) -> Pixels:
    """(n, 3) uint8, RGB."""
    count = int.from_bytes(data[46:50], "little") or 2**bits
    start = 14 + header
    if count > 2**bits or start + 4 * count > min(offset, len(data)):
        raise BadFrameError(f"palette: must have at most {2**bits} entries before the pixels, got {count}")
    return np.frombuffer(data, np.uint8, 4 * count, start).reshape(count, 4)[:, 2::-1]


def _unpack(rows: Pixels, bits: int, width: int) -> Pixels:
    """Indexes (H, W) uint8, leftmost in the highest bits."""
    if bits == 8:
        return np.ascontiguousarray(rows[:, :width])
    if bits == 1:
        return np.unpackbits(rows, axis=1, count=width)
    return np.ascontiguousarray(np.dstack([rows >> 4, rows & 15]).reshape(len(rows), -1)[:, :width])
