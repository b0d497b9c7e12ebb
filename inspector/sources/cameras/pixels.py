"""A camera's bytes → pixels: the formats of the GenICam Pixel Format Naming Convention (EMVA PFNC 2.4) that are taken.

Colours of Bayer patterns are interpolated bilinearly (OpenCV); at the edge, rows and columns are mirrored, so that no
pixel is lost. Values of 10 and 12 bits stay the camera's own numbers, in 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np

from inspector.codec import Pixels
from inspector.errors import BadFrameError
from inspector.types import PixelFormat

Format = Literal[
    "Mono8", "Mono10", "Mono10p", "Mono10Packed", "Mono12", "Mono12p", "Mono12Packed", "Mono16",
    "BayerGR8", "BayerRG8", "BayerGB8", "BayerBG8", "RGB8", "BGR8", "RGBa8", "BGRa8",
]  # fmt: skip
FORMATS: tuple[str, ...] = get_args(Format)
"""What a station file may ask for, and a camera may send."""
ALIASES = {"RGB8": "RGB8Packed", "BGR8": "BGR8Packed", "RGBa8": "RGBA8Packed", "BGRa8": "BGRA8Packed"}
"""Names of before PFNC."""

Content = bytes | bytearray | memoryview | Pixels
_Unpack = Callable[[Pixels, tuple[int, int]], Pixels]
"""Bytes, (N,) uint8, and height and width → pixels."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How a format lies in memory.

    Attributes:
        bits: of a pixel.
        pixel_format: what it becomes.
        unpack: how.
    """

    bits: int
    pixel_format: PixelFormat
    unpack: _Unpack


def read_pixels(content: Content, number: int, hw: tuple[int, int], padding: int = 0) -> tuple[Pixels, PixelFormat]:
    """The pixels of an image.

    Args:
        content: its bytes, in memory that nobody writes to any more: pixels may stay there.
        number: PFNC's, of its format.
        hw: height and width in pixels.
        padding: bytes after each row.

    Returns:
        (H, W) uint8 Mono8, (H, W) uint16 Mono16, (H, W, 3) uint8 RGB8 or BGR8.

    Raises:
        BadFrameError: too few bytes, or a format that is not taken.
    """
    form = _FORMS.get(number)
    if form is None:
        raise BadFrameError(f"pixel format: must be one of {', '.join(FORMATS)}, got PFNC number 0x{number:08X}")
    height, width = hw
    data = np.frombuffer(content, np.uint8)
    row, loose = divmod(width * form.bits, 8)
    if padding and loose:
        raise BadFrameError(f"padding: must be 0 where a row ends within a byte, got {padding}")
    size = height * (row + padding) if padding else (height * width * form.bits + 7) // 8
    if len(data) < size:
        raise BadFrameError(f"pixels: must be {size} bytes, got {len(data)}")
    if padding:
        data = np.ascontiguousarray(data[:size].reshape(height, row + padding)[:, :row]).reshape(-1)
    return form.unpack(data[:size], hw), form.pixel_format


# ------------------------------------------------------------ grey


def _unpack_8(data: Pixels, hw: tuple[int, int]) -> Pixels:
    return data.reshape(hw)


def _unpack_16(data: Pixels, hw: tuple[int, int]) -> Pixels:
    pixels: Pixels = data.view("<u2").reshape(hw)
    return pixels


def _unpack_groups(size: int, split: Callable[[Pixels], list[Pixels]]) -> _Unpack:
    """Of formats that put several pixels into `size` bytes; `split`: those of each group, (G, size) uint16."""

    def unpack(data: Pixels, hw: tuple[int, int]) -> Pixels:
        groups = -(-len(data) // size)
        filled = np.zeros(groups * size, np.uint16)
        filled[: len(data)] = data
        pixels = np.stack(split(filled.reshape(groups, size)), axis=1).reshape(-1)
        return pixels[: hw[0] * hw[1]].reshape(hw)

    return unpack


def _split_10p(group: Pixels) -> list[Pixels]:
    """Four pixels, bit after bit, the lowest first."""
    return [(group[:, n] >> 2 * n) | ((group[:, n + 1] << (8 - 2 * n)) & 0x3FF) for n in range(4)]


def _split_12p(group: Pixels) -> list[Pixels]:
    """Two pixels, bit after bit, the lowest first."""
    return [group[:, 0] | (group[:, 1] & 0x0F) << 8, group[:, 1] >> 4 | group[:, 2] << 4]


def _split_10_packed(group: Pixels) -> list[Pixels]:
    """GigE Vision's: the upper 8 bits of two pixels in the outer bytes, the lower ones between them."""
    return [group[:, 0] << 2 | (group[:, 1] & 0x03), group[:, 2] << 2 | (group[:, 1] >> 4 & 0x03)]


def _split_12_packed(group: Pixels) -> list[Pixels]:
    """GigE Vision's: as `_split_10_packed`."""
    return [group[:, 0] << 4 | (group[:, 1] & 0x0F), group[:, 2] << 4 | group[:, 1] >> 4]


# ------------------------------------------------------------ colours

_MIRRORED = 2
"""Pixels beyond the edge, an even number: the pattern goes on there."""


def _unpack_bayer(code: int) -> _Unpack:
    def unpack(data: Pixels, hw: tuple[int, int]) -> Pixels:
        if min(hw) <= _MIRRORED:
            raise BadFrameError(f"Bayer pattern: must be more than {_MIRRORED} pixels high and wide, got {hw}")
        around = (_MIRRORED, _MIRRORED, _MIRRORED, _MIRRORED)
        colours = cv2.cvtColor(cv2.copyMakeBorder(data.reshape(hw), *around, cv2.BORDER_REFLECT_101), code)
        return np.ascontiguousarray(colours[_MIRRORED:-_MIRRORED, _MIRRORED:-_MIRRORED])

    return unpack


def _unpack_3(data: Pixels, hw: tuple[int, int]) -> Pixels:
    return data.reshape(*hw, 3)


def _unpack_4(data: Pixels, hw: tuple[int, int]) -> Pixels:
    """Without alpha, which says nothing of what a camera saw."""
    return np.ascontiguousarray(data.reshape(*hw, 4)[..., :3])


_GREY, _DEEP, _RGB, _BGR = PixelFormat.MONO8, PixelFormat.MONO16, PixelFormat.RGB8, PixelFormat.BGR8
_FORMS: Mapping[int, _Form] = {
    0x01080001: _Form(8, _GREY, _unpack_8),  # Mono8
    0x01100003: _Form(16, _DEEP, _unpack_16),  # Mono10
    0x010A0046: _Form(10, _DEEP, _unpack_groups(5, _split_10p)),  # Mono10p
    0x010C0004: _Form(12, _DEEP, _unpack_groups(3, _split_10_packed)),  # Mono10Packed
    0x01100005: _Form(16, _DEEP, _unpack_16),  # Mono12
    0x010C0047: _Form(12, _DEEP, _unpack_groups(3, _split_12p)),  # Mono12p
    0x010C0006: _Form(12, _DEEP, _unpack_groups(3, _split_12_packed)),  # Mono12Packed
    0x01100007: _Form(16, _DEEP, _unpack_16),  # Mono16
    # OpenCV names a pattern by its second row and column.
    0x01080008: _Form(8, _RGB, _unpack_bayer(cv2.COLOR_BayerGB2RGB)),  # BayerGR8
    0x01080009: _Form(8, _RGB, _unpack_bayer(cv2.COLOR_BayerBG2RGB)),  # BayerRG8
    0x0108000A: _Form(8, _RGB, _unpack_bayer(cv2.COLOR_BayerGR2RGB)),  # BayerGB8
    0x0108000B: _Form(8, _RGB, _unpack_bayer(cv2.COLOR_BayerRG2RGB)),  # BayerBG8
    0x02180014: _Form(24, _RGB, _unpack_3),  # RGB8
    0x02180015: _Form(24, _BGR, _unpack_3),  # BGR8
    0x02200016: _Form(32, _RGB, _unpack_4),  # RGBa8
    0x02200017: _Form(32, _BGR, _unpack_4),  # BGRa8
}
"""By PFNC's numbers, which every library hands on."""
