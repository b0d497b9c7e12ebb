"""Bytes of an image file or a wire message → pixels, with every fault named."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import simplejpeg

from inspector.errors import BadFrameError
from inspector.types import PixelFormat

Pixels = np.ndarray[Any, Any]

# Decoders fill what is missing from a truncated file with grey, and grey looks good: so the end is checked first.
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"
_MAX_PIXELS = 2**28
_ENDINGS = {_JPEG: b"\xff\xd9", _PNG: b"IEND\xaeB`\x82"}


def decode_image(data: bytes | memoryview) -> tuple[Pixels, PixelFormat]:
    """Decode JPEG, PNG or whatever else OpenCV reads.

    Returns:
        (H, W, 3) uint8 RGB8, (H, W) uint8 Mono8 or (H, W) uint16 Mono16; an alpha channel is dropped.

    Raises:
        BadFrameError: empty, truncated, not an image, or of another depth.
    """
    array = np.frombuffer(data, dtype=np.uint8)
    tail = array[-64:].tobytes()
    head = array[:4].tobytes()
    for start, end in _ENDINGS.items():
        if head.startswith(start) and end not in tail:
            raise BadFrameError(f"image: must be complete, but its end is missing after {array.size} bytes")
    try:
        if head.startswith(_JPEG):
            return _decode_jpeg(array)
        if head.startswith(_PNG):
            _check_size(*(int.from_bytes(array[at : at + 4].tobytes(), "big") for at in (20, 16)))
        pixels = cv2.imdecode(array, cv2.IMREAD_UNCHANGED) if array.size else None
    except (cv2.error, MemoryError) as error:
        raise BadFrameError(f"image: cannot be decoded: {error}") from error
    if pixels is None:
        raise BadFrameError(f"image: must be one OpenCV can decode, got {array.size} bytes starting {head!r}")
    return _name_format(pixels)


def _check_size(height: int, width: int) -> None:
    """A header costs its sender nothing, and us the memory it claims."""
    if height * width > _MAX_PIXELS:
        raise BadFrameError(f"image: must have at most {_MAX_PIXELS} pixels, got {height} × {width}")


def _decode_jpeg(array: np.ndarray[Any, np.dtype[np.uint8]]) -> tuple[Pixels, PixelFormat]:
    """By libjpeg-turbo itself: OpenCV keeps its warnings to itself, such as that rows were missing and made up."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(array, strict=True)
        _check_size(height, width)
        grey = colours == "Gray"
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
    raise BadFrameError(f"image: must be 8-bit grey or colour or 16-bit grey, got {channels} × {pixels.dtype}")


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
