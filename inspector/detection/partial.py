"""The decision from the few blocks of a map that it rests on; the rest stays on the device, and is labelled by nobody.

A block is `BLOCK` × `BLOCK` pixels. Each block's highest value says whether any of it lies above a level. Blocks that
touch one another are put together to patches: a connected area above that level lies in one patch, whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from inspector.detection.decision import Decision, Map, Mask, find_level, find_regions, rank
from inspector.types import Reason, Region, Verdict

BLOCK = 32
_FIRST_BLOCKS = 16
_MOST_BLOCKS = 1024
"""More are not picked out one by one: then the whole map is the cheaper way."""

Blocks = np.ndarray[Any, np.dtype[np.int64]]
"""(n, 2): rows and columns of blocks."""

ReadBlocks = Callable[[Blocks], Map]
"""Values (n, BLOCK, BLOCK) of blocks; what lies beyond the map's edge may be anything."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What is known of a map (h, w) without its pixels.

    Attributes:
        shape: (h, w).
        low, high: over the whole map; not finite where any pixel is not.
        peaks: (rows, columns) float32, the highest value of each block, 0 standing for pixels that do not count.
    """

    shape: tuple[int, int]
    low: float
    high: float
    peaks: Map

    @property
    def is_finite(self) -> bool:
        """Whether each pixel is."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))


def summarise(anomaly_map: Tensor, counts: Tensor | None) -> Tensor:
    """A map's summary as one vector float32 on its device; `parse` reads it.

    Args:
        anomaly_map: (h, w) float32.
        counts: (h, w) bool, where anomalies count; None: everywhere.
    """
    bounds = [anomaly_map.amin()]
    if counts is not None:
        bounds.append(anomaly_map.amax())
        anomaly_map = torch.where(counts, anomaly_map, 0.0)
    peaks = _reduce_rows(_reduce_rows(anomaly_map).T).T
    if counts is None:
        bounds.append(peaks.amax())
    return torch.cat([torch.stack(bounds), peaks.flatten()])


def parse(values: np.ndarray[Any, Any], shape: tuple[int, int]) -> Summary:
    """What `summarise` gave for a map of `shape`."""
    return Summary(shape, float(values[0]), float(values[1]), values[2:].reshape(-(-shape[0] // BLOCK), -1))


def _reduce_rows(values: Tensor) -> Tensor:
    """(h, w) → (ceil(h / BLOCK), w): the highest of each BLOCK rows. NaN is carried on."""
    whole = len(values) // BLOCK * BLOCK
    reduced = values[:0]
    if whole:
        groups: Tensor = values[:whole].unflatten(0, (-1, BLOCK))  # type: ignore[no-untyped-call]
        # torch takes four times as long for this on a CPU
        reduced = torch.from_numpy(groups.numpy().max(1)) if groups.device.type == "cpu" else groups.amax(1)
    return reduced if whole == len(values) else torch.cat([reduced, values[whole:].amax(0, keepdim=True)])


def gather(anomaly_map: Tensor, blocks: Blocks) -> Tensor:
    """The values (n, BLOCK, BLOCK) of blocks of a map (h, w), on its device; the edge is repeated beyond it."""
    height, width = anomaly_map.shape
    corners = torch.from_numpy(blocks * BLOCK).to(anomaly_map.device)
    steps = torch.arange(BLOCK, device=anomaly_map.device)
    rows = (corners[:, :1] + steps).clamp(max=height - 1)
    columns = (corners[:, 1:] + steps).clamp(max=width - 1)
    return anomaly_map[rows[:, :, None], columns[:, None, :]]


def shrink(anomaly_map: Tensor, step: int) -> Tensor:
    """The highest of each `step` × `step` values of a map (h, w), on its device: no peak is lost. 1: the map itself."""
    if step == 1:
        return anomaly_map
    return F.max_pool2d(anomaly_map[None], step, step, ceil_mode=True)[0]


@dataclass(frozen=True, slots=True)
class _Patch:
    """A piece of a map: blocks that touch, -inf between them where another patch's may lie."""

    top: int
    left: int
    values: Map

    def mask(self, mask: Mask | None) -> Map:
        """Its values, 0 where a mask of the whole map is 0."""
        if mask is None:
            return self.values
        height, width = self.values.shape
        inside = mask[self.top : self.top + height, self.left : self.left + width] > 0
        return np.where(inside, self.values, np.float32(0))


def decide_partially(
    summary: Summary,
    read: ReadBlocks,
    threshold: float,
    *,
    masks: Sequence[Mask | None] = (None,),
    min_region_area: int = 1,
    scale_hw: tuple[float, float] = (1.0, 1.0),
    warn_above: float | None = None,
) -> Decision | None:
    """As `merge` of `decide` on each part, from the blocks that matter; None: it takes the whole map.

    Args:
        summary: of the map; `counts` of it: what any of `masks` shows.
        read: gives the blocks asked for.
        threshold, min_region_area, scale_hw, warn_above: as for `decide`.
        masks: (h, w) of each part, which do not overlap; None: everywhere.
    """
    if not summary.is_finite or min_region_area > summary.shape[0] * summary.shape[1]:
        return None  # refused there, in words
    pieces = _Pieces(summary, read, masks)
    score = pieces.compute_score(min_region_area)
    if score is None:
        return None
    if score <= threshold:
        return Decision(Verdict.PASS, Reason.OK, score, (), warn=warn_above is not None and score > warn_above)
    patches = pieces.cut(threshold)
    if patches is None:
        return None
    regions: list[Region] = []
    for patch in patches:
        for mask in masks:
            values, corner = patch.mask(mask), (patch.top, patch.left)
            regions += find_regions(values, threshold, min_region_area, scale_hw, corner)
    return Decision(Verdict.FAIL, Reason.DEFECT, score, rank(regions))


class _Pieces:
    """A map's blocks, read when they are needed, each once."""

    def __init__(self, summary: Summary, read: ReadBlocks, masks: Sequence[Mask | None]) -> None:
        self._summary = summary
        self._read = read
        self._masks = masks
        self._known: dict[tuple[int, int], Map] = {}

    def compute_score(self, area: int) -> float | None:
        """The highest level that a connected area of so many pixels of one part reaches; None: not found in few."""
        peaks = self._summary.peaks
        if area == 1:  # where there are several parts, each has others' pixels, which are 0 in it
            return max(float(peaks.max()), 0.0) if len(self._masks) > 1 else float(peaks.max())
        falling = np.sort(peaks, axis=None)[::-1]
        count = _FIRST_BLOCKS
        while count < min(len(falling), _MOST_BLOCKS):
            patches = self.cut(float(falling[count]))
            reached = None if patches is None else self._find_level(patches, area, -np.inf)
            if reached is not None:  # by the hottest blocks alone: whatever reaches higher is in blocks as hot
                level = float(np.nextafter(np.float32(reached), np.float32(-np.inf)))
                patches = self.cut(level)
                return None if patches is None else self._find_level(patches, area, level)
            count *= 4
        return None

    def _find_level(self, patches: Sequence[_Patch], area: int, level: float) -> float | None:
        best = None
        for patch in sorted(patches, key=lambda patch: -float(patch.values.max())):
            if float(patch.values.max()) <= (level if best is None else best):
                break
            for mask in self._masks:
                found = find_level(patch.mask(mask), area, level if best is None else best)
                best = best if found is None else found
        return best

    def cut(self, level: float) -> list[_Patch] | None:
        """Patches in which all lies that is above `level`; None: too many blocks, or what does not count is above."""
        hot = self._summary.peaks > np.float64(level)
        if int(hot.sum()) > _MOST_BLOCKS or (level < 0 and len(self._masks) > 1):
            return None
        count, labels, stats, _ = cv2.connectedComponentsWithStats(hot.view(np.uint8), connectivity=8)
        blocks = np.argwhere(hot)
        self._fetch(blocks)
        patches = [self._blank(stats[label]) for label in range(1, count)]
        for row, column in blocks.tolist():
            self._place(patches[labels[row, column] - 1], row, column)
        return patches

    def _fetch(self, blocks: Blocks) -> None:
        new = [index for index, block in enumerate(map(tuple, blocks.tolist())) if block not in self._known]
        if not new:
            return
        for block, values in zip(map(tuple, blocks[new].tolist()), self._read(blocks[new]), strict=True):
            self._known[block] = values

    def _blank(self, stats: np.ndarray[Any, Any]) -> _Patch:
        column, row, columns, rows = (int(value) * BLOCK for value in stats[:4])
        height, width = self._summary.shape
        shape = (min(rows, height - row), min(columns, width - column))
        return _Patch(row, column, np.full(shape, -np.inf, np.float32))

    def _place(self, patch: _Patch, row: int, column: int) -> None:
        top, left = row * BLOCK - patch.top, column * BLOCK - patch.left
        place = patch.values[top : top + BLOCK, left : left + BLOCK]
        place[:] = self._known[row, column][: place.shape[0], : place.shape[1]]
