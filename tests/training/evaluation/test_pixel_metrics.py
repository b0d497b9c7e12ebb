"""Pixel metrics against scikit-learn, the peer, and counting by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from inspector.training.evaluation import pixel_metrics
from inspector.training.evaluation.pixel_metrics import compute_pixel_curves

Array = np.ndarray[Any, Any]


def _make_frames(count: int, side: int, seed: int, *, steps: int | None, strength: float) -> list[tuple[Array, Array]]:
    """Maps as a detector makes them: smooth noise, blobs of all sizes, some defects missed, every other frame good."""
    generator = np.random.default_rng(seed)
    frames = []
    for number in range(count):
        noise = cv2.GaussianBlur(generator.normal(size=(side, side)), (0, 0), 4)
        anomaly_map = np.exp(0.4 * noise / noise.std())
        mask = np.zeros((side, side), np.uint8)
        for _ in range(generator.integers(1, 5) if number % 2 else 0):
            centre = generator.integers(0, side, 2).tolist()
            axes = generator.integers(1, 15, 2).tolist()
            cv2.ellipse(mask, centre, axes, float(generator.uniform(0, 180)), 0, 360, 1, -1)
        blurred = cv2.GaussianBlur(mask.astype(np.float64), (0, 0), 3)
        anomaly_map += strength * blurred * generator.uniform(0.1, 1.5)
        anomaly_map = np.round(anomaly_map * steps) / steps if steps else anomaly_map
        frames.append((anomaly_map.astype(np.float32), mask))
    return frames


@pytest.mark.filterwarnings("ignore")  # the peer's own
@pytest.mark.parametrize("limit", [0.3, 0.05])
@pytest.mark.parametrize(("steps", "strength"), [(None, 3.0), (None, 1.0), (None, 0.0), (10, 2.0), (2, 2.0)], ids=str)
def test_aupro_agrees_with_anomalib_on_smooth_maps_and_on_ties(
    limit: float, steps: int | None, strength: float
) -> None:
    peer = pytest.importorskip("anomalib.metrics.aupro", reason="anomalib is not installed (extra: bench)")
    frames = _make_frames(20, 256, 0, steps=steps, strength=strength)
    maps, masks = zip(*frames, strict=True)
    assert sum(m.size for m in maps) > 5 * 2 * pixel_metrics._LEVELS  # else every pixel would be a level
    metric = peer._AUPRO(fpr_limit=limit)
    metric.update(torch.tensor(np.stack(maps)), torch.tensor(np.stack(masks)))
    assert compute_pixel_curves(maps, masks).aupro(limit) == pytest.approx(float(metric.compute()), abs=1e-4)


@pytest.mark.filterwarnings("ignore")  # the peer's own
def test_defects_that_touch_at_a_corner_are_one_as_anomalib_counts() -> None:
    peer = pytest.importorskip("anomalib.metrics.aupro", reason="anomalib is not installed (extra: bench)")
    mask = np.zeros((40, 40), np.uint8)
    mask[5:10, 5:10] = 1
    mask[10:30, 10:30] = 1
    anomaly_map = np.random.default_rng(0).normal(size=mask.shape).astype(np.float32)
    anomaly_map[5:10, 5:10] += 3
    metric = peer._AUPRO(fpr_limit=0.3)
    metric.update(torch.tensor(anomaly_map[None]), torch.tensor(mask[None]))
    assert pixel_metrics.count_pixels(anomaly_map, mask, np.array([-np.inf])).regions == 1
    assert compute_pixel_curves([anomaly_map], [mask]).aupro(0.3) == pytest.approx(float(metric.compute()), abs=1e-4)


@pytest.mark.parametrize("steps", [None, 10])
def test_pixel_auroc_agrees_with_scikit_learn(steps: int | None) -> None:
    maps, masks = zip(*_make_frames(20, 256, 1, steps=steps, strength=2.0), strict=True)
    expected = roc_auc_score(np.concatenate([m.ravel() for m in masks]), np.concatenate([m.ravel() for m in maps]))
    assert compute_pixel_curves(maps, masks).auroc() == pytest.approx(expected, abs=1e-4)


def test_aupro_is_one_when_defects_score_above_all_else_and_weighs_each_defect_alike() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[2:4, 2:4] = 1
    mask[10:18, 10:18] = 1
    perfect = mask.astype(np.float32)
    assert compute_pixel_curves([perfect], [mask]).aupro(0.3) == pytest.approx(1.0)
    half = np.zeros_like(perfect)
    half[2:4, 2:4] = 1.0  # only the small one found: half of the defects, a twentieth of the pixels
    assert compute_pixel_curves([half], [mask]).per_region_overlap[1] == pytest.approx(0.5)


def test_aupro_agrees_with_brute_force_over_every_level() -> None:
    generator = np.random.default_rng(1)
    masks = [np.zeros((30, 40), np.uint8) for _ in range(2)]
    masks[0][2:12, 3:13] = 1
    masks[0][20:24, 30:36] = 1
    masks[1][10:18, 10:30] = 1
    maps = [(generator.normal(size=m.shape) + 1.2 * m).astype(np.float32) for m in masks]
    defects = [labels == n for count, labels in map(cv2.connectedComponents, masks) for n in range(1, count)]
    owners = [maps[0], maps[0], maps[1]]
    normal = np.concatenate([m[mask == 0] for m, mask in zip(maps, masks, strict=True)])
    levels = np.sort(np.concatenate([m.ravel() for m in maps]))[::-1]
    rate = np.array([0.0, *((normal >= level).mean() for level in levels)])
    overlap = np.array(
        [0.0, *(np.mean([(m[d] >= level).mean() for m, d in zip(owners, defects, strict=True)]) for level in levels)]
    )
    inside = rate <= 0.3
    expected = np.trapezoid([*overlap[inside], np.interp(0.3, rate, overlap)], [*rate[inside], 0.3]) / 0.3
    assert compute_pixel_curves(maps, masks).aupro(0.3) == pytest.approx(expected, abs=1e-9)


class _Lazy(Sequence[Array]):
    """Masks made when asked for."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any) -> Any:
        if index >= self.length:
            raise IndexError(index)
        mask = np.zeros((300, 300), np.uint8)
        mask[2:4, 2:4] = 1
        return mask


def test_levels_do_not_grow_with_the_number_of_frames_or_of_defects() -> None:
    masks = _Lazy(30)
    maps = [np.random.default_rng(n).normal(size=(300, 300)).astype(np.float32) for n in range(30)]
    curves = compute_pixel_curves(maps, masks)
    assert 2**15 < len(curves.false_positive_rate) < 2 * pixel_metrics._LEVELS + 100
