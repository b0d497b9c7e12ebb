"""Cutting frames into tiles and blending tile maps back. Frozen and stateless: safe to share between threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


class TilingMode(StrEnum):
    """SEAMLESS: last tile shifted inward, small frames reflected, overlap blended by a window.

    ANOMALIB: zero padding to a whole number of strides and plain average, as anomalib's Tiler, for comparison.
    """

    SEAMLESS = "seamless"
    ANOMALIB = "anomalib"


@dataclass(frozen=True)
class Tiler:
    """How frames of any size are tiled.

    Attributes:
        tile_size: (square) tile side in pixels.
        stride: step between tiles; at most `tile_size`, so that every pixel is seen.
        mode: see `TilingMode`.

    Raises:
        ValueError: a size below 1, or a stride that would leave gaps.
    """

    tile_size: int
    stride: int
    mode: TilingMode = TilingMode.SEAMLESS

    def __post_init__(self) -> None:
        if self.tile_size < 1:
            raise ValueError(f"tile_size: must be at least 1, got {self.tile_size}")
        if not 1 <= self.stride <= self.tile_size:
            raise ValueError(f"stride: must be 1 to tile_size ({self.tile_size}), got {self.stride}")

    def grid(self, frame_hw: tuple[int, int]) -> TileGrid:
        """The grid for one frame size; cached, since a camera keeps its size."""
        return _build_grid(self, frame_hw)


@dataclass(frozen=True)
class TileGrid:
    """The tiles of one frame size, in row-major order. Built by `Tiler.grid`."""

    tiler: Tiler
    frame_hw: tuple[int, int]

    def __post_init__(self) -> None:
        if min(self.frame_hw) < 1:
            raise ValueError(f"frame_hw: height and width must be at least 1, got {self.frame_hw}")

    @cached_property
    def tops(self) -> tuple[int, ...]:
        """First row of each tile row, in pixels."""
        return self._offsets(self.frame_hw[0])

    @cached_property
    def lefts(self) -> tuple[int, ...]:
        """First column of each tile column, in pixels."""
        return self._offsets(self.frame_hw[1])

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def _offsets(self, length: int) -> tuple[int, ...]:
        tile, stride = self.tiler.tile_size, self.tiler.stride
        steps = max(0, -(-(length - tile) // stride))  # ceiling division
        offsets = [step * stride for step in range(steps + 1)]
        if self.tiler.mode is TilingMode.SEAMLESS and steps:
            offsets[-1] = length - tile  # shifted inward: no made-up pixels
        return tuple(offsets)

    def tile(self, image: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Cut tiles `start` to `stop` out of an image.

        Args:
            image: (C, H, W) or (H, W), any dtype and device.
            start, stop: range in row-major tile order; all by default.

        Returns:
            (n, C, tile_size, tile_size) or (n, tile_size, tile_size), dtype and device kept.

        Raises:
            ValueError: the image is not of this grid's size.
        """
        padded = self.pad(image)
        side = self.tiler.tile_size
        indices = range(start, len(self) if stop is None else stop)
        return torch.stack([padded[..., y : y + side, x : x + side] for y, x in map(self._corner, indices)])

    def cut(self, padded: Tensor, indices: Sequence[int], tiles: Tensor) -> None:
        """Copy the tiles `indices` of an image that `pad` gave into `tiles` (n, C, tile_size, tile_size)."""
        side = self.tiler.tile_size
        for index, tile in zip(indices, tiles, strict=True):
            y, x = self._corner(index)
            tile.copy_(padded[..., y : y + side, x : x + side])

    def untile(self, tiles: Tensor) -> Tensor:
        """Blend all tiles (N, C, t, t) or (N, t, t) back into (C, H, W) or (H, W), dtype and device kept.

        Overlaps are weighted means; NaN stays NaN. Integers are rounded.

        Raises:
            ValueError: the number or size of the tiles is not this grid's.
        """
        side = self.tiler.tile_size
        if tiles.shape[0] != len(self) or tuple(tiles.shape[-2:]) != (side, side):
            wanted = f"{len(self)} tiles of {side}×{side}"
            raise ValueError(f"tiles: must be {wanted}, got {tuple(tiles.shape)}")
        canvas = self.blank(tiles.shape[1:-2], tiles.dtype, tiles.device)
        self.blend(canvas, tiles, range(len(self)))
        image = self.crop(canvas)
        if not tiles.dtype.is_floating_point:
            image = image.round()
        return image.to(tiles.dtype)

    def blank(self, leading: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """A canvas of zeros (*leading, H, W), padded where tiles reach beyond the frame, for `blend`."""
        precise = dtype in {torch.float64, torch.int32, torch.int64, torch.uint16, torch.uint32}
        height, width = self._extent
        return torch.zeros((*leading, height, width), dtype=torch.float64 if precise else torch.float32, device=device)

    def blend(self, canvas: Tensor, tiles: Tensor, indices: Sequence[int]) -> None:
        """Add the tiles `indices` into the caller's canvas, weighted so that all tiles sum to the image.

        Micro-batches call this one after another, so memory holds one canvas and one batch, whatever the frame.
        """
        side = self.tiler.tile_size
        rows, columns = self._weights_for(canvas)
        for index, tile in zip(indices, tiles, strict=True):
            y, x = self._corner(index)
            row, column = divmod(index, len(self.lefts))
            place = canvas[..., y : y + side, x : x + side]
            if self._lonely[row, column]:
                place.copy_(tile)
            else:
                place += rows[row][:, None] * columns[column] * tile.to(canvas.dtype)

    def overlapping(self, mask: np.ndarray[Any, Any]) -> tuple[int, ...]:
        """Tiles in which anything of `mask` (H, W) is above 0."""
        side = self.tiler.tile_size
        corners = map(self._corner, range(len(self)))
        return tuple(index for index, (y, x) in enumerate(corners) if mask[y : y + side, x : x + side].any())

    def crop(self, canvas: Tensor) -> Tensor:
        """The frame's part of a canvas."""
        return canvas[..., : self.frame_hw[0], : self.frame_hw[1]]

    def _corner(self, index: int) -> tuple[int, int]:
        row, column = divmod(index, len(self.lefts))
        return self.tops[row], self.lefts[column]

    @property
    def _extent(self) -> tuple[int, int]:
        return self.tops[-1] + self.tiler.tile_size, self.lefts[-1] + self.tiler.tile_size

    def pad(self, image: Tensor) -> Tensor:
        """The image (…, H, W), made up beyond its edges where tiles reach there; itself where none does.

        Raises:
            ValueError: the image is not of this grid's size.
        """
        if tuple(image.shape[-2:]) != self.frame_hw:
            raise ValueError(f"image: height and width must be {self.frame_hw}, got {tuple(image.shape[-2:])}")
        (height, width), (tall, wide) = self.frame_hw, self._extent
        if (tall, wide) == (height, width):
            return image
        if self.tiler.mode is TilingMode.ANOMALIB:
            return F.pad(image, (0, wide - width, 0, tall - height))
        rows = torch.from_numpy(_reflect(height, tall)).to(image.device)
        columns = torch.from_numpy(_reflect(width, wide)).to(image.device)
        return image[..., rows[:, None], columns]

    @cached_property
    def _weights(self) -> tuple[Tensor, Tensor]:
        height, width = self._extent
        return self._axis_weights(self.tops, height), self._axis_weights(self.lefts, width)

    def _weights_for(self, canvas: Tensor) -> tuple[Tensor, Tensor]:
        """The weights in a canvas's dtype and on its device; brought there once, since a device must wait for that."""
        key = (canvas.dtype, canvas.device)
        if key not in self._weights_by_canvas:
            rows, columns = self._weights
            self._weights_by_canvas[key] = (rows.to(canvas), columns.to(canvas))
        return self._weights_by_canvas[key]

    @cached_property
    def _weights_by_canvas(self) -> dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]]:
        return {}

    @cached_property
    def _lonely(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(rows, columns): tiles that share no pixel with another, so that nothing has to be weighed."""
        alone = [(weights == 1).all(dim=1).numpy() for weights in self._weights]
        return np.asarray(np.logical_and.outer(*alone), dtype=np.bool_)

    def _axis_weights(self, offsets: tuple[int, ...], extent: int) -> Tensor:
        # A grid's overlaps are a product of two axes, so normalising each axis normalises the whole.
        side = self.tiler.tile_size
        ramp = np.minimum(np.arange(1, side + 1), np.arange(side, 0, -1)).astype(np.float64)
        window = np.ones(side) if self.tiler.mode is TilingMode.ANOMALIB else ramp
        total = np.zeros(extent)
        for offset in offsets:
            total[offset : offset + side] += window
        return torch.from_numpy(np.stack([window / total[offset : offset + side] for offset in offsets]))


@lru_cache(maxsize=64)
def _build_grid(tiler: Tiler, frame_hw: tuple[int, int]) -> TileGrid:
    grid = TileGrid(tiler, frame_hw)
    _ = (
        grid.tops,
        grid.lefts,
        grid._weights,
        grid._lonely,
        grid._weights_by_canvas,
    )  # computed here once, so that sharing threads only read
    return grid


def _reflect(length: int, extent: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Indices 0 … extent−1 reflected into [0, length), without repeating the edge; any extent."""
    period = max(1, 2 * (length - 1))
    position = np.arange(extent) % period
    return np.minimum(position, period - position) if length > 1 else np.zeros(extent, dtype=np.int64)
