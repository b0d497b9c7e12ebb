"""A fixture out of good frames: the reference, the lowest score, and what is refused before anything is written."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from inspector.config import load_recipe
from inspector.errors import NotLocatedError, RecipeError, TrainingError
from inspector.recipe.opening import open_detector
from inspector.testing.moving_part import FRAME_HW, PART_XYXY, add_noise, draw_mask, draw_part, move
from inspector.training.calibrate import calibrate
from inspector.training.fixture import compute_min_score
from inspector.training.optimise.options import TrainOptions
from inspector.training.recipe_writer import OUTLINED_FILE
from inspector.training.train import train
from inspector.types import PixelFormat

CPU = torch.device("cpu")
N_GOOD = 12


@pytest.fixture
def good_dir(tmp_path: Path) -> Path:
    """Good frames in which the part lies here and there."""
    folder = tmp_path / "good"
    folder.mkdir()
    places = np.random.default_rng(4)
    for number in range(N_GOOD):
        dx, dy, angle = (0, 0, 0) if number == 0 else places.uniform(-15, 15, 3) * (1, 1, 0.4)
        write(folder / f"{number:02}.png", add_noise(move(draw_part(), dx, dy, angle), number))
    return folder


@pytest.fixture
def options(good_dir: Path, tmp_path: Path) -> TrainOptions:
    write(tmp_path / "roi.png", draw_mask())
    return TrainOptions(
        encoder_weights="none", tile_size=64, sigma=2.0, batch_size=2, steps=2, device="cpu", folds=0, qualification=4,
        roi_mask=tmp_path / "roi.png", fixture=str(good_dir / "00.png"),
    )  # fmt: skip


def write(path: Path, picture: np.ndarray) -> None:
    cv2.imwrite(str(path), picture)


@pytest.mark.filterwarnings("ignore:encoder weights")
def test_training_gives_a_recipe_that_follows_the_part_and_calibration_keeps_it(
    good_dir: Path, tmp_path: Path, options: TrainOptions, caplog: pytest.LogCaptureFixture
) -> None:
    write(good_dir / "99.png", draw_part(holes=5))  # one of another part
    recipe = train(good_dir, tmp_path / "recipe", options)
    assert recipe == load_recipe(tmp_path / "recipe")
    fixture = recipe.fixture
    assert fixture is not None
    assert (fixture.n_good, fixture.n_not_located) == (N_GOOD, 1)
    assert 0.8 < fixture.min_score < fixture.lowest_score < 1
    assert (
        fixture.reference_sha256 == hashlib.sha256((tmp_path / "recipe" / fixture.reference).read_bytes()).hexdigest()
    )
    picture = cv2.imread(str(tmp_path / "recipe" / OUTLINED_FILE)).astype(int)
    blue, green, red = cv2.split(picture)
    yellow = np.argwhere((np.minimum(green, red) > 150) & (blue < np.minimum(green, red) - 80))
    left, top, right, bottom = PART_XYXY
    assert picture.shape[:2] == FRAME_HW
    assert len(yellow) > 0
    assert (yellow.min(axis=0), yellow.max(axis=0)) == (
        pytest.approx((top, left), abs=8), pytest.approx((bottom, right), abs=8),
    )  # fmt: skip
    assert "--fixture: not located: " in caplog.text
    assert "99.png" in caplog.text
    assert recipe.expected_frames is not None
    assert (recipe.expected_frames.n_good, recipe.expected_frames.off) == (N_GOOD, ("layout",))
    detector = open_detector(tmp_path / "recipe", device=CPU)
    judged = detector.judge(add_noise(move(draw_part(), -12, 9, -4), 77), PixelFormat.RGB8)
    assert judged.pose is not None
    assert (judged.pose.dx_px, judged.pose.dy_px, judged.pose.angle_deg) == pytest.approx((-12, 9, -4), abs=0.5)
    with pytest.raises(NotLocatedError):
        detector.judge(draw_part(holes=5, noise=78), PixelFormat.RGB8)
    more = tmp_path / "more"
    more.mkdir()
    for number in range(4):
        write(more / f"{number}.png", add_noise(move(draw_part(), 3 * number, -number), 50 + number))
    write(more / "empty.png", np.zeros((*FRAME_HW, 3), np.uint8))
    again = calibrate(tmp_path / "recipe", more, device="cpu", qualification=0)
    assert again.fixture == fixture
    with pytest.raises(TrainingError, match="--roi-mask: must not be given for a recipe with a fixture"):
        calibrate(tmp_path / "recipe", more, device="cpu", roi_mask=tmp_path / "roi.png")
    assert again.threshold is not None
    assert again.threshold.n_good == 4
    assert again.expected_frames is not None
    assert again.expected_frames.n_good == 4


@pytest.mark.filterwarnings("ignore:encoder weights")
def test_recipe_is_refused_when_its_reference_was_altered_or_its_limit_lowered(
    good_dir: Path, tmp_path: Path, options: TrainOptions
) -> None:
    recipe = train(good_dir, tmp_path / "recipe", dataclasses.replace(options, qualification=0))
    assert recipe.fixture is not None
    reference = tmp_path / "recipe" / recipe.fixture.reference
    whole = reference.read_bytes()
    reference.write_bytes(whole + b"\0")
    with pytest.raises(RecipeError, match="sha256"):
        open_detector(tmp_path / "recipe", device=CPU)
    reference.write_bytes(whole)
    path = tmp_path / "recipe" / "recipe.yaml"
    text = path.read_text()
    path.write_text(text.replace(f"\n  min_score: {recipe.fixture.min_score}", "\n  min_score: 0.1"))
    with pytest.raises(RecipeError, match=r"fixture.min_score: must be 0\.\d+, as when the threshold was set, got 0.1"):
        load_recipe(tmp_path / "recipe")


REFUSED = {
    "no region of interest": ({"roi_mask": None}, "--fixture: must be given with --roi-mask"),
    "squeezed": ({"resize_hw": (64, 64)}, "good frames must all have one size, and --resize must not be given"),
    "no such file": ({"fixture": "nowhere.png"}, "--fixture: nowhere.png: must be like the good frames"),
    "not a file any more": ({"fixture": "auto"}, "--fixture: auto: must be like the good frames"),
    "uniform": ({"fixture": "uniform.png"}, "must show texture in the region of interest"),
    "of another size": ({"fixture": "small.png"}, r"must be like the good frames: frame_hw: .* got \(64, 64\)"),
    "of another part": ({"fixture": "other.png"}, "at most a tenth of the good frames may not fit .* got [0-9]+ of 12"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_training_is_refused_and_nothing_written_when_the_reference_does_not_suit(
    changes: dict[str, object], message: str, good_dir: Path, tmp_path: Path, options: TrainOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "uniform.png", np.full((*FRAME_HW, 3), 90, np.uint8))
    write(tmp_path / "small.png", np.zeros((64, 64, 3), np.uint8))
    write(tmp_path / "other.png", draw_part(holes=5))
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(TrainingError, match=message):
        train(good_dir, tmp_path / "recipe", dataclasses.replace(options, **changes))
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_lowest_score_lies_below_the_poorest_fit_by_a_margin_that_shrinks_with_the_number_of_frames() -> None:
    assert compute_min_score([0.95] * 20) == pytest.approx(0.85)
    few, many = compute_min_score([0.95, 0.75] * 6), compute_min_score([0.95, 0.75] * 60)
    assert few == pytest.approx(0.75 - 0.1 * 2, abs=1e-3)
    assert many == pytest.approx(0.75 - 0.1 * 1.1, abs=1e-3)
    assert compute_min_score([0.35, 0.4]) == 0.3
