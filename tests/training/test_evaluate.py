"""Metrics against scikit-learn and against counting by hand."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from inspector.config import Recipe, Threshold, Tiling
from inspector.detector import build_model
from inspector.errors import BadFrameError, TrainingError
from inspector.training.evaluate import compute_image_metrics, compute_pixel_curves, evaluate
from inspector.training.train import write_recipe


@pytest.fixture(scope="module")
def recipe_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with random weights and a threshold nothing reaches."""
    recipe = Recipe(
        recipe_id="random",
        backbone="resnet18",
        sigma=2.0,
        tiling=Tiling(tile_size=64, stride=64),
        threshold=Threshold(value=100.0, method="manual"),
        weights_sha256="0" * 64,
    )
    folder = tmp_path_factory.mktemp("recipes") / "random"
    write_recipe(recipe, build_model(recipe), folder)
    return folder


@pytest.fixture
def dataset_dir(tmp_path: Path) -> Path:
    """MVTec layout: two good frames, two with a dent, masks for the dents."""
    for kind in ("test/good", "test/dent", "ground_truth/dent"):
        (tmp_path / kind).mkdir(parents=True)
    for number in range(4):
        pixels = np.random.default_rng(number).integers(80, 120, (64, 96, 3), dtype=np.uint8)
        kind = "dent" if number > 1 else "good"
        if kind == "dent":
            pixels[20:40, 30:50] = 255
            mask = np.zeros((64, 96), np.uint8)
            mask[20:40, 30:50] = 255
            suffix = "_mask" if number == 2 else ""  # both spellings are in use
            cv2.imwrite(str(tmp_path / f"ground_truth/dent/{number}{suffix}.png"), mask)
        cv2.imwrite(str(tmp_path / f"test/{kind}/{number}.png"), pixels)
    return tmp_path


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
    assert compute_pixel_curves(maps, masks).aupro(0.3) == pytest.approx(expected, abs=2e-3)


def test_evaluation_names_every_metric_when_there_are_masks(recipe_dir: Path, dataset_dir: Path) -> None:
    calls: list[tuple[int, int]] = []
    metrics = evaluate(recipe_dir, dataset_dir, device="cpu", advance=lambda done, total: calls.append((done, total)))
    assert (metrics["n_good"], metrics["n_defective"]) == (2, 2)
    assert (metrics["false_reject_rate"], metrics["escape_rate"]) == (0.0, 1.0)
    assert set(metrics["image_auroc_by_kind"]) == {"dent"}
    assert metrics["image_auroc_by_kind"]["dent"] == metrics["image_auroc"]
    assert 0.0 <= metrics["pixel_auroc"] <= 1.0
    assert 0.0 <= metrics["aupro"] <= 1.0
    assert {"image_ap", "f1_max", "frames_per_second"} <= set(metrics)
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_pixel_metrics_are_none_when_there_are_no_masks(recipe_dir: Path, dataset_dir: Path) -> None:
    for mask in (dataset_dir / "ground_truth" / "dent").iterdir():
        mask.unlink()
    metrics = evaluate(recipe_dir, dataset_dir, device="cpu")
    assert (metrics["pixel_auroc"], metrics["aupro"]) == (None, None)


def test_mask_is_refused_with_both_sizes_when_it_does_not_fit_its_image(recipe_dir: Path, dataset_dir: Path) -> None:
    cv2.imwrite(str(dataset_dir / "ground_truth/dent/3.png"), np.zeros((32, 48), np.uint8))
    with pytest.raises(BadFrameError, match=r"3\.png: .*\(64, 96\), got \(32, 48\)"):
        evaluate(recipe_dir, dataset_dir, device="cpu")


def test_masks_are_held_one_at_a_time_when_pixels_are_counted() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[2:4, 2:4] = 1
    curves = compute_pixel_curves([mask.astype(np.float32)] * 3, (mask for _ in range(3)))
    assert curves.aupro(0.3) == pytest.approx(1.0)


def test_dataset_is_refused_when_it_lacks_good_frames(recipe_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="must hold test/good"):
        evaluate(recipe_dir, tmp_path, device="cpu")


def test_pixels_are_counted_when_there_are_more_frames_than_open_files_allowed(
    recipe_dir: Path, dataset_dir: Path
) -> None:
    for number in range(4, 40):
        shutil.copy(dataset_dir / "test/good/0.png", dataset_dir / f"test/good/{number}.png")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 20, hard))
    try:
        metrics = evaluate(recipe_dir, dataset_dir, device="cpu")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert metrics["n_good"] == 38
    assert 0 <= metrics["aupro"] <= 1
