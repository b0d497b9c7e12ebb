"""What a frame shows as a whole, and whether good frames show that: is it the part, in focus, in the right light?

An anomaly map cannot tell: where there is no part there is no defect either, and a black frame scores less than a good
part. So every frame is measured before it is judged, on its pixels alone: no network takes part, so the figures are the
same on every device and in every precision, and they cost a few milliseconds (`benchmarks/looks.py`).

- `statistics`: light, contrast, sharpness, colour, and pixels that carry nothing. Each has a bound of its own.
- `texture`: how strong grey levels change from pixel to pixel and over 1/128 and 1/32 of the frame, compared
  with the good frames' by the Mahalanobis distance: blurred, empty and noisy frames break the relation between them.
- `layout`: where edges lie and which way they run (histograms of oriented gradients on a grid of 4 × 4 cells, Dalal and
  Triggs 2005), compared with the most similar good frame: a part moved, turned, swapped or cut off.

A large defect on a small part changes texture and layout, too. A frame that differs by no more than a defect can add,
in at most a quarter of the cells, is therefore shown to the network: FAIL if it finds a defect, else UNLIKE_GOOD. It
never passes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from inspector.config import EXPECTATIONS, Bound, Expected, ExpectedFrames, Preprocessing
from inspector.detection.preprocessing import Pixels
from inspector.errors import FrameError, FrameMismatchError, ImageHealthError, UnlikeGoodError
from inspector.types import PixelFormat

Array = np.ndarray[Any, Any]

_ROWS = 256
"""Pairs of neighbouring rows that are looked at, from all over the frame."""
_BLACK, _WHITE = 5, 250
_FINE_SIDE, _MIDDLE_SIDE, _COARSE_SIDE = 128, 64, 32
"""Of the reduced frames whose gradients are measured: squeezed, each out of the one before."""
_CELLS, _DIRECTIONS = 4, 8
_CELLS_OF_DEFECTS = 4
"""As many a defect may change, of all 16; a part that is moved, turned or another one changes more."""
_TEXTURE_VALUES = 7
_OFFSET = 0.3
"""Grey levels added before a logarithm: less than that is noise."""


@dataclass(frozen=True, slots=True)
class Look:
    """One frame, measured.

    Attributes:
        statistics: by name, those of `EXPECTATIONS` that are no distances.
        texture: (7,) float64, logarithms; the light has no part in them.
        layout: (128,) float64, logarithms.
    """

    statistics: Mapping[str, float]
    texture: Array
    layout: Array

    @property
    def frame_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.statistics["height"]), int(self.statistics["width"])


def compute_look(pixels: Pixels, pixel_format: PixelFormat, mono16_range: tuple[int, int] = (0, 65_535)) -> Look:
    """Measure a frame.

    Args:
        pixels: as in `Frame`, in sensor pixels; only some rows are read.
        pixel_format: what they hold.
        mono16_range: which values of Mono16 become 0 and 255.
    """
    height, width = pixels.shape[:2]
    step = max(1, height // _ROWS)
    below = _to_8_bits(pixels[1::step], mono16_range)
    rows = _to_8_bits(pixels[::step], mono16_range)[: max(1, len(below))]
    red, green, blue = _measure_colour(rows, pixel_format)
    rows, below = (_to_grey(part, pixel_format) for part in (rows, below))
    counts = cv2.calcHist([rows], [0], None, [256], [0, 256]).ravel().astype(np.float64) / rows.size
    levels = np.arange(256)
    brightness = float(counts @ levels)
    contrast = float(np.sqrt(counts @ (levels - brightness) ** 2))
    across = cv2.mean(cv2.absdiff(rows[:, 1:], rows[:, :-1]))[0] if width > 1 else 0.0
    steps = cv2.absdiff(rows, below) if len(below) else np.zeros_like(rows)
    down = cv2.mean(steps)[0]
    statistics = {
        "height": float(height),
        "width": float(width),
        "brightness": brightness,
        "contrast": contrast,
        "sharpness": across + down,
        "red": red - green,
        "blue": blue - green,
        "black_share": float(counts[: _BLACK + 1].sum()),
        "white_share": float(counts[_WHITE:].sum()),
        "repeated_share": 1 - cv2.countNonZero(steps) / steps.size,
    }
    fine = _reduce(rows, _FINE_SIDE)
    middle = _reduce(fine, _MIDDLE_SIDE)
    edges = [*_measure_edges(fine), *_measure_edges(_reduce(middle, _COARSE_SIDE))]
    texture = np.log(np.array([across, down, *edges, contrast]) + _OFFSET) - math.log(brightness + 1)
    return Look(statistics, texture, _compute_layout(middle))


def _reduce(image: Array, side: int) -> Array:
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), dtype=np.float32)


def _to_8_bits(rows: Pixels, mono16_range: tuple[int, int]) -> Pixels:
    if rows.dtype != np.uint16:
        return rows
    low, high = mono16_range
    scaled: Pixels = np.clip((rows.astype(np.float32) - low) * (255.0 / (high - low)), 0, 255).astype(np.uint8)
    return scaled


def _measure_colour(rows: Pixels, pixel_format: PixelFormat) -> tuple[float, float, float]:
    """Mean red, green and blue; one value three times where there is no colour."""
    if rows.ndim == 2:
        return 0.0, 0.0, 0.0
    first, green, last = cv2.mean(rows[::4])[:3]
    return (first, green, last) if pixel_format is PixelFormat.RGB8 else (last, green, first)


def _to_grey(rows: Pixels, pixel_format: PixelFormat) -> Pixels:
    if rows.ndim == 2 or not len(rows):
        return rows
    code = cv2.COLOR_RGB2GRAY if pixel_format is PixelFormat.RGB8 else cv2.COLOR_BGR2GRAY
    return np.asarray(cv2.cvtColor(rows, code))


def _measure_edges(image: Array) -> tuple[float, float]:
    """Mean and 99th percentile of the gradient's length, in grey levels a step."""
    lengths = np.hypot(np.diff(image, axis=1)[:-1], np.diff(image, axis=0)[:, :-1])
    return float(lengths.mean()), float(np.quantile(lengths, 0.99))


def _compute_layout(image: Array) -> Array:
    """Mean length of the gradients by cell and direction, of the middle one of the reduced frames."""
    across, down = (cv2.Sobel(image, cv2.CV_32F, *order, ksize=3) for order in ((1, 0), (0, 1)))
    lengths, angles = cv2.cartToPolar(across, down)
    directions = (angles * (_DIRECTIONS / (2 * np.pi))).astype(np.int64) % _DIRECTIONS
    places = np.arange(_MIDDLE_SIDE) * _CELLS // _MIDDLE_SIDE
    bins = (places[:, None] * _CELLS + places[None, :]) * _DIRECTIONS + directions
    size = _CELLS * _CELLS * _DIRECTIONS
    sums = np.bincount(bins.ravel(), weights=lengths.ravel().astype(np.float64), minlength=size)
    return np.asarray(np.log1p(sums * (_CELLS / _MIDDLE_SIDE) ** 2))


@dataclass(frozen=True, slots=True)
class References:
    """What the good frames' textures and layouts are compared with.

    Attributes:
        texture_mean: (7,) float64.
        texture_precision: (7, 7) float64, the inverse of the covariance.
        layouts: (n, 128) float64, each good frame's.
        layout_scale: (128,) float64, how much each value differs from good frame to good frame.
    """

    texture_mean: Array
    texture_precision: Array
    layouts: Array
    layout_scale: Array

    def check(self) -> None:
        """See that looks can be compared with them.

        Raises:
            ValueError: another shape, or not finite.
        """
        texture, layout = _TEXTURE_VALUES, _CELLS * _CELLS * _DIRECTIONS
        shapes = {
            "texture_mean": (texture,), "texture_precision": (texture, texture),
            "layouts": (max(1, len(self.layouts)), layout), "layout_scale": (layout,),
        }  # fmt: skip
        for name, shape in shapes.items():
            values = getattr(self, name)
            if values.shape != shape or not np.isfinite(values).all():
                raise ValueError(f"{name} must be finite and of shape {shape}, got {values.shape}")

    def measure(self, look: Look) -> dict[str, float]:
        """All values that `EXPECTATIONS` bounds, by name; a distance is the root of the mean square over its values."""
        texture = compute_texture_distance(look.texture, self.texture_mean, self.texture_precision)
        return {**look.statistics, "texture": texture, "layout": float(np.sqrt(self._square(look).mean(axis=1).min()))}

    def measure_beside_defects(self, look: Look) -> dict[str, float]:
        """Both distances without what a defect can add: all edges and contrast, and the cells that differ most."""
        lacks = np.minimum(look.texture - self.texture_mean, 0)
        texture = float(np.sqrt(lacks @ self.texture_precision @ lacks / len(lacks)))
        cells = np.sort(self._square(look).reshape(-1, _CELLS * _CELLS, _DIRECTIONS).mean(axis=2))
        return {"texture": texture, "layout": float(np.sqrt(cells[:, :-_CELLS_OF_DEFECTS].mean(axis=1).min()))}

    def _square(self, look: Look) -> Array:
        """(n, 128): how far its layout lies from each good frame's."""
        return np.asarray(((self.layouts - look.layout) / self.layout_scale) ** 2)


def compute_texture_distance(texture: Array, mean: Array, precision: Array) -> float:
    """Mahalanobis distance, as the root of the mean square over the values.

    Edges and contrast above the good frames' count half: a defect adds some, and is for the network to judge. A frame
    that is blurred or empty lacks them.
    """
    off = texture - mean
    off[2:] = np.where(off[2:] > 0, off[2:] / 2, off[2:])
    return float(np.sqrt(off @ precision @ off / len(off)))


class Expectation:
    """What a recipe expects of a frame before it is judged."""

    def __init__(self, expected: ExpectedFrames, references: References) -> None:
        self.expected = expected
        self._references = references
        self.refuses_repeats = "repeated" not in expected.off

    def check(self, pixels: Pixels, pixel_format: PixelFormat, preprocessing: Preprocessing) -> UnlikeGoodError | None:
        """See that a frame shows what good frames show.

        Returns:
            None, or the error to raise if the network finds no defect in it: a large one can make a frame look so.

        Raises:
            FrameMismatchError: another size than theirs.
            ImageHealthError: too dark, too bright, blurred, or another picture fault.
            UnlikeGoodError: it is not the part, or not where and as it lay in the good frames.
        """
        size = (pixels.shape[0], pixels.shape[1])
        sizes = self.expected.sizes_hw
        if sizes is not None and size not in sizes and "sizes_hw" not in self.expected.off:
            raise FrameMismatchError(f"sizes_hw: good frames had {_list_sizes(sizes)}, got {list(size)}")
        look = compute_look(pixels, pixel_format, preprocessing.mono16_range)
        outside = find_outside(self.expected.bounds, self._references.measure(look), self.expected.off)
        if not outside:
            return None
        kind = min((_ERRORS[name] for name in outside), key=_ORDER.index)
        error = kind(f"does not look like the good frames: {'; '.join(outside.values())}")
        if isinstance(error, UnlikeGoodError) and self._may_be_a_defect(look, outside):
            return error
        raise error

    def _may_be_a_defect(self, look: Look, outside: Mapping[str, str]) -> bool:
        bounds = {name: bound for name, bound in self.expected.bounds.items() if name in outside}
        return not find_outside(bounds, self._references.measure_beside_defects(look))


def find_outside(
    bounds: Mapping[Expected, Bound], values: Mapping[str, float], off: Sequence[str] = ()
) -> dict[str, str]:
    """Of values by name, those outside their bounds, each in words; not a number is outside."""
    found: dict[str, str] = {}
    for name, bound in bounds.items():
        low = -math.inf if bound.low is None else bound.low
        high = math.inf if bound.high is None else bound.high
        if name not in off and not low <= values[name] <= high:
            found[name] = f"{name} must be {_describe(bound)}, got {values[name]:.4g}"
    return found


def _describe(bound: Bound) -> str:
    if bound.low is None:
        return f"at most {bound.high:.4g}"
    return f"at least {bound.low:.4g}" if bound.high is None else f"{bound.low:.4g} to {bound.high:.4g}"


_ORDER: Sequence[type[FrameError]] = (FrameMismatchError, ImageHealthError, UnlikeGoodError)
_ERRORS: dict[str, type[FrameError]] = dict.fromkeys(EXPECTATIONS, ImageHealthError) | {
    "height": FrameMismatchError, "width": FrameMismatchError, "texture": UnlikeGoodError, "layout": UnlikeGoodError,
}  # fmt: skip


def _list_sizes(sizes: Sequence[tuple[int, int]]) -> str:
    return " or ".join(str(list(size)) for size in sizes)
