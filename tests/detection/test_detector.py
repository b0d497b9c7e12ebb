"""The detector: what it computes, what it refuses, and what it does when memory runs out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inspector.config import RECIPE_FILE, WEIGHTS_FILE, Recipe, dump_recipe
from inspector.detection.detector import Detector
from inspector.detection.preprocessing import preprocess
from inspector.detection.run import FrameRun
from inspector.detection.tiling import TileGrid, Tiler
from inspector.engine.build import build_eager
from inspector.errors import (
    DeviceFaultError,
    DeviceOutOfMemoryError,
    FrameMismatchError,
    RecipeError,
    UnlikeGoodError,
)
from inspector.files import compute_sha256
from inspector.model import ReverseDistillation
from inspector.model.checkpoint import save_weights
from inspector.recipe.network import build_model
from inspector.recipe.opening import open_detector
from inspector.types import PixelFormat, Verdict

CPU = torch.device("cpu")
HEIGHT, WIDTH = 100, 130  # with tiles of 64 and steps of 48: rows at 0, 36; columns at 0, 48, 66
CORNERS = [(0, 0), (0, 48), (0, 66), (36, 0), (36, 48), (36, 66)]


def recipe_of(**changes: Any) -> Recipe:
    values = {
        "recipe_id": "tiny",
        "backbone": "resnet18",
        "sigma": 2.0,
        "tiling": {"tile_size": 64, "stride": 48},
        "weights_sha256": "0" * 64,
    }
    return Recipe.model_validate(values | changes)


def build_network(recipe: Recipe) -> ReverseDistillation:
    torch.manual_seed(11)
    model = build_model(recipe)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.weight.data.uniform_(0.5, 1.5)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> ReverseDistillation:
    return build_network(recipe_of())


@pytest.fixture
def make(model: ReverseDistillation) -> Callable[..., Detector]:
    def build(tile_batch: int = 4, roi: Any = None, **changes: Any) -> Detector:
        recipe = recipe_of(**changes)
        return Detector(recipe, build_eager(recipe, model, batch=tile_batch), roi=roi)

    return build


@pytest.fixture
def frame() -> Any:
    return np.random.default_rng(5).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def grey() -> Any:
    return np.random.default_rng(6).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)


def map_of(detector: Detector, pixels: Any, pixel_format: PixelFormat) -> Any:
    return detector.compute_anomaly_map(preprocess(pixels, pixel_format, detector.recipe.preprocessing))


@pytest.mark.parametrize("tile_batch", [1, 4, 5, 100])
def test_map_equals_the_models_own_when_tiled_by_hand(
    make: Callable[..., Detector], model: ReverseDistillation, frame: Any, tile_batch: int
) -> None:
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    image = torch.from_numpy(((frame / 255 - mean) / std).astype(np.float32)).permute(2, 0, 1)
    with torch.no_grad():
        maps = torch.cat([model(image[None, :, y : y + 64, x : x + 64]) for y, x in CORNERS])
    expected = Tiler(64, 48).grid((HEIGHT, WIDTH)).untile(maps)[0].numpy()

    found = map_of(make(tile_batch), frame, PixelFormat.RGB8)
    assert found.dtype == np.float32
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_map_is_whole_where_it_is_asked_for_and_other_tiles_do_not_run(
    make: Callable[..., Detector], frame: Any
) -> None:
    detector = make()
    image = preprocess(frame, PixelFormat.RGB8, detector.recipe.preprocessing)
    where = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    where[10, 20] = 1  # in the first tile alone
    found, whole = detector.compute_anomaly_map(image, where), detector.compute_anomaly_map(image)
    assert found[:36, :48] == pytest.approx(whole[:36, :48], abs=1e-6)
    assert not found[64:].any()
    assert not found[:, 64:].any()
    where[50, 60] = 1  # in four
    found = detector.compute_anomaly_map(image, where)
    assert found[50, 60] == pytest.approx(whole[50, 60], abs=1e-6)


def test_parts_are_none_without_masks_and_the_stretched_mask_with_one(make: Callable[..., Detector]) -> None:
    assert make().get_parts((HEIGHT, WIDTH)).masks == (None,)
    roi = np.zeros((HEIGHT // 2, WIDTH // 2), dtype=np.uint8)
    roi[:10] = 1
    mask = make(roi=roi).get_parts((HEIGHT, WIDTH)).masks[0]
    assert mask is not None
    assert np.array_equal(mask.any(axis=1), np.arange(HEIGHT) < 20)


def test_maps_are_equal_when_the_frame_comes_as_bgr(make: Callable[..., Detector], frame: Any) -> None:
    detector = make()
    rgb = map_of(detector, frame, PixelFormat.RGB8)
    assert np.array_equal(map_of(detector, frame[..., ::-1], PixelFormat.BGR8), rgb)
    assert not np.allclose(map_of(detector, frame, PixelFormat.BGR8), rgb)


def test_maps_are_equal_when_grey_comes_as_mono_or_as_three_channels(make: Callable[..., Detector], grey: Any) -> None:
    mono = map_of(make(preprocessing={"pixel_format": "Mono8"}), grey, PixelFormat.MONO8)
    assert np.array_equal(mono, map_of(make(), np.dstack([grey] * 3), PixelFormat.RGB8))


@pytest.mark.parametrize(("low", "step", "high"), [(0, 257, 65_535), (1000, 16, 1000 + 255 * 16)])
def test_mono16_equals_mono8_when_proportional(
    make: Callable[..., Detector], grey: Any, low: int, step: int, high: int
) -> None:
    deep = (low + grey.astype(np.uint32) * step).astype(np.uint16)
    detector = make(preprocessing={"pixel_format": "Mono16", "mono16_range": [low, high]})
    mono = map_of(make(preprocessing={"pixel_format": "Mono8"}), grey, PixelFormat.MONO8)
    np.testing.assert_allclose(map_of(detector, deep, PixelFormat.MONO16), mono, rtol=0, atol=1e-4)


def test_frame_is_refused_when_its_mask_has_another_aspect(make: Callable[..., Detector]) -> None:
    detector = make(roi=np.full((WIDTH, HEIGHT), 255, np.uint8))
    with pytest.raises(FrameMismatchError, match="must have the aspect ratio of its mask"):
        detector.decide(np.zeros((HEIGHT, WIDTH), np.float32), 1.0)


def test_squeezed_frame_gives_regions_at_its_own_size(model: ReverseDistillation) -> None:
    recipe = recipe_of(preprocessing={"resize_hw": [HEIGHT, WIDTH]})
    pixels = np.zeros((2 * HEIGHT, 3 * WIDTH, 3), np.uint8)
    assert preprocess(pixels, PixelFormat.RGB8, recipe.preprocessing).shape == (3, HEIGHT, WIDTH)
    anomaly_map = np.zeros((HEIGHT, WIDTH), np.float32)
    anomaly_map[10, 20] = 5.0
    decision = Detector(recipe, build_eager(recipe, model)).decide(anomaly_map, 1.0, (2 * HEIGHT, 3 * WIDTH))
    assert [(region.xyxy, region.area) for region in decision.regions] == [((60, 20, 63, 22), 6)]


def test_frame_is_refused_when_its_size_is_another(make: Callable[..., Detector], frame: Any) -> None:
    detector = make(preprocessing={"frame_hw": [100, 131]}, threshold={"value": 1, "method": "manual"})
    with pytest.raises(FrameMismatchError, match=r"^frame_hw: the recipe expects \(100, 131\), got \(100, 130\)"):
        detector.judge(frame, PixelFormat.RGB8)


@pytest.mark.parametrize(
    ("expected", "given"),
    [("RGB8", PixelFormat.MONO8), ("Mono8", PixelFormat.RGB8), ("Mono8", PixelFormat.MONO16)],
)
def test_frame_is_refused_when_its_format_is_another(
    make: Callable[..., Detector], frame: Any, expected: str, given: PixelFormat
) -> None:
    detector = make(preprocessing={"pixel_format": expected}, threshold={"value": 1, "method": "manual"})
    with pytest.raises(FrameMismatchError, match=f"^pixel_format: the recipe expects {expected}, got {given}"):
        detector.judge(frame, given)


def test_judgement_follows_the_map_when_the_threshold_moves(make: Callable[..., Detector], frame: Any) -> None:
    peak = float(map_of(make(), frame, PixelFormat.RGB8).max())
    passed = make(threshold={"value": peak * 1.01, "method": "manual"}).judge(frame, PixelFormat.RGB8)
    failed = make(threshold={"value": peak * 0.99, "method": "manual"}).judge(frame, PixelFormat.RGB8)
    assert (passed.decision.verdict, failed.decision.verdict) == (Verdict.PASS, Verdict.FAIL)
    assert passed.decision.score == failed.decision.score == pytest.approx(peak)
    assert failed.decision.regions[0].peak == pytest.approx(peak)
    assert failed.tiles == 6
    assert set(failed.latency_ms) == {"preprocess", "infer", "decide"}
    assert all(value >= 0 for value in failed.latency_ms.values())


def test_judge_refuses_when_the_recipe_has_no_threshold(make: Callable[..., Detector], frame: Any) -> None:
    with pytest.raises(RecipeError, match="threshold: must be set"):
        make().judge(frame, PixelFormat.RGB8)


def zone_of(name: str, value: float | None = None) -> dict[str, Any]:
    threshold = None if value is None else {"value": value, "method": "manual"}
    return {"name": name, "mask": f"{name}.png", "mask_sha256": "0" * 64, "threshold": threshold}


def build_zoned(model: ReverseDistillation, masks: dict[str, Any], **changes: Any) -> Detector:
    recipe = recipe_of(**changes)
    return Detector(recipe, build_eager(recipe, model), zones=masks)


def test_map_is_weighed_so_that_one_threshold_holds_when_there_are_zones(
    model: ReverseDistillation, frame: Any
) -> None:
    left, right = np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    left[:, :40], right[:, 90:] = 255, 255
    masks = {"left": left, "right": right}
    plain = map_of(Detector(recipe_of(), build_eager(recipe_of(), model)), frame, PixelFormat.RGB8)
    unset = build_zoned(model, masks, zones=[zone_of("left", 1.0), zone_of("right", 2.0)])
    assert np.array_equal(map_of(unset, frame, PixelFormat.RGB8), plain)  # the recipe has no threshold to weigh by
    detector = build_zoned(
        model,
        masks,
        threshold={"value": 4.0, "method": "manual"},
        zones=[zone_of("left", 1.0), zone_of("right")],
    )
    weighed = map_of(detector, frame, PixelFormat.RGB8)
    np.testing.assert_allclose(weighed[:, :40], 4 * plain[:, :40], rtol=1e-6)
    assert np.array_equal(weighed[:, 40:], plain[:, 40:])


@pytest.mark.parametrize("factor", [0.999, 1.0, 1.001])
def test_frame_fails_by_its_zones_threshold_when_that_is_lower(
    model: ReverseDistillation, frame: Any, factor: float
) -> None:
    plain = map_of(Detector(recipe_of(), build_eager(recipe_of(), model)), frame, PixelFormat.RGB8)
    zone = np.zeros((HEIGHT, WIDTH), np.uint8)
    zone[:, :40] = 1
    value = float(plain[:, :40].max())
    thresholds = {
        "threshold": {"value": 3 * float(plain.max()), "method": "manual", "warn_above": 2.9 * float(plain.max())},
        "zones": [zone_of("left", value * factor)],
    }
    judgement = build_zoned(model, {"left": zone}, **thresholds).judge(frame, PixelFormat.RGB8)
    decision = judgement.decision
    assert (decision.verdict is Verdict.FAIL) == (factor < 1)  # a score equal to the threshold passes
    assert (decision.score > thresholds["threshold"]["value"]) == (factor < 1)
    assert decision.warn == (factor >= 1)
    assert all(region.xyxy[2] <= 40 for region in decision.regions)
    assert judgement.anomaly_map.max() == decision.score


def test_region_does_not_count_across_a_border_when_it_must_have_an_area(model: ReverseDistillation) -> None:
    zone = np.zeros((20, 30), np.uint8)
    zone[:, :10] = 1
    anomaly_map = np.zeros((20, 30), np.float32)
    anomaly_map[5, 7:13] = 2.0
    threshold = {"value": 1.0, "method": "manual"}
    for area, verdict in ((3, Verdict.FAIL), (4, Verdict.PASS)):
        changes = {"threshold": threshold, "zones": [zone_of("left", 1.0)], "min_region_area": area}
        decision = build_zoned(model, {"left": zone}, **changes).decide(anomaly_map, 1.0)
        assert decision.verdict is verdict
        assert len(decision.regions) == (2 if verdict is Verdict.FAIL else 0)


def test_roi_is_kept_whole_when_frames_change_their_size(make: Callable[..., Detector]) -> None:
    roi = np.zeros((64, 64), np.uint8)
    roi[31, 31] = 255
    detector = make(roi=roi)
    large, small = np.zeros((64, 64), np.float32), np.zeros((16, 16), np.float32)
    large[31, 31] = 2.0
    assert detector.decide(large, 1.0).verdict is Verdict.FAIL
    detector.decide(small, 1.0)
    assert detector.decide(large, 1.0).verdict is Verdict.FAIL


def test_frame_of_any_size_is_refused_and_never_passes_when_no_region_of_the_area_fits_its_roi(
    make: Callable[..., Detector],
) -> None:
    roi = np.zeros((HEIGHT, WIDTH), np.uint8)
    roi[10:20, 10:30] = 255
    threshold = {"value": 1.0, "method": "manual"}
    anomaly_map = np.full((HEIGHT, WIDTH), 5.0, np.float32)
    assert make(roi=roi, threshold=threshold, min_region_area=200).decide(anomaly_map, 1.0).verdict is Verdict.FAIL
    detector = make(roi=roi, threshold=threshold, min_region_area=201)
    with pytest.raises(FrameMismatchError, match=r"frame: min_region_area: must be at most 200, .* got 201"):
        detector.decide(anomaly_map, 1.0)


# ---------------------------------------------------------------- loading


@pytest.fixture
def folder(tmp_path: Path, model: ReverseDistillation) -> Path:
    recipe = recipe_of(weights_sha256=save_weights(model, tmp_path / WEIGHTS_FILE))
    (tmp_path / RECIPE_FILE).write_text(dump_recipe(recipe), encoding="utf-8")
    return tmp_path


def rewrite(folder: Path, **changes: Any) -> None:
    recipe = recipe_of(weights_sha256=compute_sha256(folder / WEIGHTS_FILE), **changes)
    (folder / RECIPE_FILE).write_text(dump_recipe(recipe), encoding="utf-8")


@pytest.mark.engine
def test_loaded_detector_equals_the_one_saved_when_nothing_changed(
    make: Callable[..., Detector], folder: Path, frame: Any
) -> None:
    loaded = open_detector(folder, device=CPU, tile_batch=4)
    expected = map_of(make(), frame, PixelFormat.RGB8)
    np.testing.assert_allclose(map_of(loaded, frame, PixelFormat.RGB8), expected, rtol=0, atol=1e-4)


def test_load_refuses_when_one_byte_of_the_weights_changed(folder: Path) -> None:
    path = folder / WEIGHTS_FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"weights\.safetensors: altered: sha256 must be [0-9a-f]{64}, got "):
        open_detector(folder, device=CPU)


def test_load_refuses_when_the_weights_are_missing_or_of_another_model(folder: Path) -> None:
    rewrite(folder, backbone="resnet34")
    with pytest.raises(RecipeError, match="weights do not load into this recipe's model"):
        open_detector(folder, device=CPU)
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(RecipeError, match=r"weights\.safetensors: cannot be read"):
        open_detector(folder, device=CPU)


@pytest.mark.parametrize("changes", [{"backbone": "resnet20"}, {"sigma": 16.0}, {"layers": ["layer1"]}])
def test_load_refuses_when_the_network_refuses_a_parameter(folder: Path, changes: dict[str, Any]) -> None:
    rewrite(folder, **changes)
    with pytest.raises(RecipeError, match=f"recipe tiny: {next(iter(changes))}: "):
        open_detector(folder, device=CPU)


def test_load_reads_the_roi_when_the_recipe_names_one(folder: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10, 20] = 255
    cv2.imwrite(str(folder / "roi.png"), mask)
    rewrite(folder, roi_mask="roi.png", roi_mask_sha256=compute_sha256(folder / "roi.png"))
    detector = open_detector(folder, device=CPU)
    anomaly_map = np.full((HEIGHT, WIDTH), 5.0, np.float32)
    assert [region.xyxy for region in detector.decide(anomaly_map, 1.0).regions] == [(20, 10, 21, 11)]

    cv2.imwrite(str(folder / "roi.png"), mask + 1)
    with pytest.raises(RecipeError, match=r"roi\.png: altered: sha256"):
        open_detector(folder, device=CPU)


def test_load_refuses_when_nothing_could_ever_fail(folder: Path) -> None:
    size, threshold = {"frame_hw": [HEIGHT, WIDTH]}, {"value": 1.0, "method": "manual"}
    for area, fault in ((HEIGHT * WIDTH, None), (HEIGHT * WIDTH + 1, "min_region_area: must be at most 13000")):
        rewrite(folder, preprocessing=size, threshold=threshold, min_region_area=area)
        with pytest.raises(RecipeError, match=fault) if fault else contextlib.nullcontext():
            open_detector(folder, device=CPU)


# ---------------------------------------------------------------- batches and memory


def fail_first(detector: Detector, monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> list[int]:
    """The first calls of the network raise; returns where the batch sizes of all calls are noted."""
    infer, pending, sizes = detector.engine.infer, list(errors), []

    def failing(count: int) -> Tensor:
        sizes.append(count)
        if pending:
            raise pending.pop(0)
        return infer(count)

    monkeypatch.setattr(detector.engine, "infer", failing)
    return sizes


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("full"), RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError("bad")],
)
def test_batch_is_halved_when_memory_runs_out_once(
    make: Callable[..., Detector], monkeypatch: pytest.MonkeyPatch, frame: Any, error: Exception
) -> None:
    expected = map_of(make(2), frame, PixelFormat.RGB8)
    detector = make(4)
    sizes = fail_first(detector, monkeypatch, error)
    assert np.array_equal(map_of(detector, frame, PixelFormat.RGB8), expected)
    assert sizes == [4, 2, 2, 2]
    assert len(detector.engine.tiles) == 2


def test_no_tile_counts_twice_when_memory_runs_out_while_blending(
    make: Callable[..., Detector], monkeypatch: pytest.MonkeyPatch, frame: Any
) -> None:
    expected = map_of(make(), frame, PixelFormat.RGB8)
    detector = make(4, threshold={"value": 1e-3, "method": "manual"})
    first, second = detector.begin(frame, PixelFormat.RGB8), detector.begin(frame, PixelFormat.RGB8)
    blend, calls = TileGrid.blend, []

    def failing(grid: TileGrid, canvas: Tensor, tiles: Tensor, indices: Sequence[int]) -> None:
        calls.append(len(indices))
        blend(grid, canvas, tiles, indices)
        if len(calls) == 3:  # the second batch is shared: the first frame's share is blended, the other's is not
            raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(TileGrid, "blend", failing)
    while not (first.is_done and second.is_done):
        detector.advance([run for run in (first, second) if not run.is_done])
    for run in (first, second):
        np.testing.assert_allclose(detector.finish(run).anomaly_map, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("poisoned_at", [1, 2])
def test_device_fault_is_raised_when_not_even_the_canvas_can_be_cleared(
    make: Callable[..., Detector], monkeypatch: pytest.MonkeyPatch, frame: Any, poisoned_at: int
) -> None:
    restarts = []

    def restart(run: FrameRun) -> None:
        restarts.append(run)
        if len(restarts) == poisoned_at:
            raise RuntimeError("illegal memory access")

    monkeypatch.setattr(FrameRun, "restart", restart)
    detector = make(4)
    fail_first(detector, monkeypatch, torch.OutOfMemoryError("full"), torch.OutOfMemoryError("full"))
    with pytest.raises(DeviceFaultError, match="device: illegal memory access"):
        map_of(detector, frame, PixelFormat.RGB8)


def test_device_fault_is_raised_when_a_smaller_batch_cannot_be_made(
    make: Callable[..., Detector], monkeypatch: pytest.MonkeyPatch, frame: Any
) -> None:
    def fail() -> None:
        raise RuntimeError("capture failed")

    detector = make(4)
    fail_first(detector, monkeypatch, torch.OutOfMemoryError("full"))
    monkeypatch.setattr(detector.engine, "halve_batch", fail)
    with pytest.raises(DeviceFaultError, match="device: capture failed"):
        map_of(detector, frame, PixelFormat.RGB8)


def test_frame_is_given_up_when_memory_runs_out_before_its_first_tile(
    make: Callable[..., Detector], monkeypatch: pytest.MonkeyPatch, frame: Any
) -> None:
    def fail(grid: TileGrid, *arguments: Any) -> Tensor:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(TileGrid, "blank", fail)
    with pytest.raises(DeviceOutOfMemoryError, match="full"):
        make(threshold={"value": 1.0, "method": "manual"}).begin(frame, PixelFormat.RGB8)


def test_frame_is_given_up_when_memory_runs_out_twice(
    make: Callable[..., Detector], monkeypatch: pytest.MonkeyPatch, frame: Any
) -> None:
    detector = make(4)
    sizes = fail_first(detector, monkeypatch, torch.OutOfMemoryError("full"), torch.OutOfMemoryError("full"))
    with pytest.raises(DeviceOutOfMemoryError, match="even at the smallest batch tried: full"):
        map_of(detector, frame, PixelFormat.RGB8)
    assert sizes == [4, 2]


@pytest.mark.parametrize("memory_first", [False, True])
def test_device_fault_is_raised_when_the_device_fails_otherwise(
    make: Callable[..., Detector], monkeypatch: pytest.MonkeyPatch, frame: Any, memory_first: bool
) -> None:
    detector = make(4)
    errors = [torch.OutOfMemoryError("full")] * memory_first + [RuntimeError("illegal memory access")]
    fail_first(detector, monkeypatch, *errors)
    with pytest.raises(DeviceFaultError, match="device: illegal memory access"):
        map_of(detector, frame, PixelFormat.RGB8)


def test_warm_up_runs_a_full_batch_and_a_single_tile_when_called(
    make: Callable[..., Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = make(3)
    sizes = fail_first(detector, monkeypatch)
    detector.warm_up()
    assert sizes == [3, 1]


# ---------------------------------------------------------------- several frames, and what need not be computed


def test_frames_keep_their_own_maps_when_they_share_batches(make: Callable[..., Detector], frame: Any) -> None:
    detector = make(4, threshold={"value": 1e-3, "method": "manual"})
    other = np.ascontiguousarray(frame[::-1])
    alone = [detector.judge(pixels, PixelFormat.RGB8) for pixels in (frame, other)]
    runs = [detector.begin(pixels, PixelFormat.RGB8) for pixels in (frame, other)]
    batches = 0
    while not all(run.is_done for run in runs):
        detector.advance([run for run in runs if not run.is_done])
        batches += 1
    assert batches == 3  # 12 tiles, 4 at once; one by one it takes 4
    for run, expected in zip(runs, alone, strict=True):
        assert run.is_ready
        np.testing.assert_allclose(detector.finish(run).anomaly_map, expected.anomaly_map, rtol=0, atol=1e-6)


def test_tiles_outside_the_roi_are_not_computed(make: Callable[..., Detector], frame: Any) -> None:
    roi = np.zeros((HEIGHT, WIDTH), np.uint8)
    roi[:20, :20] = 255  # in the first tile only
    threshold = {"value": 1.0, "method": "manual"}
    everywhere, inside = make(threshold=threshold), make(roi=roi, threshold=threshold)
    expected, found = everywhere.judge(frame, PixelFormat.RGB8), inside.judge(frame, PixelFormat.RGB8)
    assert (expected.tiles, found.tiles) == (6, 1)
    assert found.decision.score == expected.anomaly_map[:20, :20].max()
    assert not found.anomaly_map[64:, 64:].any()


def test_all_tiles_are_computed_when_whole_maps_are_wanted(model: ReverseDistillation, frame: Any) -> None:
    roi = np.zeros((HEIGHT, WIDTH), np.uint8)
    roi[:20, :20] = 255
    recipe = recipe_of(threshold={"value": 1.0, "method": "manual"})
    detector = Detector(recipe, build_eager(recipe, model), roi=roi, whole_maps=True)
    assert detector.judge(frame, PixelFormat.RGB8).tiles == 6


@pytest.mark.parametrize("column", range(16, 26))
def test_no_part_of_the_roi_is_lost_when_one_axis_shrinks_and_the_other_grows(
    make: Callable[..., Detector], column: int
) -> None:
    roi = np.zeros((100, 640), np.uint8)
    roi[40, column] = 255
    detector = make(
        roi=roi,
        preprocessing={"resize_hw": [128, 64]},
        threshold={"value": 1e-9, "method": "manual"},
    )
    frame = np.random.default_rng(1).integers(0, 256, (100, 640, 3), dtype=np.uint8)
    judgement = detector.judge(frame, PixelFormat.RGB8)
    assert judgement.tiles > 0
    assert judgement.decision.verdict is Verdict.FAIL


def test_frame_is_refused_when_nothing_is_left_of_its_roi(
    make: Callable[..., Detector], monkeypatch: pytest.MonkeyPatch, frame: Any
) -> None:
    monkeypatch.setattr("inspector.detection.parts.stretch", lambda mask, shape: np.zeros(shape, np.uint8))
    detector = make(roi=np.full((HEIGHT, WIDTH), 255, np.uint8), threshold={"value": 1.0, "method": "manual"})
    with pytest.raises(FrameMismatchError, match="the region of interest must cover part of the map"):
        detector.judge(frame, PixelFormat.RGB8)


def test_all_tiles_are_computed_when_zones_lie_in_some(model: ReverseDistillation, frame: Any) -> None:
    zone = np.zeros((HEIGHT, WIDTH), np.uint8)
    zone[:20, :20] = 1
    changes = {"threshold": {"value": 1.0, "method": "manual"}, "zones": [zone_of("left", 1.0)]}
    assert build_zoned(model, {"left": zone}, **changes).judge(frame, PixelFormat.RGB8).tiles == 6


@pytest.mark.parametrize("factor", [0.5, 0.999, 1.0, 1.001])
@pytest.mark.parametrize("has_roi", [False, True])
@pytest.mark.parametrize("area", [1, 4])
def test_decision_is_the_whole_maps_when_only_parts_of_it_are_looked_at(
    make: Callable[..., Detector], frame: Any, factor: float, has_roi: bool, area: int
) -> None:
    roi = np.zeros((HEIGHT, WIDTH), np.uint8)
    roi[10:90, 20:120] = 255
    mask = roi if has_roi else None
    anomaly_map = map_of(make(roi=mask), frame, PixelFormat.RGB8)
    score = make(roi=mask, min_region_area=area).decide(anomaly_map, 1e9).score
    threshold = {"value": score * factor, "warn_above": score * factor * 0.9995, "method": "manual"}
    detector = make(roi=mask, threshold=threshold, min_region_area=area)
    expected = detector.decide(anomaly_map, threshold["value"])
    assert detector.judge(frame, PixelFormat.RGB8).decision == expected
    assert (expected.verdict is Verdict.FAIL) == (factor < 1)


# ---------------------------------------------------------------- what a frame must show


class Refusing:
    """An expectation that no frame meets."""

    def check(self, pixels: Any, pixel_format: PixelFormat, preprocessing: Any) -> Any:
        raise UnlikeGoodError("does not look like the good frames")


def test_frame_is_refused_before_inference_when_it_does_not_show_what_good_frames_show(
    make: Callable[..., Detector], frame: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = make(threshold={"value": 1e6, "method": "manual"})
    scored = detector.judge(frame, PixelFormat.RGB8).decision.score
    detector.expectation = Refusing()  # type: ignore[assignment]
    assert detector.judge(frame, PixelFormat.RGB8, any_frame=True).decision.score == scored
    monkeypatch.setattr(detector.engine, "infer", lambda count: pytest.fail("it was judged"))
    with pytest.raises(UnlikeGoodError, match="does not look like the good frames"):
        detector.judge(frame, PixelFormat.RGB8)


class Doubting:
    """An expectation of frames that only a defect explains."""

    def check(self, pixels: Any, pixel_format: PixelFormat, preprocessing: Any) -> Any:
        return UnlikeGoodError("layout must be at most 1, got 2")


def test_frame_that_only_a_defect_explains_fails_or_is_refused_and_never_passes(
    make: Callable[..., Detector], frame: Any
) -> None:
    for threshold, verdict in ((1e6, Verdict.PASS), (1e-6, Verdict.FAIL)):
        detector = make(threshold={"value": threshold, "method": "manual"})
        assert detector.judge(frame, PixelFormat.RGB8).decision.verdict is verdict
        detector.expectation = Doubting()  # type: ignore[assignment]
        if verdict is Verdict.FAIL:
            assert detector.judge(frame, PixelFormat.RGB8).decision.regions
        else:
            with pytest.raises(UnlikeGoodError, match="at most 1, got 2"):
                detector.judge(frame, PixelFormat.RGB8)
