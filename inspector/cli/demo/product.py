"""The demo's product: a brushed metal sheet under uneven light. Every pixel follows from a seed."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import cv2
import numpy as np

Image = np.ndarray[Any, Any]

FRAME_HW = (2048, 2448)
"""Height and width of a frame in pixels: a common 5-megapixel sensor."""

_GREY = 152.0
_TINT_RGB = (0.975, 1.0, 1.04)  # steel


class DefectKind(StrEnum):
    """What goes wrong with such a sheet."""

    SCRATCH = "scratch"
    PIT = "pit"
    STAIN = "stain"
    CHIP = "chip"
    FIBRE = "fibre"


def make_good_frame(seed: int) -> Image:
    """A flawless sheet: (2048, 2448, 3) uint8 RGB."""
    return _make_sheet(np.random.default_rng(seed))


def make_defective_frame(seed: int, kind: DefectKind) -> tuple[Image, Image]:
    """A sheet with one defect.

    Returns:
        Frame (2048, 2448, 3) uint8 RGB and mask (2048, 2448) uint8, 255 on the defect.
    """
    generator = np.random.default_rng(seed)
    frame = _make_sheet(generator)
    canvas = np.zeros(FRAME_HW, dtype=np.uint8)
    blur, shift = _DRAW[kind](canvas, generator)
    left, top, width, height = cv2.boundingRect(canvas)
    margin = 16
    here = np.s_[top - margin : top + height + margin, left - margin : left + width + margin]
    strength = cv2.GaussianBlur(canvas[here], (0, 0), blur).astype(np.float32) / 255
    changed = frame[here] + strength[..., None] * np.asarray(shift, dtype=np.float32)
    frame[here] = np.clip(changed, 0, 255).astype(np.uint8)
    mask = np.zeros(FRAME_HW, dtype=np.uint8)
    mask[here] = np.where(strength > 0.2, 255, 0)
    return frame, mask


def _make_sheet(generator: np.random.Generator) -> Image:
    """(H, W, 3) uint8. Drawn in grey and tinted at the end: colour is the same everywhere but on the defect."""
    height, width = FRAME_HW
    # Brushing leaves streaks along x: noise, blurred and stretched sideways.
    grain = generator.standard_normal((height, width // 16), dtype=np.float32)
    grain = cv2.GaussianBlur(grain, (0, 0), sigmaX=1.5, sigmaY=1.2)
    sheet = cv2.resize(grain * (7.0 / grain.std()) + _GREY, (width, height))
    sheet *= _light(generator)
    noise = np.empty_like(sheet)
    cv2.setRNGSeed(int(generator.integers(2**31)))
    cv2.randn(noise, 0, 2.0)  # the sensor's
    sheet += noise
    return np.asarray(cv2.merge([cv2.convertScaleAbs(sheet, alpha=tint) for tint in _TINT_RGB]))


def _light(generator: np.random.Generator) -> Image:
    """Illumination, (H, W) float32 about 1: brighter in the middle, its peak and level drifting a little."""
    height, width = FRAME_HW
    peak_y, peak_x = generator.uniform(-0.1, 0.1, 2)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] - np.float32(peak_y)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] - np.float32(peak_x)
    level = np.float32(generator.uniform(0.97, 1.03))
    return np.asarray(level * (np.float32(1.04) - np.float32(0.08) * (x * x + y * y)))


# Each kind draws its shape and says how soft its edge is (sigma, pixels) and the RGB change at full strength.
_Drawn = tuple[float, tuple[float, float, float]]


def _draw_scratch(canvas: Image, generator: np.random.Generator) -> _Drawn:
    start = _place(generator)
    angle = generator.uniform(np.pi / 5, 4 * np.pi / 5)  # across the streaks
    length = generator.uniform(100, 160)
    bend = generator.uniform(-12, 12)
    steps = np.linspace(0, 1, 24)
    points = start + np.stack(
        [
            steps * length * np.cos(angle) + bend * np.sin(np.pi * steps) * np.sin(angle),
            steps * length * np.sin(angle),
        ],
        axis=1,
    )
    _stroke(canvas, points, thickness=10)
    return 1.0, (88.0, 88.0, 86.0)


def _draw_pit(canvas: Image, generator: np.random.Generator) -> _Drawn:
    for _ in range(3):
        x, y = (_place(generator) if not canvas.any() else _near(canvas, generator)).tolist()
        cv2.circle(canvas, (round(x), round(y)), int(generator.integers(14, 22)), 255, -1, cv2.LINE_AA)
    return 1.5, (-85.0, -86.0, -88.0)


def _draw_stain(canvas: Image, generator: np.random.Generator) -> _Drawn:
    x, y = _place(generator).tolist()
    axes = (int(generator.integers(42, 60)), int(generator.integers(30, 44)))
    cv2.ellipse(canvas, ((x, y), (2 * axes[0], 2 * axes[1]), generator.uniform(0, 180)), 255, -1)
    return 3.0, (-40.0, -66.0, -100.0)  # oil: brownish


def _draw_chip(canvas: Image, generator: np.random.Generator) -> _Drawn:
    angles = 2 * np.pi / 7 * (np.arange(7) + generator.uniform(-0.3, 0.3, 7))
    radii = generator.uniform(20, 42, 7)
    points = _place(generator) + np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    cv2.fillPoly(canvas, [points.astype(np.int32)], 255, cv2.LINE_AA)
    return 1.0, (84.0, 80.0, 74.0)  # bare metal


def _draw_fibre(canvas: Image, generator: np.random.Generator) -> _Drawn:
    turns = np.cumsum(generator.normal(0, 0.28, 40)) + generator.uniform(0, 2 * np.pi)
    points = _place(generator) + np.cumsum(5.5 * np.stack([np.cos(turns), np.sin(turns)], axis=1), axis=0)
    _stroke(canvas, points, thickness=9)
    return 1.0, (-88.0, -84.0, -64.0)


_DRAW = {
    DefectKind.SCRATCH: _draw_scratch,
    DefectKind.PIT: _draw_pit,
    DefectKind.STAIN: _draw_stain,
    DefectKind.CHIP: _draw_chip,
    DefectKind.FIBRE: _draw_fibre,
}


def _place(generator: np.random.Generator) -> Image:
    """(x, y) well inside the frame."""
    margin = 260
    return np.array([generator.uniform(margin, side - margin) for side in reversed(FRAME_HW)])


def _near(canvas: Image, generator: np.random.Generator) -> Image:
    ys, xs = np.nonzero(canvas)
    return np.array([xs.mean(), ys.mean()]) + generator.uniform(-30, 30, 2)


def _stroke(canvas: Image, points: Image, thickness: int) -> None:
    cv2.polylines(canvas, [np.round(points).astype(np.int32)], False, 255, thickness, cv2.LINE_AA)
