"""Frames → what the network sees: checked, scaled, RGB, normalised. The same for training and the daemon."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from inspector.config import Preprocessing
from inspector.detection.fixture import Fixture
from inspector.errors import FrameMismatchError
from inspector.types import PixelFormat, Pose

Pixels = np.ndarray[Any, Any]

_MAX_SIDE = 65_536
"""Of a frame that is enlarged: a thin strip off the wire must not claim gigabytes."""


def preprocess(
    pixels: Pixels, pixel_format: PixelFormat, preprocessing: Preprocessing, fixture: Fixture | None = None
) -> Tensor:
    """As `prepare`, without the pose."""
    return prepare(pixels, pixel_format, preprocessing, fixture)[0]


def prepare(
    pixels: Pixels, pixel_format: PixelFormat, preprocessing: Preprocessing, fixture: Fixture | None
) -> tuple[Tensor, Pose | None]:
    """Check a frame and bring it to the network's scale; the same function serves training and the daemon.

    Args:
        pixels: (H, W, 3) or (H, W) uint8, or (H, W) uint16 for Mono16.
        pixel_format: what `pixels` holds.
        preprocessing: what the recipe expects.
        fixture: what the frame is warped onto; None: it stays as it lies.

    Returns:
        (3, h, w) uint8 RGB, h and w as `Preprocessing.scale_hw` says, Mono16 as float32 in [0, 255]; and the pose.

    Raises:
        FrameMismatchError: as `check_frame`.
        NotLocatedError: as `Fixture.locate`.
    """
    image = scale(pixels, pixel_format, preprocessing)
    pose = fixture.locate(image) if fixture else None
    if fixture and pose:
        image = fixture.align(image, pose)
    # torch wants memory it may write to, though nothing here does; pixels off a socket are, a caller's may not be.
    tensor = torch.from_numpy(np.require(image, requirements=["C", "W"]))
    return (tensor.expand(3, *tensor.shape) if tensor.ndim == 2 else tensor.permute(2, 0, 1)), pose


def scale(pixels: Pixels, pixel_format: PixelFormat, preprocessing: Preprocessing) -> Pixels:
    """A frame at the network's scale: (h, w, 3) uint8 RGB, (h, w) uint8, or of Mono16 float32 in [0, 255].

    Raises:
        FrameMismatchError: as `check_frame`.
    """
    check_frame(pixels, pixel_format, preprocessing)
    if pixel_format is PixelFormat.MONO16:
        low, high = preprocessing.mono16_range
        pixels = np.clip((pixels.astype(np.float32) - low) * (255.0 / (high - low)), 0, 255)
    height, width = preprocessing.scale_hw((pixels.shape[0], pixels.shape[1]))
    if (height, width) != pixels.shape[:2]:
        # Area means nothing where pixels become more: OpenCV then repeats them. Linear adds no overshoot to edges, as
        # cubic does, and OpenCV's exact one gives 8-bit pixels the same values on every machine. resize_hw stays with
        # area, which the thresholds of recipes in use were set with.
        enlarges = preprocessing.short_side is not None and height > pixels.shape[0]
        interpolation = cv2.INTER_LINEAR_EXACT if enlarges else cv2.INTER_AREA
        pixels = cv2.resize(pixels, (width, height), interpolation=interpolation)
    if pixel_format is PixelFormat.BGR8:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return pixels


def check_frame(pixels: Pixels, pixel_format: PixelFormat, preprocessing: Preprocessing) -> None:
    """See that a frame has the recipe's size and pixel format, and that scaling it takes no memory beyond reason.

    Raises:
        FrameMismatchError: it has not, or it does.
    """
    expected = preprocessing.pixel_format
    same_colours = {pixel_format, expected} == {PixelFormat.RGB8, PixelFormat.BGR8}
    if pixel_format is not expected and not same_colours:
        raise FrameMismatchError(
            f"pixel_format: the recipe expects {expected}, got {pixel_format}{_hint(expected, pixel_format)}"
        )
    size = (pixels.shape[0], pixels.shape[1])
    if preprocessing.frame_hw is not None and size != preprocessing.frame_hw:
        raise FrameMismatchError(f"frame_hw: the recipe expects {preprocessing.frame_hw}, got {size}")
    if preprocessing.short_side is not None and max(preprocessing.scale_hw(size)) > _MAX_SIDE:
        raise FrameMismatchError(
            f"short_side: must give the longer side at most {_MAX_SIDE} pixels, got {preprocessing.short_side} for a "
            f"frame of {size}"
        )


def _hint(expected: PixelFormat, got: PixelFormat) -> str:
    """Files that look grey may hold colours: their pixels alone do not tell."""
    if expected is PixelFormat.MONO8 and got is PixelFormat.RGB8:
        return " (every WebP is RGB8, and so is a palette or JPEG of colours, however grey: write grey PNG)"
    return ""


def make_blank_frame(frame_hw: tuple[int, int], pixel_format: PixelFormat) -> Pixels:
    """A black frame as a camera would give it: (H, W) or (H, W, 3), of the format's dtype."""
    dtype = np.uint16 if pixel_format is PixelFormat.MONO16 else np.uint8
    is_grey = pixel_format in {PixelFormat.MONO8, PixelFormat.MONO16}
    return np.zeros(frame_hw if is_grey else (*frame_hw, 3), dtype=dtype)


def normalise(tiles: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 or float tiles (n, 3, t, t) in [0, 255] → float32, mean and deviation of the recipe."""
    mean = torch.tensor(preprocessing.normalisation.mean, device=tiles.device).view(3, 1, 1) * 255
    std = torch.tensor(preprocessing.normalisation.std, device=tiles.device).view(3, 1, 1) * 255
    return (tiles.float() - mean) / std
