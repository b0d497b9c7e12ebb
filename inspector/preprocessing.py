"""Frames → what the network sees: checked, scaled, RGB, normalised. The same for training and the daemon."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from inspector.config import Preprocessing
from inspector.errors import FrameMismatchError
from inspector.types import PixelFormat

Pixels = np.ndarray[Any, Any]


def preprocess(pixels: Pixels, pixel_format: PixelFormat, preprocessing: Preprocessing) -> Tensor:
    """Check a frame and bring it to the network's scale; the same function serves training and the daemon.

    Args:
        pixels: (H, W, 3) or (H, W) uint8, or (H, W) uint16 for Mono16.
        pixel_format: what `pixels` holds.
        preprocessing: what the recipe expects.

    Returns:
        (3, h, w) uint8 RGB, h and w scaled, or `resize_hw`; Mono16 is float32 in [0, 255].

    Raises:
        FrameMismatchError: another size or pixel format than the recipe's.
    """
    check_frame(pixels, pixel_format, preprocessing)
    if pixel_format is PixelFormat.MONO16:
        low, high = preprocessing.mono16_range
        pixels = np.clip((pixels.astype(np.float32) - low) * (255.0 / (high - low)), 0, 255)
    height, width = preprocessing.resize_hw or (max(1, round(n * preprocessing.scale)) for n in pixels.shape[:2])
    if (height, width) != pixels.shape[:2]:
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    if pixel_format is PixelFormat.BGR8:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    # torch wants memory it may write to, though nothing here does; pixels off a socket are, a caller's may not be.
    image = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
    if image.ndim == 2:
        return image.expand(3, *image.shape)
    return image.permute(2, 0, 1)


def check_frame(pixels: Pixels, pixel_format: PixelFormat, preprocessing: Preprocessing) -> None:
    """See that a frame has the recipe's size and pixel format.

    Raises:
        FrameMismatchError: another one.
    """
    expected = preprocessing.pixel_format
    same_colours = {pixel_format, expected} == {PixelFormat.RGB8, PixelFormat.BGR8}
    if pixel_format is not expected and not same_colours:
        raise FrameMismatchError(f"pixel_format: the recipe expects {expected}, got {pixel_format}")
    size = tuple(pixels.shape[:2])
    if preprocessing.frame_hw is not None and size != preprocessing.frame_hw:
        raise FrameMismatchError(f"frame_hw: the recipe expects {preprocessing.frame_hw}, got {size}")


def normalise(tiles: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 or float tiles (n, 3, t, t) in [0, 255] → float32, mean and deviation of the recipe."""
    mean = torch.tensor(preprocessing.normalisation.mean, device=tiles.device).view(3, 1, 1) * 255
    std = torch.tensor(preprocessing.normalisation.std, device=tiles.device).view(3, 1, 1) * 255
    return (tiles.float() - mean) / std
