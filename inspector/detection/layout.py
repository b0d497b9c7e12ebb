"""What maps of a size are like under a recipe's masks: its parts, and the tiles that must run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inspector.config import Recipe
from inspector.detection.decision import Mask
from inspector.detection.parts import MASK_ASPECT_TOLERANCE, Parts, build_parts, check_parts
from inspector.detection.tiling import Tiler
from inspector.errors import FrameMismatchError, RecipeError


@dataclass(frozen=True, slots=True)
class Layout:
    """For maps of one size.

    Attributes:
        parts: where anomalies count.
        tiles: those that must run.
        counts: (h, w) bool on the device: what any part shows; None: everything.
        gain: `parts.gain` on the device.
    """

    parts: Parts
    tiles: tuple[int, ...]
    counts: Tensor | None
    gain: Tensor | None


class Layouts:
    """Layouts by size, computed when the first map of a size comes; one size is kept."""

    def __init__(
        self,
        recipe: Recipe,
        tiler: Tiler,
        roi: Mask | None,
        zones: Sequence[tuple[Mask, float]],
        *,
        device: torch.device,
        whole_maps: bool,
    ) -> None:
        """Keep what they follow from.

        Args:
            recipe: whose.
            tiler: cuts its frames.
            roi: its region of interest; None: everywhere.
            zones: mask and gain of each of its zones.
            device: where maps are.
            whole_maps: run the tiles in which nothing counts, too.
        """
        self._recipe = recipe
        self._tiler = tiler
        self._roi = roi
        self._zones = zones
        self._device = device
        self._whole_maps = whole_maps
        self._kept: dict[tuple[int, ...], Layout] = {}

    def get(self, shape: tuple[int, ...]) -> Layout:
        """For maps of `shape` (h, w).

        Raises:
            FrameMismatchError: the masks do not fit it, or nothing there could ever fail.
        """
        if shape not in self._kept:
            self._kept = {shape: self._lay_out(shape)}
        return self._kept[shape]

    def _lay_out(self, shape: tuple[int, ...]) -> Layout:
        self._check_masks(shape)
        parts = build_parts(shape, self._roi, self._zones)
        grid = self._tiler.grid((shape[0], shape[1]))
        counted = [mask for mask in parts.masks if mask is not None]
        tiles = tuple(range(len(grid)))
        if counted and not self._whole_maps:
            tiles = grid.overlapping(np.maximum.reduce(counted))
        if not tiles:
            raise FrameMismatchError(
                f"frame: the region of interest must cover part of the map, got none in a map of {shape}"
            )
        try:
            check_parts(self._recipe, parts, shape)
        except RecipeError as error:  # in frames of this size
            raise FrameMismatchError(f"frame: {error}") from error
        gain = None if parts.gain is None else torch.from_numpy(parts.gain).to(self._device)
        return Layout(parts, tiles, self._find_counts(counted), gain)

    def _find_counts(self, masks: Sequence[Mask]) -> Tensor | None:
        if not masks:
            return None
        counts = np.maximum.reduce(masks) > 0
        return None if counts.all() else torch.from_numpy(counts).to(self._device)

    def _check_masks(self, shape: tuple[int, ...]) -> None:
        if self._recipe.preprocessing.resize_hw is not None:
            return  # the map no longer has the frame's aspect
        for mask in [mask for mask in (self._roi, *(mask for mask, _ in self._zones)) if mask is not None]:
            if abs(mask.shape[1] * shape[0] / (mask.shape[0] * shape[1]) - 1) > MASK_ASPECT_TOLERANCE:
                raise FrameMismatchError(
                    f"frame: must have the aspect ratio of its mask {mask.shape}, got a map of {shape}"
                )
