"""Thresholds from good scores."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from inspector.config import Recipe, Threshold, Tiling, dump_recipe, load_recipe
from inspector.detection.detector import Detector
from inspector.detection.preprocessing import preprocess
from inspector.errors import RecipeError, TrainingError
from inspector.recipe.golden import prove_golden
from inspector.recipe.opening import open_detector
from inspector.training.calibrate import calibrate
from inspector.training.data.datasets import list_images, read_image
from inspector.training.golden import KnownFrame, update_golden
from inspector.training.recipe_writer import write_recipe
from inspector.training.thresholds import scoring
from inspector.training.thresholds.policy import compute_false_reject_bound, compute_interval

CPU = torch.device("cpu")


def score_frames(detector: Detector, paths: list[Path]) -> dict[Path, float]:
    return {path: frame.score for path, frame in scoring.score_frames(detector, paths).items()}


class Brightness(nn.Module):
    """A network whose anomaly map is the tile's brightness: quick, above 0, and seldom the same twice."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([0.231, 0.328, 0.441]).view(3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images * self.weights).sum(dim=1, keepdim=True) + 3


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inspector.recipe.network.build_model", lambda recipe: Brightness())


@pytest.fixture(scope="module")
def recipe_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe without a threshold."""
    tiling = Tiling(tile_size=64, stride=64)
    recipe = Recipe(recipe_id="quick", backbone="resnet18", sigma=2.0, tiling=tiling, weights_sha256="0" * 64)
    folder = tmp_path_factory.mktemp("recipes") / "quick"
    write_recipe(recipe, Brightness(), folder)
    return folder


def _write_noise(folder: Path, seeds: range, low: int, high: int) -> Path:
    folder.mkdir()
    for seed in seeds:
        pixels = np.random.default_rng(seed).integers(low, high, (64, 96, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{seed}.png"), pixels)
    return folder


def test_recipe_on_disk_holds_threshold_and_escapes_when_calibrated(recipe_dir: Path, tmp_path: Path) -> None:
    good = _write_noise(tmp_path / "good", range(4), 80, 120)
    defects = _write_noise(tmp_path / "defects", range(10, 13), 0, 255)
    recipe = calibrate(recipe_dir, good, false_reject_rate=0.25, defects_dir=defects, device="cpu")
    detector = open_detector(recipe_dir, device=CPU)
    scores = sorted(score_frames(detector, list_images(good)).values())
    escaped = [score <= scores[2] for score in score_frames(detector, list_images(defects)).values()]
    assert recipe == load_recipe(recipe_dir)
    assert recipe.threshold is not None
    assert recipe.threshold.value == pytest.approx(scores[2])  # of four, the highest may be rejected
    assert recipe.threshold.set_by == "calibration"
    assert recipe.threshold.false_reject_bound == pytest.approx(stats.beta.ppf(0.95, 2, 3))
    assert (recipe.threshold.escape_rate, recipe.threshold.n_defective) == (pytest.approx(np.mean(escaped)), 3)
    assert recipe.threshold.escape_interval == compute_interval(sum(escaped), 3)
    assert recipe.expected_frames is not None
    named = [recipe.probe, "recipe.yaml", recipe.expected_frames.references, "scores.json", "weights.safetensors"]
    assert sorted(path.name for path in recipe_dir.iterdir()) == named


def test_recipe_on_disk_stays_when_calibration_is_refused(recipe_dir: Path, tmp_path: Path) -> None:
    before = (recipe_dir / "recipe.yaml").read_bytes()
    with pytest.raises(TrainingError, match="at least 2 finite scores"):
        calibrate(recipe_dir, _write_noise(tmp_path / "good", range(1), 80, 120), device="cpu")
    assert (recipe_dir / "recipe.yaml").read_bytes() == before


def test_recipe_that_was_edited_is_refused_until_it_is_calibrated(
    recipe_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(recipe_dir, tmp_path / "recipe")
    good = _write_noise(tmp_path / "good", range(4), 80, 120)
    calibrate(folder, good, device="cpu")
    path = folder / "recipe.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("\n  scale: 1.0", "\n  scale: 0.75"), encoding="utf-8")
    edited = "preprocessing.scale: must be 1.0, as when the threshold was set, got 0.75"
    with pytest.raises(RecipeError, match=edited):
        open_detector(folder, device=CPU)
    recipe = calibrate(folder, good, device="cpu")
    assert f"{path}: {edited}" in caplog.messages
    assert load_recipe(folder) == recipe
    assert recipe.preprocessing.scale == 0.75


def test_recipe_without_a_seal_or_set_by_hand_gets_one_when_calibrated(recipe_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(recipe_dir, tmp_path / "recipe")
    good = _write_noise(tmp_path / "good", range(4), 80, 120)
    for method in ("gumbel", "manual"):
        before = load_recipe(folder).model_copy(update={"threshold": Threshold(value=1.0, method=method)})
        (folder / "recipe.yaml").write_text(dump_recipe(before), encoding="utf-8")
        assert load_recipe(folder) == before
        calibrate(folder, good, device="cpu")
        assert load_recipe(folder).threshold.set_by == "calibration"  # type: ignore[union-attr]


@pytest.fixture
def golden_recipe_dir(recipe_dir: Path, tmp_path: Path) -> Path:
    """A calibrated recipe with a dark golden frame that passes and a bright one that fails."""
    folder = shutil.copytree(recipe_dir, tmp_path / "recipe")
    calibrate(folder, _write_noise(tmp_path / "good", range(4), 80, 120), device="cpu")
    frames = [
        KnownFrame(_write_noise(tmp_path / "dark", range(20, 21), 82, 118) / "20.png", "PASS"),
        KnownFrame(_write_noise(tmp_path / "bright", range(30, 31), 150, 190) / "30.png", "FAIL"),
    ]
    update_golden(folder, frames, device="cpu")
    return folder


def test_golden_frames_leave_the_seal_as_it_is_and_can_be_taken_out_of_an_edited_recipe(
    golden_recipe_dir: Path, tmp_path: Path
) -> None:
    folder, path = golden_recipe_dir, golden_recipe_dir / "recipe.yaml"
    threshold = load_recipe(folder).threshold
    assert threshold is not None
    assert threshold.set_by == "calibration"
    path.write_text(path.read_text(encoding="utf-8").replace("\nsigma: 2.0", "\nsigma: 3.0"), encoding="utf-8")
    more = KnownFrame(_write_noise(tmp_path / "more", range(50, 51), 150, 190) / "50.png", "FAIL")
    with pytest.raises(RecipeError, match=r"sigma: must be 2\.0"):
        update_golden(folder, [more], clear=True, device="cpu")
    assert update_golden(folder, [], clear=True).golden == ()
    with pytest.raises(RecipeError, match=r"sigma: must be 2\.0"):
        load_recipe(folder)


def test_golden_frames_stay_when_they_hold_at_the_new_threshold(golden_recipe_dir: Path, tmp_path: Path) -> None:
    before = load_recipe(golden_recipe_dir)
    recipe = calibrate(golden_recipe_dir, _write_noise(tmp_path / "more", range(40, 44), 85, 125), device="cpu")
    assert recipe.threshold != before.threshold
    assert recipe.golden == before.golden
    prove_golden(open_detector(golden_recipe_dir, device=CPU), golden_recipe_dir)


def test_recipe_on_disk_stays_when_a_golden_frame_would_not_hold(golden_recipe_dir: Path, tmp_path: Path) -> None:
    before = (golden_recipe_dir / "recipe.yaml").read_bytes()
    with pytest.raises(TrainingError) as caught:
        calibrate(golden_recipe_dir, _write_noise(tmp_path / "glare", range(40, 44), 180, 230), device="cpu")
    message = str(caught.value)
    assert f"{golden_recipe_dir}/golden/bad-1.png: golden frame: must be judged FAIL, got PASS: score " in message
    assert (
        "good-1.png: golden frame: must be judged PASS, but cannot be judged: does not look like the good frames: "
        in message
    )
    assert f"inspector golden {golden_recipe_dir} --clear" in message
    assert (golden_recipe_dir / "recipe.yaml").read_bytes() == before
    prove_golden(open_detector(golden_recipe_dir, device=CPU), golden_recipe_dir)


def test_golden_frames_are_verified_before_frames_are_judged(golden_recipe_dir: Path, tmp_path: Path) -> None:
    (golden_recipe_dir / "golden/good-1.png").unlink()
    with pytest.raises(RecipeError, match=r"golden/good-1\.png: cannot be read"):
        calibrate(golden_recipe_dir, tmp_path / "there is no such folder", device="cpu")


def test_threshold_is_what_the_region_of_interest_shows_when_a_mask_is_given(recipe_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(recipe_dir, tmp_path / "recipe")
    good = _write_noise(tmp_path / "good", range(4), 80, 120)
    detector = open_detector(folder, device=CPU)
    maps = [
        detector.compute_anomaly_map(preprocess(*read_image(path), detector.recipe.preprocessing))
        for path in list_images(good)
    ]
    quiet = np.max(maps, axis=0) < np.median(maps)
    cv2.imwrite(str(tmp_path / "mask.png"), quiet.astype(np.uint8) * 255)
    masked = calibrate(folder, good, false_reject_rate=0.25, roi_mask=tmp_path / "mask.png", device="cpu")
    assert masked.threshold is not None
    assert masked.threshold.value == pytest.approx(sorted(m[quiet].max() for m in maps)[2])
    assert open_detector(folder, device=CPU).recipe == masked  # the mask is in the folder, its checksum verified


def test_recipe_on_disk_stays_when_the_mask_is_all_black(recipe_dir: Path, tmp_path: Path) -> None:
    before = (recipe_dir / "recipe.yaml").read_bytes()
    cv2.imwrite(str(tmp_path / "mask.png"), np.zeros((64, 64), np.uint8))
    with pytest.raises(RecipeError, match=r"mask\.png: roi_mask: must be a grey image with at least one pixel above 0"):
        calibrate(recipe_dir, tmp_path, roi_mask=tmp_path / "mask.png", device="cpu")
    assert (recipe_dir / "recipe.yaml").read_bytes() == before


# ---------------------------------------------------------------- zones, groups, areas, defects


@pytest.fixture
def folder(recipe_dir: Path, tmp_path: Path) -> Path:
    """A copy of the recipe."""
    return shutil.copytree(recipe_dir, tmp_path / "recipe")


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Ten good frames."""
    return _write_noise(tmp_path / "good", range(10), 20, 200)


def read_maps(folder: Path, frames: Path) -> Any:
    """The network's own maps (n, h, w)."""
    detector = open_detector(folder, device=CPU, recipe=load_recipe(folder).model_copy(update={"threshold": None}))
    preprocessing = detector.recipe.preprocessing
    return np.stack(
        [detector.compute_anomaly_map(preprocess(*read_image(path), preprocessing)) for path in list_images(frames)]
    )


def write_columns(path: Path, start: int, stop: int) -> Path:
    mask = np.zeros((64, 96), np.uint8)
    mask[:, start:stop] = 255
    cv2.imwrite(str(path), mask)
    return path


def test_each_zone_has_a_threshold_of_its_own_when_calibrated(folder: Path, good: Path, tmp_path: Path) -> None:
    zones = {"left": write_columns(tmp_path / "l.png", 0, 30), "right": write_columns(tmp_path / "r.png", 80, 96)}
    recipe = calibrate(folder, good, false_reject_rate=0.45, zones=zones, device="cpu")
    maps = read_maps(folder, good)
    expected = [np.sort(part.max(axis=(1, 2)))[8] for part in (maps[..., 30:80], maps[..., :30], maps[..., 80:])]
    assert recipe.threshold is not None
    found = [recipe.threshold, *(zone.threshold for zone in recipe.zones)]
    assert [t.value for t in found] == pytest.approx(expected)  # 15 % of ten: one frame each
    assert [zone.name for zone in recipe.zones] == ["left", "right"]
    share = stats.beta.ppf(1 - 0.05 / 3, 2, 9)
    assert recipe.threshold.false_reject_bound == pytest.approx(min(1, 3 * share))
    assert recipe.threshold.target_false_reject_rate == 0.45

    detector = open_detector(folder, device=CPU)
    assert detector.recipe == recipe
    rejected = (maps[..., 30:80].max(axis=(1, 2)) > expected[0]) | (maps[..., :30].max(axis=(1, 2)) > expected[1])
    rejected |= maps[..., 80:].max(axis=(1, 2)) > expected[2]
    scores = score_frames(detector, list_images(good)).values()
    assert [score > recipe.threshold.value for score in scores] == rejected.tolist()
    assert 1 <= rejected.sum() <= 3


def test_zone_is_replaced_and_the_others_are_set_anew_when_calibrated_again(
    folder: Path, good: Path, tmp_path: Path
) -> None:
    zones = {"left": write_columns(tmp_path / "l.png", 0, 30), "right": write_columns(tmp_path / "r.png", 80, 96)}
    calibrate(folder, good, false_reject_rate=0.45, zones=zones, device="cpu")
    wider = {"left": write_columns(tmp_path / "wider.png", 0, 50)}
    again = calibrate(folder, good, false_reject_rate=0.7, zones=wider, device="cpu")
    maps = read_maps(folder, good)
    assert [zone.name for zone in again.zones] == ["left", "right"]
    assert [zone.threshold.value for zone in again.zones if zone.threshold] == pytest.approx(
        [np.sort(part.max(axis=(1, 2)))[7] for part in (maps[..., :50], maps[..., 80:])]
    )


@pytest.mark.parametrize(
    ("zones", "fault"),
    [
        ({"a": (0, 31), "b": (30, 50)}, "zones: must not overlap, but a and b do"),
        ({"a": (0, 96)}, "outside all zones: threshold: must lie above 0"),
        ({"a": (0, 0)}, "zone a: must be a grey image"),
        ({"a/b": (0, 30)}, "--zone: .*name"),
    ],
)
def test_recipe_on_disk_stays_when_its_zones_are_refused(
    folder: Path, good: Path, tmp_path: Path, zones: dict[str, tuple[int, int]], fault: str
) -> None:
    before = (folder / "recipe.yaml").read_bytes()
    masks = {name: write_columns(tmp_path / f"{n}.png", *where) for n, (name, where) in enumerate(zones.items())}
    with pytest.raises((RecipeError, TrainingError), match=f"(?s){fault}"):
        calibrate(folder, good, zones=masks, device="cpu")
    assert (folder / "recipe.yaml").read_bytes() == before


def test_threshold_rests_on_new_frames_only_when_training_saw_some(
    folder: Path, good: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen = {f"{n}.png": hashlib.sha256((good / f"{n}.png").read_bytes()).hexdigest() for n in (2, 5, 7)}
    (folder / "training.json").write_text(json.dumps({"frames": seen, "held_aside": {}}))
    recipe = calibrate(folder, good, false_reject_rate=0.2, device="cpu")
    assert recipe.threshold is not None
    assert recipe.threshold.n_good == 7
    assert "3 of 10 good frames left out, since the recipe was trained on them" in caplog.text


def test_group_that_differs_is_named_when_left_out(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "lots").mkdir()
    for number, (low, high) in enumerate([(80, 120), (80, 120), (0, 255)]):
        _write_noise(tmp_path / "lots" / f"lot{number}", range(8 * number, 8 * number + 8), low, high)
    recipe = calibrate(folder, tmp_path / "lots", false_reject_rate=0.2, groups="folder", device="cpu")
    assert recipe.threshold is not None
    assert recipe.threshold.groups is not None
    maps = read_maps(folder, tmp_path / "lots").max(axis=(1, 2))
    limits = [np.sort(np.delete(maps, range(8 * n, 8 * n + 8)))[12] for n in range(3)]
    rejected = [int((maps[8 * n : 8 * n + 8] > limit).sum()) for n, limit in enumerate(limits)]
    groups = recipe.threshold.groups
    assert groups.false_reject_rate == sum(rejected) / 24
    assert groups.worst_group == f"lot{int(np.argmax(rejected))}"
    assert rejected[2] == 8
    assert "group lot2: 8 of 8 good frames rejected" in caplog.text
    assert load_recipe(folder) == recipe


def test_two_groups_are_too_few_to_leave_one_out(folder: Path, good: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = calibrate(folder, good, groups=r"([0-4]?)[0-9]?\.png", device="cpu", false_reject_rate=0.2)
    assert recipe.threshold is not None
    assert recipe.threshold.groups is not None  # 0, 1, 2, 3, 4 and none of them
    recipe = calibrate(folder, good, groups=r"^()", device="cpu", false_reject_rate=0.2)
    assert recipe.threshold is not None
    assert recipe.threshold.groups is None
    assert "--groups: at least 3 groups are needed to leave one out, got ['']" in caplog.text


def test_area_and_threshold_fit_each_other_when_the_area_is_given_or_chosen(folder: Path, good: Path) -> None:
    given = calibrate(folder, good, false_reject_rate=0.25, min_region_area=20, device="cpu")
    assert given.threshold is not None
    assert given.min_region_area == 20
    scores = sorted(score_frames(open_detector(folder, device=CPU), list_images(good)).values())
    assert given.threshold.value == pytest.approx(scores[7])
    assert given.threshold.false_reject_bound == pytest.approx(compute_false_reject_bound(2, 10))

    chosen = calibrate(folder, good, false_reject_rate=0.25, min_region_area="auto", device="cpu")
    assert chosen.threshold is not None
    assert chosen.min_region_area in {1, 4, 16, 64}
    scores = sorted(score_frames(open_detector(folder, device=CPU), list_images(good)).values())
    assert chosen.threshold.value == pytest.approx(scores[7])
    assert chosen.threshold.false_reject_bound == pytest.approx(compute_false_reject_bound(2, 10, 0.9875))

    kept = calibrate(folder, good, false_reject_rate=0.25, device="cpu")
    assert kept.min_region_area == chosen.min_region_area


def test_defects_move_the_threshold_only_when_asked(folder: Path, good: Path, tmp_path: Path) -> None:
    defects = _write_noise(tmp_path / "defects", range(20, 28), 0, 255)
    good_scores = read_maps(folder, good).max(axis=(1, 2)).astype(np.float64)
    scores = np.sort(read_maps(folder, defects).max(axis=(1, 2)).astype(np.float64))
    plain = calibrate(folder, good, false_reject_rate=0.2, device="cpu")
    measured = calibrate(folder, good, false_reject_rate=0.2, defects_dir=defects, device="cpu")
    assert plain.threshold is not None
    assert measured.threshold is not None
    assert measured.threshold.value == plain.threshold.value
    asked = calibrate(
        folder, good, false_reject_rate=0.2, defects_dir=defects, set_from_defects=True, escape_rate=0.25, device="cpu"
    )
    threshold = asked.threshold
    assert threshold is not None
    assert scores[1] <= threshold.value < scores[2]
    assert (threshold.method, threshold.escape_rate, threshold.n_defective) == ("defects", 0.25, 8)
    assert threshold.escape_interval == compute_interval(2, 8)
    rejects = int((good_scores > threshold.value).sum())
    assert threshold.false_reject_bound == pytest.approx(compute_false_reject_bound(rejects, 10))
    with pytest.raises(TrainingError, match="--set-from-defects: must be given together with --defects"):
        calibrate(folder, good, set_from_defects=True, device="cpu")


def test_calibration_is_refused_when_no_defect_can_be_judged(folder: Path, good: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match="--defects: must contain at least one frame"):
        calibrate(folder, good, false_reject_rate=0.2, defects_dir=tmp_path / "empty", device="cpu")


def test_good_scores_are_written_beside_the_threshold_as_whole_frames_have_them(
    folder: Path, good: Path, tmp_path: Path
) -> None:
    zones = {"left": write_columns(tmp_path / "l.png", 0, 30)}
    recipe = calibrate(folder, good, false_reject_rate=0.45, zones=zones, device="cpu")
    assert recipe.threshold is not None
    scores = list(score_frames(open_detector(folder, device=CPU), list_images(good)).values())
    assert recipe.threshold.good_scores is not None
    assert recipe.threshold.good_scores.median == pytest.approx(np.median(scores), rel=1e-5)
    assert recipe.threshold.good_scores.p95 == pytest.approx(np.quantile(scores, 0.95), rel=1e-5)
    (zone,) = recipe.zones
    own = read_maps(folder, good)[..., :30].max(axis=(1, 2))  # not weighed
    assert zone.threshold is not None
    assert zone.threshold.good_scores is not None
    assert zone.threshold.good_scores.p95 == pytest.approx(np.quantile(own, 0.95), rel=1e-5)


def test_warn_band_begins_at_the_rate_asked_for(folder: Path, good: Path) -> None:
    recipe = calibrate(folder, good, false_reject_rate=0.1, warn_rate=0.4, device="cpu")
    assert recipe.threshold is not None
    assert recipe.threshold.warn_above == pytest.approx(np.sort(read_maps(folder, good).max(axis=(1, 2)))[5])
    detector = open_detector(folder, device=CPU)
    decisions = [detector.judge(*read_image(path)).decision for path in list_images(good)]
    assert sum(decision.warn for decision in decisions) == 3
    assert sum(decision.verdict == "FAIL" for decision in decisions) == 1
