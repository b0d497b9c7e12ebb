"""Pixel AUROC and AUPRO over a data set of any size, frame by frame."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from sklearn.metrics import auc

Array = np.ndarray[Any, Any]

_LEVELS = 2**16
"""Levels drawn from normal pixels, and as many again from defects.

The curve runs straight between two levels, so the area is out by at most half the sum over steps of
(rise × width): about 1 / (4 × _LEVELS), a fifteen-thousandth of AUPRO at a limit of 0.05, and mostly far less.
"""


@dataclass(frozen=True, slots=True)
class PixelCurves:
    """Rates at falling levels: false positives, true positives, and overlap averaged over defects (PRO)."""

    false_positive_rate: Array
    true_positive_rate: Array
    per_region_overlap: Array

    def auroc(self) -> float:
        """Area under the pixel ROC."""
        return float(auc(self.false_positive_rate, self.true_positive_rate))

    def aupro(self, limit: float) -> float:
        """Area under the PRO curve up to a false-positive rate of `limit`, as a share of it (Bergmann et al., 2020)."""
        rate, overlap = self.false_positive_rate, self.per_region_overlap
        inside = rate <= limit
        edge = np.interp(limit, rate, overlap)
        return float(auc(np.append(rate[inside], limit), np.append(overlap[inside], edge)) / limit)


@dataclass(frozen=True, slots=True)
class PixelCounts:
    """Pixels at or above each level, added up over frames.

    Attributes:
        normal, defect: (levels,) pixels off and on defects.
        overlap: (levels,) sum over defects of the share of each that is found.
        regions: number of defects.
    """

    normal: Array
    defect: Array
    overlap: Array
    regions: int

    def __add__(self, other: PixelCounts) -> PixelCounts:
        return PixelCounts(
            self.normal + other.normal,
            self.defect + other.defect,
            self.overlap + other.overlap,
            self.regions + other.regions,
        )

    def curves(self) -> PixelCurves:
        """Counts as rates; needs at least one defect and one normal pixel."""
        return PixelCurves(
            np.concatenate([[0.0], self.normal / self.normal[-1]]),
            np.concatenate([[0.0], self.defect / self.defect[-1]]),
            np.concatenate([[0.0], self.overlap / self.regions]),
        )


def choose_levels(maps: Sequence[Array], masks: Sequence[Array]) -> Array:
    """Falling levels, the last one below all values: values drawn from every frame.

    Drawn values are dense where pixels are; from defects they are drawn with each region weighing alike, as in PRO.
    A map with no more distinct values than are drawn keeps them all, so ties are counted exactly.
    """
    generator = np.random.default_rng(0)
    defective = max(1, sum(bool(mask.any()) for mask in masks))
    drawn = [np.array([-np.inf], dtype=np.float32)]
    for anomaly_map, mask in zip(maps, masks, strict=True):
        drawn.append(_draw(anomaly_map[mask == 0], None, _LEVELS // len(maps) + 1, generator))
        labels, sizes = _label(mask)
        shares = 1 / sizes[labels[mask > 0]]
        drawn.append(_draw(anomaly_map[mask > 0], shares, _LEVELS // defective + 1, generator))
    return np.unique(np.concatenate(drawn))[::-1]


def _draw(values: Array, weights: Array | None, count: int, generator: np.random.Generator) -> Array:
    if len(values) <= count:
        return values
    return generator.choice(values, count, p=None if weights is None else weights / weights.sum())


def _label(mask: Array) -> tuple[Array, Array]:
    """Regions of a mask, numbered from 1, and the size of each label in pixels."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    return labels, stats[:, cv2.CC_STAT_AREA]


def count_pixels(anomaly_map: Array, mask: Array, levels: Array, defect: Array | None = None) -> PixelCounts:
    """Count one frame.

    Args:
        anomaly_map: (H, W) float32.
        mask: (H, W) uint8, 1 on defects. Pixels that touch by side or corner are one defect (8-connectivity, as
            anomalib counts; MVTec's own script does so, too).
        levels: falling, from `choose_levels`.
        defect: (H, W) uint8, 1 on the defects that count, some of `mask`; the others are neither found nor normal.
            None: all.
    """
    defect = mask if defect is None else defect
    labels, sizes = _label(defect)
    inside = defect > 0
    values, shares = anomaly_map[inside], 1 / sizes[labels[inside]]
    order = np.argsort(values)
    found = len(values) - np.searchsorted(values[order], levels)
    overlap = np.concatenate([[0.0], np.cumsum(shares[order][::-1])])[found]
    normal = np.sort(anomaly_map[mask == 0])
    return PixelCounts(len(normal) - np.searchsorted(normal, levels), found, overlap, len(sizes) - 1)


def compute_pixel_curves(maps: Sequence[Array], masks: Sequence[Array]) -> PixelCurves:
    """Curves over all frames; `maps` and `masks` as for `count_pixels`, read one at a time and more than once."""
    levels = choose_levels(maps, masks)
    frames = zip(maps, masks, strict=True)
    return functools.reduce(operator.add, (count_pixels(*frame, levels) for frame in frames)).curves()
