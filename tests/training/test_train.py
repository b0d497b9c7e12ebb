"""Training end to end, tiny, on a CPU."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from inspector.config import Recipe, Tiling, load_recipe
from inspector.detector import Detector, build_model
from inspector.errors import TrainingError
from inspector.model import ReverseDistillationLoss
from inspector.training.datasets import FrameSet, infer_preprocessing, list_images, split
from inspector.training.train import TrainingProgress, TrainOptions, train, write_recipe
from inspector.types import PixelFormat

OPTIONS = TrainOptions(encoder_weights="none", tile_size=64, sigma=2.0, batch_size=2, steps=2, device="cpu")


@pytest.fixture
def good_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "good"
    folder.mkdir()
    for number in range(6):
        image = np.random.default_rng(number).integers(80, 120, (96, 128, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), image)
    return folder


@pytest.mark.filterwarnings("ignore:encoder weights")
def test_one_command_gives_a_recipe_the_detector_judges_with(good_dir: Path, tmp_path: Path) -> None:
    seen: list[TrainingProgress] = []
    recipe = train(good_dir, tmp_path / "recipe", OPTIONS, seen.append)
    assert recipe == load_recipe(tmp_path / "recipe")
    assert recipe.preprocessing.frame_hw == (96, 128)
    assert recipe.training["steps"] == 2
    assert recipe.training["tiles_seen"] == 4
    assert recipe.threshold is not None
    assert recipe.threshold.n_good == 2
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "recipe").iterdir()} == {0o644}
    assert [p.steps for p in seen if p.stage == "train"] == [1, 2]
    assert not set(recipe.training["held_aside"]) & {"recipe"}
    detector = Detector.load(tmp_path / "recipe", device=torch.device("cpu"))
    judged = detector.judge(cv2.imread(str(good_dir / "0.png")), PixelFormat.BGR8)
    assert np.isfinite(judged.decision.score)


@pytest.mark.filterwarnings("ignore:encoder weights")
def test_old_recipe_stays_when_the_loss_is_not_finite(
    good_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "recipe"
    before = train(good_dir, out, OPTIONS)
    monkeypatch.setattr(ReverseDistillationLoss, "forward", lambda self, a, b: b[0].sum() * float("nan"))
    with pytest.raises(TrainingError, match="loss: must be finite, got nan at step 1"):
        train(good_dir, out, OPTIONS)
    assert load_recipe(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good", "recipe"]


def test_training_is_refused_when_out_is_something_else(good_dir: Path) -> None:
    with pytest.raises(TrainingError, match="--out: must be a new folder or a recipe to replace"):
        train(good_dir, good_dir, OPTIONS)


def test_split_keeps_frames_apart_and_asks_for_enough(good_dir: Path) -> None:
    training, aside = split(list_images(good_dir), 0.2, seed=3)
    assert len(aside) == 2
    assert not set(training) & set(aside)
    with pytest.raises(TrainingError, match="at least 4 are needed"):
        split(training[:3], 0.2, seed=3)


def test_unreadable_frames_are_named_and_left_out(good_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    (good_dir / "broken.png").write_bytes(b"no image")
    paths = list_images(good_dir)
    frames = FrameSet(paths, infer_preprocessing(paths, 1.0, (0, 65_535)))
    assert len(frames) == 6
    assert "broken.png" in caplog.text


def test_drawn_tiles_are_pieces_of_the_frames_and_repeat_with_the_seed(good_dir: Path) -> None:
    paths = list_images(good_dir)
    frames = FrameSet(paths, infer_preprocessing(paths, 1.0, (0, 65_535)), cache_bytes=2 * 96 * 128 * 3)
    first, again = (frames.draw_tiles(4, 64, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (4, 3, 64, 64)
    assert frames.count_tiles(64) == 6 * 2 * 2


@pytest.fixture(scope="module")
def random_recipe() -> Recipe:
    tiling = Tiling(tile_size=64, stride=64)
    return Recipe(recipe_id="random", backbone="resnet18", sigma=2.0, tiling=tiling, weights_sha256="0" * 64)


def test_recipe_is_replaced_when_a_killed_run_left_its_old_one_beside_it(tmp_path: Path, random_recipe: Recipe) -> None:
    out, model = tmp_path / "recipe", build_model(random_recipe)
    write_recipe(random_recipe, model, out)
    left_over = tmp_path / ".recipe-old"
    left_over.mkdir()
    (left_over / "recipe.yaml").touch()
    write_recipe(random_recipe.model_copy(update={"sigma": 3.0}), model, out)
    assert load_recipe(out).sigma == 3.0


def test_old_recipe_comes_back_when_the_new_one_cannot_be_moved_in(
    tmp_path: Path, random_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, model = tmp_path / "recipe", build_model(random_recipe)
    before = write_recipe(random_recipe, model, out)
    rename = Path.rename

    def refuse_the_new(self: Path, target: Path) -> Path:
        if target == out and (self / "recipe.yaml").is_file() and load_recipe(self).sigma == 3.0:
            raise OSError("disk")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new)
    with pytest.raises(OSError, match="disk"):
        write_recipe(random_recipe.model_copy(update={"sigma": 3.0}), model, out)
    assert load_recipe(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["recipe"]


@pytest.mark.filterwarnings("ignore:encoder weights")
def test_recipe_holds_the_region_of_interest_when_a_mask_is_given(good_dir: Path, tmp_path: Path) -> None:
    mask = np.zeros((96, 128), np.uint8)
    mask[40:] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    recipe = train(good_dir, tmp_path / "recipe", dataclasses.replace(OPTIONS, roi_mask=tmp_path / "mask.png"))
    assert recipe.roi_mask is not None
    assert (tmp_path / "recipe" / recipe.roi_mask).read_bytes() == (tmp_path / "mask.png").read_bytes()
    assert Detector.load(tmp_path / "recipe", device=torch.device("cpu")).recipe == recipe
