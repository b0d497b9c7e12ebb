"""How often good frames score higher than any that was seen: peaks over a high level, and a Pareto law over these.

A frame of many tiles shows many peaks, so a handful of frames tells much of the tail; peaks of one frame are alike, so
the doubt is that of frames, not of peaks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from scipy import stats

from inspector.config import Tail

Array = np.ndarray[Any, np.dtype[np.float64]]
Peaks = Sequence[Array]
"""For each good frame, the peaks of its map (m,), or its score alone; the highest is its score."""

FEWEST_PEAKS = 20
_SHAPES = (-0.5, 0.5)  # from a triangle's tail to one without variance: tens of peaks cannot tell more
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class PlacedPeak:
    """A peak of a map: its value, and its row and column."""

    value: float
    row: int
    column: int


def find_peaks(anomaly_map: np.ndarray[Any, Any], side: int) -> list[PlacedPeak]:
    """The highest point of each cell of `side` pixels of a map (h, w), highest first, declustered.

    Of two that lie nearer than half a cell only the higher one counts: one blemish on a border between cells is one.
    """
    height, width = anomaly_map.shape
    found: list[PlacedPeak] = []
    for top in range(0, height, side):
        for left in range(0, width, side):
            _, value, _, (column, row) = cv2.minMaxLoc(anomaly_map[top : top + side, left : left + side])
            found.append(PlacedPeak(float(value), top + row, left + column))
    kept: list[PlacedPeak] = []
    for peak in sorted(found, key=lambda peak: -peak.value):
        if all(max(abs(peak.row - other.row), abs(peak.column - other.column)) >= side / 2 for other in kept):
            kept.append(peak)
    return kept


@dataclass(frozen=True, slots=True)
class TailFit:
    """A generalised Pareto law over peaks, and the laws of resampled frames, for the doubt.

    Attributes:
        location, scale, shape: of the law over peaks above `location`.
        exceedances: peaks that it was fitted to.
        per_frame: such peaks in a frame, on average.
        resampled: (3, resamples): scale, shape and peaks per frame.
    """

    location: float
    scale: float
    shape: float
    exceedances: int
    per_frame: float
    resampled: Array

    def compute_rate(self, level: float) -> float:
        """Share of good frames with a peak above `level`, which must not lie below the location."""
        return float(_compute_rate(level - self.location, self.scale, self.shape, self.per_frame))

    def compute_interval(self, level: float) -> tuple[float, float]:
        """Where that share lies with 95 % confidence, if peaks do follow such a law."""
        rates = _compute_rate(level - self.location, *self.resampled)
        low, high = np.quantile(rates, [0.025, 0.975])
        return float(low), float(high)

    def find_level(self, rate: float) -> float:
        """The level that a share of good frames exceeds."""
        share = -math.log1p(-rate) / self.per_frame
        if share >= 1:
            return self.location
        return self.location + float(stats.genpareto.ppf(1 - share, self.shape, scale=self.scale))

    def describe(self, level: float) -> Tail:
        """As the recipe states it, at its threshold."""
        return Tail(
            location=self.location,
            scale=self.scale,
            shape=self.shape,
            exceedances=self.exceedances,
            rate=self.compute_rate(level),
            rate_interval=self.compute_interval(level),
        )


def fit_tail(peaks: Peaks) -> TailFit | None:
    """Fit the highest tenth of all peaks, ten at least; None where they are too few, or all alike.

    The doubt is a bootstrap's, seeded: frames are drawn anew, which says how many peaks exceed, then these peaks from
    the law itself, as the few that were seen would repeat themselves. Of a hundred draws of 20 to 90 normal,
    exponential, Gumbel or Student-t scores the interval held the true rate in 87 to 99.
    """
    pooled = np.sort(np.concatenate([np.asarray(each, dtype=np.float64) for each in peaks])) if peaks else np.zeros(0)
    n = len(pooled)
    if n < FEWEST_PEAKS:
        return None
    m = max(10, n // 10)
    location = float(pooled[n - 1 - m])
    if pooled[-1] <= location:
        return None
    shape, scale = _fit_pareto(pooled[n - m :] - location)
    generator = np.random.default_rng(0)
    drawn = stats.genpareto.rvs(shape, scale=scale, size=(_RESAMPLES, m), random_state=generator)
    shapes, scales = _fit_pareto(np.sort(drawn, axis=1))
    counts = np.array([int((np.asarray(each) > location).sum()) for each in peaks])
    chosen = generator.integers(len(counts), size=(_RESAMPLES, len(counts)))
    resampled = np.stack([scales, shapes, counts[chosen].mean(axis=1)])
    return TailFit(location, float(scale), float(shape), m, m / len(peaks), resampled)


def _compute_rate(excess: float, scale: Any, shape: Any, per_frame: Any) -> Any:
    # Peaks above a high level come one by one, by Poisson's law: the share of frames with at least one.
    return -np.expm1(-per_frame * stats.genpareto.sf(excess, shape, scale=scale))


def _fit_pareto(excesses: Array) -> tuple[Array, Array]:
    """Shape and scale from L-moments of sorted excesses (..., m): steadier than likelihood below some 500 of them.

    Hosking and Wallis (1987), Technometrics 29(3).
    """
    m = excesses.shape[-1]
    first = excesses.mean(axis=-1)
    second = 2 * (excesses * np.arange(m)).sum(axis=-1) / (m * (m - 1)) - first
    shape = np.clip(2 - first / np.maximum(second, 1e-300), *_SHAPES)
    return shape, np.maximum((1 - shape) * first, 1e-300)
