"""Thresholds from good scores."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy import stats

from inspector.config import Recipe, Tiling, load_recipe
from inspector.detector import Detector, build_model, preprocess
from inspector.errors import RecipeError, TrainingError
from inspector.training.calibrate import (
    calibrate,
    compute_false_reject_bound,
    compute_threshold,
    score_frames,
    warn_of_outliers,
)
from inspector.training.datasets import list_images, read_image
from inspector.training.train import write_recipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def recipe_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with random weights and no threshold."""
    tiling = Tiling(tile_size=64, stride=64)
    recipe = Recipe(recipe_id="random", backbone="resnet18", sigma=2.0, tiling=tiling, weights_sha256="0" * 64)
    folder = tmp_path_factory.mktemp("recipes") / "random"
    write_recipe(recipe, build_model(recipe), folder)
    return folder


def _write_noise(folder: Path, seeds: range, low: int, high: int) -> Path:
    folder.mkdir()
    for seed in seeds:
        pixels = np.random.default_rng(seed).integers(low, high, (64, 96, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{seed}.png"), pixels)
    return folder


def test_threshold_is_the_order_statistic_when_there_are_enough_frames() -> None:
    threshold = compute_threshold([float(n) for n in range(1, 201)], 0.01)
    assert (threshold.value, threshold.method, threshold.n_good) == (198.0, "order_statistic", 200)
    assert threshold.false_reject_bound == pytest.approx(stats.beta.ppf(0.95, 3, 198))


def test_threshold_extrapolates_the_tail_when_frames_are_few() -> None:
    scores = [1.0, 1.1, 1.2, 1.3]
    threshold = compute_threshold(scores, 0.01)
    spread = np.sqrt(6) / np.pi * np.std(scores, ddof=1)
    expected = np.mean(scores) - np.euler_gamma * spread - spread * np.log(-np.log(0.99))
    assert threshold.method == "gumbel"
    assert threshold.value == pytest.approx(expected)
    assert threshold.value > max(scores)


@pytest.mark.parametrize("n", [1, 10, 300])
def test_bound_is_the_rule_of_three_when_nothing_was_rejected(n: int) -> None:
    assert compute_false_reject_bound(0, n) == pytest.approx(1 - 0.05 ** (1 / n))


@pytest.mark.parametrize("scores", [[], [1.0], [1.0, float("nan")], [1.0, float("inf")]])
def test_calibration_is_refused_when_scores_are_too_few_or_not_finite(scores: list[float]) -> None:
    with pytest.raises(TrainingError, match="at least 2 finite scores"):
        compute_threshold(scores, 0.01)


def test_calibration_is_refused_when_the_threshold_would_not_lie_above_zero() -> None:
    with pytest.raises(TrainingError, match="threshold: must lie above 0, got 0"):
        compute_threshold([0.0] * 10, 0.5)


def test_threshold_lies_just_above_the_scores_when_all_are_alike() -> None:
    threshold = compute_threshold([0.5] * 5, 0.01)
    assert threshold.value == pytest.approx(0.5)
    assert threshold.value >= 0.5


def test_at_most_the_share_asked_for_is_rejected_when_scores_tie() -> None:
    threshold = compute_threshold([1.0] * 5 + [2.0] * 5, 0.2)
    assert (threshold.value, threshold.method) == (2.0, "order_statistic")
    assert threshold.false_reject_bound == pytest.approx(1 - 0.05 ** (1 / 10))


def test_recipe_on_disk_holds_threshold_and_escapes_when_calibrated(recipe_dir: Path, tmp_path: Path) -> None:
    good = _write_noise(tmp_path / "good", range(4), 80, 120)
    defects = _write_noise(tmp_path / "defects", range(10, 13), 0, 255)
    recipe = calibrate(recipe_dir, good, false_reject_rate=0.25, defects_dir=defects, device="cpu")
    detector = Detector.load(recipe_dir, device=CPU)
    scores = sorted(score_frames(detector, list_images(good)).values())
    escaped = [score <= scores[2] for score in score_frames(detector, list_images(defects)).values()]
    assert recipe == load_recipe(recipe_dir)
    assert recipe.threshold is not None
    assert recipe.threshold.value == pytest.approx(scores[2])  # of four, the highest may be rejected
    assert recipe.threshold.false_reject_bound == pytest.approx(stats.beta.ppf(0.95, 2, 3))
    assert (recipe.threshold.escape_rate, recipe.threshold.n_defective) == (pytest.approx(np.mean(escaped)), 3)
    assert sorted(path.name for path in recipe_dir.iterdir()) == ["recipe.yaml", "weights.safetensors"]


def test_recipe_on_disk_stays_when_calibration_is_refused(recipe_dir: Path, tmp_path: Path) -> None:
    before = (recipe_dir / "recipe.yaml").read_bytes()
    with pytest.raises(TrainingError, match="at least 2 finite scores"):
        calibrate(recipe_dir, _write_noise(tmp_path / "good", range(1), 80, 120), device="cpu")
    assert (recipe_dir / "recipe.yaml").read_bytes() == before


def test_threshold_is_what_the_region_of_interest_shows_when_a_mask_is_given(recipe_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(recipe_dir, tmp_path / "recipe")
    good = _write_noise(tmp_path / "good", range(4), 80, 120)
    detector = Detector.load(folder, device=CPU)
    maps = [
        detector.compute_anomaly_map(preprocess(*read_image(path), detector.recipe.preprocessing))
        for path in list_images(good)
    ]
    quiet = np.max(maps, axis=0) < np.median(maps)
    cv2.imwrite(str(tmp_path / "mask.png"), quiet.astype(np.uint8) * 255)
    masked = calibrate(folder, good, false_reject_rate=0.25, roi_mask=tmp_path / "mask.png", device="cpu")
    assert masked.threshold is not None
    assert masked.threshold.value == pytest.approx(sorted(m[quiet].max() for m in maps)[2])
    assert Detector.load(folder, device=CPU).recipe == masked  # the mask is in the folder, its checksum verified


def test_recipe_on_disk_stays_when_the_mask_is_all_black(recipe_dir: Path, tmp_path: Path) -> None:
    before = (recipe_dir / "recipe.yaml").read_bytes()
    cv2.imwrite(str(tmp_path / "mask.png"), np.zeros((64, 64), np.uint8))
    with pytest.raises(RecipeError, match=r"mask\.png: roi_mask: must be a grey image with at least one pixel above 0"):
        calibrate(recipe_dir, tmp_path, roi_mask=tmp_path / "mask.png", device="cpu")
    assert (recipe_dir / "recipe.yaml").read_bytes() == before


def test_good_frames_far_above_the_rest_are_named_when_they_lift_the_threshold(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scores = {Path(f"{n}.png"): 15.0 + 0.5 * n for n in range(6)} | {Path("dirty.png"): 41.0, Path("worse.png"): 60.0}
    assert warn_of_outliers(scores) == [Path("worse.png"), Path("dirty.png")]
    assert [record.getMessage()[:37] for record in caplog.records] == [
        "good frame worse.png scores 60, the m",
        "good frame dirty.png scores 41, the m",
    ]
    assert warn_of_outliers({Path(f"{n}.png"): 15.0 + 0.5 * n for n in range(8)}) == []
