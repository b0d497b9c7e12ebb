"""Training end to end, tiny, on a CPU."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from inspector.config import Recipe, Tiling, load_recipe
from inspector.errors import RecipeError, TrainingError
from inspector.files import compute_sha256
from inspector.model import ReverseDistillationLoss
from inspector.recipe.network import build_model
from inspector.recipe.opening import open_detector
from inspector.training.data.datasets import split
from inspector.training.optimise.options import HOLDOUT, REFERENCE, TrainOptions
from inspector.training.optimise.training_setup import TrainingProgress
from inspector.training.recipe_writer import write_recipe
from inspector.training.train import train
from inspector.types import PixelFormat

OPTIONS = TrainOptions(
    encoder_weights="none",
    tile_size=64,
    sigma=2.0,
    batch_size=2,
    steps=2,
    device="cpu",
    folds=0,
    qualification=0,
)


@pytest.fixture
def good_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "good"
    folder.mkdir()
    for number in range(6):
        image = np.random.default_rng(number).integers(80, 120, (96, 128, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), image)
    return folder


@pytest.mark.filterwarnings("ignore:encoder weights")
@pytest.mark.engine
def test_one_command_gives_a_recipe_the_detector_judges_with(good_dir: Path, tmp_path: Path) -> None:
    seen: list[TrainingProgress] = []
    recipe = train(good_dir, tmp_path / "recipe", OPTIONS, seen.append)
    assert recipe == load_recipe(tmp_path / "recipe")
    assert recipe.preprocessing.frame_hw == (96, 128)
    assert recipe.training["steps"] == 2
    assert recipe.training["tiles_seen"] == 4
    assert recipe.threshold is not None
    assert (recipe.threshold.n_good, recipe.threshold.set_by) == (2, "calibration")
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "recipe").iterdir()} == {0o644}
    assert [p.steps for p in seen if p.stage == "train"] == [1, 2]
    record = json.loads((tmp_path / "recipe" / "training.json").read_text())
    parts = [set(record[key]) for key in ("frames", "validation_frames", "held_aside")]
    assert [len(part) for part in parts] == [3, 1, 2]
    assert set.union(*parts) == {path.name for path in good_dir.iterdir()}
    assert record["frames"].items() <= {p.name: compute_sha256(p) for p in good_dir.iterdir()}.items()
    assert [entry["step"] for entry in record["history"]] == [1, 2]
    assert cv2.imread(str(tmp_path / "recipe" / "training.png")) is not None
    detector = open_detector(tmp_path / "recipe", device=torch.device("cpu"))
    judged = detector.judge(cv2.imread(str(good_dir / "0.png")), PixelFormat.BGR8)
    assert np.isfinite(judged.decision.score)


@pytest.mark.filterwarnings("ignore:encoder weights")
def test_old_recipe_stays_when_the_loss_is_not_finite(
    good_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "recipe"
    before = train(good_dir, out, OPTIONS)
    monkeypatch.setattr(ReverseDistillationLoss, "forward", lambda self, a, b: b[0].sum() * float("nan"))
    with pytest.raises(TrainingError, match="loss: must be finite, got nan at step 1; there are no earlier weights"):
        train(good_dir, out, OPTIONS)
    assert load_recipe(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good", "recipe"]


@pytest.mark.filterwarnings("ignore:encoder weights")
def test_last_good_weights_stay_when_the_loss_is_no_longer_finite(
    good_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forward, calls = ReverseDistillationLoss.forward, itertools.count()

    def fail_late(self: ReverseDistillationLoss, a: list[torch.Tensor], b: list[torch.Tensor]) -> torch.Tensor:
        return forward(self, a, b) * (float("nan") if torch.is_grad_enabled() and next(calls) >= 2 else 1.0)

    monkeypatch.setattr(ReverseDistillationLoss, "forward", fail_late)
    recipe = train(good_dir, tmp_path / "recipe", dataclasses.replace(OPTIONS, steps=10))
    assert recipe.training["stopped_by"] == "not_finite"
    assert recipe.training["steps"] == 2
    assert "the loss is not finite at step 3" in caplog.text
    weights = load_file(tmp_path / "recipe" / "weights.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())


@pytest.mark.filterwarnings("ignore:encoder weights")
def test_light_recipe_judges_as_trained_and_is_refused_when_it_is_called_full(good_dir: Path, tmp_path: Path) -> None:
    folder, pixels = tmp_path / "recipe", cv2.imread(str(good_dir / "0.png"))
    recipe = train(good_dir, folder, dataclasses.replace(OPTIONS, student="light", folds=2))
    assert (recipe.student, load_recipe(folder)) == ("light", recipe)
    record = json.loads((folder / "training.json").read_text())
    assert record["options"]["student"] == "light"
    assert {path.name for path in (folder / "folds").iterdir()} == {"0.safetensors", "1.safetensors"}

    judged = open_detector(folder, device=torch.device("cpu")).judge(pixels, PixelFormat.BGR8)
    again = open_detector(folder, device=torch.device("cpu")).judge(pixels, PixelFormat.BGR8)
    assert judged.decision.score == again.decision.score > 0

    text = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(text.replace("student: light\nanomaly", "student: full\nanomaly"))
    with pytest.raises(RecipeError, match="student: must be light, as when the threshold was set, got full"):
        load_recipe(folder)
    with pytest.raises(RecipeError, match="weights do not load into this recipe's model"):
        open_detector(folder, device=torch.device("cpu"), recipe=recipe.model_copy(update={"student": "full"}))


@pytest.mark.filterwarnings("ignore:encoder weights")
def test_recipe_says_so_when_it_is_the_reference(good_dir: Path, tmp_path: Path) -> None:
    recipe = train(good_dir, tmp_path / "recipe", dataclasses.replace(OPTIONS, **REFERENCE))
    facts = {name: recipe.training.get(name, recipe.map_normalisation) for name in REFERENCE}
    assert facts == REFERENCE


@pytest.mark.filterwarnings("ignore:encoder weights")
def test_groups_stay_together_and_few_frames_are_warned_of(
    good_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in list(good_dir.iterdir()):
        lot = good_dir / f"lot{int(path.stem) // 2}"
        lot.mkdir(exist_ok=True)
        path.rename(lot / path.name)
    train(good_dir, tmp_path / "recipe", dataclasses.replace(OPTIONS, groups="folder"))
    record = json.loads((tmp_path / "recipe" / "training.json").read_text())
    for key in ("frames", "validation_frames", "held_aside"):
        assert len({Path(name).parent for name in record[key]}) == 1, key
    assert "only 6 good frames" in caplog.text


@pytest.mark.filterwarnings("ignore:encoder weights")
@pytest.mark.parametrize("rest", [{}, REFERENCE, {"student": "light"}], ids=["default", "reference", "light student"])
def test_resumed_weights_equal_those_of_a_run_that_was_not_killed(
    rest: dict[str, object], good_dir: Path, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def kill(progress: TrainingProgress) -> None:
        if progress.steps == 4:
            raise Killed

    options = dataclasses.replace(OPTIONS, steps=7, **rest)
    train(good_dir, tmp_path / "whole", options)
    with pytest.raises(Killed):
        train(good_dir, tmp_path / "killed", options, kill)
    assert not (tmp_path / "killed").exists()
    train(good_dir, tmp_path / "killed", dataclasses.replace(options, resume=True))
    whole, resumed = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert load_recipe(tmp_path / "whole").threshold == load_recipe(tmp_path / "killed").threshold
    assert not list(tmp_path.glob(".killed*"))


@pytest.mark.filterwarnings("ignore:encoder weights")
def test_resume_is_refused_when_it_is_another_training(good_dir: Path, tmp_path: Path) -> None:
    def kill(progress: TrainingProgress) -> None:
        if progress.steps == 2:
            raise KeyboardInterrupt

    options = dataclasses.replace(OPTIONS, steps=7)
    with pytest.raises(KeyboardInterrupt):
        train(good_dir, tmp_path / "recipe", options, kill)
    with pytest.raises(TrainingError, match="--resume: seed must be unchanged, 0, got 3"):
        train(good_dir, tmp_path / "recipe", dataclasses.replace(options, resume=True, seed=3))
    with pytest.raises(TrainingError, match="--resume: student must be unchanged, 'full', got 'light'"):
        train(good_dir, tmp_path / "recipe", dataclasses.replace(options, resume=True, student="light"))
    (tmp_path / ".recipe-training" / "checkpoint.pt").write_bytes(b"half")
    with pytest.raises(TrainingError, match=r"--resume: .*checkpoint\.pt cannot be used"):
        train(good_dir, tmp_path / "recipe", dataclasses.replace(options, resume=True))


@pytest.mark.filterwarnings("ignore:encoder weights")
def test_training_goes_on_when_its_state_cannot_be_saved(
    good_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(content: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file: No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert train(good_dir, tmp_path / "recipe", OPTIONS).training["steps"] == 2
    assert "cannot be saved" in caplog.text


@pytest.mark.filterwarnings("ignore:encoder weights")
def test_frames_may_go_away_once_training_has_begun(good_dir: Path, tmp_path: Path) -> None:
    hashes = {path.name: compute_sha256(path) for path in good_dir.iterdir()}

    def take_away(progress: TrainingProgress) -> None:
        for path in split(sorted(good_dir.iterdir()), HOLDOUT, OPTIONS.validation, OPTIONS.seed).training:
            path.write_bytes(b"overwritten")

    train(good_dir, tmp_path / "recipe", OPTIONS, take_away)
    record = json.loads((tmp_path / "recipe" / "training.json").read_text())
    assert record["frames"].items() <= hashes.items()


def test_training_is_refused_when_map_mode_and_normalisation_do_not_go_together(good_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="map_normalisation must be none with anomaly_map_mode multiply"):
        train(good_dir, tmp_path / "recipe", dataclasses.replace(OPTIONS, anomaly_map_mode="multiply"))


def test_training_is_refused_when_the_mask_has_another_aspect(good_dir: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "mask.png"), np.full((128, 96), 255, np.uint8))
    with pytest.raises(RecipeError, match=r"--roi-mask: must have the frame's aspect ratio, \(96, 128\)"):
        train(good_dir, tmp_path / "recipe", dataclasses.replace(OPTIONS, roi_mask=tmp_path / "mask.png"))


def test_training_is_refused_at_once_when_out_cannot_be_written(good_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="--out: must be in a folder that can be written"):
        train(good_dir, tmp_path / "file" / "recipe", OPTIONS)


def test_training_is_refused_when_out_is_something_else(good_dir: Path) -> None:
    with pytest.raises(TrainingError, match="--out: must be a new folder or a recipe to replace"):
        train(good_dir, good_dir, OPTIONS)


@pytest.mark.filterwarnings("ignore:encoder weights")
@pytest.mark.parametrize("seed", range(3))  # so that they would have come into each part
def test_odd_frames_are_named_and_counted_and_the_rest_goes_on(
    seed: int, good_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (good_dir / "broken.png").write_bytes(b"no image")
    cv2.imwrite(str(good_dir / "grey.png"), np.full((96, 128), 90, np.uint8))
    (good_dir / "copy.png").write_bytes((good_dir / "0.png").read_bytes())
    recipe = train(good_dir, tmp_path / "recipe", dataclasses.replace(OPTIONS, steps=1, seed=seed))
    record = json.loads((tmp_path / "recipe" / "training.json").read_text())
    assert record["skipped"] == ["broken.png", "grey.png"]
    assert recipe.training["n_skipped"] == 2
    assert sum(len(record[key]) for key in ("frames", "validation_frames", "held_aside")) == 6
    assert "broken.png: " in caplog.text
    assert "grey.png: pixel format must be RGB8 as in most frames, got Mono8" in caplog.text
    assert "since they are copies of other frames" in caplog.text


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
    with pytest.raises(TrainingError, match="nothing there was changed: disk"):
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
    assert open_detector(tmp_path / "recipe", device=torch.device("cpu")).recipe == recipe


@pytest.mark.filterwarnings("ignore:encoder weights")
@pytest.mark.parametrize(
    ("frame_hw", "short_side", "map_hw"),
    [((50, 150), None, (50, 150)), ((150, 50), None, (150, 50)), ((150, 50), 64, (192, 64))],
)
def test_frames_keep_their_aspect_and_a_defect_is_found_where_it_is(
    frame_hw: tuple[int, int],
    short_side: int | None,
    map_hw: tuple[int, int],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "good").mkdir()
    frames = np.random.default_rng(7).integers(80, 120, (6, *frame_hw, 3), dtype=np.uint8)
    for number, pixels in enumerate(frames):
        cv2.imwrite(str(tmp_path / "good" / f"{number}.png"), pixels)
    recipe = train(tmp_path / "good", tmp_path / "recipe", dataclasses.replace(OPTIONS, short_side=short_side))
    assert (recipe.preprocessing.map_hw, recipe.preprocessing.resize_hw) == (map_hw, None)
    assert ("6 of 6 frames are smaller than a tile and are mirrored" in caplog.text) is (short_side is None)

    top, left = (100, 20) if frame_hw[0] > frame_hw[1] else (20, 100)
    frames[0, top : top + 16, left : left + 16] = 255
    detector = open_detector(tmp_path / "recipe", device=torch.device("cpu"))
    anomaly_map = detector.judge(frames[0], PixelFormat.BGR8, any_frame=True).anomaly_map
    worst = detector.decide(anomaly_map, float(anomaly_map.max()) * 0.99, frame_hw).regions[0]
    x0, y0, x1, y1 = worst.xyxy
    assert left - 8 <= x0 < x1 <= left + 24  # half the defect's width about it: a few features
    assert top - 8 <= y0 < y1 <= top + 24


@pytest.mark.filterwarnings("ignore:encoder weights")
def test_squeezing_is_warned_of_when_frames_lose_their_aspect(
    good_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(good_dir, tmp_path / "recipe", dataclasses.replace(OPTIONS, resize_hw=(64, 64), steps=1))
    assert "--resize 64 64 distorts 6 of 6 frames, most of all those of 96 × 128" in caplog.text
