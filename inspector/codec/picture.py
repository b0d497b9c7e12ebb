"""What every kind of file gives, and the rules that hold for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import cv2
import numpy as np

from inspector.errors import BadFrameError, FrameMismatchError
from inspector.types import PixelFormat

Pixels = np.ndarray[Any, Any]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]

MAX_PIXELS = 2**28
MAX_BYTES = 3 * MAX_PIXELS
OPAQUE = 255


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded file.

    Attributes:
        pixels: (H, W, 3) uint8 for RGB8, (H, W) uint8 for Mono8, (H, W) uint16 for Mono16.
        kind: of the file, such as PNG.
        stored: how its pixels are kept there, in words.
        end: where the picture ends in the file, in bytes.
        assumed: what was dropped or taken for granted, in words.
        has_profile: it names a gamma or a colour profile.
    """

    pixels: Pixels
    pixel_format: PixelFormat
    kind: str
    stored: str
    end: int
    assumed: tuple[str, ...] = ()
    has_profile: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a picture may claim to be. A header costs its sender nothing, and us the memory and time it claims.

    Attributes:
        max_bytes: of the pixels.
        frame_hw: the size expected; more pixels are refused. None: any.
    """

    max_bytes: int = MAX_BYTES
    frame_hw: tuple[int, int] | None = None

    def check(self, height: int, width: int, bytes_per_pixel: int) -> None:
        """Refuse a picture before it is decoded.

        Raises:
            BadFrameError: it has no pixels, or claims too many.
            FrameMismatchError: it claims more than `frame_hw`.
        """
        if height < 1 or width < 1:
            raise BadFrameError(f"image: must have pixels, got {height} × {width}")
        if height * width > MAX_PIXELS:
            raise BadFrameError(f"image: must have at most {MAX_PIXELS} pixels, got {height} × {width}")
        if height * width * bytes_per_pixel > self.max_bytes:
            raise BadFrameError(f"image: must have at most {self.max_bytes} bytes of pixels, got {height} × {width}")
        if self.frame_hw is not None and height * width > self.frame_hw[0] * self.frame_hw[1]:
            raise FrameMismatchError(f"frame_hw: the recipe expects {self.frame_hw}, got {(height, width)}")


def check_orientation(tag: int) -> None:
    """Refuse a picture that asks to be turned: regions and masks would lie elsewhere than where people see them.

    Raises:
        BadFrameError: the tag is other than 1, upright.
    """
    if tag != 1:
        raise BadFrameError(
            f"orientation: must be 1 (pixels as stored), got {tag}: the image tells viewers to rotate it; "
            "rotate its pixels and remove the tag"
        )


def refuse_several(count: int) -> None:
    """Refuse what holds more than one picture: the others would go unseen.

    Raises:
        BadFrameError: `count` is above 1.
    """
    if count > 1:
        raise BadFrameError(f"image: must contain one image, got {count}")


def refuse_cut(size: int) -> NoReturn:
    """Refuse a file that ends too early.

    Raises:
        BadFrameError: always.
    """
    raise BadFrameError(f"image: must be complete, but its end is missing after {size} bytes")


def refuse_depth(channels: int, dtype: object) -> NoReturn:
    """Refuse values that the pixel formats cannot hold.

    Raises:
        BadFrameError: always.
    """
    raise BadFrameError(f"image: must be 8-bit grey or colour or 16-bit grey, got {channels} × {dtype}")


def check_alpha(alpha: Pixels) -> None:
    """Refuse pixels that are see-through: what a viewer shows there is not what would be judged.

    Raises:
        BadFrameError: one is not opaque.
    """
    opaque = np.iinfo(alpha.dtype).max
    lowest = int(alpha.min(initial=opaque))
    if lowest < opaque:
        raise BadFrameError(f"alpha: must be opaque, {opaque} everywhere, got {lowest}: remove the alpha channel")


def look_up(indexes: Pixels, palette: Pixels) -> tuple[Pixels, PixelFormat]:
    """Indexes (H, W) and a palette (n, 3) or (n, 4) uint8, RGB and alpha → pixels: Mono8 where all entries are grey.

    Raises:
        BadFrameError: an index has no entry, or an entry that is used is see-through.
    """
    highest = int(indexes.max(initial=0))
    if highest >= len(palette):
        raise BadFrameError(
            f"palette: must have an entry for each pixel value, got {len(palette)} entries and pixel value {highest}"
        )
    if palette.shape[1] == 4:
        check_alpha(cv2.LUT(indexes, _to_table(palette[:, 3], OPAQUE)))
    red, green, blue = (palette[:, channel] for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return np.asarray(cv2.LUT(indexes, _to_table(red))), PixelFormat.MONO8
    table = np.dstack([_to_table(channel) for channel in (red, green, blue)])
    return np.asarray(cv2.LUT(cv2.merge([indexes] * 3), table)), PixelFormat.RGB8


def describe_palette(pixel_format: PixelFormat) -> str:
    """What was made of it, in words."""
    return f"palette: looked up, {'all entries are grey' if pixel_format is PixelFormat.MONO8 else 'of colours'}"


def _to_table(values: Pixels, rest: int = 0) -> Pixels:
    """(1, 256) uint8, as `cv2.LUT` takes it."""
    return np.pad(values, (0, 256 - len(values)), constant_values=rest).reshape(1, 256)


def from_opencv(pixels: Pixels) -> tuple[Pixels, PixelFormat, tuple[str, ...]]:
    """What OpenCV decoded, colours in its order, BGR → ours; what was assumed, in words.

    Raises:
        BadFrameError: another depth, or alpha that is not opaque.
    """
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    assumed: tuple[str, ...] = ()
    if channels == 4 and pixels.dtype == np.uint8:
        check_alpha(pixels[..., 3])
        assumed = ("alpha: opaque, ignored",)
    if channels in {3, 4} and pixels.dtype == np.uint8:
        code = cv2.COLOR_BGR2RGB if channels == 3 else cv2.COLOR_BGRA2RGB
        return np.asarray(cv2.cvtColor(pixels, code)), PixelFormat.RGB8, assumed
    if channels == 1 and pixels.dtype == np.uint8:
        return pixels.reshape(pixels.shape[:2]), PixelFormat.MONO8, assumed
    if channels == 1 and pixels.dtype == np.uint16:
        return pixels.reshape(pixels.shape[:2]), PixelFormat.MONO16, assumed
    refuse_depth(channels, pixels.dtype)
