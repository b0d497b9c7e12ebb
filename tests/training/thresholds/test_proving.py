"""The probe and the precision: what is kept of good frames, and what a precision that moves scores comes to."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from inspector.config import Recipe, Tiling
from inspector.detection.detector import Detector
from inspector.engine.base import Precision
from inspector.engine.build import build_eager
from inspector.engine.probe import load_probe
from inspector.errors import RecipeError, TrainingError
from inspector.recipe.network import build_model
from inspector.recipe.opening import open_detector
from inspector.training.calibrate import calibrate
from inspector.training.data.datasets import list_images
from inspector.training.recipe_writer import write_recipe
from inspector.training.thresholds.proving import (
    PROBE_TILES,
    ProbeCollector,
    adopt_probe,
    adopt_quantised,
    drop_unused,
    score_proved,
)
from inspector.training.thresholds.scoring import score_frames

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    tiling = Tiling(tile_size=64, stride=64)
    return Recipe(recipe_id="tiny", backbone="resnet18", sigma=2.0, tiling=tiling, weights_sha256="0" * 64)


@pytest.fixture(scope="module")
def model(recipe: Recipe) -> Any:
    torch.manual_seed(3)
    return build_model(recipe).eval()


@pytest.fixture(autouse=True)
def few_range_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges are as good as these random frames need."""
    monkeypatch.setattr("inspector.training.thresholds.proving._RANGE_TILES", 32)


def shifted(detector: Detector, precision: Precision, factor: float) -> Detector:
    """The same detector, whose engine claims another precision and multiplies its maps."""
    infer = detector.engine.infer
    detector.engine.infer = lambda count: infer(count) * factor  # type: ignore[method-assign]
    detector.engine.precision = precision
    return detector


def offer_noise(detector: Detector, collector: ProbeCollector, frames: int = 3) -> str:
    for seed in range(frames):
        pixels = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, 80, 100), dtype=np.uint8))
        collector.offer(detector, pixels, detector.compute_anomaly_map(pixels))
    return f"{detector.engine.precision} scores"


def test_the_highest_peaks_are_kept_when_more_frames_come_than_a_probe_holds(recipe: Recipe, model: Any) -> None:
    detector = Detector(recipe, build_eager(recipe, model))
    collector = ProbeCollector()
    for number in range(40):
        image = torch.full((3, 80, 100), number, dtype=torch.uint8)
        anomaly_map = np.zeros((80, 100), np.float32)
        anomaly_map[79, number] = (number * 7) % 40
        collector.offer(detector, image, anomaly_map)
    probe = collector.build(recipe, model, detector.engine)
    assert probe.tiles.shape == (PROBE_TILES, 3, 64, 64)
    kept = {int(tile[0, 0, 0]) * 7 % 40 for tile in probe.tiles}
    assert kept == set(range(40 - PROBE_TILES, 40))


def test_tile_lies_around_the_peak_and_inside_the_frame(recipe: Recipe, model: Any) -> None:
    detector, collector = Detector(recipe, build_eager(recipe, model)), ProbeCollector()
    image = torch.arange(100, dtype=torch.uint8).expand(3, 80, 100)
    for column in (0, 50, 99):
        anomaly_map = np.zeros((80, 100), np.float32)
        anomaly_map[40, column] = 1.0
        collector.offer(detector, image, anomaly_map)
    assert [int(tile[0, 0, 0]) for tile in collector.build(recipe, model, detector.engine).tiles] == [0, 18, 36]


def test_probe_is_made_of_reflected_pixels_when_the_frame_is_smaller_than_a_tile(recipe: Recipe, model: Any) -> None:
    detector, collector = Detector(recipe, build_eager(recipe, model)), ProbeCollector()
    image = torch.zeros(3, 40, 50, dtype=torch.uint8)
    collector.offer(detector, image, detector.compute_anomaly_map(image))
    assert collector.build(recipe, model, detector.engine).tiles.shape == (1, 3, 64, 64)


def test_recipe_stays_auto_when_its_precision_moves_scores_little(recipe: Recipe, model: Any) -> None:
    def load(candidate: Recipe) -> Detector:
        return shifted(Detector(candidate, build_eager(candidate, model)), Precision.BF16, 1.01)

    proved, _, scores, probe = score_proved(recipe, model, load, offer_noise)
    assert (proved.precision, proved.calibrated_in, scores, len(probe.tiles)) == ("auto", "bf16", "bf16 scores", 3)
    assert probe.compare(probe.calibrated, probe.reference) == pytest.approx(0.01, abs=1e-4)


def test_recipe_becomes_fp32_and_is_scored_again_when_its_precision_moves_scores_far(
    recipe: Recipe, model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def load(candidate: Recipe) -> Detector:
        fast = candidate.precision == "auto"
        detector = Detector(candidate, build_eager(candidate, model))
        return shifted(detector, Precision.BF16 if fast else Precision.FP32, 1.05 if fast else 1.0)

    with caplog.at_level(logging.WARNING, logger="inspector"):
        proved, _, scores, _ = score_proved(recipe, model, load, offer_noise)
    assert (proved.precision, proved.calibrated_in, scores) == ("fp32", "fp32", "fp32 scores")
    assert "bf16 changes the scores of good tiles by 5.00% of the highest, limit 3.0%" in caplog.text


def test_recipe_is_refused_when_the_precision_asked_for_moves_scores_far(recipe: Recipe, model: Any) -> None:
    asked = recipe.model_copy(update={"precision": "int8"})

    def load(candidate: Recipe) -> Detector:
        return shifted(Detector(candidate, build_eager(candidate, model)), Precision.INT8, 1.5)

    with pytest.raises(TrainingError, match=r"precision: int8 changes the scores of good tiles by 50\.00%"):
        score_proved(asked, model, load, offer_noise)


def test_probe_is_named_by_its_content_and_the_old_one_goes(recipe: Recipe, model: Any, tmp_path: Path) -> None:
    detector, collector = Detector(recipe, build_eager(recipe, model)), ProbeCollector()
    offer_noise(detector, collector, 1)
    first = adopt_probe(recipe, collector.build(recipe, model, detector.engine), tmp_path)
    offer_noise(detector, collector, 2)
    second = adopt_probe(recipe, collector.build(recipe, model, detector.engine), tmp_path)
    assert first.probe != second.probe
    assert len(list(tmp_path.iterdir())) == 2
    drop_unused(tmp_path, second)
    assert [path.name for path in tmp_path.iterdir()] == [second.probe]
    assert second.probe_sha256 is not None
    assert len(load_probe(tmp_path / str(second.probe), second.probe_sha256).tiles) == 3


def test_nothing_is_proved_when_no_frame_could_be_judged(recipe: Recipe, model: Any) -> None:
    with pytest.raises(TrainingError, match="good frames: at least one must be usable, got none"):
        ProbeCollector().build(recipe, model, build_eager(recipe, model))


def test_int8_network_is_measured_on_the_frames_that_can_be_read(recipe: Recipe, model: Any, tmp_path: Path) -> None:
    pytest.importorskip("nncf", reason="the extra int8 is not installed")
    frames = tmp_path / "frames"
    frames.mkdir()
    (frames / "broken.png").write_bytes(b"no image")
    cv2.imwrite(str(frames / "good.png"), np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8))
    out = tmp_path / "recipe"
    out.mkdir()
    adopted = adopt_quantised(recipe, model, sorted(frames.iterdir()), out)
    assert [path.name for path in out.iterdir()] == [adopted.quantised]
    assert set(adopted.quantised_sha256) == {
        f"{name}.{kind}" for name in ("distances", "map") for kind in ("xml", "bin")
    }
    with pytest.raises(TrainingError, match="at least one must be usable for int8, got 1 unusable"):
        adopt_quantised(recipe, model, [frames / "broken.png"], out)
    drop_unused(out, recipe)
    assert not list(out.iterdir())


@pytest.mark.engine
def test_recipe_runs_in_int8_and_back_when_calibrated_so(recipe: Recipe, model: Any, tmp_path: Path) -> None:
    pytest.importorskip("nncf", reason="the extra int8 is not installed")
    good, folder = tmp_path / "good", tmp_path / "recipe"
    good.mkdir()
    for seed in range(4):
        pixels = np.random.default_rng(seed).integers(0, 256, (80, 100, 3), dtype=np.uint8)
        cv2.imwrite(str(good / f"{seed}.png"), pixels)
    write_recipe(recipe, model, folder)

    quantised = calibrate(folder, good, precision="int8", qualification=0, device="cpu")
    detector = open_detector(folder, device=CPU)
    assert detector.engine.precision is Precision.INT8
    scores = score_frames(detector, list_images(good))
    assert quantised.threshold is not None
    assert quantised.threshold.value >= max(frame.score for frame in scores.values())  # set from what int8 gives

    (folder / str(quantised.quantised) / "distances.bin").write_bytes(b"altered")
    with pytest.raises(RecipeError, match=r"distances\.bin: altered"):
        open_detector(folder, device=CPU)

    plain = calibrate(folder, good, precision="fp32", qualification=0, device="cpu")
    assert (plain.precision, plain.quantised) == ("fp32", None)
    assert not list(folder.glob("int8-*"))
    assert open_detector(folder, device=CPU).engine.precision is Precision.FP32
