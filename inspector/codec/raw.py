"""Pixels that come as they are: of a wire message, or from OpenCV's video."""

from __future__ import annotations

import numpy as np

from inspector.codec.picture import Pixels, refuse_depth
from inspector.errors import BadFrameError
from inspector.types import PixelFormat


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
            f"shape: must be [H, W] or [H, W, C] with whole numbers from 1 to 2^31 - 1, got {shape!r:.80}"
        )
    channels = shape[2] if len(shape) == 3 else 1
    if channels not in {1, 3} or (dtype == "uint16" and channels == 3):
        raise BadFrameError(f"shape: must have 1 channel, or 3 channels of uint8, got {channels} of {dtype}")
    wanted = shape[0] * shape[1] * channels * (2 if dtype == "uint16" else 1)
    if len(data) != wanted:
        raise BadFrameError(f"pixels: shape {shape} of {dtype} must be {wanted} bytes, got {len(data)}")
    pixels = np.frombuffer(data, dtype=np.dtype(str(dtype))).reshape(shape[:2] if channels == 1 else shape)
    if channels == 3:
        return pixels, colour
    return pixels, PixelFormat.MONO16 if dtype == "uint16" else PixelFormat.MONO8


def name_video_format(pixels: Pixels, turned: int) -> PixelFormat:
    """What a frame of `cv2.VideoCapture` holds; its colours are BGR.

    Args:
        pixels: as they come from there, not turned.
        turned: degrees that the video asks players to turn it by.

    Raises:
        BadFrameError: it asks to be turned, or is neither 8-bit grey nor 8-bit colours.
    """
    if turned % 360:
        raise BadFrameError(f"orientation: must be that of the pixels, got a video to be rotated by {turned} degrees")
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if pixels.dtype != np.uint8 or channels not in {1, 3}:
        refuse_depth(channels, pixels.dtype)
    return PixelFormat.MONO8 if channels == 1 else PixelFormat.BGR8
