"""A training whose threshold comes from folds: every frame counts, and the few that stand out are told."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from inspector.cli.train import _draw
from inspector.config import Recipe, load_recipe
from inspector.errors import RecipeError, TrainingError
from inspector.model import ReverseDistillationLoss
from inspector.recipe.opening import open_detector
from inspector.training.calibrate import calibrate
from inspector.training.optimise import cross_validation
from inspector.training.optimise.options import TrainOptions
from inspector.training.optimise.training_setup import TrainingProgress
from inspector.training.thresholds.score_record import load_scores
from inspector.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore:encoder weights")

OPTIONS = TrainOptions(
    encoder_weights="none", tile_size=64, sigma=2.0, batch_size=2, steps=4, folds=2, device="cpu", qualification=6
)


def _write_frame(path: Path, seed: int, speck: bool = False) -> None:
    pixels = np.random.default_rng(seed).integers(80, 120, (96, 128, 3), dtype=np.uint8)
    if speck:
        pixels[20:50, 70:100] = 255
    cv2.imwrite(str(path), pixels)


@pytest.fixture
def good_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "good"
    folder.mkdir()
    for number in range(10):
        _write_frame(folder / f"{number}.png", number)
    return folder


@dataclass(frozen=True, slots=True)
class Trained:
    """A training of `OPTIONS` on the frames of `good_dir`, and all that was seen of it.

    Attributes:
        folder: the recipe's; not to be changed.
        seen: each progress told.
        log: what was logged.
        fitted, scored: the frames that each network was fitted to, and scored.
        left: other files that the training left behind.
    """

    recipe: Recipe
    folder: Path
    seen: list[TrainingProgress]
    log: str
    fitted: list[set[str]]
    scored: list[set[str]]
    left: list[Path]


@pytest.fixture(scope="module")
def trainings() -> list[Trained]:
    """The one, once it is there."""
    return []


@pytest.fixture
def trained(
    trainings: list[Trained], good_dir: Path, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> Trained:
    """Trained in the first test that asks for it: within one, as what each test has changed holds for it too."""
    if not trainings:
        trainings.append(_train_watched(good_dir, tmp_path_factory.mktemp("trained") / "recipe", caplog))
    return trainings[0]


def _train_watched(good_dir: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> Trained:
    seen: list[TrainingProgress] = []
    fitted: list[set[str]] = []
    scored: list[set[str]] = []
    fit, score = cross_validation.fit_network, cross_validation.score_frames

    def watch_fit(recipe: Any, frames: Any, validation: Any, *rest: Any) -> Any:
        fitted.append({path.name for path in (*frames.paths, *validation.paths)})
        return fit(recipe, frames, validation, *rest)

    def watch_score(detector: Any, paths: Any, *rest: Any) -> Any:
        scored.append({path.name for path in paths})
        return score(detector, paths, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_validation, "fit_network", watch_fit)
        patch.setattr(cross_validation, "score_frames", watch_score)
        recipe = train(good_dir, folder, OPTIONS, seen.append)
    left = list(folder.parent.glob(".recipe*"))
    return Trained(recipe, folder, seen, caplog.text, fitted, scored, left)


def test_each_frame_counts_when_folds_score_them(good_dir: Path, trained: Trained) -> None:
    recipe = trained.recipe
    assert recipe == load_recipe(trained.folder)
    threshold, folds = recipe.threshold, recipe.threshold and recipe.threshold.cross_validated
    assert threshold is not None
    assert folds is not None
    assert (threshold.n_good, threshold.method, threshold.set_by) == (10, "near_highest", "calibration")
    assert threshold.false_reject_bound == pytest.approx(1 - 0.05 ** (1 / 10))
    assert (folds.n_folds, folds.steps, folds.n_deployed, len(folds.gains)) == (2, 2, 1, 2)
    record = json.loads((trained.folder / "training.json").read_text())
    assert [len(record[key]) for key in ("frames", "validation_frames", "held_aside")] == [9, 1, 0]
    scores = load_scores(trained.folder)
    assert {frame.path for frame in scores.frames} == {path.name for path in good_dir.iterdir()}
    assert sorted(frame.fold or 0 for frame in scores.frames) == [0] * 5 + [1] * 5
    assert threshold.value > max(frame.scores[""] for frame in scores.frames)
    assert all(frame.peaks[0] == pytest.approx(frame.scores[""]) for frame in scores.frames)
    stages = list(dict.fromkeys(progress.stage for progress in trained.seen))
    assert stages == [
        "train fold 1 of 2", "judge fold 1 of 2", "train fold 2 of 2", "judge fold 2 of 2", "train", "calibrate",
        "qualify",
    ]  # fmt: skip
    assert recipe.qualification is not None
    assert all(4 <= curve.n <= 6 for curve in recipe.qualification.kinds.values())  # one frame has not room for all
    assert recipe.qualification.n_frames == 1  # the one that the network that judges was not trained on
    assert not trained.left
    assert "folds: each was trained for 2 steps; below 50 steps the scores still grow with every step" in trained.log


def test_no_fold_s_network_sees_the_frames_it_scores(trained: Trained) -> None:
    record = load_scores(trained.folder)
    for number in range(2):
        own = {frame.path for frame in record.frames if frame.fold == number}
        assert not own & trained.fitted[number]
        assert own <= trained.scored[number]


def test_frame_that_stands_out_is_named_shown_and_left_out_by_trim(
    good_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _write_frame(good_dir / "odd.png", 99, speck=True)
    caplog.set_level(logging.WARNING)
    recipe = train(good_dir, tmp_path / "recipe", OPTIONS, draw=_draw)
    assert recipe.threshold is not None
    assert recipe.threshold.n_outliers == 1
    (told,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("good frame odd.png")]
    assert "stands out, check it" in told
    x, y = (int(told.partition(f"{axis} ")[2].partition(",")[0].partition(";")[0]) for axis in "xy")
    assert 60 <= x < 110
    assert 10 <= y < 60
    assert "(--trim)" in caplog.text
    (picture,) = (tmp_path / "recipe" / "suspects").iterdir()
    assert picture.name == "000-odd.jpg"
    assert cv2.imread(str(picture)) is not None

    trimmed = train(good_dir, tmp_path / "trimmed", dataclasses.replace(OPTIONS, trim=True))
    assert trimmed.training["n_trimmed"] == 1
    record = json.loads((tmp_path / "trimmed" / "training.json").read_text())
    assert "odd.png" not in record["frames"] | record["validation_frames"]
    scores = load_scores(tmp_path / "trimmed")
    assert [frame.path for frame in scores.trimmed] == ["odd.png"]
    assert len(scores.frames) == 10
    assert trimmed.threshold is not None
    assert trimmed.threshold.n_outliers == 0

    kept = calibrate(tmp_path / "recipe", keep_outliers=True, device="cpu")
    assert kept.threshold is not None
    assert kept.threshold.value > 1.5 * recipe.threshold.value


def test_threshold_moves_without_judging_again_when_no_frames_are_given(trained: Trained, tmp_path: Path) -> None:
    folder = shutil.copytree(trained.folder, tmp_path / "recipe")
    before = trained.recipe
    after = calibrate(folder, false_reject_rate=0.2, device="cpu")
    assert after == load_recipe(folder)
    scores = sorted(frame.scores[""] for frame in load_scores(folder).frames)
    assert before.threshold is not None
    assert after.threshold is not None
    assert (after.threshold.value, after.threshold.method) == (scores[-3], "order_statistic")
    assert after.threshold.cross_validated is not None
    assert after.threshold.set_by == "calibration"
    assert after.qualification is not None
    assert after.qualification.threshold == after.threshold.value
    assert (after.expected_frames, after.probe) == (before.expected_frames, before.probe)
    open_detector(folder, device=torch.device("cpu"))
    again = calibrate(folder, device="cpu")
    assert again.threshold is not None
    assert again.threshold.value == before.threshold.value
    _refuse_what_needs_frames(folder)


def _refuse_what_needs_frames(folder: Path) -> None:
    before = (folder / "recipe.yaml").read_text()
    with pytest.raises(TrainingError, match="GOOD_DIR: must be given with --min-region-area, which needs frames"):
        calibrate(folder, min_region_area=4, device="cpu")
    (folder / "recipe.yaml").write_text(before.replace("sigma: 2.0", "sigma: 3.0"))
    with pytest.raises(TrainingError, match="GOOD_DIR: must be given, since the recipe was edited"):
        calibrate(folder, device="cpu")
    (folder / "recipe.yaml").write_text(before)
    (folder / "scores.json").unlink()
    with pytest.raises(TrainingError, match=r"scores\.json: required if GOOD_DIR is not given"):
        calibrate(folder, device="cpu")
    assert (folder / "recipe.yaml").read_text() == before


def test_frames_of_training_calibrate_again_each_by_the_network_that_never_saw_it(
    trained: Trained, good_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(trained.folder, tmp_path / "recipe")
    before_again = trained.recipe.threshold
    again = calibrate(folder, good_dir, qualification=6, device="cpu")
    assert before_again is not None
    assert again.threshold is not None
    before, after = before_again.cross_validated, again.threshold.cross_validated
    assert before is not None
    assert after is not None
    assert after == before.model_copy(update={"gains": after.gains})
    assert after.gains == pytest.approx(before.gains, rel=0.05)  # training may have judged in bf16, and fallen back
    assert again.threshold.value == pytest.approx(before_again.value, rel=0.05)
    assert again.qualification is not None
    assert again.qualification.n_frames == 1

    mask = np.zeros((96, 128), np.uint8)
    mask[:32, :32] = 255
    cv2.imwrite(str(tmp_path / "roi.png"), mask)
    for number in range(20, 22):
        _write_frame(good_dir / f"new{number}.png", number)
    masked = calibrate(folder, good_dir, roi_mask=tmp_path / "roi.png", qualification=0, device="cpu")
    record = load_scores(folder)
    assert masked.threshold is not None
    assert masked.threshold.cross_validated is not None
    assert (masked.threshold.n_good, masked.threshold.cross_validated.n_deployed) == (12, 3)
    assert {frame.path: frame.fold for frame in record.frames}["new20.png"] is None
    assert all(frame.xy[0] < 32 and frame.xy[1] < 32 for frame in record.frames)
    moved = calibrate(folder, policy="extrapolate", device="cpu")  # the check of the folds moves with it
    assert moved.threshold is not None
    assert moved.threshold.cross_validated is not None
    assert moved.threshold.cross_validated.n_deployed == 3

    (folder / "folds" / "1.safetensors").write_bytes((folder / "folds" / "0.safetensors").read_bytes())
    with pytest.raises(RecipeError, match=r"folds/1\.safetensors: altered"):
        calibrate(folder, good_dir, qualification=0, device="cpu")
    shutil.rmtree(folder / "folds")
    calibrate(folder, good_dir, qualification=0, device="cpu")
    assert "10 of 12 good frames left out, since the recipe was trained on them" in caplog.text


def test_fold_that_diverges_is_named_and_nothing_is_written(
    good_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, calls = ReverseDistillationLoss.forward, iter(range(1000))

    def fail(self: ReverseDistillationLoss, a: list[torch.Tensor], b: list[torch.Tensor]) -> torch.Tensor:
        return forward(self, a, b) * (float("nan") if torch.is_grad_enabled() and next(calls) >= 3 else 1.0)

    monkeypatch.setattr(ReverseDistillationLoss, "forward", fail)
    with pytest.raises(TrainingError, match="fold 2 of 2: loss: must be finite, got nan at step 2"):
        train(good_dir, tmp_path / "recipe", OPTIONS)
    assert not (tmp_path / "recipe").exists()


def test_frames_too_alike_or_too_few_are_refused_in_words(good_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="--folds: must be at most the number of good frames, 10, got 11"):
        train(good_dir, tmp_path / "recipe", dataclasses.replace(OPTIONS, folds=11))
    with pytest.raises(TrainingError, match="--folds: must be at most the number of groups, 1, got 2"):
        train(good_dir, tmp_path / "recipe", dataclasses.replace(OPTIONS, groups="folder"))
    for path in list(good_dir.iterdir())[1:]:
        path.write_bytes((good_dir / "0.png").read_bytes() if (good_dir / "0.png").exists() else b"")
    with pytest.raises(TrainingError, match="good frames: at least 4 are needed"):
        train(good_dir, tmp_path / "recipe", OPTIONS)
    assert not (tmp_path / "recipe").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"folds": 1}, "--folds: must be 0 or at least 2, got 1"),
        ({"folds": 2, "holdout": 0.3}, "--holdout: must not be given with --folds 2"),
        ({"trim": True, "keep_outliers": True}, "--trim: must not be given with --keep-outliers"),
    ],
)
def test_options_that_contradict_each_other_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        TrainOptions(**given)


@pytest.mark.parametrize(
    ("given", "count", "steps", "folds"),
    [({}, 32, 3000, 2), ({}, 499, math.inf, 2), ({}, 500, 3000, 0), ({"false_reject_rate": 0.1}, 60, 3000, 0),
     ({"holdout": 0.2}, 32, 3000, 0), ({"folds": 0}, 32, 3000, 0), ({"folds": 3}, 5000, 9, 3), ({}, 32, 100, 2),
     ({}, 32, 99, 0)],
)  # fmt: skip
def test_folds_are_trained_when_a_fifth_of_the_frames_is_too_few_for_the_target_and_the_run_is_long(
    given: dict[str, Any], count: int, steps: float, folds: int
) -> None:
    assert TrainOptions(**given).choose_folds(count, steps) == folds


def test_killed_training_goes_on_in_the_fold_where_it_stood(trained: Trained, good_dir: Path, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(progress: TrainingProgress) -> None:
        if progress.stage == "train" and progress.steps == 2:
            raise Killed

    with pytest.raises(Killed):
        train(good_dir, tmp_path / "killed", OPTIONS, kill)
    stages: list[tuple[str, int]] = []
    options = dataclasses.replace(OPTIONS, resume=True)
    resumed = train(good_dir, tmp_path / "killed", options, lambda p: stages.append((p.stage, p.steps)))
    assert not [stage for stage, steps in stages if stage.startswith("train fold") and steps]
    assert resumed.threshold == trained.recipe.threshold
