"""A part that moves under the camera: drawn, shifted and turned."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

Picture = np.ndarray[Any, Any]

FRAME_HW = (240, 320)
"""Height and width in pixels."""
PART_XYXY = (90, 70, 230, 170)
"""Where the part is when it is not moved: left, top, right, bottom."""
_BACKGROUND = 70


def draw_part(holes: int = 1, noise: int = 0) -> Picture:
    """A plate with holes: (240, 320, 3) uint8 RGB.

    Args:
        holes: seed of where they are: another one is another part.
        noise: seed of the sensor's noise.
    """
    frame = np.full((*FRAME_HW, 3), _BACKGROUND, dtype=np.uint8)
    left, top, right, bottom = PART_XYXY
    cv2.rectangle(frame, (left, top), (right, bottom), (150, 155, 160), -1)
    places = np.random.default_rng(holes)
    for _ in range(10):
        x, y = int(places.integers(left + 10, right - 10)), int(places.integers(top + 10, bottom - 10))
        shade = int(places.integers(20, 240))
        cv2.circle(frame, (x, y), int(places.integers(3, 10)), (shade, shade, shade), -1)
    return add_noise(frame, noise)


def add_noise(frame: Picture, seed: int) -> Picture:
    """The sensor's, two grey levels."""
    grain = np.random.default_rng(seed).normal(0, 2, frame.shape)
    return np.clip(frame + grain, 0, 255).astype(np.uint8)


def move(frame: Picture, dx_px: float = 0, dy_px: float = 0, angle_deg: float = 0, scale: float = 1) -> Picture:
    """A frame in which everything is turned about the middle (clockwise in the picture), scaled, then shifted."""
    height, width = frame.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -angle_deg, scale)
    matrix[:, 2] += (dx_px, dy_px)
    background = (_BACKGROUND,) * 3
    return np.asarray(cv2.warpAffine(frame, matrix, (width, height), borderValue=background))


def draw_mask(margin_px: int = 6) -> Picture:
    """Region of interest: the part and a margin, (240, 320) uint8."""
    mask = np.zeros(FRAME_HW, dtype=np.uint8)
    left, top, right, bottom = PART_XYXY
    mask[top - margin_px : bottom + margin_px, left - margin_px : right + margin_px] = 255
    return mask
