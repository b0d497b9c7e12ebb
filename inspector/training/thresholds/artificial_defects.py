"""Artificial defects to measure with: lines, spots and dents of a known size and contrast.

They are none of those that training makes up (`pseudo_defects`), so that what is measured is not what was learnt.
Sizes are in sensor pixels: the frame as it comes, before it is scaled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import erf
from scipy.stats import qmc

from inspector.config.qualification import DefectKind
from inspector.detection.preprocessing import Pixels
from inspector.errors import TrainingError

Array = np.ndarray[Any, np.dtype[np.float64]]

SIZES_PX = (1.0, 32.0)
CONTRASTS = (5.0, 120.0)

_BLUR = 0.5  # px, standard deviation: no lens and no pixel draws an edge sharper than that
_SHORTEST_LINE = 20.0
_WIDTHS = 10.0, 40.0  # of a line: how many times its width it is long
_BEND = 0.1  # at most so much of its length a line leaves the straight
_VISIBLE = 0.05  # of the contrast: where less is added, there is no defect


@dataclass(frozen=True, slots=True)
class ArtificialDefect:
    """One defect to draw.

    Attributes:
        kind: what.
        size_px: a line's width, a spot's or a dent's diameter, in sensor pixels.
        contrast: grey levels of 255 (of the recipe's `mono16_range` for Mono16) by which it differs before the optics
            blur it, a dent's after that.
        length_px: of a line; as `size_px` for the others.
        angle: of a line, or of the light on a dent, in radians.
        bend: how far a line's ends leave the straight, as a share of its length.
        bright: whether it is brighter than its surroundings, where there is room for that.
    """

    kind: DefectKind
    size_px: float
    contrast: float
    length_px: float
    angle: float
    bend: float = 0.0
    bright: bool = True

    @property
    def reach_px(self) -> float:
        """How far from its centre it reaches at most, in sensor pixels."""
        beside = self.size_px / 2 if self.kind is DefectKind.LINE else 0.0
        return math.hypot(1, self.bend) * self.length_px / 2 + beside + 4 * _BLUR


@dataclass(frozen=True, slots=True)
class Footprint:
    """Where a defect is: its mask (h, w) bool, and the frame's pixel at which that begins."""

    top: int
    left: int
    mask: np.ndarray[Any, np.dtype[np.bool_]]


def draw_defects(kind: DefectKind, n: int, room_px: float, generator: np.random.Generator) -> list[ArtificialDefect]:
    """Choose `n` defects of one kind, sizes and contrasts log-uniform and spread evenly (a Latin hypercube).

    Args:
        kind: of which.
        n: how many.
        room_px: side in sensor pixels of the square that each must fit into: sizes go up to a quarter of it.
        generator: everything random comes from it.

    Raises:
        TrainingError: there is not even room for the smallest.
    """
    largest = min(SIZES_PX[1], room_px / 4)
    if largest <= SIZES_PX[0]:
        raise TrainingError(f"artificial defects: frames must be more than {4 * SIZES_PX[0]:g} px, got {room_px:g}")
    # scipy calls this argument `rng` from 1.15 on, and still takes its old name.
    plane = qmc.LatinHypercube(2, seed=generator).random(n)
    sizes, contrasts = (
        low * (high / low) ** places
        for (low, high), places in zip(((SIZES_PX[0], largest), CONTRASTS), plane.T, strict=True)
    )
    return [
        _draw_one(kind, *values, room_px, generator) for values in zip(sizes.tolist(), contrasts.tolist(), strict=True)
    ]


def _draw_one(
    kind: DefectKind, size: float, contrast: float, room_px: float, generator: np.random.Generator
) -> ArtificialDefect:
    line = kind is DefectKind.LINE
    length = min(max(_SHORTEST_LINE, size * generator.uniform(*_WIDTHS)), 0.7 * room_px) if line else size
    return ArtificialDefect(
        kind=kind,
        size_px=size,
        contrast=contrast,
        length_px=length,
        angle=generator.uniform(0, 2 * math.pi),
        bend=generator.uniform(-_BEND, _BEND) if line else 0.0,
        bright=bool(generator.random() < 0.5),
    )


def add(
    pixels: Pixels,
    centre_yx: tuple[float, float],
    defect: ArtificialDefect,
    mono16_range: tuple[int, int] = (0, 65_535),
) -> Footprint:
    """Draw a defect into `pixels`; what lies beyond the frame is cut off.

    A line or a spot takes the other polarity where there is no room for its own: nothing is brighter than white.

    Args:
        pixels: (H, W, 3) or (H, W) uint8, or (H, W) uint16; changed.
        centre_yx: row and column, from the first pixel's centre; fractions count.
        defect: what.
        mono16_range: which values of uint16 become 0 and 255.

    Returns:
        Where it is.
    """
    top, left, profile = _render(pixels.shape[:2], centre_yx, defect)
    place = pixels[top : top + profile.shape[0], left : left + profile.shape[1]]
    low, high = mono16_range if pixels.dtype == np.uint16 else (0, 255)
    unit = (high - low) / 255
    weights = np.abs(profile)
    grey = place if place.ndim == 2 else place.mean(axis=2)
    level = (float((grey * weights).sum() / max(weights.sum(), 1e-9)) - low) / unit
    step = _choose_sign(defect, level) * defect.contrast * unit * profile
    changed = place.astype(np.float64) + (step if place.ndim == 2 else step[..., None])
    place[...] = np.clip(np.rint(changed), 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
    return Footprint(top, left, weights > _VISIBLE)


def _choose_sign(defect: ArtificialDefect, level: float) -> int:
    rooms = {1: 255 - level, -1: level}
    wanted = 1 if defect.bright else -1
    return wanted if rooms[wanted] >= defect.contrast or rooms[wanted] >= rooms[-wanted] else -wanted


def _render(
    frame_hw: tuple[int, ...], centre_yx: tuple[float, float], defect: ArtificialDefect
) -> tuple[int, int, Array]:
    """The defect at contrast 1 (h, w), and the frame's pixel at which that begins."""
    spans = [
        np.arange(max(0, math.floor(centre - defect.reach_px)), min(side, math.ceil(centre + defect.reach_px) + 1))
        for centre, side in zip(centre_yx, frame_hw, strict=True)
    ]
    down, across = spans[0][:, None] - centre_yx[0], spans[1][None, :] - centre_yx[1]
    cosine, sine = math.cos(defect.angle), math.sin(defect.angle)
    profile = _PROFILES[defect.kind](cosine * across + sine * down, cosine * down - sine * across, defect)
    return int(spans[0][0]), int(spans[1][0]), profile


def _draw_line(along: Array, beside: Array, defect: ArtificialDefect) -> Array:
    """A part of a parabola, a blurred box across and along."""
    curve = 4 * defect.bend / defect.length_px  # so that at ± length / 2 it is bend × length off
    distance = (beside - curve * (along**2 - defect.length_px**2 / 8)) / np.sqrt(1 + (2 * curve * along) ** 2)
    return _blur_box(distance, defect.size_px) * _blur_box(along, defect.length_px)


def _draw_spot(along: Array, beside: Array, defect: ArtificialDefect) -> Array:
    return _blur_box(np.hypot(along, beside), defect.size_px)


def _draw_dent(along: Array, beside: Array, defect: ArtificialDefect) -> Array:
    """The derivative of a Gaussian, six standard deviations across: bright where it faces the light, dark behind."""
    spread = math.hypot(defect.size_px / 6, _BLUR)
    return -along / spread * np.exp((1 - (along**2 + beside**2) / spread**2) / 2)


_PROFILES: Mapping[DefectKind, Callable[[Array, Array, ArtificialDefect], Array]] = {
    DefectKind.LINE: _draw_line,
    DefectKind.SPOT: _draw_spot,
    DefectKind.DENT: _draw_dent,
}


def _blur_box(distance: Array, width: float) -> Array:
    """A box of height 1 through the optics: at `distance` from its middle; narrower than the blur it is lower, too."""
    scale = math.sqrt(2) * _BLUR
    return np.asarray((erf((distance + width / 2) / scale) - erf((distance - width / 2) / scale)) / 2)
