"""Bytes of an image file → pixels, with every fault named: one picture, whole, upright, of values we can name."""

from __future__ import annotations

import functools
import logging
import re

import cv2
import numpy as np

from inspector.codec import jpeg, png
from inspector.codec.jpeg import read_jpeg
from inspector.codec.picture import MAX_BYTES, Bounds, Bytes, Picture, Pixels, refuse_several
from inspector.codec.plain import BMP_START, is_pnm, read_bmp, read_pnm
from inspector.codec.png import read_png
from inspector.codec.tags import is_tiff
from inspector.codec.tiff import read_tiff
from inspector.codec.webp import is_webp, read_webp
from inspector.errors import BadFrameError
from inspector.types import PixelFormat

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pnm"})
"""Of the files in a folder that are taken for images, in lower case."""

_OTHERS = {
    b"GIF8": "GIF", b"\0\0\0\x0cjP": "JPEG 2000", b"\xff\x4f\xff\x51": "JPEG 2000", b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR", b"8BPS": "Photoshop", b"\x93NUMPY": "NumPy", b"%PDF": "PDF", b"\x0a\x05\x01": "PCX",
}  # fmt: skip
_GAP = rb"\s{1,99}(?:#[^\n]{0,99}\n\s{0,99}){0,9}"  # bounded: it is searched for in all that may follow a picture
_STARTS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|II[*+]\0|MM\0[*+]|RIFF....WEBP|GIF8[79]a|\0\0\0.ftyp|\0\0\0\x0cjP"
    rb"|BM.{4}\0{4}.{4}[\x28\x34\x38\x6c\x7c]\0{3}"
    rb"|P[1-6]%b\d{1,9}%b\d{1,9}\s|P7\nWIDTH" % (_GAP, _GAP),
    re.DOTALL,
)
_MAX_FOLLOWERS = 1000


def decode_image(
    data: bytes | memoryview, *, max_bytes: int = MAX_BYTES, frame_hw: tuple[int, int] | None = None
) -> tuple[Pixels, PixelFormat]:
    """As `read_picture`, for those who need the pixels alone.

    Args:
        data: the file.
        max_bytes: of the pixels; one that claims more is refused unread.
        frame_hw: the size expected; one that claims more pixels is refused unread. None: any.

    Returns:
        (H, W, 3) uint8 RGB8, (H, W) uint8 Mono8 or (H, W) uint16 Mono16.

    Raises:
        BadFrameError: empty, cut, damaged, not an image, several, turned, see-through, of another depth, or too large.
        FrameMismatchError: it claims more pixels than `frame_hw`.
    """
    picture = read_picture(data, Bounds(max_bytes, frame_hw))
    return picture.pixels, picture.pixel_format


def read_picture(data: bytes | memoryview, bounds: Bounds | None = None) -> Picture:
    """Decode a JPEG, PNG, TIFF, WebP, BMP or PNM file; its pixels as they are stored.

    Raises:
        BadFrameError, FrameMismatchError: see `decode_image`.
    """
    array = np.frombuffer(data, dtype=np.uint8)
    try:
        picture = _read(array, bounds or Bounds())
    except (cv2.error, MemoryError) as error:
        raise BadFrameError(f"image: cannot be decoded: {error}") from error
    if picture.end < array.size:
        refuse_several(1 + _count_followers(array.data[picture.end :]))
    if picture.has_profile:
        _tell_profile()
    return picture


def _read(array: Bytes, bounds: Bounds) -> Picture:
    data = array.data
    head = array[:12].tobytes()
    if head.startswith(jpeg.START):
        return read_jpeg(array, bounds)
    if head.startswith(png.START):
        return read_png(array, bounds)
    if is_tiff(data):
        return read_tiff(array, bounds)
    if is_webp(data):
        return read_webp(array, bounds)
    if head.startswith(BMP_START):
        return read_bmp(array, bounds)
    if is_pnm(data):
        return read_pnm(array, bounds)
    other = next((name for start, name in _OTHERS.items() if head.startswith(start)), None)
    if other is None and head[4:8] == b"ftyp":
        other = "HEIF or AVIF"
    got = other or f"{array.size} bytes starting {head!r}"
    raise BadFrameError(f"image: must be JPEG, PNG, TIFF, WebP, BMP or PNM, got {got}")


def _count_followers(rest: memoryview) -> int:
    """Pictures that stand behind the first: of a file in several, such as MPO, or of files written one after another.

    What else stands there, such as zeros up to a whole block, is nobody's picture.
    """
    at, count = 0, 0
    while count < _MAX_FOLLOWERS and (found := _STARTS.search(rest, at)):
        at, count = found.end(), count + 1
        if found[0].startswith(jpeg.START):
            try:
                at = found.start() + jpeg.find_end(rest[found.start() :])  # past the preview within
            except BadFrameError:
                break
    return count


@functools.cache
def _tell_profile() -> None:
    """Once a process: what it says of one picture holds for all."""
    logger.info("an image contains a gamma value or a colour profile: it is ignored, values are used as stored")
