"""Metrics against scikit-learn and against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from inspector.training.evaluate import compute_image_metrics, compute_pixel_curves


def test_image_metrics_are_those_counted_by_hand() -> None:
    kinds = ["good", "good", "good", "dent", "dent", "hole"]
    metrics = compute_image_metrics(kinds, [0.1, 0.2, 0.6, 0.5, 0.7, 0.9], threshold=0.55)
    assert metrics["image_auroc"] == pytest.approx(8 / 9)
    assert metrics["false_reject_rate"] == pytest.approx(1 / 3)
    assert metrics["escape_rate"] == pytest.approx(1 / 3)
    assert metrics["f1_max"] == pytest.approx(6 / 7)
    assert metrics["image_auroc_by_kind"] == {"dent": pytest.approx(5 / 6), "hole": 1.0}


def test_pixel_auroc_agrees_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    masks = [np.zeros((40, 50), np.uint8) for _ in range(3)]
    masks[0][5:15, 5:20] = 1
    masks[1][30:35, 30:45] = 1
    maps = [(generator.normal(size=m.shape) + 1.5 * m).astype(np.float32) for m in masks]
    curves = compute_pixel_curves(maps, masks)
    expected = roc_auc_score(np.concatenate([m.ravel() for m in masks]), np.concatenate([m.ravel() for m in maps]))
    assert curves.auroc() == pytest.approx(expected, abs=1e-3)


def test_aupro_is_one_when_defects_score_above_all_else_and_weighs_each_defect_alike() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[2:4, 2:4] = 1
    mask[10:18, 10:18] = 1
    perfect = mask.astype(np.float32)
    assert compute_pixel_curves([perfect], [mask]).aupro(0.3) == pytest.approx(1.0)
    half = np.zeros_like(perfect)
    half[2:4, 2:4] = 1.0  # only the small one found: half of the defects, a twentieth of the pixels
    assert compute_pixel_curves([half], [mask]).per_region_overlap[1] == pytest.approx(0.5)
