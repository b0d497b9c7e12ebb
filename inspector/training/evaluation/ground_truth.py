"""Masks of test frames: which pixels show a defect, and which label each has where a mask holds several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inspector.codec import Pixels, decode_image
from inspector.errors import BadFrameError
from inspector.files import read_whole
from inspector.training.evaluation.image_metrics import GOOD

Array = np.ndarray[Any, Any]

UNTOLD = -1
"""The label of defects in a mask whose colours have soft edges: there, which label a pixel has is not told."""

_MOST_LABELS = 32
_COLOUR = 1 << 24
_NEAR = np.ones((5, 5), np.uint8)
_ALIKE = np.ones((3, 3), np.uint8)


def find_mask(dataset_dir: Path, path: Path) -> Path | None:
    """The mask of a test frame in MVTec layout; None where there is none, and for good frames."""
    if path.parent.name == GOOD:
        return None
    masks = dataset_dir / "ground_truth" / path.parent.name
    candidates = (masks / f"{path.stem}_mask.png", masks / f"{path.stem}.png")
    return next((mask for mask in candidates if mask.is_file()), None)


def read_mask(path: Path, frame_hw: tuple[int, int]) -> Array:
    """Mask (H, W) uint8, 1 on defects of any label; as `read_labels`."""
    return np.asarray(read_labels(path, frame_hw) != 0, dtype=np.uint8)


def read_labels(path: Path, frame_hw: tuple[int, int]) -> Array:
    """Labels (H, W) int32 of a mask: 0 where there is no defect; see `name_label` for the others.

    Every value above 0 is a label, and so is every colour but black: all of them are defects. Soft edges are the
    exception, in masks that are drawn for the eye, whose highest value is above half of white: there, what is above
    half of the highest value is a defect. Edges are soft where all that is darker than the defects lies within 2
    pixels of them, or where there are more than 32 values.

    Raises:
        BadFrameError: it cannot be read, is not of its image's size, or may hold labels or soft edges.
    """
    try:
        pixels, _ = decode_image(read_whole(path))
    except (OSError, BadFrameError) as error:
        raise BadFrameError(f"{path}: mask: must be an image that can be read: {error}") from error
    if pixels.shape[:2] != frame_hw:
        raise BadFrameError(f"{path}: mask: must have its image's size {frame_hw}, got {pixels.shape[:2]}")
    grey = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    try:
        return _tell_apart(grey, _encode(pixels, grey))
    except BadFrameError as error:
        raise BadFrameError(f"{path}: {error}") from error


def name_label(label: int) -> str:
    """A label as people know it: its grey value, or its colour as #rrggbb."""
    if label == UNTOLD:
        return "not told apart"
    return f"#{label - _COLOUR:06x}" if label >= _COLOUR else str(label)


def _encode(pixels: Pixels, grey: Array) -> Array:
    """Grey values as they are, from 1 to 65535; colours as 0xrrggbb, above all of these; black is 0."""
    if pixels.ndim == 2 or (pixels == grey[..., None]).all():
        return grey.astype(np.int32)
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    return np.where(grey > 0, _COLOUR + (red << 16) + (green << 8) + blue, 0).astype(np.int32)


def _tell_apart(grey: Array, codes: Array) -> Array:
    highest, white = int(grey.max()), np.iinfo(grey.dtype).max
    values = np.unique(codes[codes > 0])
    if highest <= white // 2 or len(values) == 1:
        return codes
    top = grey > highest / 16 * 15
    tops = np.unique(codes[top])
    far = (grey > highest / 16) & (cv2.dilate(top.astype(np.uint8), _NEAR) == 0)
    if len(values) <= _MOST_LABELS and (far.any() or len(tops) == len(values)):
        return codes
    defect = grey > highest / 2
    # A patch of one value is no edge; what compression leaves is darker.
    alike = cv2.dilate(grey, _ALIKE) == cv2.erode(grey, _ALIKE)
    if (alike & ~defect & (grey > highest / 16)).any():
        raise BadFrameError(
            f"mask: must hold labels, as at most {_MOST_LABELS} values with hard edges, or defects in white with soft "
            f"edges, got {len(values)} values up to {highest}, with patches of one value up to half of that"
        )
    label = highest if highest == codes.max() else int(tops[0]) if len(tops) == 1 else UNTOLD
    return np.where(defect, label, 0).astype(np.int32)
