"""Bytes of an image file or a wire message → pixels, with every fault named.

A header costs its sender nothing, and us the memory and the time it claims: so it is believed only within bounds.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Any, NoReturn

import cv2
import numpy as np
import simplejpeg

from inspector.errors import BadFrameError, FrameMismatchError
from inspector.types import PixelFormat

Pixels = np.ndarray[Any, Any]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
"""Of the files in a folder that are taken for images, in lower case."""

# Decoders fill what is missing from a truncated file with grey, and grey looks good: so the end is checked first.
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"
_ENDINGS = {_JPEG: b"\xff\xd9", _PNG: b"IEND\xaeB`\x82"}
_PNG_HEADER = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 4, 6: 4}
"""By its colour types: grey, RGB, palette, grey and alpha, RGB and alpha; as OpenCV decodes them."""
_MAX_PIXELS = 2**28
_MAX_BYTES = 3 * _MAX_PIXELS
_SCAN = re.compile(b"\xff\xda")
_MAX_SCANS = 100
"""Of a JPEG. A progressive one has about ten; thousands of empty ones, each over all pixels, fit into a small file."""


def decode_image(
    data: bytes | memoryview, *, max_bytes: int = _MAX_BYTES, frame_hw: tuple[int, int] | None = None
) -> tuple[Pixels, PixelFormat]:
    """Decode JPEG, PNG or whatever else OpenCV reads.

    Args:
        data: the file.
        max_bytes: of the pixels; a JPEG or PNG that claims more is refused unread.
        frame_hw: the size expected; a JPEG or PNG that claims more pixels is refused unread. None: any.

    Returns:
        (H, W, 3) uint8 RGB8, (H, W) uint8 Mono8 or (H, W) uint16 Mono16; an alpha channel is dropped.

    Raises:
        BadFrameError: empty, truncated, not an image, of another depth, or too large.
        FrameMismatchError: it claims more pixels than `frame_hw`.
    """
    array = np.frombuffer(data, dtype=np.uint8)
    tail = array[-64:].tobytes()
    head = array[:4].tobytes()
    for start, end in _ENDINGS.items():
        if head.startswith(start) and end not in tail:
            raise BadFrameError(f"image: must be complete, but its end is missing after {array.size} bytes")
    try:
        if head.startswith(_JPEG):
            return _decode_jpeg(array, max_bytes, frame_hw)
        if head.startswith(_PNG):
            _check_png(array, max_bytes, frame_hw)
        pixels = cv2.imdecode(array, cv2.IMREAD_UNCHANGED) if array.size else None
    except (cv2.error, MemoryError) as error:
        raise BadFrameError(f"image: cannot be decoded: {error}") from error
    if pixels is None:
        raise BadFrameError(f"image: must be one OpenCV can decode, got {array.size} bytes starting {head!r}")
    return _name_format(pixels)


def _check_png(array: Bytes, max_bytes: int, frame_hw: tuple[int, int] | None) -> None:
    """The header comes first (PNG specification, 11.2.1): width, height, bit depth, colour type."""
    header = array[:26].tobytes()
    if len(header) < 26 or not header.startswith(_PNG_HEADER) or header[25] not in _PNG_CHANNELS:
        raise BadFrameError(f"image: must be one OpenCV can decode, got {array.size} bytes starting {header!r}")
    width, height = (int.from_bytes(header[at : at + 4], "big") for at in (16, 20))
    channels, depth = _PNG_CHANNELS[header[25]], header[24]
    if depth == 16 and channels > 1:
        _refuse_depth(channels, np.dtype(np.uint16))
    _check_size(height, width, channels * (2 if depth == 16 else 1), max_bytes, frame_hw)


def _check_size(
    height: int, width: int, bytes_per_pixel: int, max_bytes: int, frame_hw: tuple[int, int] | None
) -> None:
    if height * width > _MAX_PIXELS:
        raise BadFrameError(f"image: must have at most {_MAX_PIXELS} pixels, got {height} × {width}")
    if height * width * bytes_per_pixel > max_bytes:
        raise BadFrameError(f"image: must have at most {max_bytes} bytes of pixels, got {height} × {width}")
    if frame_hw is not None and height * width > frame_hw[0] * frame_hw[1]:
        raise FrameMismatchError(f"frame_hw: the recipe expects {frame_hw}, got {(height, width)}")


def _decode_jpeg(array: Bytes, max_bytes: int, frame_hw: tuple[int, int] | None) -> tuple[Pixels, PixelFormat]:
    """By libjpeg-turbo itself: OpenCV keeps its warnings to itself, such as that rows were missing and made up."""
    # Counted no further than that: all of them, in a file that holds nothing else, fill the memory.
    if next(islice(_SCAN.finditer(array.data), _MAX_SCANS, None), None) is not None:
        raise BadFrameError(f"image: must have at most {_MAX_SCANS} scans, got more")
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(array, strict=True)
        grey = colours == "Gray"
        _check_size(height, width, 1 if grey else 3, max_bytes, frame_hw)
        pixels = simplejpeg.decode_jpeg(
            array, colorspace="GRAY" if grey else "RGB", fastdct=False, fastupsample=False, strict=True
        )
    except ValueError as error:
        raise BadFrameError(f"image: must be a whole JPEG, got {array.size} bytes: {error}") from error
    return (pixels[..., 0], PixelFormat.MONO8) if grey else (pixels, PixelFormat.RGB8)


def _name_format(pixels: Pixels) -> tuple[Pixels, PixelFormat]:
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels == 1 and pixels.dtype == np.uint8:
        return pixels.reshape(pixels.shape[:2]), PixelFormat.MONO8
    if channels == 1 and pixels.dtype == np.uint16:
        return pixels.reshape(pixels.shape[:2]), PixelFormat.MONO16
    if channels in {3, 4} and pixels.dtype == np.uint8:
        code = cv2.COLOR_BGR2RGB if channels == 3 else cv2.COLOR_BGRA2RGB
        return cv2.cvtColor(pixels, code), PixelFormat.RGB8
    return _refuse_depth(channels, pixels.dtype)


def _refuse_depth(channels: int, dtype: np.dtype[Any]) -> NoReturn:
    raise BadFrameError(f"image: must be 8-bit grey or colour or 16-bit grey, got {channels} × {dtype}")


def decode_raw(
    data: bytes | memoryview, dtype: object, shape: object, colour: PixelFormat
) -> tuple[Pixels, PixelFormat]:
    """View raw pixels, without a copy.

    Args:
        data: the pixels, row by row.
        dtype: "uint8" or "uint16".
        shape: [H, W], [H, W, 1] or [H, W, 3].
        colour: RGB8 or BGR8, for three channels.

    Raises:
        BadFrameError: dtype, shape or byte count break their rule.
    """
    if dtype not in ("uint8", "uint16"):  # a tuple: senders also send what cannot be hashed
        raise BadFrameError(f"dtype: must be uint8 or uint16, got {dtype!r:.80}")
    # Bounded: Python refuses to print the byte count of sides with thousands of digits, which JSON can carry.
    if not (isinstance(shape, list) and len(shape) in {2, 3} and all(type(n) is int and 0 < n < 2**31 for n in shape)):
        raise BadFrameError(
            f"shape: must be [H, W] or [H, W, C] of whole numbers from 1 to 2^31 - 1, got {shape!r:.80}"
        )
    channels = shape[2] if len(shape) == 3 else 1
    if channels not in {1, 3} or (dtype == "uint16" and channels == 3):
        raise BadFrameError(f"shape: must have 1 channel, or 3 of uint8, got {channels} of {dtype}")
    wanted = shape[0] * shape[1] * channels * (2 if dtype == "uint16" else 1)
    if len(data) != wanted:
        raise BadFrameError(f"pixels: shape {shape} of {dtype} must be {wanted} bytes, got {len(data)}")
    pixels = np.frombuffer(data, dtype=np.dtype(str(dtype))).reshape(shape[:2] if channels == 1 else shape)
    if channels == 3:
        return pixels, colour
    return pixels, PixelFormat.MONO16 if dtype == "uint16" else PixelFormat.MONO8
