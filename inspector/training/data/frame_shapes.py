"""What becomes of the shape of good frames on their way to tiles, said where it is not what one would expect."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from inspector.config import Preprocessing

logger = logging.getLogger(__name__)

_SQUEEZED = 0.1
"""Change of the aspect from which on it is worth a word."""


def warn_of_shapes(sizes: Sequence[tuple[int, int]], preprocessing: Preprocessing, tile_size: int) -> None:
    """Say, once each, when frames are squeezed to another aspect and when they are mirrored to fill a tile.

    Args:
        sizes: height and width of each frame in sensor pixels.
        preprocessing: how they are scaled.
        tile_size: pixels of the scaled frame.
    """
    _warn_of_squeezed(sizes, preprocessing)
    scaled = [preprocessing.scale_hw(size) for size in sizes]
    small = [size for size in scaled if min(size) < tile_size]
    if small:
        height, width = min(small, key=min)
        logger.warning(
            "%d of %d frames are smaller than a tile and are mirrored to fill it (%d × %d up to %d × %d); "
            "--short-side %d "
            "enlarges them instead",
            *(len(small), len(sizes), height, width, max(height, tile_size), max(width, tile_size), tile_size),
        )


def _warn_of_squeezed(sizes: Sequence[tuple[int, int]], preprocessing: Preprocessing) -> None:
    """Without `resize_hw` the aspect changes by less than a pixel's rounding."""
    if preprocessing.resize_hw is None:
        return
    changes = {size: _compute_change(size, preprocessing.resize_hw) for size in sizes}
    count = sum(changes[size] > _SQUEEZED for size in sizes)
    if count:
        worst = max(changes, key=changes.__getitem__)
        logger.warning(
            "--resize %d %d distorts %d of %d frames, most of all those of %d × %d: one side is scaled %.2f times as "
            "much as the other; --short-side keeps the aspect",
            *(*preprocessing.resize_hw, count, len(sizes), *worst, 1 + changes[worst]),
        )


def _compute_change(frame_hw: tuple[int, int], resize_hw: tuple[int, int]) -> float:
    """How much more one side is squeezed than the other, from 0."""
    down, across = (after / before for after, before in zip(resize_hw, frame_hw, strict=True))
    return max(down, across) / min(down, across) - 1
